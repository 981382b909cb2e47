"""Bags of unequal size in one tensor: rows of a bag are neighbours, nothing is padded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Packing:
    """Which bag each row belongs to; rows of the first bag come first, then those of the second, and so on.

    Attributes
    ----------
    counts : int64 (n_bags,), rows of each bag, at least 1.
    """

    counts: Tensor

    def __len__(self) -> int:
        return len(self.counts)

    @cached_property
    def owner(self) -> Tensor:
        """Bag of each row, int64 (n_rows,), ascending."""
        return torch.repeat_interleave(self.counts)

    @cached_property
    def offsets(self) -> Tensor:
        """Bag `i` has rows `offsets[i]` to `offsets[i + 1]`, int64 (n_bags + 1,)."""
        return torch.cat([self.counts.new_zeros(1), self.counts.cumsum(0)])

    def to(self, device: torch.device) -> Packing:
        """The same on the device."""
        return Packing(self.counts.to(device))


def segment_sum(values: Tensor, packing: Packing) -> Tensor:
    """Sum over the rows of each bag, (n_rows, …) → (n_bags, …), in single precision."""
    sums = values.new_zeros((len(packing), *values.shape[1:]), dtype=torch.float32)
    return sums.index_add(0, packing.owner, values.float())


def segment_mean(values: Tensor, packing: Packing) -> Tensor:
    """Mean over the rows of each bag, (n_rows, …) → (n_bags, …), in single precision."""
    counts = packing.counts.view(-1, *[1] * (values.ndim - 1))
    return segment_sum(values, packing) / counts

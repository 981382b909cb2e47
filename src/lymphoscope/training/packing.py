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


def segment_max(values: Tensor, packing: Packing) -> Tensor:
    """Largest of the rows of each bag, (n_rows, …) → (n_bags, …); rows that tie share the gradient."""
    index = packing.owner.view(-1, *[1] * (values.ndim - 1)).expand_as(values)
    largest = values.new_zeros((len(packing), *values.shape[1:]))
    return largest.scatter_reduce(0, index, values, "amax", include_self=False)


def segment_std(values: Tensor, packing: Packing, eps: float = 1e-8) -> Tensor:
    """√(variance + `eps`) over the rows of each bag, (n_rows, …) → (n_bags, …), in single precision.

    The variance is the mean squared distance from the bag's mean, 0 for one row. `eps` keeps the gradient of
    the root finite where all rows are alike.
    """
    values = values.float()
    apart = values - segment_mean(values, packing)[packing.owner]
    return (segment_mean(apart.square(), packing) + eps).sqrt()


def segment_softmax(values: Tensor, packing: Packing) -> Tensor:
    """Softmax over the rows of each bag, (n_rows, …) → the same shape, in single precision.

    exp(v_i − m) / Σ_j exp(v_j − m), where j runs over the rows of the same bag and m is their largest value.
    """
    values = values.float()
    powers = (values - segment_max(values.detach(), packing)[packing.owner]).exp()
    return powers / segment_sum(powers, packing)[packing.owner]


def segment_logsumexp(values: Tensor, packing: Packing) -> Tensor:
    """log Σ exp over the rows of each bag, (n_rows, …) → (n_bags, …), in single precision."""
    values = values.float()
    largest = segment_max(values.detach(), packing)
    return largest + segment_sum((values - largest[packing.owner]).exp(), packing).log()


def segment_order(values: Tensor, packing: Packing) -> Tensor:
    """Rows of each bag from the largest to the smallest value, int64 (n_rows,), from values (n_rows,).

    Bag `i` has the places `offsets[i]` to `offsets[i + 1]` as before; rows that tie keep their order.
    """
    falling = values.detach().argsort(descending=True, stable=True)
    return falling[packing.owner[falling].argsort(stable=True)]


def segment_ranked(values: Tensor, packing: Packing, k: int) -> tuple[Tensor, Tensor]:
    """Rows with the `k` largest and with the `k` smallest values of each bag, both int64 (n_bags, k).

    The r-th column holds the r-th largest (smallest). A bag of fewer than `k` rows repeats its last: its
    smallest (largest) stands in all columns that are left.
    """
    order = segment_order(values, packing)
    rank = torch.arange(k, device=values.device).minimum(packing.counts[:, None] - 1)
    return order[packing.offsets[:-1, None] + rank], order[packing.offsets[1:, None] - 1 - rank]


@dataclass(frozen=True, eq=False)
class Group:
    """Bags of nearly the same size, side by side for an operation on whole bags.

    Attributes
    ----------
    bags : int64 (n,), which bags.
    place : int64 (n, longest), 0, 1, … within each bag; beyond its last row its last again.
    real : bool (n, longest), whether there is a row; None where all bags are equally long.
    """

    bags: Tensor
    place: Tensor
    real: Tensor | None


def size_groups(packing: Packing, spread: float = 1.15) -> list[Group]:
    """All bags in groups within which the largest is at most `spread` times the smallest.

    For operations on pairs of rows, which no reduction over segments can do: there are as many groups as
    there are different sizes, not as there are bags, and at most spread − 1 of a group's places are empty.
    """
    sizes, bags = packing.counts.sort(stable=True)
    known = sizes.tolist()
    groups, start = [], 0
    for end in range(1, len(known) + 1):
        if end == len(known) or known[end] > spread * known[start]:
            groups.append(_group(bags[start:end], sizes[start:end], known[start], known[end - 1]))
            start = end
    return groups


def _group(bags: Tensor, sizes: Tensor, smallest: int, longest: int) -> Group:
    place = torch.arange(longest, device=bags.device).expand(len(bags), longest)
    if smallest == longest:
        return Group(bags, place, None)
    return Group(bags, place.minimum(sizes[:, None] - 1), place < sizes[:, None])

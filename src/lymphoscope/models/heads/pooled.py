"""Rows are embedded, then pooled to one vector per bag, then judged: mean, max, mean with spread."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lymphoscope.models.heads.base import BagHead, Seen, head
from lymphoscope.models.networks.blocks import scaled
from lymphoscope.training.packing import Packing, segment_max, segment_mean, segment_std


class PooledHead(BagHead):
    """z = vᵀ pool_i(ReLU(W x_i + a)) + b, pooled element by element (MI-Net: Wang et al. 2018, section 3.2).

    x (N, d) → embedded (N, h) → pooled (B, h) → z (B, 1), with h = 128 · width.
    """

    def __init__(
        self, n_features: int, width: float, pool: Callable[[Tensor, Packing], Tensor], last: nn.Module
    ) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(n_features, hidden_of(width)), nn.ReLU())
        self.pool, self.last = pool, last

    def see(self, features: Tensor, packing: Packing) -> Seen:
        """(N, d) → (B, 1)."""
        return Seen(self.last(self.pool(self.embed(features), packing)))


def hidden_of(width: float) -> int:
    """h of `PooledHead`."""
    return scaled(128, width)


@head("mean")
def mean(n_features: int, width: float) -> BagHead:
    """The pool is the mean: every row counts the same."""
    return PooledHead(n_features, width, segment_mean, nn.Linear(hidden_of(width), 1))


@head("max")
def maximum(n_features: int, width: float) -> BagHead:
    """The pool is the largest value of each element, which grows with the number of rows by chance alone."""
    return PooledHead(n_features, width, segment_max, nn.Linear(hidden_of(width), 1))


@head("deepsets")
def deepsets(n_features: int, width: float) -> BagHead:
    """ρ([mean_i φ(x_i), std_i φ(x_i)]): a sum-decomposition (Zaheer et al. 2017, theorem 2) with the spread.

    How alike the cells of a patient are is itself a sign of malignancy, and the mean cannot tell it. φ is the
    embedding, pooled (B, 2h), ρ: 2h → 64 · width → 1 with a ReLU between.
    """
    inner = scaled(64, width)
    last = nn.Sequential(nn.Linear(2 * hidden_of(width), inner), nn.ReLU(), nn.Linear(inner, 1))
    return PooledHead(n_features, width, mean_and_std, last)


def mean_and_std(values: Tensor, packing: Packing) -> Tensor:
    """Mean and standard deviation of each bag side by side, (N, h) → (B, 2h)."""
    return torch.cat([segment_mean(values, packing), segment_std(values, packing)], dim=1)

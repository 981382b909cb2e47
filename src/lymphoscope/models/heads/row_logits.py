"""Each row has a logit of its own, and a bag's logit is made of these: top-k, noisy-or, LSE, logit map."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from lymphoscope.models.heads.base import BagHead, Seen, head
from lymphoscope.models.networks.blocks import scaled
from lymphoscope.training.packing import (
    Packing,
    segment_logsumexp,
    segment_order,
    segment_softmax,
    segment_sum,
)


class RowLogitHead(BagHead):
    """s_i = vᵀ ReLU(W x_i + a) + b for each row, and z = combine_i(s_i) for each bag.

    x (N, d) → hidden (N, 128 · width) → s (N, 1) → z (B, 1).
    """

    def __init__(self, n_features: int, width: float) -> None:
        super().__init__()
        hidden = scaled(128, width)
        self.score: nn.Module = nn.Sequential(nn.Linear(n_features, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def see(self, features: Tensor, packing: Packing) -> Seen:
        """(N, d) → (B, 1)."""
        return Seen(self.combine(self.score(features).float(), packing))

    @abstractmethod
    def combine(self, logits: Tensor, packing: Packing) -> Tensor:
        """(N, 1) → (B, 1)."""


@head("topk")
class TopK(RowLogitHead):
    """z = mean of the k largest s_i, k = ⌈n / 4⌉.

    A share of the rows and not a fixed number: malignant patients have more photographs, and with a fixed
    number z would grow with them by chance alone.
    """

    def combine(self, logits: Tensor, packing: Packing) -> Tensor:
        """(N, 1) → (B, 1)."""
        k = (packing.counts + 3) // 4
        order = segment_order(logits[:, 0], packing)
        rank = torch.arange(len(order), device=order.device) - packing.offsets[packing.owner]
        among = (rank < k[packing.owner])[:, None]
        return segment_sum(logits[order] * among, packing) / k[:, None]


@head("noisy-or")
class NoisyOr(RowLogitHead):
    """p = 1 − Π_i (1 − σ(s_i)): malignant if any row is (Maron & Lozano-Pérez 1998, section 3).

    As a logit: z = log(exp(t) − 1) with t = Σ_i log(1 + exp(s_i)), from log p / (1 − p) and
    1 − σ(s) = 1 / (1 + exp(s)). For small t the sum is taken in logarithms, since t itself may vanish:
    log(exp(t) − 1) = log t + t / 2 + t² / 24 − ….

    The first bias is −4.5, so that a bag of 66 rows, the median here, begins near p = ½ and not at 1.
    """

    def __init__(self, n_features: int, width: float) -> None:
        super().__init__(n_features, width)
        last = self.score[2]  # type: ignore[index]
        nn.init.constant_(last.bias, -4.5)

    def combine(self, logits: Tensor, packing: Packing) -> Tensor:
        """(N, 1) → (B, 1)."""
        t = segment_sum(functional.softplus(logits), packing)
        small = segment_logsumexp(log_softplus(logits), packing) + t / 2 + t.square() / 24
        large = t + torch.log(-torch.expm1(-t.clamp(min=0.1)))
        return torch.where(t < 0.1, small, large)


def log_softplus(x: Tensor) -> Tensor:
    """log(log(1 + exp(x))), which is x for very negative x."""
    return torch.where(x < -15, x, functional.softplus(x.clamp(min=-15)).log())


@head("lse")
class LogSumExp(RowLogitHead):
    """z = log(1/n Σ_i exp(r s_i)) / r (Pinheiro & Collobert 2015, equation 6): between mean and maximum.

    r > 0 is learned and starts at 1; r → 0 gives the mean, r → ∞ the maximum. It is kept above 0.01, where
    nothing but rounding would be left to divide.
    """

    def __init__(self, n_features: int, width: float) -> None:
        super().__init__(n_features, width)
        self.log_r = nn.Parameter(torch.zeros(()))

    def combine(self, logits: Tensor, packing: Packing) -> Tensor:
        """(N, 1) → (B, 1)."""
        r = self.log_r.exp() + 0.01
        return (segment_logsumexp(r * logits, packing) - packing.counts[:, None].log()) / r


@head("logitmap")
class LogitMap(RowLogitHead):
    """z = Σ_i σ(s_i) s_i / Σ_i σ(s_i) with s_i = vᵀ x_i + b: rows count by how malignant they look.

    On a network that ends in a global average rows are the places of the last maps of all cells, so that s
    is what a 1 × 1 convolution gives (a logit map). The weights are the softmax of log σ(s_i), so that they
    do not vanish together.
    """

    by_place = True

    def __init__(self, n_features: int, width: float) -> None:
        super().__init__(n_features, width)
        self.score = nn.Linear(n_features, 1)

    def combine(self, logits: Tensor, packing: Packing) -> Tensor:
        """(N, 1) → (B, 1)."""
        weights = segment_softmax(functional.logsigmoid(logits), packing)
        return segment_sum(weights * logits, packing)

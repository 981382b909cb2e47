"""Attention-based multiple instance learning (Ilse, Tomczak & Welling 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lymphoscope.models.heads.base import BagHead, Seen, head
from lymphoscope.models.networks.blocks import scaled
from lymphoscope.training.packing import Packing, segment_softmax, segment_sum


class GatedAttention(nn.Module):
    """f_i = wᵀ (tanh(V x_i) ⊙ σ(U x_i)), how much a row matters before the softmax (equation 9).

    V, U: d → n_hidden with a bias, w: n_hidden → 1 without. x (N, d) → f (N, 1).
    """

    def __init__(self, n_features: int, n_hidden: int) -> None:
        super().__init__()
        self.content = nn.Linear(n_features, n_hidden)
        self.gate = nn.Linear(n_features, n_hidden)
        self.weight = nn.Linear(n_hidden, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """(N, d) → (N, 1)."""
        return self.weight(torch.tanh(self.content(features)) * torch.sigmoid(self.gate(features)))


@head("abmil")
class ABMIL(BagHead):
    """z = Σ_i a_i (vᵀ x_i) + b, a = softmax over the bag of `GatedAttention` (equations 7 and 9).

    x (N, d) → f (N, 1) → a (N, 1) → z (B, 1); the hidden size of the attention is 128 · width. The
    published order is vᵀ (Σ_i a_i x_i) + b. It is the same number, but rows are numbers here when they are
    summed and not vectors.
    """

    def __init__(self, n_features: int, width: float) -> None:
        super().__init__()
        self.attention = GatedAttention(n_features, scaled(128, width))
        self.classifier = nn.Linear(n_features, 1)

    def see(self, features: Tensor, packing: Packing) -> Seen:
        """(N, d) → (B, 1)."""
        weights = segment_softmax(self.attention(features), packing)
        return Seen(segment_sum(weights * self.classifier(features), packing))

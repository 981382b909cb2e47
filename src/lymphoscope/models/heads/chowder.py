"""Rows of the highest and lowest scores alone (CHOWDER: Courtiol et al. 2018, "Classification and disease
localization in histopathology using only global labels")."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lymphoscope.models.heads.base import BagHead, Seen, head
from lymphoscope.models.networks.blocks import scaled
from lymphoscope.training.packing import Packing, segment_ranked

ENDS = 5
"""Scores at either end (R in the paper, whose best is 5)."""


@head("chowder")
class Chowder(BagHead):
    """z = MLP(s_(1), …, s_(5), s_(n), …, s_(n − 4)), of the scores s_i = wᵀ x_i in falling order.

    x (N, d) → s (N, 1) → both ends (B, 10) → 200 · width → 100 · width → z (B, 1), with σ after each hidden
    layer (section 3.3).

    The ends of a bag of fewer than 10 rows overlap, and one of fewer than 5 repeats its last, so its fifth
    largest is its smallest. The published dropout in the MLP is left to the weight decay.
    """

    def __init__(self, n_features: int, width: float) -> None:
        super().__init__()
        first, second = scaled(200, width), scaled(100, width)
        self.score = nn.Linear(n_features, 1, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(2 * ENDS, first),
            nn.Sigmoid(),
            nn.Linear(first, second),
            nn.Sigmoid(),
            nn.Linear(second, 1),
        )

    def see(self, features: Tensor, packing: Packing) -> Seen:
        """(N, d) → (B, 1)."""
        scores = self.score(features)[:, 0]
        ends = torch.cat(segment_ranked(scores, packing, ENDS), dim=1)
        return Seen(self.mlp(scores[ends]))

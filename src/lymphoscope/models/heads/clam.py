"""Clustering-constrained attention, single branch (CLAM-SB: Lu et al. 2021, Nature Biomed. Eng.)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lymphoscope.models.heads.abmil import GatedAttention
from lymphoscope.models.heads.base import BagHead, Seen, head
from lymphoscope.models.networks.base import Criterion
from lymphoscope.models.networks.blocks import scaled
from lymphoscope.training.packing import Packing, segment_ranked, segment_softmax, segment_sum

PICKED = 8
"""Rows at either end of the attention that get a label of their own (B in the paper)."""

BAG_SHARE = 0.7
"""Weight of the bags' loss, c₁ in the paper; that of the rows, c₂, is what is left of 1."""


@head("clam")
class CLAM(BagHead):
    """Gated attention on embedded rows, and a loss of the rows that attention puts first and last.

    Bag: h_i = ReLU(W x_i + a), z = Σ_i a_i (vᵀ h_i) + b with the `GatedAttention` of h.
    x (N, d) → h (N, 512 · width) → attention f (N, 1), hidden 256 · width → z (B, 1).

    Rows: m_ic = w_cᵀ h_i + b_c, (N, 2), says whether row i speaks for class c. In a bag of class Y the 8 rows
    of highest attention should speak for Y and not for the other class, since the two exclude each other, and
    the 8 of lowest attention should not speak for Y:

        ℓ = (Σ_top s(1 − m_iY) + Σ_bottom s(1 + m_iY)) / (n_top + n_bottom) + Σ_top s(1 + m_iȲ) / n_top

    with s(x) = log(1 + exp(x)), the smooth top-1 SVM loss of two classes at temperature 1 (Berrada et al.
    2018). The published classifiers of rows have two outputs per class; only their difference, m, matters
    there. No row is picked for both ends: a bag of n < 16 rows gives ⌊n / 2⌋ at either end, and one row alone
    counts as top. Training minimises 0.7 · (loss of the bags) + 0.3 · (mean ℓ of the bags).
    """

    def __init__(self, n_features: int, width: float) -> None:
        super().__init__()
        hidden = scaled(512, width)
        self.embed = nn.Sequential(nn.Linear(n_features, hidden), nn.ReLU())
        self.attention = GatedAttention(hidden, scaled(256, width))
        self.classifier = nn.Linear(hidden, 1)
        self.speaks_for = nn.Linear(hidden, 2)

    def see(self, features: Tensor, packing: Packing) -> Seen:
        """(N, d) → (B, 1), with the attention (N, 1) and the embedded rows beside it."""
        embedded = self.embed(features)
        attention = self.attention(embedded)
        weights = segment_softmax(attention, packing)
        logit = segment_sum(weights * self.classifier(embedded), packing)
        return Seen(logit, (attention, embedded))

    def with_rows(
        self, loss: Tensor, seen: Seen, packing: Packing, labels: Tensor, criterion: Criterion
    ) -> Tensor:
        """The weighted sum of both losses."""
        return BAG_SHARE * loss + (1 - BAG_SHARE) * self.row_loss(seen, packing, labels).mean()

    def row_loss(self, seen: Seen, packing: Packing, labels: Tensor) -> Tensor:
        """ℓ of each bag, (B,)."""
        attention, embedded = seen.rows
        top, bottom = segment_ranked(attention[:, 0], packing, PICKED)
        half = packing.counts[:, None] // 2
        rank = torch.arange(PICKED, device=half.device)
        is_top, is_bottom = rank < half.clamp(min=1), rank < half
        own, other = labels[:, None, None], 1 - labels[:, None, None]
        of_top, of_bottom = (self.speaks_for(embedded[rows]).float() for rows in (top, bottom))
        right = _picked(functional.softplus(1 - _of_class(of_top, own)), is_top)
        right = right + _picked(functional.softplus(1 + _of_class(of_bottom, own)), is_bottom)
        wrong = _picked(functional.softplus(1 + _of_class(of_top, other)), is_top)
        n_top, n_bottom = is_top.sum(1), is_bottom.sum(1)
        return right / (n_top + n_bottom) + wrong / n_top


def _of_class(margins: Tensor, labels: Tensor) -> Tensor:
    """(B, k, 2) → (B, k), by labels (B, 1, 1)."""
    return margins.gather(2, labels.expand(-1, margins.shape[1], 1)).squeeze(2)


def _picked(losses: Tensor, which: Tensor) -> Tensor:
    return (losses * which).sum(1)

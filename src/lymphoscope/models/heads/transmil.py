"""A transformer over the rows of a bag (TransMIL: Shao et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lymphoscope.models.heads.base import BagHead, Seen, head
from lymphoscope.models.heads.packed_attention import PackedAttention
from lymphoscope.models.networks.blocks import scaled
from lymphoscope.training.packing import Packing, segment_mean

HEADS = 8


class Surroundings(nn.Module):
    """x_i ← x_i + α ⊙ x_i + β ⊙ mean_j x_j + γ: what the paper's position module is where there is no order.

    The paper lays the rows out on a square in the order in which they came and adds three depth-wise
    convolutions of it (PPEG: 7 × 7, 5 × 5, 3 × 3), so that tissue knows its neighbourhood. Cells of a smear
    have no neighbours, and their order would change the result. Averaged over all ways to lay the rows out,
    such a convolution is linear in a row itself (the weights in its middle, α) and in the mean of the bag
    (the others, β); this is what is left of it. Each of α, β, γ has one value per channel.

    x (N, dim) → (N, dim).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.empty(dim).uniform_(-1 / 3, 1 / 3))  # as of a 3 × 3 convolution
        self.others = nn.Parameter(torch.empty(dim).uniform_(-1 / 3, 1 / 3))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor, packing: Packing) -> Tensor:
        """(N, dim) → (N, dim)."""
        of_bag = self.others * segment_mean(x, packing) + self.bias
        return x + self.own * x + of_bag[packing.owner]


@head("transmil")
class TransMIL(BagHead):
    """A class token with the rows, two layers of attention, `Surroundings` between them.

        h_i = ReLU(W x_i + a);  H = (class token, h_1, …, h_n)
        H ← H + attention(norm(H));  rows of H ← surroundings(rows of H);  H ← H + attention(norm(H))
        z = vᵀ norm(H_0) + b

    x (N, d) → H (N + B, dim) → H_0 (B, dim) → z (B, 1); 8 heads, dim = 512 · width (a multiple of 8).
    Attention stays within a bag.

    What differs from the paper, and why. Attention is exact: bags have some 200 rows at most, and the
    Nyström approximation with its 256 landmarks is for ten thousands. There is no order of rows, so that none
    is repeated to fill a square, and the depth-wise convolution over that order, which the code adds to the
    values, is left out. In the second layer only the class token is computed, since nothing else is read: the
    same numbers for a fraction of the work.
    """

    def __init__(self, n_features: int, width: float) -> None:
        super().__init__()
        dim = HEADS * scaled(64, width)
        self.embed = nn.Sequential(nn.Linear(n_features, dim), nn.ReLU())
        self.token = nn.Parameter(torch.randn(1, dim))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.attention = nn.ModuleList(PackedAttention(dim, HEADS) for _ in range(2))
        self.surroundings = Surroundings(dim)
        self.classifier = nn.Linear(dim, 1)

    def see(self, features: Tensor, packing: Packing) -> Seen:
        """(N, d) → (B, 1)."""
        both = Packing(packing.counts + 1)  # the token is the first row of its bag
        tokens_at = both.offsets[:-1]
        rows_at = torch.arange(len(features), device=features.device) + packing.owner + 1
        rows, tokens = self.embed(features), self.token.expand(len(packing), -1)
        x = torch.cat([tokens, rows])[torch.cat([tokens_at, rows_at]).argsort()]
        x = x + self.attention[0](self.norms[0](x), both)
        tokens, rows = x[tokens_at], self.surroundings(x[rows_at], packing)
        x = x.index_copy(0, rows_at, rows)
        last: PackedAttention = self.attention[1]  # type: ignore[assignment]
        tokens = tokens + last.first(self.norms[1](x), both)
        return Seen(self.classifier(self.norms[2](tokens)))

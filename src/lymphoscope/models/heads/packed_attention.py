"""Self-attention within bags of unequal size."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from lymphoscope.training.packing import Group, Packing, segment_softmax, segment_sum, size_groups


class PackedAttention(nn.Module):
    """out(concat_h softmax(q_h k_hᵀ / √c) v_h), each bag for itself (Vaswani et al. 2017, equation 1).

    q, k, v = W x without a bias, c = dim / heads. x (T, dim) → (T, dim). The matrix products run over all
    rows as they are packed. For the pairs of rows, bags of nearly the same size go side by side
    (`size_groups`); what is empty there is masked and thrown away.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, packing: Packing) -> Tensor:
        """Of every row, (T, dim) → (T, dim)."""
        qkv = self.qkv(x)
        places, parts = zip(
            *(self._attend(qkv, packing, group) for group in size_groups(packing)), strict=True
        )
        attended = torch.cat(parts)
        together = torch.zeros_like(attended).index_copy(0, torch.cat(places), attended)
        return self.out(together)

    def first(self, x: Tensor, packing: Packing) -> Tensor:
        """Of the first row of each bag alone, (T, dim) → (B, dim): no pairs, so nothing but segments."""
        query, key_value = self.qkv.weight.tensor_split((x.shape[1],))
        q = nn.functional.linear(x[packing.offsets[:-1]], query)[packing.owner].view(len(x), self.heads, -1)
        k, v = nn.functional.linear(x, key_value).view(len(x), 2, self.heads, -1).unbind(1)
        scores = (q * k).sum(2, keepdim=True) / k.shape[2] ** 0.5
        attended = segment_sum(segment_softmax(scores, packing) * v, packing)
        return self.out(attended.flatten(1))

    def _attend(self, qkv: Tensor, packing: Packing, group: Group) -> tuple[Tensor, Tensor]:
        """The rows of a group, (t,), and what they get, (t, dim)."""
        rows = packing.offsets[group.bags, None] + group.place
        split = qkv.index_select(0, rows.flatten()).view(*rows.shape, 3, self.heads, -1)
        q, k, v = split.permute(2, 0, 3, 1, 4)  # each (bags, heads, rows, c)
        mask = None if group.real is None else group.real[:, None, None, :]
        attended = scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
        if group.real is None:
            return rows.flatten(), attended.flatten(0, 1)
        return rows[group.real], attended[group.real]

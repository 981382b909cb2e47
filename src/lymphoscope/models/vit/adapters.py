"""What is tuned inside a frozen transformer: AdaptFormer's parallel adapters, and low-rank updates (LoRA)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lymphoscope.errors import InputError


class ParallelAdapter(nn.Module):
    """s · (ReLU(x · W_down + b_down) · W_up + b_up) (Chen et al. 2022, equation 2 and the factor s of 3).

    As the authors' code has it, the down-projection begins at random (uniform, bound 1 / √width of a token)
    and everything else at zero, so that a new adapter gives exactly 0.

    Parameters
    ----------
    tokens : width of a token, d.
    width : of the bottleneck; 64 in the paper's experiments.
    scale : s; 0.1 in the paper. Learned from there where `learned_scale` is set.
    dropout : share of the bottleneck that is set to 0 in training; none in the equation, 0.1 in the authors'
        code.
    """

    scale: nn.Parameter | float

    def __init__(
        self,
        tokens: int,
        width: int,
        scale: float = 0.1,
        *,
        learned_scale: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.down = nn.Linear(tokens, width)
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(width, tokens)
        self.scale = _scale(scale, learned_scale)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, d) → (n, tokens, d)."""
        return self.up(self.dropout(torch.relu(self.down(x)))) * self.scale


class AdaptedFeedForward(nn.Module):
    """A block's feed-forward network with an adapter beside it, x' + MLP(LN(x')) + s · x̃ (equation 3).

    It stands in the place of the block's feed-forward network and takes the layer scale γ that DINOv2 has
    behind it along: h ↦ γ · MLP(h) + adapter(h), where h = LN(x') is what the block hands it and the block
    adds x'. So the adapter sees what the feed-forward network sees, as in equation 2 (the authors' code
    leaves the normalisation out), and its output is not multiplied by γ, which the paper's transformers lack.
    """

    def __init__(self, frozen: nn.Module, layer_scale: nn.Module, adapter: ParallelAdapter) -> None:
        super().__init__()
        self.frozen = frozen
        self.layer_scale = layer_scale
        self.adapter = adapter

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, d) → (n, tokens, d)."""
        return self.layer_scale(self.frozen(x)) + self.adapter(x)


class LowRankLinear(nn.Module):
    """W · x + b + s · B · A · x (Hu et al. 2021, equation 3, with α / r = s).

    A (r, d) begins Gaussian with variance 1 / d, B (d, r) at zero, so that a new one gives what W gives.

    Parameters
    ----------
    frozen : W and b.
    rank : r.
    scale : s. Learned from there where `learned_scale` is set.
    dropout : share of x that is set to 0 in training before A.
    """

    scale: nn.Parameter | float

    def __init__(
        self,
        frozen: nn.Linear,
        rank: int,
        scale: float = 1.0,
        *,
        learned_scale: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.frozen = frozen
        self.dropout = nn.Dropout(dropout)
        self.a = nn.Linear(frozen.in_features, rank, bias=False)
        self.b = nn.Linear(rank, frozen.out_features, bias=False)
        self.scale = _scale(scale, learned_scale)
        nn.init.normal_(self.a.weight, std=frozen.in_features**-0.5)
        nn.init.zeros_(self.b.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) → (..., d)."""
        return self.frozen(x) + self.b(self.a(self.dropout(x))) * self.scale


def chosen_blocks(blocks: Sequence[int] | int | None, n_blocks: int) -> list[int]:
    """Numbers of the blocks that are adapted, ascending from 0.

    Parameters
    ----------
    blocks : None is all of them, a number the last so many, and a sequence names each.

    Raises
    ------
    InputError : none, or one that the transformer does not have.
    """
    if blocks is None:
        return list(range(n_blocks))
    chosen = list(range(n_blocks - blocks, n_blocks)) if isinstance(blocks, int) else sorted(set(blocks))
    if not chosen or chosen[0] < 0 or chosen[-1] >= n_blocks:
        raise InputError(
            "the transformer does not have these blocks to adapt",
            found=blocks,
            allowed=f"a number from 1 to {n_blocks}, which takes the last, or some of 0 to {n_blocks - 1}",
        )
    return chosen


def check_adapter(width: int, scale: float, dropout: float) -> None:
    """Refuse what no adapter can have, as an `InputError`."""
    if width < 1:
        raise InputError("an adapter cannot have this width", found=width, allowed="at least 1")
    if not (math.isfinite(scale) and scale > 0):
        raise InputError("an adapter cannot have this scale", found=scale, allowed="above 0")
    if not 0 <= dropout < 1:
        raise InputError("an adapter cannot drop this share", found=dropout, allowed="from 0 to below 1")


def _scale(scale: float, learned: bool) -> nn.Parameter | float:
    return nn.Parameter(torch.tensor(float(scale))) if learned else float(scale)

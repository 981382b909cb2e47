"""Losses of two classes over logits, weighted and smoothed alike."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lymphoscope.training.bounds import check_choice, check_range

LossKind = Literal["cross-entropy", "focal"]


def loss(
    logits: Tensor,
    y: Tensor,
    *,
    kind: LossKind = "cross-entropy",
    weights: tuple[float, float] = (1.0, 1.0),
    label_smoothing: float = 0.0,
    focal_gamma: float = 2.0,
) -> Tensor:
    """Weighted mean loss of a batch, a scalar that gradients flow through.

    With log p_c = log softmax(logits)_c, weights w, targets q (smoothed by ε: q_y = 1 - ε / 2, the other
    class ε / 2) and γ = 0 for cross-entropy:

        loss = Σ_cells Σ_c q_c w_c (1 - p_c)^γ (-log p_c)  /  Σ_cells w_y

    which for cross-entropy is torch's own weighted and smoothed mean. Binary cross-entropy on a single logit
    z is cross-entropy on the logits (0, z): no loss of its own is needed for it.

    Parameters
    ----------
    logits : float (n, 2), reactive and malignant; n at least 1. Computed in float32 whatever their precision.
    y : (n,) integers, 0 or 1.
    kind : "cross-entropy", or "focal" (Lin et al. 2017, doi:10.1109/ICCV.2017.324, equation 5), which gives
        less weight to what is already told apart well.
    weights : of the reactive and the malignant class, above 0; only their ratio matters.
    label_smoothing : ε, from 0 to below 1 (Szegedy et al. 2016, doi:10.1109/CVPR.2016.308, section 7).
    focal_gamma : γ of the focal loss, at least 0; 0 makes it cross-entropy.

    Raises
    ------
    InputError : a setting is out of its range.
    """
    check_choice("loss", kind, get_args(LossKind))
    check_range("label_smoothing", label_smoothing, 0.0, 1.0, open_high=True)
    check_range("focal_gamma", focal_gamma, 0.0, float("inf"), open_high=True)
    for weight in weights:
        check_range("class weight", weight, 0.0, float("inf"), open_low=True, open_high=True)
    logits, y = logits.float(), y.long()
    per_class = logits.new_tensor(weights)
    if kind == "cross-entropy":
        return cross_entropy(logits, y, weight=per_class, label_smoothing=label_smoothing)
    log_p = logits.log_softmax(dim=1)
    # Of two classes, 1 - p of one is p of the other: its logarithm is exact where p is close to 1.
    easiness = torch.exp(focal_gamma * log_p.flip(1))
    smoothed = torch.full_like(log_p, label_smoothing / 2)
    smoothed.scatter_(1, y[:, None], 1 - label_smoothing / 2)
    return -(smoothed * per_class * easiness * log_p).sum() / per_class[y].sum()

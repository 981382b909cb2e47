"""The nearest neighbours of every cell, in one pass and without a table of all pairs in memory."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from lymphoscope.cohort.bags import IntArray

_VALUES_AT_ONCE = 1 << 22
"""Similarities held at a time, 16 MiB of them."""


@torch.inference_mode()
def nearest_neighbours(features: Tensor, k: int, *, values_at_once: int = _VALUES_AT_ONCE) -> IntArray:
    """The `k` other cells of highest cosine similarity, nearest first.

    Rows are compared with all others a block at a time; a block has as many rows as keep its similarities
    below `values_at_once`, so memory grows with n · k alone.

    Parameters
    ----------
    features : (n_cells, n_features).
    k : at least 1; fewer where there are not so many other cells.

    Returns
    -------
    (n_cells, min(k, n_cells − 1))
    """
    unit, n = normalize(features.float(), dim=1), len(features)
    k, step = min(k, n - 1), max(1, values_at_once // max(n, 1))
    found = np.empty((n, k), dtype=np.int64)
    for start in range(0, n, step):
        similarity = unit[start : start + step] @ unit.T
        own = torch.arange(len(similarity), device=unit.device)
        similarity[own, own + start] = -torch.inf
        found[start : start + step] = similarity.topk(k, dim=1).indices.cpu().numpy()
    return found

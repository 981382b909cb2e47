"""The loss of two views of one example being alike, and views of different examples apart (SimCLR).

Chen, Kornblith, Norouzi & Hinton 2020, arXiv:2002.05709.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross-entropy (Chen et al. 2020, equation 1), a scalar.

    With s the cosine similarity, each view i of a cell whose other view is j has the loss
    −log(exp(s_ij / τ) / Σ_{k ≠ i} exp(s_ik / τ)); the mean over all 2 n views.

    Parameters
    ----------
    first, second : (n, d), two views of each cell.
    temperature : τ, above 0.
    """
    views = normalize(torch.cat([first, second]).float(), dim=1)
    n = len(first)
    similarity = views @ views.T / temperature
    itself = torch.eye(2 * n, dtype=torch.bool, device=views.device)
    other = torch.arange(2 * n, device=views.device).roll(n)
    return cross_entropy(similarity.masked_fill(itself, -torch.inf), other)

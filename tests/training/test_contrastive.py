"""The contrastive loss against a plain re-computation."""

from __future__ import annotations

import math

import pytest
import torch

from lymphoscope.training.contrastive import nt_xent


def test_nt_xent_is_the_papers_sum_over_pairs() -> None:
    rng = torch.Generator().manual_seed(0)
    first, second = (torch.randn(5, 7, generator=rng, dtype=torch.float64) for _ in range(2))
    tau, views = 0.3, torch.cat([first, second])
    total = 0.0
    for i in range(10):
        partner = (i + 5) % 10
        similar = [
            math.exp(float(views[i] @ views[k] / views[i].norm() / views[k].norm()) / tau) for k in range(10)
        ]
        total -= math.log(similar[partner] / sum(s for k, s in enumerate(similar) if k != i))
    assert float(nt_xent(first, second, tau)) == pytest.approx(total / 10, rel=1e-5)


def test_views_that_are_alike_cost_less_than_views_that_are_not() -> None:
    views = torch.eye(6)
    assert nt_xent(views, views, 0.1) < 0.01 < nt_xent(views, views.roll(1, 0), 0.1)

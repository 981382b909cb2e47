"""Going on to learn from cells of which nothing is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lymphoscope.encoders.architectures import Embedder
from lymphoscope.encoders.kept import read_embedder
from lymphoscope.encoders.self_supervised import (
    VIEWS,
    AdaptSettings,
    adapt_network,
    anchor_distance,
    embeddings_of,
)
from lymphoscope.errors import InputError, LymphoscopeError
from lymphoscope.training.augmentation import IMAGENET, augment

CPU = torch.device("cpu")


def cells(n: int = 24, seed: int = 0) -> np.ndarray:
    """Discs of different size and colour on noise, uint8 (n, 32, 32, 3)."""
    rng = np.random.default_rng(seed)
    away = np.hypot(*(np.mgrid[:32, :32] - 15.5))
    images = rng.normal(215, 8, (n, 32, 32, 3))
    for image in images:
        image[away < rng.uniform(5, 13)] = rng.uniform(40, 200, 3)
    return np.clip(images, 0, 255).astype(np.uint8)


def adapted(folder: Path, **settings: Any) -> tuple[Embedder, list[float]]:
    embedder, _ = read_embedder(folder)
    given = {"epochs": 3, "batch_size": 8, "learning_rate": 1e-3, "average": 0.5} | settings
    return embedder, adapt_network(embedder, cells(), IMAGENET, AdaptSettings(**given), device=CPU)


def distance(embedder: Embedder, folder: Path) -> float:
    """How far embeddings went, in units of their spread."""
    before = embeddings_of(read_embedder(folder)[0], cells(), IMAGENET, CPU)
    after = embeddings_of(embedder, cells(), IMAGENET, CPU)
    return float(anchor_distance(after, before, before.var(dim=0, correction=0).sum()))


def agreement(embedder: Embedder) -> float:
    """Distance of two views of a cell as a share of the distance of views of different cells."""
    images = torch.from_numpy(cells(24, seed=9))
    chance = torch.Generator().manual_seed(3)
    with torch.inference_mode():
        views = [embedder.eval()(augment(images, VIEWS, IMAGENET, chance)) for _ in range(2)]
    apart = torch.cdist(*views)
    return float(apart.diag().mean() / apart.mean())


def test_views_of_a_new_cell_come_closer(tiny_encoder: Path) -> None:
    before, _ = read_embedder(tiny_encoder)
    after, losses = adapted(tiny_encoder, epochs=15, batch_size=12, learning_rate=1e-2, anchor=0.0)
    assert len(losses) == 15 and losses[-1] < losses[0]
    assert agreement(after) < 0.9 * agreement(before)


def test_an_anchor_holds_it_near_what_it_was(tiny_encoder: Path) -> None:
    free, _ = adapted(tiny_encoder, anchor=0.0)
    held, _ = adapted(tiny_encoder, anchor=20.0)
    assert 0 < distance(held, tiny_encoder) < 0.5 * distance(free, tiny_encoder)


def test_two_cells_at_random_are_two_apart() -> None:
    rng = torch.Generator().manual_seed(0)
    first, second = (torch.randn(4000, 5, generator=rng) for _ in range(2))
    assert float(anchor_distance(first, second, first.var(dim=0).sum())) == pytest.approx(2, rel=0.05)
    assert float(anchor_distance(first, first, first.var(dim=0).sum())) == 0


def test_the_same_seed_gives_the_same_bits_and_another_another(tiny_encoder: Path) -> None:
    first, again, other = (adapted(tiny_encoder, seed=seed)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_it_is_left_ready_for_use(tiny_encoder: Path) -> None:
    embedder, _ = adapted(tiny_encoder)
    assert not embedder.training and not any(each.requires_grad for each in embedder.parameters())


@pytest.mark.parametrize(
    "settings",
    [{"epochs": 0}, {"batch_size": 1}, {"learning_rate": 0.0}, {"anchor": -1.0}, {"temperature": 0.0}],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(settings))):
        AdaptSettings(**settings)


def test_an_adaptation_that_comes_apart_says_so(tiny_encoder: Path) -> None:
    with pytest.raises(LymphoscopeError, match="lower learning rate"):
        adapted(tiny_encoder, anchor=1e300)

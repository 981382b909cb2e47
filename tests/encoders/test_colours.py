"""Colours of photographs, and the map that takes them to others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lymphoscope.encoders.colours import ColourMap, Colours
from lymphoscope.training.augmentation import IMAGENET, prepare

SIDE = 24


def photographs(n: int = 12, seed: int = 0) -> np.ndarray:
    """Smooth colours, nowhere white and nowhere black, so that a map loses nothing at the ends."""
    rng = np.random.default_rng(seed)
    mixture = rng.uniform(0.2, 1, (3, 3))
    return (
        60 + 130 * rng.random((n, SIDE, SIDE, 3)) @ (mixture / mixture.sum(axis=1, keepdims=True)).T
    ).astype(np.uint8)


def recoloured(images: np.ndarray, strength: tuple[float, float, float], tint: float) -> np.ndarray:
    """As another camera shows them: per channel another optical density, and a tinted white."""
    density = -np.log(np.maximum(images, 1) / 255) * np.array(strength) + tint
    return np.round(255 * np.exp(-density)).astype(np.uint8)


def mapped(images: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Bytes to bytes, by way of the layer."""
    with torch.inference_mode():
        seen = ColourMap(change, IMAGENET)(prepare(torch.from_numpy(images), IMAGENET))
    light = seen.permute(0, 2, 3, 1).numpy() * np.array(IMAGENET.deviation) + np.array(IMAGENET.mean)
    return np.round(light * 255).astype(np.uint8)


@settings(max_examples=25, deadline=None)
@given(strength=st.tuples(*[st.floats(0.4, 1.2)] * 3), tint=st.floats(0, 0.2), seed=st.integers(0, 2**16))
def test_the_map_gives_the_wanted_colours(
    strength: tuple[float, float, float], tint: float, seed: int
) -> None:
    own, others = photographs(seed=seed), photographs(seed=seed + 1)
    wanted, theirs = Colours.of(own), Colours.of(recoloured(others, strength, tint))
    change = theirs.map_to(wanted)
    assert change[:, :3] @ theirs.mean + change[:, 3] == pytest.approx(wanted.mean, abs=1e-6)
    # A little spread is added to both, so that a map exists even where one has none in some direction.
    little = 1e-6 * np.eye(3)
    reached = change[:, :3] @ (theirs.covariance + little) @ change[:, :3].T
    assert reached == pytest.approx(wanted.covariance + little, abs=1e-7)
    assert np.allclose(change[:, :3], change[:, :3].T), "of all such maps the one that moves pixels least"


def test_another_cameras_photographs_come_back_as_they_were() -> None:
    images = photographs()
    pale = recoloured(images, (0.6, 0.5, 0.7), 0.1)
    back = mapped(pale, Colours.of(pale).map_to(Colours.of(images)))
    before, after = (np.abs(each.astype(int) - images).mean() for each in (pale, back))
    assert after < 0.15 * before and before > 20


def test_photographs_of_the_own_colours_stay_and_lie_at_no_distance() -> None:
    images = photographs()
    colours = Colours.of(images)
    assert np.abs(mapped(images, colours.map_to(colours)).astype(int) - images).max() <= 1
    assert colours.distance(colours) == pytest.approx(0, abs=1e-9)


def test_the_distance_is_that_of_pixels_before_and_after() -> None:
    own, others = Colours.of(photographs()), Colours.of(recoloured(photographs(seed=3), (0.5, 0.6, 0.4), 0.1))
    change = others.map_to(own)
    rng = np.random.default_rng(0)
    pixels = rng.multivariate_normal(others.mean, others.covariance, 200_000)
    moved = ((pixels @ change[:, :3].T + change[:, 3] - pixels) ** 2).sum(axis=1).mean()
    assert others.distance(own) == pytest.approx(np.sqrt(moved / np.trace(own.covariance)), rel=0.01)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_photographs_of_one_grey_have_a_map_too(level: int) -> None:
    grey = Colours.of(np.full((2, SIDE, SIDE, 3), level, dtype=np.uint8))
    change = grey.map_to(Colours.of(photographs()))
    assert np.isfinite(change).all() and np.isfinite(grey.distance(Colours.of(photographs())))
    black = np.zeros((1, SIDE, SIDE, 3), dtype=np.uint8)
    assert np.isfinite(mapped(black, change)).all()


def test_it_is_written_and_read() -> None:
    colours = Colours.of(photographs())
    again = Colours.from_dict(colours.as_dict())
    assert np.array_equal(again.mean, colours.mean) and np.array_equal(again.covariance, colours.covariance)

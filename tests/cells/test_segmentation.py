"""Masks of planted cells, and what is no cell."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_cells import CREAM, LILAC, YELLOW, PlantedCell, dice, disc

from lymphoscope.cells.segmentation import segment, segment_kmeans


@pytest.mark.parametrize("background", [CREAM, YELLOW, LILAC, (255, 255, 255), (215, 225, 215)])
@pytest.mark.parametrize(("nucleus", "cell"), [(16, 28), (27, 38), (34, 37), (40, 62)])
def test_planted_discs_are_found_on_any_background(
    background: tuple[int, int, int], nucleus: float, cell: float
) -> None:
    planted = PlantedCell(background=background, nucleus_axes=(nucleus, nucleus), cell_radius=cell)
    found = segment(planted.photograph())
    assert found.ok
    assert dice(found.nucleus, disc(224, nucleus)) > 0.96
    assert dice(found.cell, disc(224, cell)) > 0.96


@pytest.mark.parametrize("size", [96, 120, 300, 448])
def test_size_of_the_photograph_does_not_matter(size: int) -> None:
    nucleus, cell = 0.13 * size, 0.18 * size
    planted = PlantedCell(size=size, nucleus_axes=(nucleus, nucleus), cell_radius=cell, red_cells=())
    found = segment(planted.photograph())
    assert dice(found.nucleus, disc(size, nucleus)) > 0.95
    assert dice(found.cell, disc(size, cell)) > 0.95


def test_photograph_that_is_not_square() -> None:
    photograph = PlantedCell(size=224).photograph()[30:-10]
    found = segment(photograph)
    assert found.nucleus.shape == photograph.shape[:2]
    assert dice(found.nucleus, disc(224, 27)[30:-10]) > 0.96


def test_touching_red_cells_stay_outside() -> None:
    around = tuple((58 * np.cos(a), 58 * np.sin(a)) for a in np.arange(6) * np.pi / 3)
    found = segment(PlantedCell(nucleus_axes=(26, 26), cell_radius=36, red_cells=around).photograph())
    assert dice(found.cell, disc(224, 36)) > 0.94


def test_nucleus_of_a_touching_neighbour_stays_outside() -> None:
    planted = PlantedCell(red_cells=())
    od = planted.stain()
    neighbour = np.roll(od, (10, 74), axis=(0, 1))
    od = np.where(od > 0, od, neighbour)
    found = segment(planted.photograph(od))
    assert dice(found.nucleus, disc(224, 27)) > 0.96
    assert dice(found.cell, disc(224, 38)) > 0.94
    assert found.frame.others.sum() > 0.8 * np.pi * 13.5**2


def test_lobes_of_one_nucleus_belong_together() -> None:
    planted = PlantedCell(nucleus_axes=(13, 13), nucleus_at=(-15, 0), cell_radius=40)
    od = planted.stain()
    other_lobe = disc(224, 13, (16, 3))
    od[other_lobe] = planted.nucleus_od
    found = segment(planted.photograph(od))
    assert dice(found.nucleus, disc(224, 13, (-15, 0)) | other_lobe) > 0.95
    assert dice(found.cell, disc(224, 40)) > 0.96


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("flip", [False, True])
def test_turned_photograph_gives_turned_masks(turns: int, flip: bool) -> None:
    photograph = PlantedCell(nucleus_axes=(30, 22), nucleus_at=(6, 3)).photograph()
    turned = np.rot90(photograph[:, ::-1] if flip else photograph, turns)
    straight, found = segment(photograph), segment(np.ascontiguousarray(turned))
    for before, after in ((straight.nucleus, found.nucleus), (straight.cell, found.cell)):
        back = np.rot90(after, -turns)
        assert dice(before, back[:, ::-1] if flip else back) > 0.985


def test_same_photograph_gives_the_same_masks() -> None:
    photograph = PlantedCell().photograph(noise=6)
    first, second = segment(photograph), segment(photograph.copy())
    assert np.array_equal(first.cell, second.cell)
    assert np.array_equal(first.nucleus, second.nucleus)


def noise(seed: int, grain: int = 1) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (224 // grain, 224 // grain, 3), dtype=np.uint8)
    return cv2.resize(small, (224, 224), interpolation=cv2.INTER_NEAREST)


@pytest.mark.parametrize(
    "photograph",
    [
        np.full((224, 224, 3), 255, dtype=np.uint8),
        np.zeros((224, 224, 3), dtype=np.uint8),
        np.full((224, 224, 3), 128, dtype=np.uint8),
        noise(0),
        noise(1, grain=2),
        PlantedCell(nucleus_axes=(1, 1), cell_radius=1, red_cells=()).photograph(),
    ],
    ids=["white", "black", "grey", "noise", "coarse noise", "speck"],
)
def test_photograph_without_a_cell_is_flagged(photograph: np.ndarray) -> None:
    found = segment(photograph)
    assert not found.ok
    assert found.reason
    assert not found.nucleus.any()
    assert not found.cell.any()


@settings(max_examples=40, deadline=None)
@given(st.integers(32, 130), st.integers(32, 130), st.integers(0, 2**32 - 1), st.sampled_from([1, 4, 16, 64]))
def test_any_photograph_gives_masks_or_a_reason(height: int, width: int, seed: int, grain: int) -> None:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (max(1, height // grain), max(1, width // grain), 3), dtype=np.uint8)
    found = segment(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))
    assert found.cell.shape == found.nucleus.shape == (height, width)
    assert found.ok == (found.reason == "") == bool(found.nucleus.any())
    assert not (found.nucleus & ~found.cell).any()


def test_kmeans_covers_the_planted_nucleus() -> None:
    mask = segment_kmeans(PlantedCell(background=(250, 245, 240)).photograph())
    nucleus, cell = disc(224, 27), disc(224, 38)
    assert not (nucleus & ~mask).any()
    assert np.count_nonzero(mask & ~cell) < 0.1 * np.count_nonzero(cell)


def test_kmeans_finds_nothing_on_an_even_photograph() -> None:
    assert not segment_kmeans(np.full((64, 64, 3), 200, dtype=np.uint8)).any()

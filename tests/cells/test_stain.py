"""Background colour, optical density and white-balanced colour."""

from __future__ import annotations

import numpy as np
import pytest
from planted_cells import CREAM, LILAC, YELLOW, PlantedCell, disc

from lymphoscope.cells.stain import (
    background_colour,
    channel_density,
    nuclear_density,
    optical_density,
    white_balanced_lab,
)


@pytest.mark.parametrize("background", [CREAM, YELLOW, LILAC])
def test_background_is_found_among_many_red_cells(background: tuple[int, int, int]) -> None:
    red_cells = tuple((x, y) for x in range(-100, 101, 50) for y in range(-100, 101, 50))
    photograph = PlantedCell(background=background, red_cells=red_cells).photograph(noise=2)
    assert background_colour(photograph) == pytest.approx(background, abs=2)


def test_optical_density_is_that_of_the_planted_stain() -> None:
    planted = PlantedCell()
    photograph = planted.photograph(noise=0)
    od = optical_density(photograph, np.array(CREAM, dtype=np.float32))
    inside = disc(224, 20)
    assert od[inside].mean(axis=0) == pytest.approx(planted.nucleus_od, abs=0.01)
    assert nuclear_density(od)[inside].mean() == pytest.approx(0.50 + 0.7 * 0.75, abs=0.01)


def test_density_of_one_channel_is_that_channel_of_the_density() -> None:
    photograph, white = PlantedCell().photograph(), np.array(CREAM, dtype=np.float32)
    assert np.array_equal(channel_density(photograph, white, 1), optical_density(photograph, white)[..., 1])


def test_white_balance_makes_the_background_white() -> None:
    photograph = np.full((8, 8, 3), YELLOW, dtype=np.uint8)
    lab = white_balanced_lab(photograph, np.array(YELLOW, dtype=np.float32))
    assert lab.reshape(-1, 3).mean(axis=0) == pytest.approx([100, 0, 0], abs=0.5)

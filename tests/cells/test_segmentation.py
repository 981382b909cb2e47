"""Masks of planted cells."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from lymphoscope.cells.segmentation import segment


def draw_cell(nucleus_radius: float = 27, cell_radius: float = 36, size: int = 224) -> np.ndarray:
    """A dark disc in a pale blue disc on a cream background."""
    image = np.full((size, size, 3), (250, 228, 202), dtype=np.uint8)
    middle = (size // 2, size // 2)
    cv2.circle(image, middle, round(cell_radius), (170, 165, 205), -1, cv2.LINE_AA)
    cv2.circle(image, middle, round(nucleus_radius), (80, 40, 130), -1, cv2.LINE_AA)
    return image


@pytest.mark.parametrize(("nucleus_radius", "cell_radius"), [(20, 30), (27, 36), (40, 60)])
def test_areas_of_planted_discs(nucleus_radius: int, cell_radius: int) -> None:
    found = segment(draw_cell(nucleus_radius, cell_radius))
    assert found.ok
    assert found.nucleus.sum() == pytest.approx(np.pi * nucleus_radius**2, rel=0.05)
    assert found.cell.sum() == pytest.approx(np.pi * cell_radius**2, rel=0.12)


def test_empty_photograph_is_flagged() -> None:
    found = segment(np.full((224, 224, 3), 255, dtype=np.uint8))
    assert not found.ok
    assert found.reason
    assert not found.nucleus.any()
    assert not found.cell.any()

"""Shape of drawn masks."""

from __future__ import annotations

import numpy as np
import pytest
from planted_cells import disc

from lymphoscope.cells.shape import clefts, crofton_perimeter, irregularity, outlines_of, shape_of


def ellipse(a: float, b: float, degrees: float = 0.0, size: int = 160) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    angle = np.radians(degrees)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return (u / a) ** 2 + (v / b) ** 2 <= 1


@pytest.mark.parametrize("radius", [10, 20, 35, 60])
def test_disc(radius: float) -> None:
    mask = disc(160, radius)
    shape = shape_of(mask, outlines_of(mask))
    assert shape.area == pytest.approx(np.pi * radius**2, rel=0.01)
    assert shape.perimeter == pytest.approx(2 * np.pi * radius, rel=0.02)
    assert shape.roundness == pytest.approx(1.0, abs=0.04)
    assert shape.solidity > 0.96
    assert shape.eccentricity < 0.1
    assert shape.centre == pytest.approx((79.5, 79.5))
    assert irregularity(outlines_of(mask)[0], shape.centre) < 0.03


@pytest.mark.parametrize("degrees", [0, 30, 45, 77, 90])
@pytest.mark.parametrize("ratio", [1.2, 1.6, 2.5])
def test_ellipse_has_its_eccentricity_at_any_angle(degrees: float, ratio: float) -> None:
    mask = ellipse(20 * ratio, 20, degrees)
    shape = shape_of(mask, outlines_of(mask))
    assert shape.eccentricity == pytest.approx(np.sqrt(1 - ratio**-2), abs=0.02)
    assert shape.solidity > 0.97


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turning_a_mask_changes_no_shape(turns: int) -> None:
    mask = ellipse(40, 22, 20) & ~disc(160, 9, (0, -22))
    straight, turned = (
        shape_of(m, outlines_of(m)) for m in (mask, np.ascontiguousarray(np.rot90(mask, turns)))
    )
    assert turned.perimeter == pytest.approx(straight.perimeter)
    assert turned.eccentricity == pytest.approx(straight.eccentricity)
    assert turned.solidity == pytest.approx(straight.solidity, rel=1e-3)


def test_perimeter_of_a_mask_on_the_frame_includes_the_frame() -> None:
    assert crofton_perimeter(np.ones((50, 50), dtype=np.bool_)) == pytest.approx(200, rel=0.06)


@pytest.mark.parametrize("depth", [4, 8, 14])
def test_depth_of_a_notch(depth: int) -> None:
    mask = disc(160, 40)
    mask[79 - 40 : 79 - 40 + depth, 76:84] = False
    deepest, count = clefts(outlines_of(mask)[0])
    assert deepest * 80 == pytest.approx(depth, abs=1.5)
    assert count == (1 if depth > 0.06 * 80 else 0)


def test_each_notch_counts_once() -> None:
    mask = disc(160, 40)
    for angle in (0.3, 2.2, 4.4):
        mask &= ~disc(160, 9, (40 * np.cos(angle), 40 * np.sin(angle)))
    assert clefts(outlines_of(mask)[0])[1] == 3


@pytest.mark.parametrize(
    "mask", [np.ones((1, 1)), np.ones((1, 9)), np.eye(5)], ids=["dot", "bar", "diagonal"]
)
def test_degenerate_masks_have_a_finite_shape(mask: np.ndarray) -> None:
    mask = np.pad(mask.astype(np.bool_), 1)
    shape = shape_of(mask, outlines_of(mask))
    assert np.isfinite(
        [shape.area, shape.perimeter, shape.roundness, shape.solidity, shape.eccentricity]
    ).all()
    assert clefts(outlines_of(mask)[0]) == (0.0, 0)

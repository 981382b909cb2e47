"""The star contour finds planted outlines."""

from __future__ import annotations

import numpy as np
import pytest

from lymphoscope.cells.contour import star_contour


def radii(polygon: np.ndarray, centre: tuple[float, float]) -> np.ndarray:
    return np.hypot(polygon[:, 0] - centre[0], polygon[:, 1] - centre[1])


def planted_radius(angle: np.ndarray) -> np.ndarray:
    return 30 + 5 * np.cos(2 * angle) + 3 * np.sin(3 * angle)


def planes(centre: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:112, :112].astype(float)
    angle, distance = np.arctan2(y - centre[1], x - centre[0]), np.hypot(x - centre[0], y - centre[1])
    inside = distance <= planted_radius(angle)
    edge = np.exp(-0.5 * (distance - planted_radius(angle)) ** 2)
    return np.where(inside, 1.0, -1.0).astype(np.float32), edge.astype(np.float32)


@pytest.mark.parametrize("centre", [(55.5, 55.5), (50.0, 60.0)])
@pytest.mark.parametrize(("region_weight", "edge_weight"), [(0.5, 0.0), (0.0, 1.0), (0.5, 1.0)])
def test_planted_outline_is_found_by_region_or_edge(
    centre: tuple[float, float], region_weight: float, edge_weight: float
) -> None:
    region, edge = planes(centre)
    polygon = star_contour(
        region, edge, centre, 54.0, region_weight=region_weight, edge_weight=edge_weight, jump_price=0.02
    )
    angle = np.arctan2(polygon[:, 1] - centre[1], polygon[:, 0] - centre[0])
    assert np.abs(radii(polygon, centre) - planted_radius(angle)).max() < 2.0


def test_a_high_price_of_jumps_gives_a_circle() -> None:
    region, edge = planes((55.5, 55.5))
    polygon = star_contour(
        region, edge, (55.5, 55.5), 54.0, region_weight=0.1, edge_weight=0.1, jump_price=50.0
    )
    assert np.ptp(radii(polygon, (55.5, 55.5))) < 1e-3

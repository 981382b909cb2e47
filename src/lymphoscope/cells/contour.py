"""The best closed star-shaped outline around a point, by dynamic programming in polar coordinates.

Every ray from the centre chooses one radius. The score of a choice is what lies inside it (the sum of a
region score along the ray) plus the edge it sits on, less a price for jumping between neighbouring rays;
the best closed path is found exactly for a given start (Viterbi) and closed by going round again.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from lymphoscope.cells.stain import Plane

Polygon = npt.NDArray[np.float32]

_RAYS = 48
_STEPS = 44
_MAX_JUMP = 3
_ANGLES = np.arange(_RAYS) * (2 * np.pi / _RAYS)
_COS, _SIN = np.cos(_ANGLES)[:, None], np.sin(_ANGLES)[:, None]


def star_contour(
    region: Plane,
    edge: Plane,
    centre: tuple[float, float],
    reach: float,
    *,
    region_weight: float,
    edge_weight: float,
    jump_price: float,
) -> Polygon:
    """Outline of the object around `centre` (x, y), shape (48, 2) in pixels.

    Parameters
    ----------
    region : (H, W); positive where a pixel looks like inside, negative where it looks like outside.
    edge : (H, W); 0 to 1, how much of an outer edge a pixel is.
    reach : largest radius considered, in pixels.
    region_weight : score per unit of `region` and per step of reach / 44.
    edge_weight : score of lying on an edge of strength 1.
    jump_price : price of moving one step in or out between neighbouring rays.
    """
    step = reach / _STEPS
    radius = (np.arange(_STEPS) + 0.5) * step
    x = (centre[0] + _COS * radius).astype(np.float32)
    y = (centre[1] + _SIN * radius).astype(np.float32)
    inside = cv2.remap(region, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=-1.0)
    on_edge = cv2.remap(edge, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0.0)
    score = region_weight * np.cumsum(inside, axis=1) + edge_weight * on_edge
    chosen = (_closed_path(score, jump_price) + 0.5) * step
    return np.stack([centre[0] + _COS[:, 0] * chosen, centre[1] + _SIN[:, 0] * chosen], axis=1).astype(
        np.float32
    )


def _closed_path(score: Plane, jump_price: float) -> npt.NDArray[np.int64]:
    """Column per row of `score` that maximises their sum less the price of jumps, rows forming a ring."""
    rows, columns = score.shape
    jumps = np.arange(-_MAX_JUMP, _MAX_JUMP + 1)
    price = (jump_price * np.abs(jumps)).astype(np.float32)[:, None]
    reachable = np.arange(columns) + np.arange(2 * _MAX_JUMP + 1)[:, None]
    padded = np.full(columns + 2 * _MAX_JUMP, -1e9, dtype=np.float32)
    middle = padded[_MAX_JUMP:-_MAX_JUMP]
    middle[:] = score[0]
    turns = 2 * rows
    came_from = np.zeros((turns, columns), dtype=np.int64)
    for turn in range(1, turns):
        candidates = padded[reachable] - price
        best = candidates.argmax(axis=0)
        came_from[turn] = best
        middle[:] = candidates.max(axis=0) + score[turn % rows]
    at = int(middle.argmax())
    path = np.empty(turns, dtype=np.int64)
    for turn in range(turns - 1, -1, -1):
        path[turn] = at
        at += int(came_from[turn, at]) - _MAX_JUMP if turn else 0
    # The two ends of the double round know only one side; its middle round is closed.
    quarter = rows // 2
    return np.concatenate([path[rows : rows + quarter], path[quarter:rows]])

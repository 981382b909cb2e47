"""The best closed star-shaped outline around a point, by dynamic programming in polar coordinates.

Every ray from the centre chooses one radius. The score of a choice is what lies inside it (the sum of a
region score along the ray) plus the edge it sits on, less a price for jumping between neighbouring rays;
the best closed path is found exactly for a given start (Viterbi) and closed by going round again.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from lymphoscope.cells.stain import Plane

Polygon = npt.NDArray[np.float32]

_RAYS = 32
_STEPS = 36
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
    """Outline of the object around `centre` (x, y), shape (32, 2) in pixels.

    Parameters
    ----------
    region : (H, W); positive where a pixel looks like inside, negative where it looks like outside.
    edge : (H, W); 0 to 1, how much of an outer edge a pixel is.
    reach : largest radius considered, in pixels.
    region_weight : score per unit of `region` and per step of reach / 36.
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
    """Column per row of `score` that maximises their sum less the price of jumps, rows forming a ring.

    One and a quarter rounds are gone and the middle one is kept: its ends have both their neighbours.
    """
    rows, columns = score.shape
    turns = rows + rows // 4
    price = (jump_price * np.abs(np.arange(-_MAX_JUMP, _MAX_JUMP + 1))).astype(np.float32)
    padded = np.full((turns, columns + 2 * _MAX_JUMP), -1e9, dtype=np.float32)
    best_so_far = padded[:, _MAX_JUMP:-_MAX_JUMP]
    reachable = sliding_window_view(padded, columns, axis=1)
    priced = np.empty((len(price), columns), dtype=np.float32)
    best_so_far[0] = score[0]
    toll, best = price[:, None], np.empty(columns, dtype=np.float32)
    for turn in range(1, turns):
        np.subtract(reachable[turn - 1], toll, out=priced)
        np.maximum.reduce(priced, axis=0, out=best)
        np.add(best, score[turn % rows], out=best_so_far[turn])
    path = np.empty(turns, dtype=np.int64)
    # Seven numbers a step: plain floats are compared faster than an array of them is made.
    at, behind, prices = int(best_so_far[-1].argmax()), padded.tolist(), price.tolist()
    for turn in range(turns - 1, 0, -1):
        path[turn] = at
        gains = [a - b for a, b in zip(behind[turn - 1][at : at + len(prices)], prices, strict=True)]
        at += gains.index(max(gains)) - _MAX_JUMP
    path[0] = at
    first = rows // 8
    return np.roll(path[first : first + rows], first)

"""The field around the cell: red cells and platelets as maps of dye concentration."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.synthetic.textures import (
    FRAME,
    RED_CELL_RADIUS,
    SPRITE,
    Map,
    blurred,
    crop,
    noise_field,
    red_cell_sprites,
)

_MARGIN = 40
_OVERLAPPING = 0.16


def red_cell_map(
    density: float, pallor: float, keep_free: tuple[tuple[float, float, float], ...], rng: np.random.Generator
) -> Map:
    """Haemoglobin thickness over the frame, (FRAME, FRAME); 1 is a flat disc, overlaps add up.

    Parameters
    ----------
    density : how many places are tried, as a share of a crowded field, 0 to 1.
    pallor : depth of the pale centres, 0 to 1.
    keep_free : (x, y, radius) in px of white cells, which red cells give way to.
    """
    discs, dimples = red_cell_sprites()
    canvas = np.zeros((FRAME + 2 * _MARGIN, FRAME + 2 * _MARGIN), dtype=np.float32)
    places = _places(density, keep_free, rng)
    n = len(places)
    sprites = rng.integers(0, len(discs), n).tolist()
    depth = np.clip(pallor + 0.18 * rng.standard_normal(n), 0, 1).astype(np.float32)
    amount = (1 + 0.09 * rng.standard_normal(n)).astype(np.float32)
    size = (rng.normal(1.0, 0.03) * rng.normal(1.0, 0.07, n)).tolist()
    stretch, angle = rng.normal(0, 0.05, n).tolist(), rng.uniform(0, 2 * math.pi, n).tolist()
    for i, (x, y) in enumerate(places):
        sprite = discs[sprites[i]] - depth[i] * dimples[sprites[i]]
        left, top = math.floor(x), math.floor(y)
        warp = _warp(size[i], stretch[i], angle[i], x - left, y - top)
        patch = cv2.warpAffine(sprite, warp, (SPRITE, SPRITE), flags=cv2.INTER_LINEAR)
        top, left = top - SPRITE // 2 + _MARGIN, left - SPRITE // 2 + _MARGIN
        target = canvas[max(top, 0) : top + SPRITE, max(left, 0) : left + SPRITE]
        y0, x0 = max(-top, 0), max(-left, 0)
        target += amount[i] * patch[y0 : y0 + target.shape[0], x0 : x0 + target.shape[1]]
    field = canvas[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    # Where cells overlap they are pressed flat: thickness adds up to less than the sum.
    return np.asarray(field - 0.65 * np.maximum(field - 1.15, 0), dtype=np.float32)


def _warp(scale: float, stretch: float, angle: float, dx: float, dy: float) -> npt.NDArray[np.float64]:
    """Affine map, shape (2, 3), that turns, scales and stretches about the sprite's middle, then shifts."""
    c, s, middle = math.cos(angle), math.sin(angle), (SPRITE - 1) / 2
    long, short = scale * (1 + stretch), scale * (1 - stretch)
    a, b, d, e = c * long, -s * short, s * long, c * short
    return np.array([[a, b, middle - (a + b) * middle + dx], [d, e, middle - (d + e) * middle + dy]])


def _places(
    density: float, keep_free: tuple[tuple[float, float, float], ...], rng: np.random.Generator
) -> list[tuple[float, float]]:
    """Centres of red cells: tried one after another, kept where there is room or overlap is allowed."""
    tries = max(3, round(8 + 110 * density))
    candidates = rng.uniform(-RED_CELL_RADIUS, FRAME + RED_CELL_RADIUS, (tries, 2))
    room = np.where(rng.random(tries) < _OVERLAPPING, rng.uniform(16, 36, tries), rng.uniform(38, 45, tries))
    push = rng.uniform(0.72, 1.0, tries) * RED_CELL_RADIUS
    kept: list[tuple[float, float]] = []
    for (x, y), gap, margin in zip(candidates.tolist(), room.tolist(), push.tolist(), strict=True):
        if any(math.hypot(x - a, y - b) < radius + margin for a, b, radius in keep_free):
            continue
        if all(math.hypot(x - a, y - b) >= gap for a, b in kept):
            kept.append((x, y))
    return kept


def platelet_map(keep_free: tuple[tuple[float, float, float], ...], rng: np.random.Generator) -> Map | None:
    """Concentration of platelets' purple granules, (FRAME, FRAME); None where the field has none."""
    n = int(rng.poisson(0.7))
    if n == 0:
        return None
    canvas = np.zeros((FRAME, FRAME), dtype=np.float32)
    grain = crop(noise_field(0.9), FRAME, rng)
    angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    for _ in range(n):
        centre = rng.uniform(0, FRAME, 2)
        if any(math.hypot(centre[0] - a, centre[1] - b) < radius + 6 for a, b, radius in keep_free):
            continue
        radii = rng.gamma(10, 0.5) * (1 + 0.18 * rng.standard_normal(14))
        points = centre + radii[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])
        mask = np.zeros((FRAME, FRAME), dtype=np.uint8)
        cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        canvas += mask * np.float32(rng.uniform(0.5, 1.4) / 255)
    return np.asarray(blurred(canvas, 1.0) * np.clip(0.85 + 0.4 * grain, 0.1, None), dtype=np.float32)

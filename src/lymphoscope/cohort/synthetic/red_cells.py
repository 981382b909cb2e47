"""The field around the cell: red cells and platelets as maps of dye concentration."""

from __future__ import annotations

import math

import cv2
import numpy as np

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
    size = rng.normal(1.0, 0.03)
    for x, y in _places(density, keep_free, rng):
        i = int(rng.integers(len(discs)))
        depth = min(max(pallor + 0.18 * rng.standard_normal(), 0.0), 1.0)
        sprite = discs[i] - np.float32(depth) * dimples[i]
        amount = np.float32(1 + 0.09 * rng.standard_normal())
        left, top = math.floor(x), math.floor(y)
        warp = _warp(size * rng.normal(1.0, 0.07), rng.normal(0, 0.05), rng.uniform(0, 2 * math.pi))
        warp[0, 2] += x - left
        warp[1, 2] += y - top
        patch = cv2.warpAffine(sprite, warp, (SPRITE, SPRITE), flags=cv2.INTER_LINEAR)
        top, left = top - SPRITE // 2 + _MARGIN, left - SPRITE // 2 + _MARGIN
        box = (slice(max(top, 0), top + SPRITE), slice(max(left, 0), left + SPRITE))
        target = canvas[box]
        y0, x0 = max(-top, 0), max(-left, 0)
        target += amount * patch[y0 : y0 + target.shape[0], x0 : x0 + target.shape[1]]
    field = canvas[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    # Where cells overlap they are pressed flat: thickness adds up to less than the sum.
    return np.asarray(field - 0.65 * np.maximum(field - 1.15, 0), dtype=np.float32)


def _warp(scale: float, stretch: float, angle: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Affine map that turns, scales and stretches about the sprite's middle."""
    c, s, middle = math.cos(angle), math.sin(angle), (SPRITE - 1) / 2
    turn = np.array([[c, -s], [s, c]])
    linear = turn @ np.diag([scale * (1 + stretch), scale * (1 - stretch)]) @ turn.T @ turn
    return np.column_stack([linear, middle - linear @ [middle, middle]])


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

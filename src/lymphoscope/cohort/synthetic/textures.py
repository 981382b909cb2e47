"""Noise fields and red-cell sprites, made once per process and cropped or warped for every photograph."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

Map = npt.NDArray[np.float32]

FRAME = 224
"""Side of a photograph, px."""

FIELD = 512
RED_CELL_RADIUS = 22.5
"""Radius of a typical red cell, px: about 7.5 µm across, 45 px wide."""

SPRITE = 72
_SPRITES = 128


def blurred(image: Map, sigma: float) -> Map:
    """Gaussian blur of standard deviation `sigma` px; the image itself where that would not show."""
    if sigma < 0.3:
        return image
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), dtype=np.float32)


@cache
def noise_field(scale: float, finest: float = 0.0) -> Map:
    """Tileable noise of unit variance, shape (FIELD, FIELD), features about `scale` px wide.

    With `finest` above 0 it is band-passed: features wider than `scale` are taken out.
    """
    rng = np.random.default_rng(round(1000 * scale) + 7 * round(1000 * finest))
    white = np.fft.rfft2(rng.standard_normal((FIELD, FIELD)))
    fy, fx = np.fft.fftfreq(FIELD)[:, None], np.fft.rfftfreq(FIELD)[None, :]
    squared = fx**2 + fy**2
    # A Gaussian of standard deviation s px has the transfer function exp(-2 π² s² f²).
    narrow = finest if finest > 0 else scale
    transfer = np.exp(-2 * np.pi**2 * narrow**2 * squared)
    if finest > 0:
        transfer = transfer - np.exp(-2 * np.pi**2 * scale**2 * squared)
    field = np.fft.irfft2(white * transfer, s=(FIELD, FIELD))
    return np.ascontiguousarray((field - field.mean()) / field.std(), dtype=np.float32)


@cache
def seam_field() -> Map:
    """Tileable net of soft lines, 1 on a line and 0 between, (FIELD, FIELD): the level 0 of a noise field."""
    noise = noise_field(7.0, 2.6)
    return np.asarray(np.exp(-((noise / 0.33) ** 2)), dtype=np.float32)


def crop(field: Map, size: int, rng: np.random.Generator) -> Map:
    """A random `size` × `size` piece of a field, randomly transposed and mirrored."""
    top, left = rng.integers(0, FIELD - size, 2)
    piece = field[top : top + size, left : left + size]
    turn = int(rng.integers(0, 8))
    piece = piece[:: -1 if turn & 1 else 1, :: -1 if turn & 2 else 1]
    return piece.T if turn & 4 else piece


@cache
def red_cell_sprites() -> tuple[Map, Map]:
    """Thickness of whole discs and of the dimples to take out of them, each (n, SPRITE, SPRITE).

    Thickness 1 is a flat disc without pallor. Outlines are gently uneven; a few are crenated.
    """
    rng = np.random.default_rng(45)
    axis = np.arange(SPRITE, dtype=np.float64) - (SPRITE - 1) / 2
    x, y = np.meshgrid(axis, axis)
    rho, theta = np.hypot(x, y) / RED_CELL_RADIUS, np.arctan2(y, x)
    discs, dimples = np.empty((2, _SPRITES, SPRITE, SPRITE), dtype=np.float32)
    for i in range(_SPRITES):
        outline = np.ones_like(rho)
        for k, amplitude in ((2, 0.05), (3, 0.035), (4, 0.02), (5, 0.012)):
            outline += amplitude * rng.standard_normal() * np.cos(k * theta + rng.uniform(0, 2 * np.pi))
        if i % 24 == 0:
            outline += 0.035 * np.cos(int(rng.integers(11, 16)) * theta + rng.uniform(0, 2 * np.pi))
        edge, inner = rho / outline, rho / (1 + 0.35 * (outline - 1))
        softness = 0.028
        disc = 1 / (1 + np.exp((edge - 1) / softness))
        rim = 0.22 * np.exp(-(((edge - 0.90) / 0.09) ** 2)) - 0.06 * np.exp(-((edge / 0.6) ** 2))
        radius, width = rng.uniform(0.36, 0.54), rng.uniform(0.03, 0.09)
        shift = np.hypot(x / RED_CELL_RADIUS - rng.normal(0, 0.05), y / RED_CELL_RADIUS - rng.normal(0, 0.05))
        dimple = 1 / (1 + np.exp((np.maximum(shift, 0.6 * inner) - radius) / width))
        discs[i], dimples[i] = disc * (1 + rim), dimple * disc
    return discs, dimples

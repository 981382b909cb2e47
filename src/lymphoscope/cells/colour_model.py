"""Which colours are inside the cell: two smoothed colour histograms learned from this photograph alone."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from lymphoscope.cells.stain import Mask, Plane, RgbImage

_BINS = 20
_DENSITY_SCALE = 0.03
_BIN_WIDTH = 0.28
_FIRST_BIN = 3.5
_FLOOR = 2e-5
_LIMIT = 3.0
_KERNEL = np.exp(-0.5 * np.arange(-2, 3, dtype=np.float32) ** 2)
_KERNEL /= _KERNEL.sum()
_DELTA = np.ones((1, 1), dtype=np.float32)

Codes = npt.NDArray[np.int32]


def colour_codes(image: RgbImage, white: Plane) -> Codes:
    """Number of the colour bin of every pixel, shape (H, W), 0 to 7,999.

    Bins are even in arsinh(OD / 0.03): fine near the background, where pale cytoplasm must be told from
    nothing, and coarse in the dark.
    """
    light = np.maximum(np.arange(256, dtype=np.float32), 1.0)[:, None] / white[None]
    level = np.floor(np.arcsinh(-np.log10(light) / _DENSITY_SCALE) / _BIN_WIDTH + _FIRST_BIN)
    table = np.clip(level, 0, _BINS - 1) * np.array([_BINS * _BINS, _BINS, 1])
    red, green, blue = cv2.split(cv2.LUT(image, np.ascontiguousarray(table[None]).astype(np.int32)))
    return np.asarray(cv2.add(cv2.add(red, green), blue), dtype=np.int32)


def log_likelihood_ratio(codes: Codes, inside: Mask, outside: Mask) -> Plane:
    """log p(colour | inside) − log p(colour | outside) of every pixel, clipped to ±3, shape (H, W)."""
    ratio = np.log(_density(codes[inside])) - np.log(_density(codes[outside]))
    return np.clip(ratio, -_LIMIT, _LIMIT).astype(np.float32)[codes]


def _density(codes: Codes) -> Plane:
    """Smoothed histogram of bin numbers, shape (8000,), sums to about 1, nowhere 0."""
    cube = np.bincount(codes, minlength=_BINS**3).astype(np.float32)
    for _ in range(3):
        # Smooth the first axis, then bring the next one to the front.
        rows = cv2.sepFilter2D(cube.reshape(_BINS, -1), -1, _DELTA, _KERNEL, borderType=cv2.BORDER_REPLICATE)
        cube = np.ascontiguousarray(rows.reshape(_BINS, _BINS, _BINS).transpose(1, 2, 0))
    return cube.ravel() / np.float32(max(len(codes), 1)) + np.float32(_FLOOR)

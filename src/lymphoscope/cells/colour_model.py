"""Which colours are inside the cell: two smoothed colour histograms learned from this photograph alone."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from lymphoscope.cells.stain import Plane, RgbImage, density_table

_BINS = 20
_DENSITY_SCALE = 0.03
_BIN_WIDTH = 0.28
_FIRST_BIN = 3.5
_FLOOR = np.float32(2e-5)
_LIMIT = 3.0
_SMOOTH = np.exp(-0.5 * np.subtract.outer(np.arange(_BINS), np.arange(_BINS)) ** 2).astype(np.float32)
_SMOOTH /= np.float32(np.sqrt(2 * np.pi))
_DIAGONAL = _BINS * _BINS + _BINS + 1
_SMEAR = ((1, 0.6), (2, 0.15))
_SMEAR_TOTAL = 1.0 + 2 * sum(weight for _, weight in _SMEAR)

_PLACES = np.array([_BINS * _BINS, _BINS, 1])

Codes = npt.NDArray[np.int64]
CodeTable = npt.NDArray[np.int16]


def code_table(white: Plane) -> CodeTable:
    """Colour bin of each of the 256 levels of red, green and blue, to be added up; shape (1, 256, 3).

    Bins are even in arsinh(OD / 0.03): fine near the background, where pale cytoplasm must be told from
    nothing, and coarse in the dark.
    """
    level = np.floor(np.arcsinh(density_table(white) / _DENSITY_SCALE) / _BIN_WIDTH + _FIRST_BIN)
    return (np.clip(level, 0, _BINS - 1) * _PLACES).astype(np.int16)[None]


def colour_codes(image: RgbImage, table: CodeTable) -> Codes:
    """Number of the colour bin of every pixel, shape (H, W), 0 to 7,999."""
    red, green, blue = cv2.split(cv2.LUT(image, table))
    return np.asarray(cv2.add(cv2.add(red, green), blue), dtype=np.int64)


def log_likelihood_ratio(inside: Codes, outside: Codes) -> Plane:
    """log p(colour | inside) − log p(colour | outside) of every colour bin, clipped to ±3, shape (8000,).

    What lies outside may be seen inside the contour a little darker or paler, as red cells differ in
    thickness; so the outer histogram is also smeared along its diagonal, where only the amount of stain
    changes.
    """
    near, far = _densities(inside, outside)
    smeared = far.copy()
    for shift, weight in _SMEAR:
        step = shift * _DIAGONAL
        smeared[step:] += np.float32(weight) * far[:-step]
        smeared[:-step] += np.float32(weight) * far[step:]
    smeared /= np.float32(_SMEAR_TOTAL)
    ratio = np.log((near + _FLOOR) / (smeared + _FLOOR))
    return np.clip(ratio, -_LIMIT, _LIMIT, out=ratio)


def _densities(first: Codes, second: Codes) -> tuple[Plane, Plane]:
    """Smoothed histograms of two sets of bin numbers, each of shape (8000,) and sum about 1."""
    cubes = np.stack([np.bincount(codes, minlength=_BINS**3) for codes in (first, second)]).astype(np.float32)
    along_first = np.matmul(_SMOOTH, cubes.reshape(2, _BINS, -1))
    along_second = np.matmul(_SMOOTH, along_first.reshape(2 * _BINS, _BINS, _BINS))
    smooth = np.matmul(along_second.reshape(-1, _BINS), _SMOOTH).reshape(2, -1)
    return smooth[0] / np.float32(max(len(first), 1)), smooth[1] / np.float32(max(len(second), 1))

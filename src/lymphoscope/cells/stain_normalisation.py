"""A photograph as if it had been stained and lit like a reference, by tables of the 256 levels.

Three colours describe a photograph: the empty background, and in optical density against it (`cells.stain`)
red cells and nuclei, the two things that Giemsa stains and every smear has; no vectors of another stain are
assumed. Per channel a curve through these three takes each to its reference, as landmarks of histograms do
for magnetic resonance images (Nyúl & Udupa, Magn Reson Med 1999;42:1072–1081).

- The background is brought to the reference's, photograph by photograph: light and white balance.
- Red cells and nuclei get the reference's *hue*, how density is divided among red, green and blue. Their
  *amount* stays as it is: how dense chromatin is tells lymphocytes apart, and how blue cytoplasm is too.
- Hue is taken from all photographs of a patient, which are of one smear, and not from each: so the cells of
  one patient keep what they differ in.

Measured on the open cells by `benchmarks/stain_reference.py`: bringing the amount to the reference as well
more than halves the differences of nuclear density between types of cell where a patient's cells are of one
type, as those of a clone are. Of two batches of stain it brings red cells closer, nuclei hardly or not, and
cytoplasm farther apart.
"""

from __future__ import annotations

import warnings
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from lymphoscope.cells.nucleus import nuclear_threshold
from lymphoscope.cells.stain import (
    NUCLEAR_STAIN,
    Mask,
    Plane,
    RgbImage,
    background_colour,
    density_table,
    nuclear_density,
    optical_density,
)

Points = npt.NDArray[np.float64]

STAIN_VERSION: Final = 1
"""Goes up whenever normalised photographs change."""

WHITE, RED_CELLS, NUCLEI = 0, 1, 2
"""Rows of what describes a stain: RGB of the background, optical density of red cells, and of nuclei."""

REFERENCE: Final = np.array(
    [[254.0, 227.0, 201.0], [0.091, 0.135, 0.083], [0.506, 0.804, 0.190]], dtype=np.float32
)
"""Medians over lymphocytes of one laboratory, printed by `benchmarks/stain_reference.py`."""

_STEP = 4
_LEAST_WHITE = 128.0
_WHITE_WITHIN = 0.05
_LEAST_NUCLEAR = 0.25
_RED_CELL_GREEN = (0.06, 0.4)
_RED_CELL_BLUE = 0.4
_LEAST_PIXELS, _LARGEST_SHARE = 20, 0.9
_LARGEST_GAIN = 1.6
_LEAST_MEAN = 0.01
_LIGHTEST, _DARKEST = -0.3, 3.0

_NUCLEAR_WEIGHT = np.asarray(NUCLEAR_STAIN[0], dtype=np.float64)
_RED_CELL_WEIGHT = np.ones(3)


def measure_stain(frame: RgbImage) -> Plane:
    """Background, red cells and nuclei of one photograph, float32 (3, 3): rows as `WHITE`, …, columns RGB.

    Every fourth pixel is looked at. A row is NaN where the photograph shows none of it; the background is
    never darker than 128, as a light field's is not.
    """
    sample = np.ascontiguousarray(frame[::_STEP, ::_STEP])
    white = np.maximum(background_colour(sample), np.float32(_LEAST_WHITE))
    od = optical_density(sample, white)
    density = nuclear_density(od)
    nuclear = density > max(nuclear_threshold(density), _LEAST_NUCLEAR)
    green, blue = od[..., 1], od[..., 2]
    # Haemoglobin absorbs blue, which the dyes of nuclei and cytoplasm hardly do.
    red_cell = ~nuclear & (green > _RED_CELL_GREEN[0]) & (green < _RED_CELL_GREEN[1])
    red_cell &= blue > _RED_CELL_BLUE * green
    return np.stack([white, _mean(od, red_cell), _mean(od, nuclear)])


def patient_stain(stains: Plane) -> Plane:
    """Median, (3, 3), of what was measured on one patient's photographs, (n, 3, 3); NaN where none has it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        return np.asarray(np.nanmedian(stains, axis=0), dtype=np.float32)


def normalised(frame: RgbImage, table: npt.NDArray[np.uint8]) -> RgbImage:
    """The photograph as if stained and lit like the reference, by its `stain_table`; of the same shape."""
    return np.asarray(cv2.LUT(frame, table[None]), dtype=np.uint8)


def normalised_alone(frame: RgbImage) -> RgbImage:
    """The same by itself, where no other photographs of the patient are at hand."""
    stain = measure_stain(frame)
    return normalised(frame, stain_table(stain[WHITE], stain))


def stain_table(white: Plane, stain: Plane) -> npt.NDArray[np.uint8]:
    """What the 256 levels of each channel become, uint8 (256, 3), non-decreasing.

    Parameters
    ----------
    white : (3,), the photograph's own background; one that is far from the patient's, because the photograph
        shows none, is moved towards it.
    stain : (3, 3), of the patient.
    """
    usual = stain[WHITE]
    own = np.clip(white, usual * (1 - _WHITE_WITHIN), usual * (1 + _WHITE_WITHIN))
    density = density_table(np.asarray(own, dtype=np.float32))
    given, wanted = _landmarks(stain)
    new = [np.interp(density[:, c], given[:, c], wanted[:, c]) for c in range(3)]
    levels = REFERENCE[WHITE] * 10.0 ** -np.stack(new, axis=1)
    return np.rint(np.clip(levels, 0, 255)).astype(np.uint8)


def _landmarks(stain: Plane) -> tuple[Points, Points]:
    """Densities that are given and wanted, each (n, 3), rising: of the background, red cells and nuclei."""
    red_cells, nuclei = stain[RED_CELLS].astype(np.float64), stain[NUCLEI].astype(np.float64)
    given, wanted = [np.zeros(3)], [np.zeros(3)]
    if np.isfinite(nuclei).all():
        like_nuclei = _of_hue(nuclei, REFERENCE[NUCLEI], _NUCLEAR_WEIGHT)
        like_red_cells = _of_hue(red_cells, REFERENCE[RED_CELLS], _RED_CELL_WEIGHT)
        if (nuclei > red_cells).all() and (like_nuclei > like_red_cells).all():
            given.append(red_cells)
            wanted.append(like_red_cells)
        given.append(nuclei)
        wanted.append(like_nuclei)
    else:
        given.append(np.ones(3))
        wanted.append(np.ones(3))
    first = wanted[1] / given[1]
    last = (wanted[-1] - wanted[-2]) / (given[-1] - given[-2])
    lightest, darkest = np.full(3, _LIGHTEST), np.full(3, _DARKEST)
    beyond = wanted[-1] + last * (darkest - given[-1])
    return np.stack([lightest, *given, darkest]), np.stack([first * lightest, *wanted, beyond])


def _of_hue(density: Points, reference: Plane, weight: Points) -> Points:
    """The same amount of stain, by these weights of the channels, in the reference's hue; all (3,)."""
    hue = reference.astype(np.float64)
    wanted = hue * (density @ weight) / (hue @ weight)
    return np.clip(wanted, density / _LARGEST_GAIN, density * _LARGEST_GAIN)


def _mean(od: Plane, where: Mask) -> Plane:
    """Mean density of these pixels, (3,); NaN of too few or nearly all, or if a channel shows hardly any."""
    mean = np.array(cv2.mean(od, where.view(np.uint8))[:3], dtype=np.float32)
    count = np.count_nonzero(where)
    usable = _LEAST_PIXELS <= count <= _LARGEST_SHARE * where.size and bool((mean > _LEAST_MEAN).all())
    return mean if usable else np.full(3, np.nan, dtype=np.float32)

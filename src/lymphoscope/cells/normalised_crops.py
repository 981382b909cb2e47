"""Crops of cells as if all had been stained and lit alike, derived once and kept beside the store."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from lymphoscope.cells.columns import MORPHOLOGY_VERSION
from lymphoscope.cells.derived_crops import Blocks, content_of, kept_crops, over_frames
from lymphoscope.cells.masked_crops import mask_background
from lymphoscope.cells.numbers import Photographs
from lymphoscope.cells.stain import Plane, RgbImage
from lymphoscope.cells.stain_normalisation import (
    STAIN_VERSION,
    WHITE,
    measure_stain,
    normalised,
    patient_stain,
    stain_table,
)
from lymphoscope.cohort.image_frames import centre_crop
from lymphoscope.cohort.progress import Progress


def normalised_crops(
    store: Photographs,
    size: int = 112,
    *,
    segmented: bool = False,
    jobs: int = 2,
    progress: Progress | None = None,
) -> np.memmap[Any, Any]:
    """The centre of every frame as if stained and lit like the reference, uint8 (n_cells, size, size, 3).

    The hue of the stain is taken from all photographs of a patient; see `cells.stain_normalisation`.

    Parameters
    ----------
    segmented : what is not the cell is black besides, as in `masked_crops`.
    """
    content = content_of(store.index.digest, store.index.patient.astype(np.int64))
    version = f"v{STAIN_VERSION}" + (f"-masked-v{MORPHOLOGY_VERSION}" if segmented else "")

    def make() -> Blocks:
        tables = stain_tables(store, jobs=jobs, progress=progress)
        crop = partial(_normalised_crop, size=size, segmented=segmented)
        what = f"normalising stain, {size} pixels"
        return over_frames(store, crop, what, tables, jobs=jobs, progress=progress)

    return kept_crops(store, f"normalised-{size}-{version}-{content}", size, make)


def stain_tables(
    store: Photographs, *, jobs: int = 2, progress: Progress | None = None
) -> npt.NDArray[np.uint8]:
    """What the levels of every photograph become, uint8 (n_cells, 256, 3)."""
    patient = np.asarray(store.index.patient)
    tables = np.empty((len(store), 256, 3), dtype=np.uint8)
    measured = list(over_frames(store, measure_stain, "measuring stain", jobs=jobs, progress=progress))
    stains: Plane = np.concatenate(measured) if measured else np.empty((0, 3, 3), dtype=np.float32)
    for one in np.unique(patient):
        cells = np.flatnonzero(patient == one)
        stain = patient_stain(stains[cells])
        for cell in cells:
            tables[cell] = stain_table(stains[cell, WHITE], stain)
    return tables


def _normalised_crop(frame: RgbImage, table: npt.NDArray[np.uint8], size: int, segmented: bool) -> RgbImage:
    shown = normalised(frame, table)
    return centre_crop(mask_background(frame, shown) if segmented else shown, size)

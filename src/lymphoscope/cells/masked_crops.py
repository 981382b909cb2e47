"""Crops of cells with all that is not the cell painted over, derived once and kept beside the store."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from lymphoscope.cells.columns import MORPHOLOGY_VERSION
from lymphoscope.cells.derived_crops import content_of, kept_crops, over_frames
from lymphoscope.cells.numbers import Photographs
from lymphoscope.cells.segmentation import segment
from lymphoscope.cells.stain import RgbImage
from lymphoscope.cohort.image_frames import centre_crop
from lymphoscope.cohort.progress import Progress

PAINT = 0
"""Black, as multiplying with a mask leaves it."""


def masked_crops(
    store: Photographs, size: int = 112, *, jobs: int = 2, progress: Progress | None = None
) -> np.memmap[Any, Any]:
    """The centre of every photograph's frame with black around the cell, uint8 (n_cells, size, size, 3).

    A cell that could not be segmented is shown as it is; `cell_numbers` reports these.
    """
    name = f"masked-{size}-v{MORPHOLOGY_VERSION}-{content_of(store.index.digest)}"
    what = f"painting over what is not the cell, {size} pixels"
    mask = partial(_masked_crop, size=size)
    return kept_crops(store, name, size, lambda: over_frames(store, mask, what, jobs=jobs, progress=progress))


def mask_background(frame: RgbImage, shown: RgbImage | None = None) -> RgbImage:
    """The frame with black where its central cell is not; the frame itself if there is no such cell.

    Parameters
    ----------
    shown : what is shown of the cell in the frame's place, a changed version of it.
    """
    shown, found = frame if shown is None else shown, segment(frame)
    return np.where(found.cell[..., None], shown, np.uint8(PAINT)) if found.ok else shown


def _masked_crop(frame: RgbImage, size: int) -> RgbImage:
    return centre_crop(mask_background(frame), size)

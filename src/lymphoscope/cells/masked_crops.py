"""Crops of cells with all that is not the cell painted over, derived once and kept beside the store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import cv2
import joblib
import numpy as np
import numpy.typing as npt

from lymphoscope.cells.columns import MORPHOLOGY_VERSION
from lymphoscope.cells.numbers import Photographs
from lymphoscope.cells.segmentation import segment
from lymphoscope.cells.stain import RgbImage
from lymphoscope.cohort.cell_blob import locked
from lymphoscope.cohort.image_frames import centre_crop, to_frame
from lymphoscope.cohort.image_inspection import decode_payload
from lymphoscope.cohort.progress import Progress
from lymphoscope.cohort.sealed_array import SUFFIX, open_array, write_array

PAINT = 0
"""Black, as multiplying with a mask leaves it."""

_CHUNK = 32


def masked_crops(
    store: Photographs, size: int = 112, *, jobs: int = 2, progress: Progress | None = None
) -> np.memmap[Any, Any]:
    """The centre of every photograph's frame with black around the cell, uint8 (n_cells, size, size, 3).

    A cell that could not be segmented is shown as it is; `cell_numbers` reports these.
    """
    content = hashlib.sha256(np.ascontiguousarray(store.index.digest).tobytes()).hexdigest()[:16]
    target = store.folder / f"masked-{size}-v{MORPHOLOGY_VERSION}-{content}{SUFFIX}"
    shape = (len(store), size, size, 3)
    crops = open_array(target, shape)
    if crops is not None:
        return crops
    with locked(store.folder):
        if open_array(target, shape) is None:
            write_array(target, shape, _blocks(store, size, jobs, progress))
    return np.load(target, mmap_mode="r", allow_pickle=False)


def mask_background(frame: RgbImage) -> RgbImage:
    """The frame with black where its central cell is not; the frame itself if there is no such cell."""
    found = segment(frame)
    return np.where(found.cell[..., None], frame, np.uint8(PAINT)) if found.ok else frame


def _blocks(
    store: Photographs, size: int, jobs: int, progress: Progress | None
) -> Iterator[npt.NDArray[np.uint8]]:
    """Consecutive blocks of masked crops; photographs go to the workers compressed."""
    if progress is not None:
        progress.start(f"painting over what is not the cell, {size} pixels", len(store))
    pool = joblib.Parallel(n_jobs=jobs, return_as="generator", pre_dispatch="2*n_jobs", batch_size=1)
    chunks = [range(a, min(a + _CHUNK, len(store))) for a in range(0, len(store), _CHUNK)]
    for block in pool(
        joblib.delayed(_mask_chunk)([store.picture(i) for i in chunk], size) for chunk in chunks
    ):
        yield block
        if progress is not None:
            progress.advance(len(block))
    if progress is not None:
        progress.done()


def _mask_chunk(pictures: list[bytes], size: int) -> npt.NDArray[np.uint8]:
    """On images this small OpenCV's threads cost more than they bring."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return np.stack(
            [centre_crop(mask_background(to_frame(decode_payload(each))), size) for each in pictures]
        )
    finally:
        cv2.setNumThreads(threads)

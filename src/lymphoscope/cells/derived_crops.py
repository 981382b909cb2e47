"""Crops of photographs that are changed before they are cut: made in worker processes, kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import joblib
import numpy as np
import numpy.typing as npt

from lymphoscope.cells.numbers import Photographs
from lymphoscope.cohort.cell_blob import locked
from lymphoscope.cohort.image_frames import to_frame
from lymphoscope.cohort.image_inspection import decode_payload
from lymphoscope.cohort.progress import Progress
from lymphoscope.cohort.sealed_array import SUFFIX, open_array, write_array

Blocks = Iterator[npt.NDArray[Any]]

_CHUNK = 32


def content_of(*arrays: npt.NDArray[Any]) -> str:
    """What these arrays hold, as part of a file's name."""
    return hashlib.sha256(b"".join(np.ascontiguousarray(each).tobytes() for each in arrays)).hexdigest()[:16]


def kept_crops(store: Photographs, name: str, size: int, make: Callable[[], Blocks]) -> np.memmap[Any, Any]:
    """The crops called `name` beside the store, uint8 (n_cells, size, size, 3); made if they are not there.

    Parameters
    ----------
    name : says all that they depend on: version, size and content.
    make : gives consecutive blocks of them.
    """
    target, shape = Path(store.folder) / f"{name}{SUFFIX}", (len(store), size, size, 3)
    crops = open_array(target, shape)
    if crops is not None:
        return crops
    with locked(store.folder):
        if open_array(target, shape) is None:
            write_array(target, shape, make())
    return np.load(target, mmap_mode="r", allow_pickle=False)


def over_frames(
    store: Photographs,
    each: Callable[..., npt.NDArray[Any]],
    what: str,
    *beside: npt.NDArray[Any],
    jobs: int,
    progress: Progress | None,
) -> Blocks:
    """What `each` makes of every photograph's 224-pixel frame, in consecutive blocks.

    Photographs go to the workers compressed.

    Parameters
    ----------
    each : a plain function, or a partial of one, of the frame and the photograph's rows of `beside`.
    what : is being done, for who watches.
    beside : arrays with a row for each photograph.
    """
    if progress is not None:
        progress.start(what, len(store))
    pool = joblib.Parallel(n_jobs=jobs, return_as="generator", pre_dispatch="2*n_jobs", batch_size=1)
    chunks = [range(a, min(a + _CHUNK, len(store))) for a in range(0, len(store), _CHUNK)]
    for block in pool(
        joblib.delayed(_chunk)(
            each, [store.picture(i) for i in chunk], [array[chunk.start : chunk.stop] for array in beside]
        )
        for chunk in chunks
    ):
        yield block
        if progress is not None:
            progress.advance(len(block))
    if progress is not None:
        progress.done()


def _chunk(
    each: Callable[..., npt.NDArray[Any]], pictures: list[bytes], beside: list[npt.NDArray[Any]]
) -> npt.NDArray[Any]:
    """On images this small OpenCV's threads cost more than they bring."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        frames = (to_frame(decode_payload(picture)) for picture in pictures)
        return np.stack([each(frame, *rows) for frame, *rows in zip(frames, *beside, strict=True)])
    finally:
        cv2.setNumThreads(threads)

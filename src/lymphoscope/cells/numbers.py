"""The numbers of every cell of a cohort: measured in worker processes, cached by content, resumable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import joblib
import numpy as np
import numpy.typing as npt

from lymphoscope.cells.cell_findings import CellBlurred, CellCutOff, CellNotSegmented, CellsOfAnotherSize
from lymphoscope.cells.morphology import MORPHOLOGY_COLUMNS, MORPHOLOGY_VERSION, measure
from lymphoscope.cells.stain import Plane
from lymphoscope.cohort.bags import IntArray
from lymphoscope.cohort.findings import Finding
from lymphoscope.cohort.image_frames import to_frame
from lymphoscope.cohort.image_inspection import decode_payload
from lymphoscope.cohort.kept_rows import KeptRows
from lymphoscope.cohort.progress import Progress
from lymphoscope.files import sha256_json

_ACROSS = (38, 110)
"""Diameters in pixels between which the median of a cohort's cells is usual; see `CellsOfAnotherSize`."""

_CHUNK = 32
_PART = 256
_WORTH_A_PROCESS = 128
_BLURRED = 0.03
_CUT_OFF = 0.05


class Photographs(Protocol):
    """What is needed of a cell store: its photographs, their hashes, and its folder in the cache."""

    @property
    def index(self) -> Any: ...
    @property
    def folder(self) -> Path: ...
    def __len__(self) -> int: ...
    def picture(self, i: int, /) -> bytes: ...


@dataclass(frozen=True, eq=False)
class CellNumbers:
    """Numbers of all cells of a store.

    Attributes
    ----------
    values : float32 (n_cells, n_columns), in the store's order; NaN where a cell could not be segmented.
    columns : names of the columns, `MORPHOLOGY_COLUMNS`.
    findings : cells that could not be segmented, are out of focus or cut off.
    """

    values: Plane
    columns: tuple[str, ...]
    findings: tuple[Finding, ...]


def cell_numbers(store: Photographs, *, jobs: int = 2, progress: Progress | None = None) -> CellNumbers:
    """Measure every cell of `store` that has not been measured before, on its 224-pixel frame.

    Numbers are kept beside the store, by the photograph's SHA-256 and the version of the measures, in parts
    that are written whole: an interrupted run goes on where it was, and another cohort in the same cache that
    holds the same photograph does not measure it again. Duplicates are measured once.

    Parameters
    ----------
    jobs : worker processes; 1 measures in this process.
    """
    digests = store.index.digest
    names = sha256_json(list(MORPHOLOGY_COLUMNS))[:8]
    folder = store.folder.parent / f"cell-numbers-v{MORPHOLOGY_VERSION}-{names}"
    kept = KeptRows(folder, len(MORPHOLOGY_COLUMNS))
    for cells, values in _measure(store, kept.missing(digests), jobs, progress):
        kept.add(digests[cells], values)
    values = kept.look_up(digests)
    return CellNumbers(values, MORPHOLOGY_COLUMNS, _findings(values, store.index.path))


def not_segmented(values: Plane) -> npt.NDArray[np.bool_]:
    """Cells that could not be outlined, (n_cells,), by their numbers in the order of `MORPHOLOGY_COLUMNS`."""
    return np.asarray(values[:, MORPHOLOGY_COLUMNS.index("segmented")] == 0)


def blurred(values: Plane) -> npt.NDArray[np.bool_]:
    """Cells that are out of focus, (n_cells,), likewise; one that could not be outlined is none of them."""
    return np.asarray(values[:, MORPHOLOGY_COLUMNS.index("cell_focus")] < _BLURRED)


def _measure(
    store: Photographs, cells: IntArray, jobs: int, progress: Progress | None
) -> Iterator[tuple[IntArray, Plane]]:
    """Some hundred of `cells` and their numbers at a time, as they are finished."""
    if len(cells) == 0:
        return
    if progress is not None:
        progress.start("measuring cells", len(cells))
    waiting: list[tuple[IntArray, Plane]] = []
    for chunk, values in _in_chunks(store, cells, jobs):
        waiting.append((chunk, values))
        if progress is not None:
            progress.advance(len(chunk))
        if sum(len(done) for done, _ in waiting) >= _PART:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)
    if progress is not None:
        progress.done()


def _joined(parts: list[tuple[IntArray, Plane]]) -> tuple[IntArray, Plane]:
    cells, values = zip(*parts, strict=True)
    return np.concatenate(cells), np.concatenate(values)


def _in_chunks(store: Photographs, cells: IntArray, jobs: int) -> Iterator[tuple[IntArray, Plane]]:
    """Chunks of cells and their numbers, in any order; photographs go to the workers compressed."""
    chunks = [cells[i : i + _CHUNK] for i in range(0, len(cells), _CHUNK)]
    pool = joblib.Parallel(
        n_jobs=jobs if len(cells) >= _WORTH_A_PROCESS else 1,
        return_as="generator_unordered",
        pre_dispatch="2*n_jobs",
        batch_size=1,
    )
    yield from pool(
        joblib.delayed(_measure_chunk)(chunk, [store.picture(i) for i in chunk.tolist()]) for chunk in chunks
    )


def _measure_chunk(chunk: IntArray, pictures: list[bytes]) -> tuple[IntArray, Plane]:
    """The chunk itself and its numbers; on images this small OpenCV's threads cost more than they bring."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return chunk, np.stack([measure(to_frame(decode_payload(picture))) for picture in pictures])
    finally:
        cv2.setNumThreads(threads)


def _findings(values: Plane, paths: Sequence[Path]) -> tuple[Finding, ...]:
    """One finding per kind of fault, with all its photographs."""
    column = {name: values[:, i] for i, name in enumerate(MORPHOLOGY_COLUMNS)}
    total = len(values)
    found: list[Finding] = []

    def add(kind: type[Finding], at: npt.NDArray[np.bool_], what: str) -> None:
        if at.any():
            files = tuple(str(paths[int(i)]) for i in np.flatnonzero(at))
            share = f"{len(files)} of {total} cells ({len(files) / total:.1%})"
            found.append(kind(message=f"{share} {what}.", files=files))

    add(CellNotSegmented, not_segmented(values), "could not be segmented")
    add(CellBlurred, blurred(values), "are out of focus")
    add(CellCutOff, column["cell_on_frame_fraction"] > _CUT_OFF, "are cut off by the frame")
    across = 2 * np.sqrt(column["cell_area_px"] / np.pi)
    known = across[np.isfinite(across)]
    smallest, largest = _ACROSS
    if len(known) and not smallest <= (median := float(np.median(known))) <= largest:
        found.append(
            CellsOfAnotherSize(
                f"Half of the cells are at least {median:.0f} pixels across on a frame of 224, where "
                f"{smallest} to {largest} are usual."
            )
        )
    return tuple(found)

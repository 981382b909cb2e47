"""The numbers of every cell of a cohort: measured in worker processes, cached by content, resumable."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from lymphoscope.cells.cell_findings import CellBlurred, CellCutOff, CellNotSegmented
from lymphoscope.cells.morphology import MORPHOLOGY_COLUMNS, MORPHOLOGY_VERSION, measure
from lymphoscope.cells.stain import Plane, RgbImage
from lymphoscope.cohort.findings import Finding
from lymphoscope.cohort.progress import Progress
from lymphoscope.files import atomic_path, sha256_bytes, sha256_json

_CHUNK = 64
_WORTH_A_PROCESS = 128
_BLURRED = 0.03
_CUT_OFF = 0.05
_ROW = np.dtype([("sha256", "V32"), ("values", np.float32, (len(MORPHOLOGY_COLUMNS),))])


class Photographs(Protocol):
    """What is needed of a cell store: its photographs, their hashes, and its folder in the cache."""

    @property
    def index(self) -> Any: ...
    @property
    def folder(self) -> Path: ...
    def __len__(self) -> int: ...
    def decode(self, i: int, /) -> RgbImage: ...


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
    """Measure every cell of `store` that has not been measured before.

    Numbers are kept beside the store, by the photograph's SHA-256 and the version of the measures, in parts
    that are written whole: an interrupted run goes on where it was, and another cohort in the same cache that
    holds the same photograph does not measure it again. Duplicates are measured once.

    Parameters
    ----------
    jobs : worker processes; 1 measures in this process.
    """
    keys = np.array([bytes.fromhex(str(value)) for value in store.index.sha256], dtype="S32").view("V32")
    names = sha256_json(list(MORPHOLOGY_COLUMNS))[:8]
    folder = store.folder.parent / f"cell-numbers-v{MORPHOLOGY_VERSION}-{names}"
    known = _read_parts(folder)
    first_with_key = {key.tobytes(): i for i, key in reversed(list(enumerate(keys)))}
    missing = sorted(i for key, i in first_with_key.items() if key not in known)
    if missing:
        for rows in _measure_all(store, keys, missing, jobs, progress):
            _write_part(folder, rows)
            known.update(_by_key(rows))
    values = np.empty((len(keys), len(MORPHOLOGY_COLUMNS)), dtype=np.float32)
    for i, key in enumerate(keys):
        values[i] = known[key.tobytes()]
    return CellNumbers(values, MORPHOLOGY_COLUMNS, _findings(values, store.index.path))


def _measure_all(
    store: Photographs, keys: npt.NDArray[np.void], cells: Sequence[int], jobs: int, progress: Progress | None
) -> Iterator[npt.NDArray[np.void]]:
    """Rows of `cells`, chunk by chunk as they are finished."""
    if progress is not None:
        progress.start("Measuring cells", len(cells))
    chunks = [list(cells[i : i + _CHUNK]) for i in range(0, len(cells), _CHUNK)]
    parallel = jobs > 1 and len(cells) >= _WORTH_A_PROCESS
    results = _in_processes(store, chunks, jobs) if parallel else _in_this_process(store, chunks)
    for chunk, values in results:
        rows = np.empty(len(chunk), dtype=_ROW)
        rows["sha256"], rows["values"] = keys[chunk], values
        yield rows
        if progress is not None:
            progress.advance(len(chunk))
    if progress is not None:
        progress.done()


def _in_this_process(store: Photographs, chunks: list[list[int]]) -> Iterator[tuple[list[int], Plane]]:
    with _one_thread():
        for chunk in chunks:
            yield chunk, _measure_images([store.decode(i) for i in chunk])


def _in_processes(
    store: Photographs, chunks: list[list[int]], jobs: int
) -> Iterator[tuple[list[int], Plane]]:
    """Photographs are decoded here, a thirtieth of the work, and measured by workers that hold no store.

    At most two chunks a worker wait at any time, so memory does not grow with the cohort.
    """
    context = multiprocessing.get_context("spawn")
    waiting: dict[Future[Plane], list[int]] = {}
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_use_one_thread) as pool:
        try:
            for chunk in chunks:
                waiting[pool.submit(_measure_images, [store.decode(i) for i in chunk])] = chunk
                if len(waiting) >= 2 * jobs:
                    finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in finished:
                        yield waiting.pop(future), future.result()
            for future in list(waiting):
                yield waiting.pop(future), future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _measure_images(images: list[RgbImage]) -> Plane:
    return np.stack([measure(image) for image in images])


def _use_one_thread() -> None:
    cv2.setNumThreads(1)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """On images this small OpenCV's threads cost more than they bring."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _read_parts(folder: Path) -> dict[bytes, Plane]:
    """Every row measured before, by the photograph's hash; a part that cannot be read is measured again."""
    known: dict[bytes, Plane] = {}
    for part in sorted(folder.glob("*.npy")):
        try:
            rows = np.load(part, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            continue
        if rows.dtype == _ROW and rows.ndim == 1:
            known.update(_by_key(rows))
    return known


def _by_key(rows: npt.NDArray[np.void]) -> Iterator[tuple[bytes, Plane]]:
    return ((key.tobytes(), values) for key, values in zip(rows["sha256"], rows["values"], strict=True))


def _write_part(folder: Path, rows: npt.NDArray[np.void]) -> None:
    """Write rows under a name that follows from the cells they belong to."""
    name = sha256_bytes(rows["sha256"].tobytes())[:24]
    with atomic_path(folder / f"{name}.npy") as temporary, temporary.open("wb") as stream:
        np.save(stream, rows, allow_pickle=False)


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

    add(CellNotSegmented, column["segmented"] == 0, "could not be segmented")
    add(CellBlurred, column["cell_focus"] < _BLURRED, "are out of focus")
    add(CellCutOff, column["cell_on_frame_fraction"] > _CUT_OFF, "are cut off by the frame")
    return tuple(found)

"""The numbers of every cell of a cohort: measured in worker processes, cached by content, resumable."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import joblib
import numpy as np
import numpy.typing as npt

from lymphoscope.cells.cell_findings import CellBlurred, CellCutOff, CellNotSegmented
from lymphoscope.cells.morphology import MORPHOLOGY_COLUMNS, MORPHOLOGY_VERSION, measure
from lymphoscope.cells.stain import Plane
from lymphoscope.cohort.findings import Finding
from lymphoscope.cohort.image_frames import to_frame
from lymphoscope.cohort.image_inspection import decode_payload
from lymphoscope.cohort.progress import Progress
from lymphoscope.files import sha256_bytes, sha256_json, write_bytes

_CHUNK = 32
_PART = 256
_WORTH_A_PROCESS = 128
_BLURRED = 0.03
_CUT_OFF = 0.05
_ROW = np.dtype([("sha256", "V32"), ("values", np.float32, (len(MORPHOLOGY_COLUMNS),))])

Rows = npt.NDArray[np.void]


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
    keys = [bytes.fromhex(digest) for digest in store.index.sha256]
    names = sha256_json(list(MORPHOLOGY_COLUMNS))[:8]
    folder = store.folder.parent / f"cell-numbers-v{MORPHOLOGY_VERSION}-{names}"
    parts = _read_parts(folder)
    known = {digest for part in parts for digest in _digests(part)}
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    missing = sorted(i for key, i in first.items() if key not in known)
    for part in _measure(store, keys, missing, jobs, progress):
        _write_part(folder, part)
        parts.append(part)
    values = _look_up(parts, keys)
    return CellNumbers(values, MORPHOLOGY_COLUMNS, _findings(values, store.index.path))


def _look_up(parts: list[Rows], keys: list[bytes]) -> Plane:
    """Numbers of the photographs with these hashes, shape (len(keys), n_columns)."""
    rows = np.concatenate(parts) if parts else np.empty(0, dtype=_ROW)
    place = {digest: i for i, digest in enumerate(_digests(rows))}
    return np.ascontiguousarray(rows["values"][np.array([place[key] for key in keys], dtype=np.int64)])


def _digests(rows: Rows) -> list[bytes]:
    packed = np.ascontiguousarray(rows["sha256"]).tobytes()
    return [packed[i : i + 32] for i in range(0, len(packed), 32)]


def _measure(
    store: Photographs, keys: list[bytes], cells: Sequence[int], jobs: int, progress: Progress | None
) -> Iterator[Rows]:
    """Rows of `cells`, some hundred at a time, as they are finished."""
    if not cells:
        return
    if progress is not None:
        progress.start("measuring cells", len(cells))
    waiting: list[Rows] = []
    for chunk, values in _in_chunks(store, cells, jobs):
        rows = np.empty(len(chunk), dtype=_ROW)
        rows["sha256"] = np.frombuffer(b"".join(keys[i] for i in chunk), dtype="V32")
        rows["values"] = values
        waiting.append(rows)
        if progress is not None:
            progress.advance(len(chunk))
        if sum(map(len, waiting)) >= _PART:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)
    if progress is not None:
        progress.done()


def _in_chunks(store: Photographs, cells: Sequence[int], jobs: int) -> Iterator[tuple[Sequence[int], Plane]]:
    """Chunks of cells and their numbers, in any order; photographs go to the workers compressed."""
    chunks = [cells[i : i + _CHUNK] for i in range(0, len(cells), _CHUNK)]
    pool = joblib.Parallel(
        n_jobs=jobs if len(cells) >= _WORTH_A_PROCESS else 1,
        return_as="generator_unordered",
        pre_dispatch="2*n_jobs",
        batch_size=1,
    )
    yield from pool(
        joblib.delayed(_measure_chunk)(chunk, [store.picture(i) for i in chunk]) for chunk in chunks
    )


def _measure_chunk(chunk: Sequence[int], pictures: list[bytes]) -> tuple[Sequence[int], Plane]:
    """The chunk itself and its numbers; on images this small OpenCV's threads cost more than they bring."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return chunk, np.stack([measure(to_frame(decode_payload(picture))) for picture in pictures])
    finally:
        cv2.setNumThreads(threads)


def _read_parts(folder: Path) -> list[Rows]:
    """Everything measured before; a part that is damaged or cannot be read is measured again."""
    parts = []
    for path in sorted(folder.glob("*.npy")):
        try:
            data = path.read_bytes()
        except OSError:
            continue
        if _part_name(data) == path.name:
            parts.append(np.load(io.BytesIO(data), allow_pickle=False))
    return parts


def _write_part(folder: Path, rows: Rows) -> None:
    buffer = io.BytesIO()
    np.save(buffer, rows, allow_pickle=False)
    data = buffer.getvalue()
    write_bytes(folder / _part_name(data), data)


def _part_name(data: bytes) -> str:
    """Name of a part's file, which follows from its content: a changed byte is noticed."""
    return f"{sha256_bytes(data)[:24]}.npy"


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

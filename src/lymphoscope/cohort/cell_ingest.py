"""Filling a cell store: every file read once, looked at once, and its picture appended to the blob.

The work is committed in pieces, so that a kill costs at most the piece in hand. Threads do it: reading,
hashing, decoding and filtering all release the interpreter's lock, and nothing has to be imported twice.
"""

from __future__ import annotations

import hashlib
import os
import stat
import warnings
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.bags import IntArray
from lymphoscope.cohort.cell_blob import (
    BlobReader,
    BlobWriter,
    blob_path,
    compact,
    intact_rows,
    locked,
    unused_bytes,
)
from lymphoscope.cohort.cell_table import ROW, CellTable, Rows, empty_table, latest, load_table, save_table
from lymphoscope.cohort.image_frames import Image, border_colours, luminance, perceptual_hashes
from lymphoscope.cohort.image_inspection import (
    MAX_FILE_BYTES,
    Note,
    Problem,
    inspect_image,
)
from lymphoscope.cohort.near_duplicates import group_alike
from lymphoscope.cohort.progress import Progress

INDEX = "index.npz"
_PIECES = "piece-*.npz"

CHUNK_FILES, CHUNK_BYTES = 128, 4_000_000
"""What one thread takes at a time; together with the number of threads this bounds the memory."""

PIECE_FILES, PIECE_BYTES = 2048, 32_000_000
"""What is committed at a time."""

KnownRows = dict[bytes, int]
"""Row of the table that holds a picture already, by the SHA-256 of its file."""


@dataclass(frozen=True, eq=False)
class SourceFiles:
    """The image files of a cohort as they are on disk now.

    Attributes
    ----------
    root : the cohort's folder.
    paths : relative to it, as the file system's bytes.
    size, mtime_ns : int64, shape (n_files,); -1 for a file that cannot be looked up.
    """

    root: Path
    paths: tuple[bytes, ...]
    size: IntArray
    mtime_ns: IntArray


def source_files(root: Path, images: Sequence[Path]) -> SourceFiles:
    """Look up size and time of every file; nothing is opened."""
    paths = tuple(os.fsencode(str(image)) for image in images)
    base = os.fsencode(f"{root}{os.sep}")
    found = np.full((len(paths), 2), -1, dtype=np.int64)
    for i, path in enumerate(paths):
        try:
            status = os.stat(base + path)  # noqa: PTH116 - ten times as fast as Path
        except OSError:
            continue
        found[i] = status.st_size, status.st_mtime_ns
    return SourceFiles(root, paths, found[:, 0].copy(), found[:, 1].copy())


def current_table(
    files: SourceFiles, folder: Path, *, verify: bool, jobs: int, progress: Progress | None
) -> CellTable:
    """The table of a store that holds every one of `files`; only what is new or changed is read."""
    table = _stored(folder)
    unfinished = any(folder.glob(_PIECES))
    if not (verify or unfinished or _gone(table, files).size) and _is_current(table, files).all():
        return table
    with locked(folder):
        return _brought_up_to_date(files, folder, verify=verify, jobs=jobs, progress=progress)


def _brought_up_to_date(
    files: SourceFiles, folder: Path, *, verify: bool, jobs: int, progress: Progress | None
) -> CellTable:
    table = _with_pieces(folder, _stored(folder))
    if verify:
        table = table.take(intact_rows(folder, table))
    current = np.zeros(len(files.paths), dtype=bool) if verify else _is_current(table, files)
    to_read = np.flatnonzero(~current)
    if len(to_read):
        table = _ingest(files, to_read, folder, table, jobs, progress)
    gone = _gone(table, files)
    if len(gone):
        table = table.take(np.setdiff1d(np.arange(len(table)), gone))
    path = blob_path(folder, table.generation)
    if path.exists() and unused_bytes(table, path.stat().st_size):
        table = compact(folder, table)
    table = CellTable(table.rows, table.paths, table.generation, _alike(folder, table))
    save_table(table, folder / INDEX)
    _tidy(folder, table.generation)
    return table


def _stored(folder: Path) -> CellTable:
    """The table as it was last committed; an empty one where the blob is missing or too short for it."""
    table = load_table(folder / INDEX)
    return table if table is not None and _blob_holds(folder, table) else empty_table()


def _blob_holds(folder: Path, table: CellTable) -> bool:
    path = blob_path(folder, table.generation)
    return table.blob_end == 0 or (path.exists() and path.stat().st_size >= table.blob_end)


def _with_pieces(folder: Path, table: CellTable) -> CellTable:
    """What an ingest that was cut short had committed is taken up."""
    loaded = [load_table(path) for path in sorted(folder.glob(_PIECES))]
    pieces = [p for p in loaded if p is not None and p.generation == table.generation]
    return latest(table, [p for p in pieces if _blob_holds(folder, p)])


def _is_current(table: CellTable, files: SourceFiles) -> npt.NDArray[np.bool_]:
    """Whether each file is in the table with the size and time it has now, shape (n_files,).

    A file that could not be read is tried again each time: its permissions may change without its time.
    """
    if len(table) == 0:
        return np.zeros(len(files.paths), dtype=bool)
    row = table.find(files.paths)
    stored = table.rows[row]
    same = (stored["size"] == files.size) & (stored["mtime_ns"] == files.mtime_ns)
    return (row >= 0) & same & (stored["problem"] != Problem.UNREADABLE)


def _gone(table: CellTable, files: SourceFiles) -> IntArray:
    """Rows of files that are neither in this cohort nor on disk any more."""
    wanted = table.find(files.paths)
    others = np.setdiff1d(np.arange(len(table)), wanted[wanted >= 0])
    base = os.fsencode(f"{files.root}{os.sep}")
    missing = [row for row in others.tolist() if not os.path.lexists(base + table.paths[row])]
    return np.array(missing, dtype=np.int64)


Payload = tuple[bytes, ...]
"""A picture and its thumbnail; nothing at all where the file gives no picture."""


@dataclass(frozen=True, eq=False)
class _Looked:
    """A chunk of files that one thread has looked at; payloads are None where the store has them already."""

    paths: list[bytes]
    rows: Rows
    payloads: list[Payload | None]


def _ingest(
    files: SourceFiles,
    to_read: IntArray,
    folder: Path,
    table: CellTable,
    jobs: int,
    progress: Progress | None,
) -> CellTable:
    """Read the files at `to_read`, append their pictures, commit piece by piece; the table with all of it."""
    known = {digest.tobytes(): row for row, digest in enumerate(table.rows["digest"]) if _usable(table, row)}
    pieces: list[CellTable] = []
    waiting: list[_Looked] = []
    if progress:
        progress.start("reading photographs", len(to_read))
    number = 1 + max((int(path.stem.split("-")[1]) for path in folder.glob(_PIECES)), default=-1)
    with BlobWriter(blob_path(folder, table.generation)) as blob:
        for looked in _look_at_all(files, to_read, table.rows, known, jobs):
            _append(blob, looked)
            waiting.append(looked)
            if _enough(waiting):
                pieces.append(_commit(blob, waiting, folder, table.generation, number + len(pieces)))
                waiting = []
            if progress:
                progress.advance(len(looked.paths))
        pieces.append(_commit(blob, waiting, folder, table.generation, number + len(pieces)))
    if progress:
        progress.done()
    return latest(table, pieces)


def _usable(table: CellTable, row: int) -> bool:
    return int(table.rows["problem"][row]) not in (Problem.UNREADABLE, Problem.TOO_LARGE)


def _enough(waiting: list[_Looked]) -> bool:
    files = sum(len(looked.paths) for looked in waiting)
    return files >= PIECE_FILES or sum(int(looked.rows["length"].sum()) for looked in waiting) >= PIECE_BYTES


def _append(blob: BlobWriter, looked: _Looked) -> None:
    new = np.array([payload is not None for payload in looked.payloads], dtype=bool)
    looked.rows["offset"][new] = blob.append([payload for payload in looked.payloads if payload is not None])
    looked.payloads.clear()


def _commit(
    blob: BlobWriter, waiting: list[_Looked], folder: Path, generation: int, number: int
) -> CellTable:
    """The pictures first, then the rows that name them."""
    blob.commit()
    rows = np.concatenate([looked.rows for looked in waiting]) if waiting else np.empty(0, dtype=ROW)
    paths = tuple(path for looked in waiting for path in looked.paths)
    piece = CellTable(rows, paths, generation, np.empty(0, dtype=np.int32))
    if len(piece):
        save_table(piece, folder / f"piece-{number:06d}.npz")
    return piece


def _look_at_all(
    files: SourceFiles, to_read: IntArray, stored: Rows, known: KnownRows, jobs: int
) -> Iterator[_Looked]:
    """Chunks in the order of `to_read`, a few ahead of the one that is waited for."""
    ahead: deque[Future[_Looked]] = deque()
    base = os.fsencode(f"{files.root}{os.sep}")
    # Pillow warns of what becomes a finding here, and a finding is told once and names the file.
    with warnings.catch_warnings(), ThreadPoolExecutor(max(1, jobs)) as pool:
        warnings.filterwarnings("ignore", module="PIL")
        for chunk in _chunks(files, to_read):
            paths = [files.paths[i] for i in chunk.tolist()]
            ahead.append(pool.submit(_look_at, base, paths, stored, known))
            if len(ahead) > 2 * jobs:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _chunks(files: SourceFiles, to_read: IntArray) -> Iterator[IntArray]:
    """Runs of files, each bounded in number and in bytes."""
    start, held = 0, 0
    for i, size in enumerate(files.size[to_read].tolist()):
        if i > start and (i - start >= CHUNK_FILES or held + size > CHUNK_BYTES):
            yield to_read[start:i]
            start, held = i, 0
        held += min(size, MAX_FILE_BYTES)
    if start < len(to_read):
        yield to_read[start:]


def _look_at(base: bytes, paths: list[bytes], stored: Rows, known: KnownRows) -> _Looked:
    """Read, hash and inspect some files."""
    rows = np.zeros(len(paths), dtype=ROW)
    payloads: list[Payload | None] = []
    shown: dict[int, Image] = {}
    for i, path in enumerate(paths):
        row = rows[i]
        data, size, mtime_ns = _read(base + path)
        digest = b"" if data is None else hashlib.sha256(data).digest()
        payload: Payload | None = None
        if data is None:
            row["problem"] = Problem.TOO_LARGE if size > MAX_FILE_BYTES else Problem.UNREADABLE
        elif digest in known:
            rows[i] = stored[known[digest]]
        else:
            new = inspect_image(data)
            row["length"], row["crc32"] = len(new.payload), zlib.crc32(new.payload)
            row["width"], row["height"] = new.width, new.height
            row["format"], row["problem"], row["notes"] = new.format, new.problem, new.notes
            payload = (new.payload,) if new.payload else ()
            if new.reduced is not None:
                shown[i] = new.reduced
        payloads.append(payload)
        row["size"], row["mtime_ns"] = size, mtime_ns
        if digest:
            row["digest"] = np.frombuffer(digest, dtype=np.uint8)
    if shown:
        for i, small in zip(shown, _measure(rows, shown), strict=True):
            payloads[i] = (*(payloads[i] or ()), small.tobytes())
    return _Looked(paths, rows, payloads)


def _measure(rows: Rows, shown: dict[int, Image]) -> Image:
    """Fill in what the rows say of the pictures `shown`, by row; these pictures' thumbnails."""
    at, reduced = list(shown), np.stack(list(shown.values()))
    small = luminance(reduced)
    hashes = perceptual_hashes(small)
    rows["phash"][at] = hashes
    rows["border_lab"][at] = border_colours(reduced)
    rows["notes"][at] |= np.where(hashes == 0, Note.BLANK, Note.NONE).astype(np.uint16)
    return small


def _read(path: bytes) -> tuple[bytes | None, int, int]:
    """Content, size and time of a file; no content where it cannot be had or is too large.

    Size and time come from the opened file, so that they belong to the content. Opening does not wait, so
    that a pipe among the images holds nothing up.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None, -1, -1
    try:
        status = os.fstat(descriptor)
        size, mtime_ns = status.st_size, status.st_mtime_ns
        if not stat.S_ISREG(status.st_mode) or size > MAX_FILE_BYTES:
            return None, size, mtime_ns
        parts = [os.read(descriptor, size + 1)]
        while parts[-1] and sum(map(len, parts)) < size:
            parts.append(os.read(descriptor, size + 1))
        return b"".join(parts) if len(parts) > 1 else parts[0], size, mtime_ns
    except OSError:
        return None, -1, -1
    finally:
        os.close(descriptor)


def _alike(folder: Path, table: CellTable) -> npt.NDArray[np.int32]:
    """Number of the group of files that look alike per row; each content is compared once."""
    alike = np.full(len(table), -1, dtype=np.int32)
    shown = np.flatnonzero(table.rows["length"] > 0)
    if len(shown) == 0:
        return alike
    digests = np.ascontiguousarray(table.rows["digest"][shown]).view("S32").ravel()
    _, first, content = np.unique(digests, return_index=True, return_inverse=True)
    chosen = shown[first]
    after = table.rows["offset"][chosen] + table.rows["length"][chosen]
    reader = BlobReader(blob_path(folder, table.generation))
    groups = group_alike(table.rows["phash"][chosen], lambda i: reader.thumbnail(int(after[i])))
    alike[shown] = groups[content]
    return alike


def _tidy(folder: Path, generation: int) -> None:
    """Remove the pieces that are in the index now, and blobs of other generations."""
    for path in [*folder.glob(_PIECES), *folder.glob("cells-*.blob")]:
        if path != blob_path(folder, generation):
            path.unlink(missing_ok=True)

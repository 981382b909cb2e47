"""The blob of a cell store: pictures one after another in one file, appended to and read by position.

Each picture is followed by its thumbnail, so that pictures can be compared without decoding them.
"""

from __future__ import annotations

import fcntl
import os
import weakref
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from lymphoscope.cohort.bags import IntArray
from lymphoscope.cohort.cell_table import CellTable
from lymphoscope.cohort.image_frames import REDUCED, Image
from lymphoscope.errors import LymphoscopeError
from lymphoscope.files import atomic_path

LOCK = "lock"
THUMBNAIL_BYTES = REDUCED * REDUCED
_GATHERED = 512
"""Parts written by one call; POSIX systems take 1,024 and more."""


def blob_path(folder: Path, generation: int) -> Path:
    """The blob file of that generation; a new one is begun when pictures are taken out of the store."""
    return folder / f"cells-{generation:06d}.blob"


class BlobReader:
    """Reads pictures by position, from any thread; survives pickling and the file's replacement."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    def __reduce__(self) -> tuple[Any, ...]:
        return BlobReader, (self.path,)

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset` on."""
        return os.pread(self._descriptor, length, offset)

    def thumbnail(self, offset: int) -> Image:
        """The thumbnail that begins at `offset`, where its picture ends."""
        pixels = np.frombuffer(self.read(offset, THUMBNAIL_BYTES), dtype=np.uint8)
        return pixels.reshape(REDUCED, REDUCED)


class BlobWriter:
    """Appends to the blob; what is there is never overwritten, since a reader may be using it.

    Use as a context manager. When the disk is full the file is cut back to what was committed; what a
    killed writer left uncommitted is unused, and goes when the blob is next compacted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Self:
        with _explained(self.path):
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            self._committed = self._end = os.fstat(self._descriptor).st_size
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None or self._end != self._committed:
                os.ftruncate(self._descriptor, self._committed)
        finally:
            os.close(self._descriptor)

    def append(self, payloads: Sequence[Sequence[bytes]]) -> IntArray:
        """Write payloads, each given in parts, one after another; their offsets, shape (len(payloads),)."""
        lengths = np.array([sum(map(len, parts)) for parts in payloads], dtype=np.int64)
        offsets = self._end + np.cumsum(lengths) - lengths
        with _explained(self.path):
            _write_all(self._descriptor, list(chain.from_iterable(payloads)), self._end)
        self._end += int(lengths.sum())
        return offsets

    def commit(self) -> None:
        """Make what was appended last, whatever happens next."""
        with _explained(self.path):
            os.fsync(self._descriptor)
        self._committed = self._end


def compact(folder: Path, table: CellTable) -> CellTable:
    """Copy the pictures that the table still names to a new blob; the table with its new offsets."""
    rows = table.rows.copy()
    shown = np.flatnonzero(rows["length"] > 0)
    _, first, picture = np.unique(rows["offset"][shown], return_index=True, return_inverse=True)
    lengths = rows["length"][shown][first] + THUMBNAIL_BYTES
    source = BlobReader(blob_path(folder, table.generation))
    with atomic_path(blob_path(folder, table.generation + 1)) as temporary, temporary.open("wb") as stream:
        for offset, length in zip(rows["offset"][shown][first].tolist(), lengths.tolist(), strict=True):
            stream.write(source.read(offset, length))
    rows["offset"][shown] = (np.cumsum(lengths) - lengths)[picture]
    return CellTable(rows, table.paths, table.generation + 1, table.alike)


def unused_bytes(table: CellTable, size: int) -> int:
    """Bytes of a blob of `size` bytes that no row of the table names."""
    shown = table.rows["length"] > 0
    _, first = np.unique(table.rows["offset"][shown], return_index=True)
    return size - int((table.rows["length"][shown][first] + THUMBNAIL_BYTES).sum())


def intact_rows(folder: Path, table: CellTable) -> IntArray:
    """Rows whose picture in the blob still has its check sum (all rows without a picture count as such)."""
    reader = BlobReader(blob_path(folder, table.generation)) if table.blob_end else None
    intact = []
    columns = zip(*(table.rows[name].tolist() for name in ("offset", "length", "crc32")), strict=True)
    for row, (offset, length, checksum) in enumerate(columns):
        if length == 0 or (reader and zlib.crc32(reader.read(offset, length)) == checksum):
            intact.append(row)
    return np.array(intact, dtype=np.int64)


def _write_all(descriptor: int, parts: list[bytes], offset: int) -> None:
    """Write parts one after another; gathered by the kernel, so that nothing is copied together first."""
    for first in range(0, len(parts), _GATHERED):
        gathered = parts[first : first + _GATHERED]
        size = sum(map(len, gathered))
        written = os.pwritev(descriptor, gathered, offset)
        if written < size:  # a signal, or a disk that is nearly full: the rest, whatever it takes
            rest = memoryview(b"".join(gathered))[written:]
            while rest:
                n = os.pwrite(descriptor, rest, offset + size - len(rest))
                rest = rest[n:]
        offset += size


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time writes to a store, another waits; the lock ends with the process that holds it.

    Temporary files that are there once the lock is had were left by a killed writer, and are removed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise LymphoscopeError(
            f"{folder}: the cell store cannot be brought up to date ({error.strerror or error}). "
            "Choose a cache folder that can be written to."
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for left in folder.glob(".*.tmp"):
            left.unlink(missing_ok=True)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LymphoscopeError(
            f"{path}: could not be written ({error.strerror or error}). What was read so far is kept and "
            "nothing was left half written; free some space or choose another cache folder."
        ) from error

"""The table of a cell store: one row per image file that was looked at, kept beside the blob of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.bags import IntArray
from lymphoscope.cohort.image_inspection import INSPECTION_VERSION
from lymphoscope.files import atomic_path

STORE_VERSION = 1
"""Raised whenever an older store's files can no longer be read."""

ROW = np.dtype(
    [
        ("size", "<i8"),  # of the file, bytes
        ("mtime_ns", "<i8"),
        ("digest", "u1", 32),  # SHA-256 of the file
        ("offset", "<i8"),  # of the picture in the blob, where its thumbnail follows it
        ("length", "<i8"),
        ("crc32", "<u4"),  # of the picture in the blob
        ("phash", "<u8"),
        ("width", "<i4"),
        ("height", "<i4"),
        ("format", "u1"),
        ("problem", "u1"),
        ("notes", "<u2"),
        ("border_lab", "<f4", 3),
    ]
)

Rows = npt.NDArray[Any]
"""Structured array of dtype `ROW`."""


@dataclass(frozen=True, eq=False)
class CellTable:
    """Rows and, in the same order, the files they describe.

    Attributes
    ----------
    rows : structured array of dtype `ROW`, shape (n_files,).
    paths : n_files paths relative to the cohort, as the file system's bytes.
    generation : number of the blob file that offsets refer to.
    alike : int32 (n_files,); files with the same number ≥ 0 show the same cell, give or take a
        re-encoding; -1 where no other file looks like it. Empty in a piece of an unfinished ingest.
    """

    rows: Rows
    paths: tuple[bytes, ...]
    generation: int
    alike: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def blob_end(self) -> int:
        """Bytes that the blob must have at least to hold every picture."""
        return int((self.rows["offset"] + self.rows["length"]).max(initial=0))

    def find(self, paths: Sequence[bytes]) -> IntArray:
        """Row of each path, shape (len(paths),); -1 where it has none."""
        if len(paths) == len(self.paths) and tuple(paths) == self.paths:
            return np.arange(len(paths), dtype=np.int64)
        row_of = {path: row for row, path in enumerate(self.paths)}
        return np.fromiter((row_of.get(path, -1) for path in paths), dtype=np.int64, count=len(paths))

    def take(self, rows: IntArray) -> CellTable:
        """Only some rows; what looked alike is not kept, since it depends on all of them."""
        chosen = tuple(self.paths[row] for row in rows.tolist())
        return CellTable(self.rows[rows], chosen, self.generation, np.empty(0, dtype=np.int32))


def empty_table(generation: int = 0) -> CellTable:
    """A table without rows."""
    return CellTable(np.empty(0, dtype=ROW), (), generation, np.empty(0, dtype=np.int32))


def latest(older: CellTable, newer: Sequence[CellTable]) -> CellTable:
    """One table of all files; where a file has several rows, the last one counts."""
    tables = [older, *newer]
    rows = np.concatenate([table.rows for table in tables])
    row_of: dict[bytes, int] = {}
    start = 0
    for table in tables:
        row_of.update(zip(table.paths, range(start, start + len(table)), strict=True))
        start += len(table)
    if len(row_of) < len(rows):
        rows = rows[np.fromiter(row_of.values(), dtype=np.int64, count=len(row_of))]
    return CellTable(rows, tuple(row_of), older.generation, np.empty(0, dtype=np.int32))


def save_table(table: CellTable, target: Path) -> None:
    """Write a table atomically."""
    with atomic_path(target) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            version=np.array([STORE_VERSION, INSPECTION_VERSION, table.generation]),
            rows=table.rows,
            paths=np.frombuffer(b"\0".join(table.paths), dtype=np.uint8),
            alike=table.alike,
        )


def load_table(source: Path) -> CellTable | None:
    """Read a table; None where there is none, or one of another version, or a damaged one.

    A store is only a cache: what cannot be read is made anew from the cohort.
    """
    try:
        with np.load(source, allow_pickle=False) as stored:
            version = stored["version"].tolist()
            if version[:2] != [STORE_VERSION, INSPECTION_VERSION]:
                return None
            rows, alike = stored["rows"], stored["alike"]
            joined = stored["paths"].tobytes()
    except Exception:  # numpy and zipfile raise a dozen kinds, by which byte is damaged
        return None
    paths = tuple(joined.split(b"\0")) if len(rows) else ()
    if rows.dtype != ROW or len(paths) != len(rows) or len(alike) not in (0, len(rows)):
        return None
    return CellTable(rows, paths, int(version[2]), alike)

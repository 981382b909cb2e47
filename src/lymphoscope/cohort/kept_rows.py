"""Rows that were computed once for a photograph, kept by its SHA-256 in parts that are written whole.

A part's name is the hash of its content, so that a damaged one is noticed and left out; another cohort in the
same cache that holds the same photograph finds its row there.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lymphoscope.files import sha256_bytes, write_bytes

Digests = npt.NDArray[np.uint8]

_DIGEST = 32
"""Bytes of a SHA-256."""


class KeptRows:
    """Numbers of photographs, a row each.

    Parameters
    ----------
    folder : that holds the parts; made when the first one is written.
    n_columns : length of a row.
    dtype : of a number.
    """

    def __init__(self, folder: Path, n_columns: int, dtype: npt.DTypeLike = np.float32) -> None:
        self.folder = folder
        self._type = np.dtype([("sha256", f"V{_DIGEST}"), ("values", dtype, (n_columns,))])
        self._parts = list(self._read())
        self._place = {digest: i for i, digest in enumerate(_split(self._rows["sha256"]))}

    def missing(self, digests: Digests) -> npt.NDArray[np.int64]:
        """Indices of the photographs that have no row yet, each content once; `digests` is uint8 (n, 32)."""
        first = {key: i for i, key in reversed(list(enumerate(_split(digests))))}
        return np.array(sorted(i for key, i in first.items() if key not in self._place), dtype=np.int64)

    def add(self, digests: Digests, values: npt.NDArray[Any]) -> None:
        """Write rows, (n, n_columns), as one part."""
        rows = np.empty(len(digests), dtype=self._type)
        rows["sha256"] = np.ascontiguousarray(digests).view(f"V{_DIGEST}").ravel()
        rows["values"] = values
        buffer = io.BytesIO()
        np.save(buffer, rows, allow_pickle=False)
        data = buffer.getvalue()
        write_bytes(self.folder / _part_name(data), data)
        start = sum(map(len, self._parts))
        self._parts.append(rows)
        self._place |= {key: start + i for i, key in enumerate(_split(rows["sha256"]))}

    def look_up(self, digests: Digests) -> npt.NDArray[Any]:
        """The rows of these photographs, (n, n_columns); KeyError where one has none."""
        at = np.array([self._place[key] for key in _split(digests)], dtype=np.int64)
        return np.ascontiguousarray(self._rows["values"][at])

    @property
    def _rows(self) -> npt.NDArray[np.void]:
        return np.concatenate(self._parts) if self._parts else np.empty(0, dtype=self._type)

    def _read(self) -> Sequence[npt.NDArray[np.void]]:
        """Everything kept before; a part that is damaged, foreign or cannot be read is left out."""
        parts = []
        for path in sorted(self.folder.glob("*.npy")):
            try:
                data = path.read_bytes()
            except OSError:
                continue
            if _part_name(data) == path.name:
                rows = np.load(io.BytesIO(data), allow_pickle=False)
                if rows.dtype == self._type:
                    parts.append(rows)
        return parts


def _split(digests: npt.NDArray[Any]) -> list[bytes]:
    packed = np.ascontiguousarray(digests).tobytes()
    return [packed[i : i + _DIGEST] for i in range(0, len(packed), _DIGEST)]


def _part_name(data: bytes) -> str:
    """Name of a part's file, which follows from its content: a changed byte is noticed."""
    return f"{sha256_bytes(data)[:24]}.npy"

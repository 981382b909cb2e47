"""Arrays in the cell store, each with a seal: a small file beside it that says what was written and when.

Opening compares size and time, which costs nothing and notices any write; only `remove_if_damaged` reads an
array through, which also notices what a failing disk changed.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lymphoscope.files import atomic_path, sha256_file, write_json

SUFFIX = ".npy"


def open_array(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, Any] | None:
    """The uint8 array at `path`, memory-mapped read-only; None if it is not there as it was written."""
    if not _untouched(path, _seal(path)):
        return None
    try:
        array: np.memmap[Any, Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception:  # numpy raises many kinds, by which byte of the header is damaged
        return None
    whole = array.shape == shape and array.dtype == np.uint8
    return array if whole and array.flags.c_contiguous else None


def write_array(path: Path, shape: tuple[int, ...], blocks: Iterable[npt.NDArray[np.uint8]]) -> None:
    """Write consecutive blocks of a uint8 array, then its seal; killed in between, it is written anew."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    content = hashlib.sha256()
    # Written with write calls, not through a mapping: a full disk is then an error, not a crash.
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        for part in chain([header.getbuffer()], (block.data.cast("B") for block in blocks)):
            stream.write(part)
            content.update(part)
    status = path.stat()
    seal = {"sha256": content.hexdigest(), "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    write_json(_seal_path(path), seal)


def remove_array(path: Path) -> None:
    """Remove an array and its seal, if they are there; whoever has it mapped keeps it."""
    for part in (_seal_path(path), path):
        part.unlink(missing_ok=True)


def remove_if_damaged(folder: Path) -> None:
    """Read every array in `folder`; if one is damaged remove all, since one may be cut from another."""
    arrays = list(folder.glob(f"*{SUFFIX}"))
    if not all(_as_written(path) for path in arrays):
        for path in arrays:
            remove_array(path)


def _as_written(path: Path) -> bool:
    seal = _seal(path)
    return _untouched(path, seal) and sha256_file(path) == seal.get("sha256")


def _seal_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _seal(path: Path) -> dict[str, Any]:
    try:
        seal = json.loads(_seal_path(path).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return seal if isinstance(seal, dict) else {}


def _untouched(path: Path, seal: dict[str, Any]) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (seal.get("size"), seal.get("mtime_ns"))

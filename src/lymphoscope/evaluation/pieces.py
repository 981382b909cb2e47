"""Finished folds on disk, so that a killed evaluation goes on where it was.

A piece is one `.npz` file named by a hash of everything its numbers depend on: recipe and settings, patients,
cells, split, seed and version of the program. A piece of other data or of another recipe therefore never
matches; one that cannot be read in full is computed again.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lymphoscope._version import __version__
from lymphoscope.cohort.bags import Bags
from lymphoscope.files import sha256_json, write_bytes
from lymphoscope.models.base import BagClassifier

Arrays = dict[str, npt.NDArray[Any]]

FORMAT = 4
"""Raised when the meaning of a piece's arrays changes."""

_BLOCK = 1 << 16


def bags_fingerprint(bags: Bags, y: npt.ArrayLike) -> str:
    """Hexadecimal SHA-256 of the cells, the clinical values, the ids and the labels."""
    digest = hashlib.sha256()
    digest.update(json.dumps([bags.patient_ids, bags.columns, str(bags.cells.dtype)]).encode())
    digest.update(str(np.shape(bags.cells)).encode())
    digest.update(bags.offsets.tobytes() + bags.clinical.tobytes())
    digest.update(np.asarray(y, dtype=np.int64).tobytes())
    for start in range(0, len(bags.cells), _BLOCK):
        digest.update(np.ascontiguousarray(bags.cells[start : start + _BLOCK]).tobytes())
    return digest.hexdigest()


def describe_model(model: BagClassifier) -> dict[str, Any]:
    """A model's class and every parameter, nested ones included, as text that tells two recipes apart."""
    kind = type(model)
    parameters = {name: _describe(value) for name, value in sorted(model.get_params(deep=True).items())}
    return {"class": f"{kind.__module__}.{kind.__qualname__}", "parameters": parameters}


def piece_key(**depends_on: Any) -> str:
    """Hexadecimal SHA-256 of what a piece depends on; index arrays are taken as lists."""
    return sha256_json({"format": FORMAT, "version": __version__, **_plain(depends_on)})


def write_piece(folder: Path, key: str, arrays: Arrays) -> None:
    """Write a finished piece atomically."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_bytes(folder / f"{key}.npz", buffer.getvalue())


def read_piece(folder: Path, key: str, names: tuple[str, ...]) -> Arrays | None:
    """A finished piece with exactly the arrays `names`; None where there is none or it is damaged."""
    try:
        with np.load(folder / f"{key}.npz", allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except Exception:  # whatever is wrong with it, the remedy is the same: compute it again
        return None
    return arrays if set(arrays) == set(names) else None


def _describe(value: Any) -> Any:
    if isinstance(value, BagClassifier):
        return describe_model(value)
    if isinstance(value, list | tuple):
        return [_describe(item) for item in value]
    if isinstance(value, np.ndarray):
        return hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    return repr(value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value

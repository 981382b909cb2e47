"""Where a synthetic cohort may be written: never over anything that this program did not write."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lymphoscope.errors import InputError
from lymphoscope.files import atomic_directory, sha256_file

PROGRAM = "lymphoscope synthesize"
PLAN_FILE = "plan.json"
TABLE = "clinical_annotation.csv"


def truth_folder(out: Path) -> Path:
    """The folder beside a synthetic cohort that holds the truth about it."""
    return out.with_name(f"{out.name}_truth")


def image_name(k: int) -> str:
    """Name of a patient's photograph number `k`, from 0."""
    return f"{k:06d}.jpg"


@contextmanager
def cohort_and_truth(out: Path, *, overwrite: bool) -> Iterator[tuple[Path, Path]]:
    """Yield two empty folders that become `out` and its truth folder together, or not at all.

    Raises
    ------
    InputError : something stands there already and is not ours to replace, or `overwrite` is off.
    """
    truth = truth_folder(out)
    old = _replaceable(out, truth, overwrite=overwrite)
    with atomic_directory(out) as new_cohort, atomic_directory(truth) as new_truth:
        yield new_cohort, new_truth
        # Moved aside, not deleted, so that the moment without a cohort is as short as a rename.
        retired = [_move_aside(folder) for folder in old]
    for folder in retired:
        shutil.rmtree(folder, ignore_errors=True)


def _move_aside(folder: Path) -> Path:
    retired = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".old", dir=folder.parent))
    folder.replace(retired)
    return retired


def _replaceable(out: Path, truth: Path, *, overwrite: bool) -> list[Path]:
    """The folders to replace. An empty folder may always be; else both must be this program's."""
    there = [folder for folder in (out, truth) if os.path.lexists(folder)]
    there = [folder for folder in there if not _is_empty_folder(folder)]
    if not there:
        return []
    if not overwrite:
        raise InputError(
            "this output folder exists already",
            file=there[0],
            remedy="Choose another one, or allow overwriting a synthetic cohort.",
        )
    record = _record(truth)
    if record is None:
        raise InputError(
            "this folder was not written by this program, so it is not overwritten",
            file=out,
            remedy="Choose another output folder.",
        )
    if out in there:
        _require_unchanged(out, record)
    strangers = sorted(p.name for p in truth.iterdir() if p.name not in record["truth_files"])
    if strangers:
        raise InputError(
            "the truth folder holds files that this program did not write",
            file=truth,
            found=strangers[:5],
            remedy="Move them away, or choose another output folder.",
        )
    return there


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())


def _record(truth: Path) -> dict[str, Any] | None:
    """What the truth folder says of the cohort beside it; None if it is not such a folder."""
    if truth.is_symlink() or not (truth / PLAN_FILE).is_file():
        return None
    try:
        record = json.loads((truth / PLAN_FILE).read_text("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError):
        return None
    if not isinstance(record, dict) or record.get("program") != PROGRAM:
        return None
    return record if {"table_sha256", "images", "other_files", "truth_files"} <= set(record) else None


def _require_unchanged(out: Path, record: dict[str, Any]) -> None:
    """Refuse if the cohort's table was altered or if there are files beside those that were written."""
    table = out / TABLE
    if out.is_symlink() or not table.is_file() or sha256_file(table) != record["table_sha256"]:
        raise InputError(
            "this folder is not the synthetic cohort that its truth folder tells of",
            file=out,
            remedy="Choose another output folder.",
        )
    written = set(record["other_files"])
    for folder, n in record["images"].items():
        written |= {f"{folder}/{image_name(k)}" for k in range(n)}
    there = {
        Path(folder, name).relative_to(out).as_posix() for folder, _, names in os.walk(out) for name in names
    }
    strangers = sorted(there - written)
    if strangers:
        raise InputError(
            "this folder holds files that this program did not write",
            file=out,
            found=strangers[:5],
            remedy="Move them away, or choose another output folder.",
        )

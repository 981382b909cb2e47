"""The run folder: what one run wrote, in a form that a kill cannot spoil and a second call resumes."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lymphoscope.errors import RunFolderError
from lymphoscope.evaluation.folds import CHECKPOINT
from lymphoscope.files import to_json, write_json, writing
from lymphoscope.models.bundle import ARRAYS, DOCUMENT, REFITS

PLAN = "plan.json"
CURVES = "curves.parquet"
COHORT = "cohort.json"
DONE = "metrics.json"
LOG = "run.jsonl"
_OF_FILE_MANAGERS = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
"""Written into folders that somebody looks at."""

CONTENTS = frozenset(
    {
        PLAN,
        DONE,
        COHORT,
        "findings.json",
        "splits.parquet",
        "predictions.csv",
        "predictions.parquet",
        CURVES,
        "submission.csv",
        "report.html",
        LOG,
        "model",
        "pieces",
    }
)
"""Everything a run may write; `--overwrite` removes these names and touches no other."""


@dataclass(frozen=True)
class RunFolder:
    """A folder that holds one plan and, as the run goes on, its results.

    Attributes
    ----------
    path : the folder.
    complete : the run had already ended when the folder was opened.
    """

    path: Path
    complete: bool = False

    @classmethod
    @contextmanager
    def open(cls, path: Path, plan: dict[str, Any], *, overwrite: bool = False) -> Iterator[RunFolder]:
        """Create the folder, or resume it if it holds the same plan; no other process can have it meanwhile.

        Raises
        ------
        RunFolderError
            The folder holds another plan, files that are no run's, or a run that is going on.
        """
        require_run_folder(path)
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            if overwrite:
                _clear(path)
            present, wanted = _names(path), json.loads(to_json(plan))
            if PLAN not in present:
                write_json(path / PLAN, plan)
            elif (found := read_object(path / PLAN)) != wanted:
                raise RunFolderError(
                    f"{path}: holds a run with another plan ({_first_difference(found, wanted)}). "
                    "Choose a new folder, or give --overwrite to replace that run."
                )
            for name in {COHORT, DONE} & present:
                read_object(path / name)
            yield cls(path, complete=present >= CONTENTS - {LOG, CURVES, "pieces"})

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def read(self, name: str) -> dict[str, Any]:
        """One of the folder's JSON files."""
        return read_object(self.path / name)

    def log(self, event: str, **fields: Any) -> None:
        """Append one event, with the time, to run.jsonl."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields}, sort_keys=True)
        target = self.path / LOG
        with writing(target), target.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
            stream.flush()
            os.fsync(stream.fileno())


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One run at a time in a folder; the lock ends with the process, however that ends.

    Temporary files that are there once the lock is had were left by a killed run, and are removed.
    """
    log = path / LOG
    with writing(log):
        descriptor = os.open(log, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunFolderError(
                f"{path}: another run is writing into this folder. Wait for its end, or choose a new folder."
            ) from None
        for entry in path.iterdir():
            if _is_left_over(entry.name):
                _remove(entry)
        yield
    finally:
        os.close(descriptor)


def require_run_folder(path: Path) -> None:
    """Refuse a file, and a folder that holds anything but a run."""
    if path.exists() and not path.is_dir():
        raise RunFolderError(f"{path}: is a file; name a folder for the run's results.")
    present = _names(path) - {LOG} if path.exists() else set()
    if present and PLAN not in present:
        raise RunFolderError(
            f"{path}: is not empty and holds no {PLAN}, so it is not a run folder. Choose a new folder."
        )
    if present and "lymphoscope" not in read_object(path / PLAN):
        raise RunFolderError(f"{path / PLAN}: is not the plan of a run. Choose a new folder.")


def _clear(path: Path) -> None:
    """Remove an earlier run's own files; anything else in the folder stops the removal."""
    strangers = sorted(_strangers(path))
    if strangers:
        raise RunFolderError(
            f"{path}: holds {', '.join(strangers[:5])}, which no run writes, so it is not overwritten. "
            "Move these files away or choose a new folder."
        )
    # The result goes first and the plan last: a kill in between leaves a folder that a run can resume.
    for name in (DONE, *sorted(CONTENTS - {DONE, LOG, PLAN}), PLAN):
        _remove(path / name)
    with writing(path / LOG):  # emptied, not removed: it holds the lock
        os.truncate(path / LOG, 0)


def _strangers(path: Path) -> Iterator[str]:
    """What no run writes, relative to `path`."""
    yield from _names(path) - CONTENTS
    for folder in (path / "model", path / "pieces"):
        if folder.is_dir() and not folder.is_symlink():
            for entry in folder.iterdir():
                own = (
                    entry.name in {DOCUMENT, ARRAYS, REFITS}
                    if folder.name == "model"
                    else entry.name.endswith(".npz") or CHECKPOINT in entry.name  # and the member's number
                )
                if not own and not _is_temporary(entry.name) and entry.name not in _OF_FILE_MANAGERS:
                    yield f"{folder.name}/{entry.name}"


def _names(path: Path) -> set[str]:
    """Names in a folder, without what a killed run may have left."""
    return {entry.name for entry in path.iterdir() if not _is_left_over(entry.name)}


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(".tmp")


def _is_left_over(name: str) -> bool:
    """Whether a temporary file or folder was on its way to one of a run's names, or a file manager's file."""
    left_over = _is_temporary(name) and any(name.startswith(f".{final}.") for final in CONTENTS)
    return left_over or name in _OF_FILE_MANAGERS


def _remove(target: Path) -> None:
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)


def read_object(path: Path) -> dict[str, Any]:
    """The object in one of a run's JSON files."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise altered(path)
    return value


def altered(path: Path) -> RunFolderError:
    """The error for a file of a run that someone changed."""
    return RunFolderError(
        f"{path}: is not as a run wrote it. Choose a new folder, or remove this one and run again."
    )


def _first_difference(old: dict[str, Any], plan: dict[str, Any]) -> str:
    """Name of the first value that differs, with both values; for values within values the whole path."""
    for key in sorted({*old, *plan}):
        there, here = old.get(key), plan.get(key)
        if isinstance(there, dict) and isinstance(here, dict) and there != here:
            return f"{key}.{_first_difference(there, here)}"
        if there != here:
            return f"{key}: there {there!r}, here {here!r}"
    return "written differently"

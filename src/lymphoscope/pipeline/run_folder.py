"""The run folder: what one run wrote, in a form that a kill cannot spoil and a second call resumes."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lymphoscope.errors import RunFolderError
from lymphoscope.files import to_json, write_json

PLAN = "plan.json"
DONE = "metrics.json"
CONTENTS = frozenset(
    {
        PLAN,
        DONE,
        "cohort.json",
        "findings.json",
        "splits.parquet",
        "predictions.csv",
        "predictions.parquet",
        "submission.csv",
        "report.html",
        "run.jsonl",
        "model",
        "pieces",
    }
)
"""Everything a run writes; `--overwrite` removes these names and touches no other."""


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
    def open(cls, path: Path, plan: dict[str, Any], *, overwrite: bool = False) -> RunFolder:
        """Create the folder, or resume it if it holds the same plan.

        Raises
        ------
        RunFolderError
            The folder holds another plan, or files that are no run's.
        """
        if path.exists() and not path.is_dir():
            raise RunFolderError(f"{path}: is a file; name a folder for the run's results.")
        if overwrite:
            cls._clear(path)
        present = {entry.name for entry in path.iterdir()} if path.exists() else set()
        if present and PLAN not in present:
            raise RunFolderError(
                f"{path}: is not empty and holds no {PLAN}, so it is not a run folder. Choose a new folder."
            )
        if PLAN in present and (path / PLAN).read_text("utf-8") != to_json(plan):
            raise RunFolderError(
                f"{path}: holds a run with another plan ({_first_difference(path / PLAN, plan)}). "
                "Choose a new folder, or give --overwrite to replace that run."
            )
        path.mkdir(parents=True, exist_ok=True)
        if PLAN not in present:
            write_json(path / PLAN, plan)
        return cls(path, complete=present >= CONTENTS - {"run.jsonl", "pieces"})

    @staticmethod
    def _clear(path: Path) -> None:
        """Remove an earlier run's own files; anything else in the folder stops the removal."""
        if not path.exists():
            return
        strangers = sorted(
            entry.name for entry in path.iterdir() if entry.name not in CONTENTS and entry.suffix != ".tmp"
        )
        if strangers:
            raise RunFolderError(
                f"{path}: holds {', '.join(strangers[:5])}, which no run writes, so it is not overwritten. "
                "Move these files away or choose a new folder."
            )
        # The result goes first and the plan last: a kill in between leaves a folder that a run can resume.
        for name in (DONE, *sorted(CONTENTS - {DONE, PLAN}), PLAN):
            target = path / name
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def log(self, event: str, **fields: Any) -> None:
        """Append one event, with the time, to run.jsonl."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields}, sort_keys=True)
        with (self.path / "run.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
            stream.flush()
            os.fsync(stream.fileno())


def _first_difference(path: Path, plan: dict[str, Any]) -> str:
    try:
        old = json.loads(path.read_text("utf-8"))
    except ValueError:
        return f"{PLAN} is not readable"
    for key in sorted({*old, *plan}):
        if old.get(key) != plan.get(key):
            return f"{key}: there {old.get(key)!r}, here {plan.get(key)!r}"
    return "written differently"

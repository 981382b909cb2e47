"""One row of the table of results: a recipe evaluated on a cohort, in a process of its own.

`benchmarks/results.py` calls it with a request as JSON, and reads the numbers from the last line it prints.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import lymphoscope
from lymphoscope.encoders.known_cells import CellsLearnedFrom
from lymphoscope.evaluation.evaluator import evaluate
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.files import sha256_json, write_text
from lymphoscope.models.base import BagClassifier
from lymphoscope.models.registry import create_model
from lymphoscope.pipeline.page import cells_seen
from lymphoscope.pipeline.preparation import Prepared, prepare
from lymphoscope.stats.intervals import Interval

CHANCE = 0.001
"""Share of cells that may look like one of an encoder's without being it."""

MADE_BY = ("cells", "cohort", "encoders", "evaluation", "models", "pipeline", "stats", "training")
"""Packages whose code decides what a row says."""


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Evaluate one recipe on one cohort, whose photographs are in the cache already.

    Finished folds and networks in training are kept there until the row is done: one that was killed goes on
    where the same is asked again of the same code.
    """
    prepared = prepare(
        Path(request["folder"]),
        cache=Path(request["cache"]),
        encoder=request["encoder_at"],
        jobs=request["jobs"],
    )
    model = create_model(request["recipe"])
    bags = prepared.bags_for(model, jobs=request["jobs"])[prepared.labelled]
    protocol = Protocol(**request["protocol"])
    pieces = prepared.store.folder / f"results-{sha256_json([request, code_hash()])[:16]}"
    clock = Clock(pieces / "seconds.txt")
    found = evaluate(
        model,
        bags,
        prepared.labels,
        protocol,
        jobs=request["jobs"],
        name=request["recipe"],
        pieces=pieces,
        track=lambda *_: clock.keep(),
    )
    histories = [history for history in found.out_of_fold.histories if history]
    chosen = [settings["epoch"] for settings in found.out_of_fold.settings if "epoch" in settings]
    trained = [epoch.seconds for history in histories for epoch in history]
    wall_s = round(clock.seconds, 2)
    shutil.rmtree(pieces)
    return {
        "malignant": found.overall.n_malignant,
        "reactive": found.overall.n_reactive,
        **_interval("ba", found.overall.balanced_accuracy),
        **_interval("auc", found.overall.auc),
        "fitted_ba": round(float(np.mean(found.out_of_fold.training_balanced_accuracy)), 4)
        if histories
        else None,
        "zone_malignant": found.overlap.n_malignant,
        "zone_reactive": found.overlap.n_reactive,
        **_interval("zone_auc", found.overlap.auc),
        "train_s": round(sum(trained) if histories else found.out_of_fold.seconds, 2),
        "wall_s": wall_s,
        "optimistic": found.out_of_fold.optimistic,
        "untrained": found.out_of_fold.untrained,
        "seen_before": seen_before(prepared, model),
        "epochs": "; ".join(map(str, chosen)),
        "of_epochs": max((len(history) for history in histories), default=None),
    }


def seen_before(prepared: Prepared, model: BagClassifier) -> bool:
    """Whether an encoder that the recipe looks at, or begins with, has seen more than a few of these cells.

    Round painted cells look like one of the encoder's by chance, a few in ten thousand.
    """
    few = CHANCE * len(prepared.store)
    found = cells_seen(model, prepared.seen_by)
    return any(not isinstance(each, CellsLearnedFrom) or len(each.files) > few for each in found)


class Clock:
    """Seconds that work has taken, those of calls before this one included, which were killed on the way."""

    def __init__(self, path: Path) -> None:
        self._path, self._began = path, time.perf_counter()
        self._before = float(path.read_text()) if path.exists() else 0.0

    @property
    def seconds(self) -> float:
        """So far."""
        return self._before + time.perf_counter() - self._began

    def keep(self) -> None:
        """Write them down, for the call after a kill."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self._path, str(self.seconds))


def _interval(name: str, interval: Interval | None) -> dict[str, float | None]:
    values: tuple[float | None, ...] = (None, None, None)
    if interval is not None:
        values = tuple(round(float(each), 4) for each in (interval.estimate, interval.low, interval.high))
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def versions() -> dict[str, str]:
    """Of what computes the rows."""
    names = ("lymphoscope", "torch", "numpy", "scikit-learn")
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
    }


def code_hash() -> str:
    """Twelve hexadecimal digits of the SHA-256 of the code that decides what a row says."""
    root, digest = Path(lymphoscope.__file__).parent, hashlib.sha256()
    for package in MADE_BY:
        for path in sorted((root / package).rglob("*")):
            if path.suffix in (".py", ".yaml"):
                digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))

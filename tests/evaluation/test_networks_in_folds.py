"""Models trained in epochs: watched while they train, resumed after a kill, honest about the epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lymphoscope.evaluation import folds
from lymphoscope.evaluation.epoch_log import listening, write_epoch
from lymphoscope.evaluation.folds import out_of_fold
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.models.conformance import example_bags
from lymphoscope.models.registry import create_model
from lymphoscope.training.curves import Epoch, Measured

SIDE = 32
SMALL = {"image_size": SIDE, "width": 0.4, "epochs": 3, "batch_size": 32}


class Counting:
    """Adds up what progress is told."""

    def __init__(self) -> None:
        self.total = self.advanced = 0
        self.what: list[str] = []

    def start(self, what: str, total: int) -> None:
        self.what.append(what)
        self.total += total

    def advance(self, n: int = 1) -> None:
        self.advanced += n

    def done(self) -> None:
        pass


def test_every_epoch_of_every_fold_is_told_and_kept() -> None:
    bags, y = example_bags(24, image_size=SIDE)
    splits = Protocol(folds=2, repeats=1).splits(y)
    progress = Counting()
    found = out_of_fold(
        create_model("cnn-baseline", **SMALL), bags, y, splits, progress=progress, name="cnn-baseline@test"
    )
    assert (progress.total, progress.advanced) == (6, 6)
    assert progress.what == ["cnn-baseline@test, epochs"]
    assert found.recipe == "cnn-baseline@test"
    assert [len(history) for history in found.histories] == [3, 3]
    assert not found.optimistic
    assert all(
        each is not None and len(each) == n for each, n in zip(found.evidence, bags.counts, strict=True)
    )


def test_a_fold_that_was_killed_goes_on_at_its_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bags, y = example_bags(24, image_size=SIDE)
    splits = Protocol(folds=2, repeats=1).splits(y)
    model = create_model("cnn-baseline", **SMALL)
    whole = out_of_fold(model, bags, y, splits)

    class Killed(Exception):
        pass

    def kill(path: Path, epoch: Epoch) -> None:
        if path.stem == "0-1" and epoch.number == 2:
            raise Killed

    monkeypatch.setattr(folds, "write_epoch", kill)
    with pytest.raises(Killed):
        out_of_fold(model, bags, y, splits, pieces=tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == 1
    assert len(list(tmp_path.glob("*.training.safetensors"))) == 1
    trained: list[tuple[str, int]] = []
    monkeypatch.setattr(folds, "write_epoch", lambda path, epoch: trained.append((path.stem, epoch.number)))
    resumed = out_of_fold(model, bags, y, splits, pieces=tmp_path)
    assert trained == [("0-1", 3)]
    assert np.array_equal(resumed.probability, whole.probability)
    assert not list(tmp_path.glob("*.training.safetensors"))


def test_choosing_the_epoch_on_the_scored_fold_is_named_optimistic_and_is() -> None:
    """Labels mean nothing here: what the best epoch gains comes from looking at who is scored."""
    gaps = []
    for seed in range(4):
        bags, y = example_bags(30, seed=seed, effect=0.0, image_size=SIDE)
        splits = Protocol(folds=3, repeats=1, seed=seed).splits(y)
        settings: dict[str, Any] = {**SMALL, "epochs": 8, "balance": "oversample"}
        optimistic = out_of_fold(
            create_model("cnn-baseline", selection="scored-fold", **settings), bags, y, splits, seed=seed
        )
        assert optimistic.optimistic
        best = [max(e.validation.balanced_accuracy for e in h if e.validation) for h in optimistic.histories]
        last = [h[-1].validation.balanced_accuracy for h in optimistic.histories if h[-1].validation]
        gaps.append(np.mean(best) - np.mean(last))
    assert np.mean(gaps) > 0.05


def test_half_a_line_of_a_log_is_not_read(tmp_path: Path) -> None:
    epoch = Epoch(1, 0.1, Measured(0.5, 0.6, 0.7, 0.5), None, 10, 1.0)
    heard: list[tuple[str, Epoch]] = []
    with listening(tmp_path, lambda fold, each: heard.append((fold, each))):
        write_epoch(tmp_path / "0-0.jsonl", epoch)
        with (tmp_path / "0-0.jsonl").open("a", encoding="utf-8") as stream:
            stream.write('{"number": 2, ')
    assert heard == [("0-0", epoch)]

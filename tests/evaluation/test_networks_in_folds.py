"""Models trained in epochs: watched while they train, resumed after a kill, honest about the epoch."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lymphoscope.evaluation import folds
from lymphoscope.evaluation.epoch_log import listening, write_epoch
from lymphoscope.evaluation.folds import out_of_fold
from lymphoscope.evaluation.ladder import climb
from lymphoscope.evaluation.optimism import honest_recipe
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.evaluation.resampling import inner_folds, threads_each
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
        self.notes: list[str] = []

    def start(self, what: str, total: int) -> None:
        self.what.append(what)
        self.total += total

    def advance(self, n: int = 1) -> None:
        self.advanced += n

    def done(self) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)

    def spare(self, n: int) -> None:
        assert n > 0
        self.total -= n


def test_every_epoch_of_every_fold_is_told_and_kept() -> None:
    bags, y = example_bags(24, image_size=SIDE)
    splits = Protocol(folds=2, repeats=1).splits(y)
    progress = Counting()
    found = out_of_fold(
        create_model("cnn-baseline", **SMALL), bags, y, splits, progress=progress, name="cnn-baseline@test"
    )
    assert (progress.total, progress.advanced) == (6, 6)
    assert progress.what == ["cnn-baseline@test"]
    assert re.fullmatch(r"epochs, [\d,]+ cells/s", progress.notes[-1])
    assert found.recipe == "cnn-baseline@test"
    assert [len(history) for history in found.histories] == [3, 3]
    assert not found.optimistic
    assert all(
        each is not None and len(each) == n for each, n in zip(found.evidence, bags.counts, strict=True)
    )


@pytest.mark.parametrize("jobs", [1, 2])
def test_epochs_that_are_not_needed_are_not_waited_for(jobs: int) -> None:
    bags, y = example_bags(24, image_size=SIDE)
    splits = Protocol(folds=2, repeats=1).splits(y)
    progress = Counting()
    model = create_model("cnn-baseline", **{**SMALL, "epochs": 12, "patience": 1, "learning_rate": 0.1})
    found = out_of_fold(model, bags, y, splits, progress=progress, jobs=jobs, wished_sensitivity=0.9)
    trained = sum(len(history) for history in found.histories)
    assert trained < 24
    assert trained < progress.advanced == progress.total < 24 * 6


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


def test_folds_end_with_the_same_bits_however_many_processes_and_whatever_is_left(tmp_path: Path) -> None:
    bags, y = example_bags(24, image_size=64)
    splits, model = (
        Protocol(folds=2, repeats=1).splits(y),
        create_model("cnn-clinical", **SMALL | {"image_size": 64}),
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(4)  # whose sums have other last bits than those of the processes' own one or two
    try:
        first, second = (
            out_of_fold(model, bags, y, splits, jobs=jobs, pieces=tmp_path / str(jobs)) for jobs in (1, 2)
        )
        next((tmp_path / "2").glob("*.npz")).unlink()
        resumed = out_of_fold(model, bags, y, splits, jobs=2, pieces=tmp_path / "2")
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(first.probability, second.probability)
    assert np.array_equal(first.probability, resumed.probability)


@pytest.mark.parametrize(
    ("cores", "tasks", "each"), [(2, 5, 1), (8, 5, 2), (8, 1, 8), (16, 50, 4), (8, 2, 4)]
)
def test_as_many_networks_as_run_at_a_time_share_the_cores(
    cores: int, tasks: int, each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    assert threads_each(create_model("cnn-clinical"), tasks) == each
    assert threads_each(create_model("mil-mean"), tasks) == 1


def test_choosing_the_epoch_on_the_scored_fold_is_named_optimistic_and_is() -> None:
    """Labels mean nothing here: what the best epoch gains comes from looking at who is scored."""
    gaps = []
    for seed in range(4):
        bags, y = example_bags(30, seed=seed, effect=0.0, image_size=SIDE)
        splits = Protocol(folds=3, repeats=1, seed=seed).splits(y)
        # At a lower rate all scores lie within rounding of one half, and ties decide.
        settings: dict[str, Any] = {**SMALL, "epochs": 8, "positive_weight": 2.0, "learning_rate": 0.01}
        optimistic = out_of_fold(
            create_model("cnn-baseline", selection="scored-fold", **settings), bags, y, splits, seed=seed
        )
        assert optimistic.optimistic
        right = optimistic.decision[0] == optimistic.y
        for fold, history in enumerate(optimistic.histories):
            inside = optimistic.fold[0] == fold
            shares = [right[inside & (optimistic.y == label)].mean() for label in (0, 1)]
            reported = max(e.validation.balanced_accuracy for e in history if e.validation)
            assert np.mean(shares) == pytest.approx(reported)
        best = [max(e.validation.balanced_accuracy for e in h if e.validation) for h in optimistic.histories]
        last = [h[-1].validation.balanced_accuracy for h in optimistic.histories if h[-1].validation]
        gaps.append(np.mean(best) - np.mean(last))
    assert np.mean(gaps) > 0.05


def test_optimism_is_measured_where_a_recipe_is_on_the_ladder_twice() -> None:
    bags, y = example_bags(24, image_size=SIDE)
    small = "image_size=32,width=0.4,epochs=2,batch_size=32"
    honest = "cnn-baseline:width=0.4,image_size=32,batch_size=32,epochs=2"  # the same, in another order
    optimistic = f"cnn-baseline:{small},selection=scored-fold"
    assert honest_recipe(optimistic) == f"cnn-baseline:{small}" and honest_recipe(honest) == honest
    assert honest_recipe("cnn-clinical@fast:selection=scored-fold") == "cnn-clinical@fast"
    ladder = climb(
        bags,
        y,
        Protocol(folds=2, repeats=1, bootstrap=100),
        recipes=[("images", optimistic), ("images", honest)],
    )
    assert [row.as_dict()["optimistic"] for row in ladder.rows] == [True, False]
    assert [(each.first, each.second, each.zone) for each in ladder.optimism] == [
        (honest, optimistic, "overall"),
        (honest, optimistic, "overlap"),
    ]
    overall = ladder.optimism[0]
    assert overall.optimistic == (optimistic,)
    expected = [row.evaluation.overall.balanced_accuracy for row in ladder.rows]
    assert overall.balanced_accuracy is not None
    assert expected[0] is not None
    assert expected[1] is not None
    assert overall.balanced_accuracy.estimate == pytest.approx(expected[0].estimate - expected[1].estimate)
    assert ladder.sentences[0].startswith(
        f"Choosing the epoch on the patients that are scored moves the balanced accuracy of {honest} by"
    )


def test_a_comparison_with_an_optimistic_recipe_says_so() -> None:
    bags, y = example_bags(24, image_size=SIDE)
    name = "cnn-baseline:image_size=32,width=0.4,epochs=1,batch_size=32,selection=scored-fold"
    ladder = climb(
        bags,
        y,
        Protocol(folds=2, repeats=1, bootstrap=100),
        recipes=[("clinical", "clinical"), ("images", name)],
    )
    found = ladder.rows[1].comparisons[0]
    assert found.optimistic == (name,)
    assert found.sentence.endswith(
        f"{name} is optimistic: the epoch was chosen on the patients that are scored."
    )
    assert ladder.optimism == ()


def test_what_balancing_did_is_kept_per_fold() -> None:
    bags, y = example_bags(30, image_size=SIDE)
    splits = Protocol(folds=2, repeats=1).splits(y)
    settings: dict[str, Any] = {**SMALL, "epochs": 1}
    plain = out_of_fold(create_model("cnn-baseline", **settings), bags, y, splits)
    assert plain.balancing == (None, None)
    found = out_of_fold(create_model("cnn-baseline", balance="undersample", **settings), bags, y, splits)
    assert found.splits == ((0, 0), (0, 1))
    for counts, history in zip(found.balancing, found.histories, strict=True):
        assert counts is not None
        reactive, malignant = counts.patients_after
        assert reactive == malignant == min(counts.patients_before)
        assert sum(counts.cells_after) == history[0].images


def test_inner_trainings_are_progress_and_only_outer_ones_are_tracked() -> None:
    bags, y = example_bags(24, image_size=SIDE)
    splits = Protocol(folds=2, repeats=1).splits(y)
    progress, tracked = Counting(), list[tuple[str, str, int]]()
    out_of_fold(
        create_model("cnn-baseline", **{**SMALL, "epochs": 2}),
        bags,
        y,
        splits,
        progress=progress,
        track=lambda recipe, fold, epoch: tracked.append((recipe, fold, epoch.number)),
        wished_sensitivity=0.9,
        name="net",
    )
    inner = [inner_folds(y[split.train]) for split in splits]
    assert progress.total == progress.advanced == 2 * (2 + sum(inner))
    assert sorted(tracked) == [
        ("net", f"repeat 1, fold {fold}", number) for fold in (1, 2) for number in (1, 2)
    ]


def test_a_listener_that_fails_is_heard_of(tmp_path: Path) -> None:
    def fail(fold: str, epoch: Epoch) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), listening(tmp_path, fail):
        write_epoch(tmp_path / "0-0.jsonl", Epoch(1, 0.1, Measured(0.5, 0.6, 0.7, 0.5), None, 10, 1.0))
        time.sleep(1.0)


def test_half_a_line_of_a_log_is_not_read(tmp_path: Path) -> None:
    epoch = Epoch(1, 0.1, Measured(0.5, 0.6, 0.7, 0.5), None, 10, 1.0)
    heard: list[tuple[str, Epoch]] = []
    with listening(tmp_path, lambda fold, each: heard.append((fold, each))):
        write_epoch(tmp_path / "0-0.jsonl", epoch)
        with (tmp_path / "0-0.jsonl").open("a", encoding="utf-8") as stream:
            stream.write('{"number": 2, ')
    assert heard == [("0-0", epoch)]

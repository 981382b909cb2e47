"""A run with a network: curves, optimism, intervals that there are not, tracking, and a kill."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lymphoscope.cells.morphology import MORPHOLOGY_COLUMNS
from lymphoscope.cohort.read import ReadOptions
from lymphoscope.errors import InputError, LymphoscopeError, WriteError
from lymphoscope.evaluation.ladder import DEFAULT_LADDER
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.pipeline import tracking as tracking_module
from lymphoscope.pipeline.evaluate import evaluate_cohort, ladder_with
from lymphoscope.pipeline.plan import RunPlan
from lymphoscope.pipeline.predict import predict_cohort, read_model
from lymphoscope.pipeline.preparation import Prepared, prepare
from lymphoscope.pipeline.run import run
from lymphoscope.pipeline.run_folder import require_run_folder
from lymphoscope.pipeline.summary import in_lines, ladder_lines, run_summary
from lymphoscope.pipeline.tracking import require_tracking, told_if_untracked, tracking
from lymphoscope.training.curves import Epoch, Measured

READING = ReadOptions(min_cells=4)
HONEST = "cnn-clinical@smoke:balance=oversample"
OPTIMISTIC = f"{HONEST},selection=scored-fold"
PLAN = RunPlan(reading=READING, protocol=Protocol(folds=2, repeats=1, bootstrap=100), recipe=OPTIMISTIC)


@pytest.fixture(scope="module")
def prepared(tiny_cohort: Path, cache: Path) -> Prepared:
    return prepare(tiny_cohort, READING, cache=cache, jobs=1)


@pytest.fixture(scope="module")
def finished(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(prepared, tmp_path_factory.mktemp("runs") / "run", PLAN, jobs=1)


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.jsonl"
    }


class Writer:
    """Stands for TensorBoard's."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.open, self.flushed = folder, True, 0
        self.scalars: dict[str, list[tuple[int, float]]] = {}

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self.scalars.setdefault(tag, []).append((step, value))

    def flush(self) -> None:
        self.flushed += 1

    def close(self) -> None:
        self.open = False


def test_curves_of_every_epoch_and_fold_are_in_the_run_folder(finished: Path) -> None:
    table = pd.read_parquet(finished / "curves.parquet")
    names = ["recipe", "optimistic", "repeat", "fold", "member", "epoch", "learning_rate", "of", "loss"]
    assert list(table) == [*names, "balanced_accuracy", "sensitivity", "specificity", "chosen"]
    training = table[table["of"] == "training"]
    assert len(training) == 2 * 2 * 2  # recipes, folds, epochs
    assert set(table["recipe"]) == {HONEST, OPTIMISTIC}
    for each in (table, pd.read_parquet(finished / "predictions.parquet")):
        assert (each["optimistic"] == (each["recipe"] == OPTIMISTIC)).all()
    assert table["loss"].gt(0).all()
    assert (training.groupby(["recipe", "fold"])["chosen"].sum() == 1).all()
    validation = table[(table["of"] == "validation") & table["chosen"] & (table["recipe"] == OPTIMISTIC)]
    highest = table[(table["of"] == "validation") & (table["recipe"] == OPTIMISTIC)]
    best = highest.groupby("fold")["balanced_accuracy"].max().to_numpy()
    assert np.array_equal(validation["balanced_accuracy"], best)


def test_two_runs_give_the_same_bytes_and_one_without_networks_no_curves(
    finished: Path, prepared: Prepared, tmp_path: Path
) -> None:
    assert tree(run(prepared, tmp_path / "again", PLAN, jobs=1)) == tree(finished)
    plain = run(prepared, tmp_path / "plain", replace(PLAN, recipe="clinical", refits=2), jobs=1)
    assert not (plain / "curves.parquet").exists()
    assert "learned</h2>" not in (plain / "report.html").read_text()


def test_every_place_with_the_optimistic_number_says_so(finished: Path, prepared: Prepared) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    rows = {row["recipe"]: row for row in metrics["ladder"]["rows"]}
    assert [name for name, row in rows.items() if row["optimistic"]] == [OPTIMISTIC]
    assert all(OPTIMISTIC in each["optimistic"] for each in rows[OPTIMISTIC]["comparisons"])
    assert metrics["ladder"]["optimism"][0]["first"] == HONEST
    page = (finished / "report.html").read_text()
    assert page.count("optimistic: the epoch was chosen on the patients that are scored") == 1
    assert "<b>Optimism:</b>" in page
    assert "Small CNN and clinical values (optimistic)" in page
    printed = "\n".join(each for each in ladder_lines(metrics["ladder"]) if isinstance(each, str))
    assert "Expect less of patients that nobody has looked at." in printed
    assert "moves the balanced accuracy" in printed
    assert list(run_summary(finished))


def test_predictions_come_from_the_honest_recipe_and_the_page_says_why(
    finished: Path, prepared: Prepared
) -> None:
    assert json.loads((finished / "plan.json").read_text())["recipe"] == OPTIMISTIC
    assert json.loads((finished / "metrics.json").read_text())["recipe"] == HONEST
    assert read_model(finished / "model").recipe == HONEST
    assert "New patients have no labels to choose an epoch by" in (finished / "report.html").read_text()
    assert ladder_with("clinical", prepared.bags) == DEFAULT_LADDER, "it is a rung already"
    measured = prepared.bags.select_columns(MORPHOLOGY_COLUMNS)
    assert ladder_with("clinical", measured)[-1] == ("both", "morphology-clinical-late")
    assert not [
        name for _, name in ladder_with("clinical", measured) if name.startswith(("encoder", "concept"))
    ]


def test_networks_have_no_interval_and_nothing_pretends_one(finished: Path) -> None:
    with (finished / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert rows
    assert {(row["low"], row["high"]) for row in rows} == {("", "")}
    assert all("interval" not in row["reason"] for row in rows)
    page = (finished / "report.html").read_text()
    assert "not known" not in page
    assert "no interval" in page


def test_the_bundle_predicts_what_the_run_said(finished: Path, prepared: Prepared, tmp_path: Path) -> None:
    predict_cohort(read_model(finished / "model"), prepared, tmp_path / "out")
    said = {
        line.split(",")[0]: line for line in (tmp_path / "out" / "predictions.csv").read_text().splitlines()
    }
    for line in (finished / "predictions.csv").read_text().splitlines():
        assert said[line.split(",")[0]] == line
    assert "no interval" in (tmp_path / "out" / "report.html").read_text()


def test_a_run_on_masked_cells_is_tracked(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers: list[Writer] = []

    def new_writer(folder: Path) -> Writer:
        writers.append(Writer(folder))
        return writers[-1]

    monkeypatch.setattr(tracking_module, "_tensorboard", lambda: new_writer)
    name = "cnn-baseline@smoke:segmented=true"
    run(prepared, tmp_path / "run", replace(PLAN, recipe=name), jobs=1, track=tmp_path / "events")
    assert sorted(str(each.folder.relative_to(tmp_path / "events")) for each in writers) == [
        f"cnn-baseline@smoke_segmented=true/{fold}"
        for fold in ("all_patients", "repeat_1_fold_1", "repeat_1_fold_2")
    ]
    curves = pd.read_parquet(tmp_path / "run" / "curves.parquet")
    assert set(curves["recipe"]) == {name}
    first = next(each for each in writers if each.folder.name == "repeat_1_fold_1")
    losses = curves[(curves["fold"] == 0) & (curves["of"] == "training")]["loss"]
    assert [value for _, value in first.scalars["loss/training"]] == pytest.approx(losses.tolist())
    assert [step for step, _ in first.scalars["images_per_second"]] == [1, 2]
    assert all(not each.open and each.flushed == 2 for each in writers)


def test_a_run_killed_in_its_last_training_goes_on_there(
    finished: Path, prepared: Prepared, tmp_path: Path
) -> None:
    class Stops:
        """Progress of a user who presses Ctrl-C in the last training."""

        last = False

        def start(self, what: str, total: int) -> None:
            self.last = what.endswith("all patients")

        def advance(self, n: int = 1) -> None:
            if self.last and n:
                raise KeyboardInterrupt

        def done(self) -> None:
            pass

    with pytest.raises(KeyboardInterrupt):
        run(prepared, tmp_path / "run", PLAN, jobs=1, progress=Stops())
    assert (tmp_path / "run" / "pieces" / "final.training.safetensors").exists()
    require_run_folder(tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    assert tree(run(prepared, tmp_path / "run", PLAN, jobs=1)) == tree(finished)
    plan = replace(PLAN, recipe="clinical", refits=2)
    run(prepared, tmp_path / "other", plan, jobs=1, overwrite=True)
    assert not (tmp_path / "other" / "curves.parquet").exists()


def test_evaluate_writes_the_curves_of_networks(prepared: Prepared, tmp_path: Path) -> None:
    out = tmp_path / "numbers.json"
    evaluate_cohort(prepared, PLAN.protocol, ["clinical", HONEST], out=out)
    training = json.loads(out.read_text())["training"]
    assert list(training) == [HONEST]
    assert [(fold["repeat"], fold["fold"], len(fold["epochs"])) for fold in training[HONEST]] == [
        (0, 0, 2),
        (0, 1, 2),
    ]
    one = training[HONEST][0]
    assert sum(epoch["chosen"] for epoch in one["epochs"]) == 1
    assert one["epochs"][0].keys() == {
        *("member", "number", "learning_rate", "training", "validation", "chosen"),
    }
    assert one["balancing"]["patients_after"][0] == one["balancing"]["patients_after"][1]
    assert '"seconds"' not in out.read_text()


def epoch(number: int = 1) -> Epoch:
    return Epoch(number, 0.1, Measured(0.5, float("nan"), 0.7, float("nan")), None, 10, 0.5)


def test_tensorboard_reads_what_is_tracked(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tracking(tmp_path / "events") as track:
        assert track is not None
        track("a@b:c=1", "repeat 1, fold 1", epoch(1))
        track("a@b:c=1", "repeat 1, fold 1", epoch(2))
    events: Any = EventAccumulator(str(tmp_path / "events" / "a@b_c=1" / "repeat_1_fold_1"))
    events.Reload()
    assert [each.step for each in events.Scalars("loss/training")] == [1, 2]
    assert events.Scalars("images_per_second")[0].value == pytest.approx(20.0)
    assert "balanced_accuracy/training" not in events.Tags()["scalars"]


def test_a_call_that_tracks_nothing_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    for tracked in (True, False):
        with told_if_untracked(tmp_path, said.append), tracking(tmp_path) as track:
            if tracked and track is not None:
                track("recipe", "repeat 1, fold 1", epoch())
        assert len(said) == (not tracked)
    assert str(tmp_path) in said[0]
    assert "no network was trained" in said[0]
    with told_if_untracked(None, said.append):
        pass
    assert len(said) == 1


def test_without_tensorboard_it_is_said_before_the_work_begins(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking_module, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"not installed\. .*pip install 'lymphoscope\[track\]'"):
        run(prepared, tmp_path / "run", PLAN, jobs=1, track=tmp_path / "events")
    assert not (tmp_path / "run").exists()
    with tracking(None) as track:
        assert track is None
    assert sys.modules.get("tensorflow") is None


def test_events_go_neither_into_the_cohort_nor_into_the_run_nor_onto_a_file(
    prepared: Prepared, tiny_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking_module, "_tensorboard", lambda: Writer)
    with pytest.raises(InputError, match="inside the cohort"):
        evaluate_cohort(prepared, PLAN.protocol, [HONEST], track=tiny_cohort / "events")
    with pytest.raises(InputError, match="inside the run's"):
        require_tracking(tmp_path / "run" / "events", tmp_path / "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(LymphoscopeError, match="this is a file"):
        require_tracking(tmp_path / "file")
    with tracking(tmp_path / "file", new_writer=Writer) as track, pytest.raises(WriteError):
        assert track is not None
        track("net", "repeat 1, fold 1", epoch())


def test_a_killed_evaluation_goes_on_where_it_was(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lymphoscope.evaluation import folds

    protocol = Protocol(folds=2, repeats=1, bootstrap=100, seed=5)
    others = set(prepared.store.folder.glob("evaluation-*"))
    trained: list[tuple[str, int]] = []

    def kill(path: Path, epoch: Epoch) -> None:
        trained.append((path.stem, epoch.number))
        if trained[-1] == ("0-1", 1):
            raise KeyboardInterrupt

    monkeypatch.setattr(folds, "write_epoch", kill)
    with pytest.raises(KeyboardInterrupt):
        evaluate_cohort(prepared, protocol, [HONEST])
    evaluate_cohort(prepared, protocol, [HONEST])
    assert trained == [("0-0", 1), ("0-0", 2), ("0-1", 1), ("0-1", 2)]
    assert set(prepared.store.folder.glob("evaluation-*")) == others


def test_the_gate_of_a_mixture_stands_beside_every_patient(prepared: Prepared, tmp_path: Path) -> None:
    plan = replace(PLAN, recipe="mixture-of-experts@smoke:width=0.25")
    folder = run(prepared, tmp_path / "run", plan, jobs=1)
    page = (folder / "report.html").read_text("utf-8")
    assert re.search(r"Decided by the cells \(\d+\s%\), and by age, count and sex \(\d+\s%\)", page)
    predict_cohort(read_model(folder / "model"), prepared, tmp_path / "new")
    rows = list(csv.DictReader((tmp_path / "new" / "predictions.csv").open(encoding="utf-8")))
    known = [row for row in rows if row["share_cells"]]
    assert known
    assert all(float(row["share_cells"]) + float(row["share_clinical"]) == pytest.approx(1) for row in known)


@pytest.mark.parametrize(
    ("recipe", "shown"),
    [
        ("cnn-clinical@fast:epochs=3", "cnn-clinical@fast:epochs=3"),
        ("cnn-baseline-undersampled@fast", "cnn-baseline-undersampled@fast"),
        (
            "dinov2-adaptformer@fast:epochs=16,weights=vit",
            "dinov2-adaptformer@fast:\n  epochs=16,\n  weights=vit",
        ),
    ],
)
def test_long_names_break_where_a_setting_begins(recipe: str, shown: str) -> None:
    assert in_lines(recipe) == shown

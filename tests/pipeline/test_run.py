from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_encoder import made_up_encoder

from lymphoscope.cohort.findings import Severity
from lymphoscope.cohort.image_finding_kinds import DamagedImage
from lymphoscope.cohort.read import ReadOptions
from lymphoscope.errors import InputError, LymphoscopeError, RunFolderError
from lymphoscope.evaluation.probes import Probe
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.models.auto import AutoClassifier
from lymphoscope.models.bundle import load_bundle
from lymphoscope.pipeline.evaluate import evaluate_cohort
from lymphoscope.pipeline.plan import RunPlan, Submission
from lymphoscope.pipeline.predict import predict_cohort, read_model
from lymphoscope.pipeline.preparation import Prepared, prepare, probe_cohort
from lymphoscope.pipeline.run import run
from lymphoscope.pipeline.summary import run_summary

READING = ReadOptions(min_cells=4)
PLAN = RunPlan(
    reading=READING,
    protocol=Protocol(folds=3, repeats=2, bootstrap=100),
    recipe="morphology-clinical",
    refits=4,
    labels_note="Simulated patients.",
)


@pytest.fixture(scope="module")
def prepared(tiny_cohort: Path, cache: Path) -> Prepared:
    return prepare(tiny_cohort, READING, cache=cache, jobs=1)


@pytest.fixture(scope="module")
def finished(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(prepared, tmp_path_factory.mktemp("runs") / "run", PLAN, jobs=1)


def tree(folder: Path, without: tuple[str, ...] = ()) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in without
    }


class StopsAfter:
    """Progress that stands for a user who presses Ctrl-C after some folds."""

    def __init__(self, folds: int) -> None:
        self.left = folds

    def start(self, what: str, total: int) -> None:
        pass

    def advance(self, n: int = 1) -> None:
        self.left -= n
        if self.left < 0:
            raise KeyboardInterrupt

    def done(self) -> None:
        pass


def test_a_run_leaves_everything_it_promises(finished: Path, prepared: Prepared) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names == {
        "plan.json",
        "cohort.json",
        "findings.json",
        "splits.parquet",
        "predictions.parquet",
        "predictions.csv",
        "submission.csv",
        "metrics.json",
        "report.html",
        "run.jsonl",
        "model",
    }
    ids = [prepared.cohort.patients.ids[i] for i in prepared.unlabelled]
    with (finished / "submission.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["Id"] for row in rows] == ids
    assert {row["Predicted"] for row in rows} <= {"0", "1"}
    assert [line.split(",")[0] for line in (finished / "predictions.csv").read_text().splitlines()[1:]] == ids


def test_out_of_fold_predictions_and_splits_agree(finished: Path) -> None:
    predictions = pd.read_parquet(finished / "predictions.parquet")
    splits = pd.read_parquet(finished / "splits.parquet")
    assert len(splits) == 24 * 2
    for _, found in predictions.groupby("recipe"):
        merged = found.merge(splits, on=["repeat", "id"], suffixes=("", "_split"))
        assert len(merged) == len(splits)
        assert (merged["fold"] == merged["fold_split"]).all()
    assert predictions["probability"].between(0, 1).all()


def test_the_same_plan_gives_the_same_bytes(finished: Path, prepared: Prepared, tmp_path: Path) -> None:
    again = run(prepared, tmp_path / "again", PLAN, jobs=2)
    assert tree(again, without=("run.jsonl",)) == tree(finished, without=("run.jsonl",))


def test_another_seed_gives_other_folds(finished: Path, prepared: Prepared, tmp_path: Path) -> None:
    plan = replace(PLAN, protocol=replace(PLAN.protocol, seed=7, repeats=1))
    other = run(prepared, tmp_path / "other", plan, jobs=1)
    first = pd.read_parquet(finished / "splits.parquet").query("repeat == 0")["fold"].to_numpy()
    assert not np.array_equal(pd.read_parquet(other / "splits.parquet")["fold"].to_numpy(), first)


def test_an_interrupted_run_goes_on_and_ends_alike(
    finished: Path, prepared: Prepared, tmp_path: Path
) -> None:
    for folds in (1, 9, 30):
        with pytest.raises(KeyboardInterrupt):
            run(prepared, tmp_path / "run", PLAN, jobs=1, progress=StopsAfter(folds))
        assert not (tmp_path / "run" / "metrics.json").exists()
        assert list((tmp_path / "run" / "pieces").iterdir())
    run(prepared, tmp_path / "run", PLAN, jobs=1)
    assert tree(tmp_path / "run", without=("run.jsonl",)) == tree(finished, without=("run.jsonl",))


def test_a_finished_run_is_not_repeated(finished: Path, prepared: Prepared) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    run(prepared, finished, PLAN, jobs=1)
    after = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    before.pop(finished / "cohort.json"), after.pop(finished / "cohort.json")
    before.pop(finished / "findings.json"), after.pop(finished / "findings.json")
    assert {p: t for p, t in after.items() if p.is_file()} == {p: t for p, t in before.items() if p.is_file()}


def test_another_plan_is_refused_and_named(finished: Path, prepared: Prepared) -> None:
    before = tree(finished)
    with pytest.raises(RunFolderError, match=r"\(refits: there 4, here 5\).*--overwrite"):
        run(prepared, finished, replace(PLAN, refits=5), jobs=1)
    other = replace(PLAN, protocol=replace(PLAN.protocol, overlap_limit=9.5))
    with pytest.raises(RunFolderError, match=r"\(protocol.overlap_limit: there 10.47, here 9.5\)"):
        run(prepared, finished, other, jobs=1)
    other = replace(PLAN, submission=Submission(values="probability"))
    with pytest.raises(RunFolderError, match=r"\(submission.values: there 'decision', here 'probability'\)"):
        run(prepared, finished, other, jobs=1)
    assert tree(finished) == before


def test_a_folder_with_the_users_files_is_never_cleared(prepared: Prepared, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.docx").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(RunFolderError):
            run(prepared, tmp_path / "run", PLAN, jobs=1, overwrite=overwrite)
    assert tree(tmp_path / "run") == {"thesis.docx": hashlib.sha256(b"years of work").hexdigest()}


def test_overwrite_replaces_a_run(finished: Path, prepared: Prepared, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    plan = replace(PLAN, submission=Submission(("ID", "LABEL"), "probability"))
    run(prepared, tmp_path / "run", plan, jobs=1, overwrite=True)
    header, first, *_ = (tmp_path / "run" / "submission.csv").read_text().splitlines()
    assert header == "ID,LABEL"
    assert 0 < float(first.split(",")[1]) < 1


def test_what_a_file_manager_leaves_in_a_folder_is_no_work_of_the_users(
    prepared: Prepared, tmp_path: Path
) -> None:
    plan = replace(PLAN, protocol=replace(PLAN.protocol, repeats=1))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".DS_Store").write_bytes(b"icons")
    run(prepared, tmp_path / "run", plan, jobs=1)
    (tmp_path / "run" / "model" / ".DS_Store").write_bytes(b"icons")
    run(prepared, tmp_path / "run", replace(plan, refits=3), jobs=1, overwrite=True)
    assert json.loads((tmp_path / "run" / "plan.json").read_text())["refits"] == 3


def test_overwrite_replaces_a_run_that_was_stopped_while_members_were_trained(
    finished: Path, prepared: Prepared, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "pieces").mkdir()
    (tmp_path / "run" / "pieces" / "abc.training.safetensors.1").write_bytes(b"unfinished")
    run(prepared, tmp_path / "run", PLAN, jobs=1, overwrite=True)
    assert tree(tmp_path / "run", without=("run.jsonl",)) == tree(finished, without=("run.jsonl",))


def test_faults_that_are_ignored_are_told_and_keep_the_tool_from_deciding(
    tiny_cohort: Path, cache: Path, tmp_path: Path
) -> None:
    known = prepare(tiny_cohort, READING, cache=cache, jobs=1)
    someone = known.cohort.patients.ids[int(known.unlabelled[0])]
    fault = DamagedImage("One photograph is damaged.", patients=(someone,))
    assert fault.severity is Severity.ERROR
    faulty = replace(known, ignored=(fault,), ignore=(fault.code,))
    plan = replace(PLAN, ignore=(fault.code,), protocol=replace(PLAN.protocol, repeats=1))
    run(faulty, tmp_path / "run", plan, jobs=1)
    lines = (tmp_path / "run" / "predictions.csv").read_text().splitlines()
    (told,) = (line for line in lines if line.startswith(f"{someone},"))
    assert "cannot say" in told and "an error was found" in told
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"Faults were found that were to be ignored: {fault.code}." in page
    assert "No fault was found" not in page


def test_findings_of_a_run_are_those_of_the_report_and_ignored_ones_are_not_printed(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Probe, "warns", True)
    codes = {probe.finding.code for probe in probe_cohort(prepared, PLAN.protocol)}
    ignored = sorted(codes)[0]
    plan = replace(PLAN, recipe="clinical", ignore=(ignored.lower(),))
    run(prepared, tmp_path / "run", plan, jobs=1)
    found = {finding["code"] for finding in json.loads((tmp_path / "run" / "findings.json").read_text())}
    assert codes - {ignored} <= found and ignored not in found
    printed = "".join(str(line) for line in run_summary(tmp_path / "run"))
    assert ignored not in printed and all(code in printed for code in codes - {ignored})


def test_what_auto_has_chosen_decides_whether_cells_can_be_too_few(
    tiny_cohort: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = prepare(tiny_cohort, ReadOptions(min_cells=100), cache=cache, jobs=1)
    plan = replace(PLAN, reading=ReadOptions(min_cells=100), recipe="auto")
    plan = replace(plan, protocol=replace(plan.protocol, repeats=1), refits=2)
    advice = {}
    for place, chosen in enumerate(AutoClassifier().candidates[:2]):
        monkeypatch.setattr("lymphoscope.models.auto._simplest_of_the_best", lambda _, place=place: place)
        folder = run(few, tmp_path / chosen, plan, jobs=1)
        assert json.loads((folder / "metrics.json").read_text())["chosen"]["recipe"] == chosen
        printed = [str(line) for line in run_summary(folder)]
        assert any(f"has chosen [bold]{chosen}[/]" in line for line in printed)
        advice[chosen] = (folder / "predictions.csv").read_text() + (folder / "report.html").read_text()
        if chosen == "clinical":  # no encoder is needed for what looks at no cells
            bare = prepare(tiny_cohort, READING, cache=cache, encoder=None, jobs=1)
            predict_cohort(read_model(folder / "model"), bare, tmp_path / "predicted")
    assert "readable cells, fewer than 100" not in advice["clinical"]
    assert "readable cells, fewer than 100" in advice["morphology"]


def test_an_encoders_recipe_without_an_encoder_is_refused_before_anything_is_trained(
    tiny_cohort: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = prepare(tiny_cohort, READING, cache=cache, encoder=None, jobs=1)
    monkeypatch.setattr("lymphoscope.evaluation.ladder.evaluate", lambda *_: pytest.fail("trained"))
    with pytest.raises(InputError, match="encoder-mean"):
        evaluate_cohort(bare, PLAN.protocol, ["clinical", "encoder-mean"])


def test_an_encoder_of_ones_own_goes_the_whole_way_and_a_bottleneck_shows_its_weights(
    tiny_cohort: Path, cache: Path, tmp_path: Path
) -> None:
    own = made_up_encoder()
    prepared = prepare(tiny_cohort, READING, cache=cache, encoder=own, half_embeddings=True, jobs=1)
    assert prepared.encoder is own
    assert list(cache.glob(f"embeddings-{own.sha256[:16]}-float16"))
    plan = replace(PLAN, recipe="concept-clinical", protocol=replace(PLAN.protocol, repeats=1), refits=2)
    run(prepared, tmp_path / "run", plan, jobs=1)
    page = (tmp_path / "run" / "report.html").read_text()
    model = load_bundle(str(tmp_path / "run" / "model")).model
    shown = re.findall(r'<th scope="row">([^<]+)</th><td>([+−]\d\.\d\d)</td>', page)
    assert len(shown) == len(model.coefficients_) > 3  # type: ignore[attr-defined]
    wanted = sorted(model.coefficients_.values(), key=abs, reverse=True)  # type: ignore[attr-defined]
    assert [f"{each:+.2f}".replace("-", "−") for each in wanted] == [weight for _, weight in shown]
    assert {"age", "sex (male)", "logarithm of the count"} <= {name for name, _ in shown}
    assert any(name.startswith("share of cells: ") for name, _ in shown)


def test_a_split_of_the_table_without_one_class_is_refused_before_anything_is_written(
    prepared: Prepared, tmp_path: Path
) -> None:
    patients = prepared.cohort.patients
    split = tuple("test" if label == 1 else "train" for label in patients.label)
    cohort = replace(prepared.cohort, patients=replace(patients, split=split))
    plan = replace(PLAN, protocol=replace(PLAN.protocol, kind="column"))
    with pytest.raises(LymphoscopeError, match='one class only on its side "train"'):
        run(replace(prepared, cohort=cohort), tmp_path / "run", plan, jobs=1)
    assert not (tmp_path / "run").exists()


def test_other_data_in_a_begun_run_are_refused(finished: Path, prepared: Prepared, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "cohort.json").read_text())
    (tmp_path / "run" / "cohort.json").write_text(json.dumps(facts | {"fingerprint": "0" * 64}))
    with pytest.raises(RunFolderError, match="begun with other data"):
        run(prepared, tmp_path / "run", PLAN, jobs=1)


def test_nothing_of_the_users_is_written_to(tiny_cohort: Path, cache: Path, tmp_path: Path) -> None:
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in tiny_cohort.rglob("*")}
    once_more = prepare(tiny_cohort, READING, cache=cache, jobs=1, verify=True)
    run(once_more, tmp_path / "run", replace(PLAN, protocol=replace(PLAN.protocol, repeats=1)), jobs=1)
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in tiny_cohort.rglob("*")} == before


def test_no_date_of_birth_gets_out(finished: Path, tiny_cohort: Path, cache: Path) -> None:
    with (tiny_cohort / "clinical_annotation.csv").open() as stream:
        born = {row["DOB"] for row in csv.DictReader(stream) if row["DOB"]}
    assert len(born) > 20
    anyone = re.compile("|".join(re.escape(text) for text in born).encode())
    for folder in (finished, cache):
        for path in folder.rglob("*"):
            if path.is_file():
                assert anyone.search(path.read_bytes()) is None, path


def test_predicting_with_the_bundle_says_what_the_run_said(
    finished: Path, prepared: Prepared, tmp_path: Path
) -> None:
    answers = predict_cohort(read_model(finished / "model"), prepared, tmp_path / "out")
    said = {
        line.split(",")[0]: line for line in (tmp_path / "out" / "predictions.csv").read_text().splitlines()
    }
    for line in (finished / "predictions.csv").read_text().splitlines():
        assert said[line.split(",")[0]] == line
    assert len(answers.patients) == len(prepared.cohort.patients)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "30 patients, whose labels, if there are any, were not looked at" in page
    assert "Of 30 patients, flow cytometry" in page and "without a diagnosis" not in page
    assert "too few labelled" not in page and "was measured on the cohort “cohort”" in page
    with pytest.raises(LymphoscopeError, match="exists already"):
        predict_cohort(read_model(finished / "model"), prepared, tmp_path / "out")


def test_one_class_cannot_be_learned_from(prepared: Prepared, tmp_path: Path) -> None:
    patients = prepared.cohort.patients
    label = np.where(patients.label == 0, -1, patients.label).astype(np.int8)
    cohort = replace(prepared.cohort, patients=replace(patients, label=label))
    with pytest.raises(LymphoscopeError, match=r"labels \[1\].*lymphoscope predict"):
        run(replace(prepared, cohort=cohort), tmp_path / "run", PLAN, jobs=1)
    assert not (tmp_path / "run").exists()

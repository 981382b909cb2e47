"""What a prediction says of itself where it cannot be believed as it stands."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from lymphoscope.cohort.read import ReadOptions
from lymphoscope.errors import LymphoscopeError
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.models.bundle import Bundle
from lymphoscope.pipeline.plan import RunPlan
from lymphoscope.pipeline.predict import answer, caveats_of, read_model
from lymphoscope.pipeline.preparation import prepare
from lymphoscope.pipeline.run import run

SETS = ("testset", "trainset")
READING = ReadOptions(min_cells=4)
PLAN = RunPlan(
    reading=READING,
    protocol=Protocol(folds=2, repeats=1, bootstrap=100),
    recipe="morphology-clinical",
    refits=2,
)


@pytest.fixture(scope="module")
def kept(tiny_cohort: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    prepared = prepare(tiny_cohort, READING, cache=cache, jobs=1)
    return read_model(run(prepared, tmp_path_factory.mktemp("runs") / "run", PLAN, jobs=1) / "model")


@pytest.fixture
def others(tiny_cohort: Path, tmp_path: Path) -> Path:
    """The patients of whom nothing is known, and two training patients, of whom one has a picture less."""
    folder = tmp_path / "others"
    sets = [sorted(each for each in (tiny_cohort / name).iterdir() if each.is_dir()) for name in SETS]
    for each in [*sets[0], *sets[1][:2]]:
        shutil.copytree(each, folder / "photographs" / each.name)
    sorted((folder / "photographs" / sets[1][0].name).glob("*.jpg"))[0].unlink()
    shutil.copy(tiny_cohort / "clinical_annotation.csv", folder)
    return folder


def test_patients_that_the_model_was_fitted_on_are_known_again(
    kept: Bundle, others: Path, cache: Path
) -> None:
    prepared = prepare(others, READING, cache=cache, jobs=1)
    ids = prepared.cohort.patients.ids
    told = [each for each in caveats_of(kept, prepared) if "flatters" in each]
    assert told == [
        f"The model was fitted on 2 of these {len(ids)} patients, known again by their photographs: what it "
        "says of them flatters it."
    ]
    assert not set(ids) & set(kept.metadata["photographs"])


def test_ages_of_another_day_are_told(kept: Bundle, tiny_cohort: Path, cache: Path) -> None:
    same = prepare(tiny_cohort, READING, cache=cache, jobs=1)
    later = prepare(tiny_cohort, replace(READING, reference_date=date(2026, 1, 1)), cache=cache, jobs=1)
    assert not [each for each in caveats_of(kept, same) if "ages at" in each]
    (told,) = (each for each in caveats_of(kept, later) if "ages at" in each)
    assert "fitted on ages at 2020-01-01, and is given ages at 2026-01-01" in told


def test_a_patient_without_cells_gets_no_advice_and_the_reason(
    kept: Bundle, others: Path, cache: Path
) -> None:
    gone = sorted((others / "photographs").iterdir())[0].name
    shutil.rmtree(others / "photographs" / gone)
    prepared = prepare(others, READING, cache=cache, jobs=1)
    answers = answer(prepared, kept)
    advice = answers.advice[prepared.cohort.patients.ids.index(gone)]
    assert advice.decision == "cannot say" and advice.reason.startswith("no readable cell")


def test_a_damaged_photograph_is_named(others: Path, cache: Path) -> None:
    first = sorted((others / "photographs").glob("*/*.jpg"))[0]
    first.write_bytes(first.read_bytes()[:400])
    prepared = prepare(others, READING, cache=cache, jobs=1)
    place = first.relative_to(others).as_posix()
    with pytest.raises(LymphoscopeError, match=rf"1 finding would make the result wrong.*\({place}\)"):
        prepared.require_no_errors()

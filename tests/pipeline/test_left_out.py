"""Flagged cells are left out of everything alike, or nothing is left out and it is said why."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up_encoder import made_up_encoder
from typer.testing import CliRunner

from lymphoscope.cells.cell_findings import NotALymphocyte
from lymphoscope.cells.columns import MORPHOLOGY_COLUMNS
from lymphoscope.cli.app import app
from lymphoscope.cohort.read import ReadOptions
from lymphoscope.encoders.encoder import Encoder
from lymphoscope.errors import InputError, RunFolderError
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.models.registry import create_model
from lymphoscope.pipeline import preparation
from lymphoscope.pipeline.left_out import LeftOut, leave_out_flagged
from lymphoscope.pipeline.plan import RunPlan
from lymphoscope.pipeline.predict import caveats_of, predict_cohort, read_model
from lymphoscope.pipeline.preparation import Prepared, prepare
from lymphoscope.pipeline.run import run

READING = ReadOptions(min_cells=2)
PLAN = RunPlan(
    reading=READING, protocol=Protocol(folds=2, repeats=1, bootstrap=100), recipe="encoder-mean", refits=2
)


@pytest.fixture(scope="module")
def encoder(tiny_cohort: Path, cache: Path) -> Encoder:
    """One that takes the reddest cells for neutrophils, but leaves every patient a cell."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparation, "create_encoder", lambda source: made_up_encoder())
        bags = prepare(tiny_cohort, READING, cache=cache, jobs=1).bags
    red = np.asarray(bags.select_columns(["embedding_000"]).cells)[:, 0]
    least = np.array([np.sort(red[a:b])[1] for a, b in zip(bags.offsets[:-1], bags.offsets[1:], strict=True)])
    cut = max(float(np.quantile(red, 0.85)), float(least.max()))
    assert (red > cut).sum() >= 2
    return made_up_encoder(cut)


@pytest.fixture
def given(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "create_encoder", lambda source: encoder)


@pytest.fixture
def whole(given: None, tiny_cohort: Path, cache: Path) -> Prepared:
    return prepare(tiny_cohort, READING, cache=cache, jobs=1)


@pytest.fixture
def fewer(given: None, tiny_cohort: Path, cache: Path) -> Prepared:
    return prepare(tiny_cohort, READING, cache=cache, jobs=1, leave_out="flagged")


def flagged(whole: Prepared) -> np.ndarray:
    """Cells that must go, found without the code that is tested."""
    values, columns = np.asarray(whole.bags.cells), list(whole.bags.columns or ())
    sure = values[:, columns.index("concept_cell_type=neutrophil")] >= 0.9
    blurred = values[:, columns.index("cell_focus")] < 0.03
    return sure | blurred | (values[:, columns.index("segmented")] == 0)


def test_numbers_and_photographs_lose_the_same_cells(whole: Prepared, fewer: Prepared) -> None:
    gone = flagged(whole)
    assert 2 <= gone.sum() < len(gone)
    assert np.array_equal(fewer.bags.cells, np.asarray(whole.bags.cells)[~gone], equal_nan=True)
    owner = whole.bags.patient_of_cell[~gone]
    assert np.array_equal(fewer.bags.patient_of_cell, owner)
    assert [str(p) for p in fewer.store.index.path] == [str(p) for p in whole.store.index.path[~gone]]
    model = create_model("cnn-clinical@smoke")
    for name in ("cnn-clinical@smoke", "cnn-clinical@smoke:segmented=true"):
        model = create_model(name)
        pictures, all_pictures = fewer.bags_for(model, jobs=1), whole.bags_for(model, jobs=1)
        assert np.array_equal(pictures.offsets, fewer.bags.offsets)
        assert np.array_equal(pictures.cells, np.asarray(all_pictures.cells)[~gone])
    first = int(np.flatnonzero(gone)[0])
    assert np.array_equal(fewer.store.crop(first, 64), whole.store.crop(first + 1, 64)) == bool(
        ~gone[first + 1]
    )


def test_what_was_left_out_is_counted(whole: Prepared, fewer: Prepared) -> None:
    assert whole.left_out is None and whole.leave_out == "none"
    assert fewer.left_out is not None and fewer.leave_out == "flagged"
    assert fewer.left_out.n == flagged(whole).sum() and fewer.left_out.total == len(whole.store)
    (found,) = (each for each in fewer.findings if isinstance(each, NotALymphocyte))
    assert found in whole.findings  # findings are of all cells
    assert len(found.files) == int((np.asarray(whole.bags.select_columns(
        ["concept_cell_type=neutrophil"]).cells)[:, 0] >= 0.9).sum())  # fmt: skip
    assert fewer.store.fingerprint == whole.store.fingerprint


def test_a_cell_with_two_reasons_counts_once(whole: Prepared) -> None:
    measured = np.ones((len(whole.store), len(MORPHOLOGY_COLUMNS)), dtype=np.float32)
    measured[[0, 7], MORPHOLOGY_COLUMNS.index("segmented")] = 0
    measured[[1, 7], MORPHOLOGY_COLUMNS.index("cell_focus")] = 0.01
    told = np.zeros(len(measured), dtype=bool)
    told[[0, 1, 2]] = True
    kept, found = leave_out_flagged(whole.cohort, whole.store, measured, told)
    assert sorted(set(range(len(measured))) - set(kept.tolist())) == [0, 1, 2, 7]
    assert found == LeftOut(len(measured), not_segmented=2, blurred=1, not_lymphocytes=1)
    assert found.sentence() == (
        f"4 of {len(measured)} cells left out: 1 taken for another cell, 2 not segmented, 1 out of focus."
    )
    assert LeftOut(9, 0, 0, 0).sentence() == "0 of 9 cells left out."


def test_nobody_is_left_without_cells(
    tiny_cohort: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "create_encoder", lambda source: made_up_encoder(cut=-1e6))
    whole = prepare(tiny_cohort, READING, cache=cache, jobs=1)
    (found,) = (each for each in whole.findings if isinstance(each, NotALymphocyte))
    assert "takes most cells for something else" in found.message
    with pytest.raises(InputError, match=r"would leave 30 patients without any.* and 22 more") as refused:
        prepare(tiny_cohort, READING, cache=cache, jobs=1, leave_out="flagged")
    assert all(id_ in str(refused.value) for id_ in whole.cohort.patients.ids[:8])


def test_without_an_encoder_that_tells_types_nothing_can_be_flagged(
    tiny_cohort: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"found 'no encoder'"):
        prepare(tiny_cohort, READING, cache=cache, encoder=None, leave_out="flagged")
    dumb = replace(made_up_encoder(), heads=None, tasks=())
    monkeypatch.setattr(preparation, "create_encoder", lambda source: dumb)
    with pytest.raises(InputError, match="made-up, which names no cell types"):
        prepare(tiny_cohort, READING, cache=cache, leave_out="flagged")


def test_a_run_and_its_model_remember_what_was_left_out(
    whole: Prepared, fewer: Prepared, tmp_path: Path
) -> None:
    folder = run(fewer, tmp_path / "run", PLAN, jobs=1)
    assert '"leave_out_cells": "flagged"' in (folder / "plan.json").read_text()
    assert f'"cells_left_out": {flagged(whole).sum()}' in (folder / "cohort.json").read_text()
    assert fewer.left_out is not None and fewer.left_out.sentence() in (folder / "report.html").read_text()
    with pytest.raises(RunFolderError, match="leave_out_cells: there 'flagged', here 'none'"):
        run(whole, folder, PLAN, jobs=1)
    bundle = read_model(folder / "model")
    assert not [each for each in caveats_of(bundle, fewer) if "looks at other cells" in each]
    assert [each for each in caveats_of(bundle, whole) if "looks at other cells" in each]
    predict_cohort(bundle, whole, tmp_path / "new")
    assert "looks at other cells" in (tmp_path / "new" / "report.html").read_text()


def test_the_command_line_leaves_out_and_says_so(given: None, tiny_cohort: Path, cache: Path) -> None:
    options = ["--cache", str(cache), "--jobs", "1", "--leave-out-cells", "flagged"]
    done = CliRunner().invoke(app, ["check", str(tiny_cohort), *options])
    assert re.search(r"\d+ of 180 cells left out: \d+ taken for other cells", done.output.replace("\n", " "))
    done = CliRunner().invoke(app, ["evaluate", str(tiny_cohort), "--recipe", "encoder-mean", "--folds", "2",
                                    "--repeats", "1", *options])  # fmt: skip
    assert done.exit_code == 0, done.output
    assert re.search(r"\d+ of 180 cells left out", done.output.replace("\n", " "))

"""A cohort made of cells that its encoder learned from: found, and said wherever the numbers are shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import simplejpeg
from typer.testing import CliRunner

from lymphoscope.cli.app import app
from lymphoscope.cohort.read import ReadOptions
from lymphoscope.encoders.adapted import adapt_encoder
from lymphoscope.encoders.architectures import Architecture
from lymphoscope.encoders.known_cells import CellsLearnedFrom
from lymphoscope.encoders.labelled_cells import ATTRIBUTES
from lymphoscope.encoders.self_supervised import AdaptSettings
from lymphoscope.encoders.supervised import SupervisedSettings
from lymphoscope.encoders.trained import train_encoder
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.models.auto import looks_at_an_encoder
from lymphoscope.models.named_settings import public_name
from lymphoscope.models.registry import create_model
from lymphoscope.pipeline import page
from lymphoscope.pipeline.evaluate import evaluate_cohort
from lymphoscope.pipeline.plan import RunPlan
from lymphoscope.pipeline.predict import caveats_of, read_model
from lymphoscope.pipeline.preparation import Prepared, check_cohort, prepare
from lymphoscope.pipeline.run import run
from lymphoscope.pipeline.summary import run_summary

READING = ReadOptions(min_cells=4)
PROTOCOL = Protocol(folds=2, repeats=1, bootstrap=100)
N_PATIENTS = 8
SENTENCE = (
    "48 of 180 cells, of 8 patients, show cells that the encoder mine learned from, or look just like them."
)


def _unseen(seed: int) -> bytes:
    """A photograph of nothing that a cohort holds."""
    coarse = np.random.default_rng(seed).normal(150, 45, (12, 12, 3)).astype(np.float32)
    smooth = np.clip(cv2.resize(coarse, (160, 160), interpolation=cv2.INTER_CUBIC), 0, 255)
    return simplejpeg.encode_jpeg(smooth.astype(np.uint8), quality=90)


def _centre(path: Path) -> bytes:
    image = simplejpeg.decode_jpeg(path.read_bytes())[32:192, 32:192]
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=85)


def _write(path: Path, cells: dict[str, bytes]) -> None:
    kinds = ["round" if i % 2 else "oval" for i in range(len(cells))]
    columns = {"image": pa.array(cells.values(), pa.binary()), "source": pa.array(cells), "cell_type": kinds}
    nothing = pa.nulls(len(cells), pa.string())
    pq.write_table(pa.table(columns | dict.fromkeys(ATTRIBUTES, nothing)), path)


@pytest.fixture(scope="module")
def cells(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled cells: those of eight patients of the cohort, and others; and the list `theirs.csv`."""
    folder = tmp_path_factory.mktemp("cells")
    patients = sorted((tiny_cohort / "trainset").glob("P*"))[:N_PATIENTS]
    theirs = {
        f"{path.parent.name}/{path.name}": _centre(path) for each in patients for path in each.glob("*.jpg")
    }
    _write(folder / "train.parquet", theirs | {f"other/{i}.jpg": _unseen(i) for i in range(24)})
    _write(folder / "val.parquet", {f"held/{i}.jpg": _unseen(100 + i) for i in range(8)})
    (folder / "theirs.csv").write_text("source\n" + "".join(f"{name}\n" for name in theirs))
    return folder


def _encoder(cells: Path, out: Path, leave_out: Path | None = None) -> Path:
    settings = SupervisedSettings(epochs=1, batch_size=16)
    return train_encoder(
        cells, out, Architecture("residual", 16, 1, 112), settings, leave_out=leave_out
    ).folder


@pytest.fixture(scope="module")
def encoder(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _encoder(cells, tmp_path_factory.mktemp("encoders") / "mine")


@pytest.fixture(scope="module")
def twin(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, but for the cells of the cohort, which it has not seen."""
    return _encoder(cells, tmp_path_factory.mktemp("encoders") / "twin", leave_out=cells / "theirs.csv")


@pytest.fixture(scope="module")
def prepared(tiny_cohort: Path, cache: Path, encoder: Path) -> Prepared:
    return prepare(tiny_cohort, READING, cache=cache, encoder=encoder, jobs=1)


def _known(prepared: Prepared) -> list[CellsLearnedFrom]:
    return [each for each in prepared.findings if isinstance(each, CellsLearnedFrom)]


def test_it_is_a_finding_of_the_cohort(prepared: Prepared, tiny_cohort: Path) -> None:
    (finding,) = _known(prepared)
    patients = sorted(path.name for path in (tiny_cohort / "trainset").glob("P*"))[:N_PATIENTS]
    assert finding.message == SENTENCE and sorted(finding.patients) == patients and len(finding.files) == 48
    assert finding in check_cohort(prepared)
    prepared.require_no_errors()


def test_no_encoder_or_one_that_left_them_out_is_no_finding(
    tiny_cohort: Path, cache: Path, encoder: Path, twin: Path
) -> None:
    for given in (None, twin):
        assert _known(prepare(tiny_cohort, READING, cache=cache, encoder=given, jobs=1)) == []
    ignoring = prepare(tiny_cohort, READING, cache=cache, encoder=encoder, ignore=["lym501"], jobs=1)
    assert _known(ignoring) == []


def test_evaluate_names_the_recipes_that_are_not_held_out(
    prepared: Prepared, tmp_path: Path, tiny_cohort: Path, cache: Path, encoder: Path
) -> None:
    recipes = ("clinical", "encoder-mean")
    evaluate_cohort(prepared, PROTOCOL, recipes, out=tmp_path / "both.json")
    (said,) = json.loads((tmp_path / "both.json").read_text())["cautions"]
    assert said.startswith(SENTENCE) and said.endswith("flatters them: encoder-mean.")
    evaluate_cohort(prepared, PROTOCOL, recipes[:1], out=tmp_path / "one.json")
    assert json.loads((tmp_path / "one.json").read_text())["cautions"] == []

    command = ["evaluate", tiny_cohort, "--encoder", encoder, "--recipe", "encoder-mean", "--folds", 2]
    command += ["--repeats", 1, "--min-cells", 4, "--cache", cache, "--jobs", 1]
    done = CliRunner().invoke(app, [str(each) for each in command], env={"COLUMNS": "400"})
    assert done.exit_code == 0, done.output
    assert f"Beware: {SENTENCE}" in " ".join(done.stdout.split())


def test_a_report_says_it_above_the_numbers_and_among_the_methods(prepared: Prepared, tmp_path: Path) -> None:
    plan = RunPlan(reading=READING, protocol=PROTOCOL, recipe="encoder-mean-clinical", refits=2)
    folder = run(prepared, tmp_path / "run", plan, jobs=1)
    text = (folder / "report.html").read_text()
    assert f"Beware:</strong> {SENTENCE}" in text
    assert text.count("is not held out, and flatters them: encoder-mean, ") == 2, "a caveat, and the methods"
    assert any(
        "Beware:" in line and SENTENCE in line for line in run_summary(folder) if isinstance(line, str)
    )
    bundle = read_model(folder / "model")
    own, *_ = caveats_of(bundle, prepared)
    assert own.startswith(SENTENCE) and own.endswith("flatters them: encoder-mean-clinical.")
    clinical = replace(bundle, recipe="clinical", model=create_model("clinical"))
    assert not any(SENTENCE in each for each in caveats_of(clinical, prepared))
    unseen = replace(prepared, findings=())
    assert page.not_held_out(unseen, [("encoder-mean", create_model("encoder-mean"))]) == ()


def _cautions(prepared: Prepared, *recipes: str) -> tuple[str, ...]:
    return page.not_held_out(prepared, [(public_name(name), create_model(name)) for name in recipes])


def _begun(encoder: Path) -> tuple[str, str, str]:
    """Recipes whose training begins with that encoder."""
    return (
        f"encoder-tuned@smoke:weights={encoder}",
        f"encoder-adapted-mean:encoder={encoder}",
        f"dinov2-adaptformer:weights={encoder}",
    )


@pytest.mark.parametrize("given", ["none", "twin", "mine"])
def test_a_recipe_is_judged_by_the_encoder_that_it_begins_with(
    given: str, tiny_cohort: Path, cache: Path, encoder: Path, twin: Path
) -> None:
    beside = {"none": None, "twin": twin, "mine": encoder}[given]
    seen = prepare(tiny_cohort, READING, cache=cache, encoder=beside, jobs=1)
    recipes = ("clinical", *_begun(twin), "encoder-mean", *_begun(encoder), "cnn-clinical")
    (said,) = _cautions(seen, *recipes)
    expected = ["encoder-mean"] if given == "mine" else []
    expected += [public_name(name) for name in _begun(encoder)]
    assert said == (
        f"{SENTENCE} What recipes built on it say of these patients is not held out, and flatters them: "
        f"{', '.join(expected)}."
    )
    assert _cautions(seen, "clinical", *_begun(twin), "cnn-clinical") == ()


def test_what_is_ignored_is_not_said_of_a_recipe_either(
    tiny_cohort: Path, cache: Path, encoder: Path
) -> None:
    for given in (None, encoder):
        ignoring = prepare(tiny_cohort, READING, cache=cache, encoder=given, ignore=["lym501"], jobs=1)
        assert _cautions(ignoring, *_begun(encoder)) == ()


def test_evaluate_names_those_that_begin_with_an_encoder_wherever_it_lies(
    tiny_cohort: Path, cache: Path, encoder: Path, twin: Path, tmp_path: Path
) -> None:
    bare = prepare(tiny_cohort, READING, cache=cache, encoder=None, jobs=1)
    recipes = [f"encoder-tuned@smoke:weights={each}" for each in (encoder, twin)]
    recipes += [f"encoder-adapted-mean@smoke:encoder={each}" for each in (twin, encoder)]
    evaluate_cohort(bare, PROTOCOL, recipes, out=tmp_path / "found.json")
    said, *smoke = json.loads((tmp_path / "found.json").read_text())["cautions"]
    assert len(smoke) == len(recipes) and all("trained for seconds" in each for each in smoke)
    names = "encoder-tuned@smoke:weights=mine, encoder-adapted-mean@smoke:encoder=mine"
    assert said.startswith(SENTENCE) and said.endswith(f"flatters them: {names}.")


def test_named_weights_that_cannot_know_their_cells_again_are_told_of(
    tiny_cohort: Path, cache: Path, encoder: Path, tiny_encoder: Path
) -> None:
    for weights in (encoder, tiny_encoder):
        command = [
            "evaluate",
            tiny_cohort,
            "--encoder",
            "none",
            "--recipe",
            "encoder-tuned",
            "--budget",
            "smoke",
        ]
        command += ["--weights", weights, "--folds", 2, "--min-cells", 4, "--cache", cache, "--jobs", 1]
        done = CliRunner().invoke(app, [str(each) for each in command])
        assert done.exit_code == 0, done.output
        said, listed = " ".join(done.stdout.split()), weights == encoder
        assert (f"Beware: {SENTENCE}" in said, "know them again" in said) == (listed, not listed)


def test_a_run_and_its_predictions_say_it_of_a_tuned_encoder(
    tiny_cohort: Path, cache: Path, encoder: Path, tmp_path: Path
) -> None:
    bare = prepare(tiny_cohort, READING, cache=cache, encoder=None, jobs=1)
    plan = RunPlan(reading=READING, protocol=PROTOCOL, recipe=f"encoder-tuned@smoke:weights={encoder}")
    folder = run(bare, tmp_path / "run", plan, jobs=1)
    said = "is not held out, and flatters them: encoder-tuned@smoke:weights=mine."
    assert (folder / "report.html").read_text().count(said) == 2, "a caveat, and the methods"
    assert any(said in line for line in run_summary(folder) if isinstance(line, str))
    own, *_ = caveats_of(read_model(folder / "model", encoder), bare)
    assert own.startswith(SENTENCE) and own.endswith(said)


def test_an_encoder_that_was_adapted_as_well_is_told_of_twice(
    prepared: Prepared, tiny_cohort: Path, cache: Path, encoder: Path, tmp_path: Path
) -> None:
    settings = AdaptSettings(epochs=1, batch_size=64)
    out = adapt_encoder(encoder, prepared.store, tmp_path / "adapted", settings, jobs=1).folder
    for name in ("sources.txt", "cells.safetensors"):
        assert (out / name).read_bytes() == (encoder / name).read_bytes()
    seen = prepare(tiny_cohort, READING, cache=cache, encoder=out, jobs=1)
    learned, adapted = _cautions(seen, "clinical", "encoder-mean", "concepts")
    assert learned.startswith(SENTENCE.replace("mine", "adapted"))
    assert learned.endswith("flatters them: encoder-mean, concepts.")
    assert "144 photographs of 24 labelled patients" in adapted
    assert adapted.endswith("are transductive. This concerns: encoder-mean, concepts.")

    begun = _begun(out)
    learned, adapted = _cautions(prepared, "encoder-mean", *begun)[1:]
    names = ", ".join(public_name(name) for name in begun)
    assert learned.endswith(f"flatters them: {names}.") and adapted.endswith(f"This concerns: {names}.")


@pytest.mark.parametrize(
    "recipe",
    ["encoder-mean", "encoder-morphology-clinical", "concepts", "encoder-mil-abmil", "auto", "ensemble"],
)
def test_recipes_that_may_look_at_an_encoder(recipe: str) -> None:
    assert looks_at_an_encoder(create_model(recipe))


@pytest.mark.parametrize(
    "recipe", ["clinical", "rule-2008", "morphology", "morphology-clinical-late", "cnn-clinical"]
)
def test_recipes_that_look_at_none(recipe: str) -> None:
    assert not looks_at_an_encoder(create_model(recipe))


def test_a_fitted_choice_is_what_it_has_chosen(prepared: Prepared) -> None:
    for chosen in ("clinical", "encoder-mean"):
        model = create_model("auto").set_params(candidates=(chosen,))
        fitted = model.fit(prepared.labelled_bags, prepared.labels).set_params(
            candidates=("clinical", "encoder-mean")
        )
        assert looks_at_an_encoder(fitted) == (chosen == "encoder-mean")

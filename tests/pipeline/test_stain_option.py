"""The option `stain` of a recipe of photographs, from its name to the photographs that a model is given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lymphoscope.cells.masked_crops import masked_crops
from lymphoscope.cells.normalised_crops import normalised_crops
from lymphoscope.cohort.read import ReadOptions
from lymphoscope.errors import InputError
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.models.registry import create_model
from lymphoscope.pipeline.plan import RunPlan
from lymphoscope.pipeline.predict import predict_cohort, read_model
from lymphoscope.pipeline.preparation import Prepared, prepare
from lymphoscope.pipeline.run import run

READING = ReadOptions(min_cells=4)


@pytest.fixture(scope="module")
def prepared(tiny_cohort: Path, cache: Path) -> Prepared:
    return prepare(tiny_cohort, READING, cache=cache, jobs=1)


@pytest.mark.parametrize("recipe", ["cnn-clinical@smoke", "scan-clusters@smoke"])
def test_a_recipe_is_given_the_photographs_it_asks_for(recipe: str, prepared: Prepared) -> None:
    def given(settings: str) -> np.ndarray:
        bags = prepared.bags_for(create_model(f"{recipe}:image_size=48{settings}"), jobs=1)
        assert (len(bags), bags.columns) == (len(prepared.bags), None)
        return np.asarray(bags.cells)

    store = prepared.store
    assert np.array_equal(given(""), store.crops(48, jobs=1))
    assert np.array_equal(given(",stain=as-is"), store.crops(48, jobs=1))
    assert np.array_equal(given(",segmented=true"), masked_crops(store, 48, jobs=1))
    normalised = normalised_crops(store, 48, jobs=1)
    assert np.array_equal(given(",stain=normalised"), normalised)
    both = given(",stain=normalised,segmented=true")
    assert np.array_equal(both, normalised_crops(store, 48, segmented=True, jobs=1))
    assert not np.array_equal(normalised, store.crops(48, jobs=1))


def test_another_value_is_refused_with_what_is_allowed() -> None:
    with pytest.raises(InputError, match=r"as-is.*normalised"):
        create_model("cnn-clinical@smoke:stain=macenko")


def test_a_kept_model_is_given_normalised_photographs_of_whom_it_predicts(
    prepared: Prepared, tmp_path: Path
) -> None:
    recipe = "cnn-clinical@smoke:stain=normalised,image_size=48"
    plan = RunPlan(reading=READING, protocol=Protocol(folds=2, repeats=1, bootstrap=100), recipe=recipe)
    bundle = read_model(run(prepared, tmp_path / "run", plan, jobs=1) / "model")
    assert bundle.model.stain == "normalised"
    predict_cohort(bundle, prepared, tmp_path / "predicted")
    said = pd.read_csv(tmp_path / "predicted" / "predictions.csv")
    bags = replace(prepared.bags, cells=normalised_crops(prepared.store, 48, jobs=1), columns=None)
    expected = dict(zip(bags.patient_ids, bundle.model.predict_proba(bags)[:, 1], strict=True))
    assert len(said) > 0
    assert said["probability"].tolist() == pytest.approx([expected[i] for i in said["id"]], abs=1e-5)

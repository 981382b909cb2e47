"""Recipes that decide together: the better one has more say, and none has any where nothing can be said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lymphoscope.cohort.bags import Bags
from lymphoscope.errors import InputError
from lymphoscope.models.base import BagClassifier
from lymphoscope.models.conformance import EMBEDDING_COLUMNS, MEASURED_COLUMNS, example_bags, separation
from lymphoscope.models.ensemble import EnsembleClassifier
from lymphoscope.models.registry import create_model, recipe_of


def ensemble(**given: Any) -> EnsembleClassifier:
    made = create_model("ensemble", **({"inner_repeats": 1} | given))
    assert isinstance(made, EnsembleClassifier)
    return made


def log_odds(model: BagClassifier, bags: Bags) -> np.ndarray:
    p = model.predict_proba(bags)[:, 1]
    return np.log(p / (1 - p))


def clinical_tells(n: int = 90, seed: int = 0, *, cells: bool = False) -> tuple[Bags, np.ndarray]:
    """Patients told apart by their clinical values alone, or by their cells alone."""
    bags, y = example_bags(n, seed, effect=2.5)
    rng = np.random.default_rng(seed + 50)
    if cells:
        clinical = np.column_stack([rng.normal(60, 10, n), rng.integers(0, 2, n), rng.uniform(4, 20, n)])
        return Bags.from_list([b.cells for b in _each(bags)], clinical, columns=bags.columns), y
    noise = rng.normal(size=bags.cells.shape).astype(np.float32)
    return Bags(noise, bags.offsets, bags.clinical, bags.patient_ids, bags.columns), y


def test_a_planted_signal_is_found() -> None:
    assert separation(ensemble, effect=2.5).mean() > 0.85


def test_permuted_labels_give_nothing() -> None:
    scores = separation(ensemble, permuted=True, seeds=10)
    assert abs(scores.mean() - 0.5) < 3 * scores.std(ddof=1) / np.sqrt(len(scores))


def test_labels_that_say_nothing_make_it_cautious() -> None:
    """The recalibration draws every probability towards the share of malignant patients."""
    bags, y = example_bags(90)
    p = ensemble().fit(bags, np.random.default_rng(2).permutation(y)).predict_proba(bags)[:, 1]
    assert abs(p.mean() - y.mean()) < 0.05 and p.std() < 0.12


@pytest.mark.parametrize("cells", [False, True])
def test_the_better_candidate_has_more_say(cells: bool) -> None:
    bags, y = clinical_tells(cells=cells)
    model = ensemble(candidates=("clinical", "morphology")).fit(bags, y)
    better, worse = ("morphology", "clinical") if cells else ("clinical", "morphology")
    assert model.inner_scores_[better] < model.inner_scores_[worse]
    assert model.weights_[better] > 0.9 and sum(model.weights_.values()) == pytest.approx(1)
    assert model.chosen_ == {f"{name}_weight": weight for name, weight in model.weights_.items()}


def test_equal_candidates_share_the_say() -> None:
    bags, y = example_bags(60)
    model = ensemble(candidates=("clinical", "morphology-clinical", "clinical")).fit(bags, y)
    assert list(model.weights_) == ["clinical", "morphology-clinical"], "named twice is named once"
    twice = ensemble(candidates=("concepts", "concept-clinical")).fit(*clinical_tells(cells=True))
    assert 0.1 < twice.weights_["concepts"] < 0.95, "clinical values that say nothing change little"


def test_it_says_the_weighted_mean_of_its_candidates_recalibrated() -> None:
    bags, y = example_bags(60)
    new, _ = example_bags(30, seed=4)
    model = ensemble().fit(bags, y)
    mean = sum(model.weights_[name] * log_odds(each, new) for name, each in model.models_.items())
    assert np.allclose(log_odds(model, new), model.intercept_ + model.slope_ * mean, atol=1e-8)
    assert 0 < model.slope_ < 3
    alone = create_model("clinical").fit(bags, y)
    assert np.allclose(log_odds(model.models_["clinical"], new), log_odds(alone, new))


def test_without_embeddings_their_candidates_take_no_part() -> None:
    bags, y = example_bags(40)
    with_all = ensemble().fit(bags, y)
    assert "encoder-mean-clinical" in with_all.weights_
    model = ensemble().fit(bags.select_columns(MEASURED_COLUMNS), y)
    assert list(model.weights_) == ["clinical", "morphology-clinical-late", "morphology-clinical"]
    assert model.predict_proba(bags.select_columns(MEASURED_COLUMNS)).shape == (40, 2)
    only = bags.select_columns((*MEASURED_COLUMNS, *EMBEDDING_COLUMNS))
    kept = ensemble(candidates=("clinical", "encoder-mean", "concepts")).fit(only, y)
    assert list(kept.weights_) == ["clinical", "encoder-mean"]


def test_where_no_candidate_can_take_part_it_says_so() -> None:
    bags, y = example_bags(40)
    for name in ("ensemble", "auto"):
        with pytest.raises(InputError, match=r"encoder-mean.*do not switch it off"):
            create_model(name, candidates=("encoder-mean",)).fit(bags.select_columns(MEASURED_COLUMNS), y)


def test_its_state_comes_back() -> None:
    bags, y = example_bags(50)
    model = ensemble().fit(bags, y)
    again = ensemble().load_state(model.state())
    assert again.weights_ == model.weights_ and again.inner_scores_ == model.inner_scores_
    assert again.chosen_ == model.chosen_ and again.threshold_ == model.threshold_
    assert again.predict_proba(bags).tobytes() == model.predict_proba(bags).tobytes()
    assert np.array_equal(again.cell_evidence(bags), model.cell_evidence(bags))  # type: ignore[arg-type]
    assert recipe_of(again).name == "ensemble"


def test_its_state_comes_back_with_names_that_carry_settings() -> None:
    bags, y = example_bags(50)
    names = ("clinical", "morphology:spread_weight=0.2,max_components=8")
    model = ensemble(candidates=names).fit(bags, y)
    again = ensemble(candidates=names).load_state(model.state())
    assert again.weights_ == model.weights_
    assert again.predict_proba(bags).tobytes() == model.predict_proba(bags).tobytes()


def test_its_state_comes_back_where_some_took_no_part() -> None:
    bags, y = example_bags(50)
    measured = bags.select_columns(MEASURED_COLUMNS)
    model = ensemble().fit(measured, y)
    again = ensemble().load_state(model.state())
    assert again.weights_ == model.weights_
    assert again.predict_proba(measured).tobytes() == model.predict_proba(measured).tobytes()


def test_too_few_patients_for_inner_folds_weigh_all_the_same() -> None:
    bags, y = example_bags(60)
    few = np.r_[np.flatnonzero(y == 1)[:6], np.flatnonzero(y == 0)[:1]]
    model = ensemble(candidates=("clinical", "morphology-clinical")).fit(bags[few], y[few])
    assert model.weights_ == {"clinical": 0.5, "morphology-clinical": 0.5} and model.inner_scores_ == {}
    assert (model.slope_, model.intercept_) == (1.0, 0.0)
    again = ensemble().load_state(model.state())
    assert again.inner_scores_ == {} and again.weights_ == model.weights_


def test_evidence_is_that_of_the_candidates_that_look_at_cells() -> None:
    bags, y = example_bags(50)
    model = ensemble(candidates=("clinical", "morphology", "encoder-mean")).fit(bags, y)
    told = {name: model.models_[name].cell_evidence(bags) for name in ("morphology", "encoder-mean")}
    expected = model.slope_ * sum(model.weights_[name] * each for name, each in told.items())  # type: ignore[operator]
    assert np.allclose(model.cell_evidence(bags), expected)  # type: ignore[arg-type]
    assert ensemble(candidates=("clinical",)).fit(bags, y).cell_evidence(bags) is None


def test_candidates_that_cannot_be_tried_are_named() -> None:
    bags, y = example_bags(20)
    for wrong in ("ensemble", "cnn-clinical"):
        with pytest.raises(InputError, match=rf"EnsembleClassifier cannot try.*{wrong}"):
            ensemble(candidates=(wrong,)).fit(bags, y)


def _each(bags: Bags) -> list[Bags]:
    return [bags[i : i + 1] for i in range(len(bags))]

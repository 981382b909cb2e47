"""Inner folds, averaged shrinkage and the choice among recipes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lymphoscope.cohort.bags import Bags
from lymphoscope.errors import InputError
from lymphoscope.models.auto import AutoClassifier, _simplest_of_the_best
from lymphoscope.models.averaged_ridge import fit_averaged
from lymphoscope.models.base import BagClassifier
from lymphoscope.models.conformance import example_bags
from lymphoscope.models.inner_folds import FOLDS, inner_folds
from lymphoscope.models.logistic import fit_logistic, fit_logistic_batch, log_loss
from lymphoscope.models.registry import create_model


@given(n=st.integers(2, 60), share=st.floats(0.05, 0.95), repeats=st.integers(1, 3), seed=st.integers(0, 99))
def test_inner_folds_hold_everybody_out_once_a_repeat(n: int, share: float, repeats: int, seed: int) -> None:
    y = (np.arange(n) < share * n).astype(np.int64)
    values = np.random.default_rng(seed).normal(size=(n, 2))
    folds = inner_folds(values, y, repeats, seed)
    scarce = min(int(y.sum()), int((1 - y).sum()))
    assert len(folds) == (repeats * min(FOLDS, scarce) if scarce >= 2 else 0)
    if len(folds):
        assert (folds.sum(axis=0) == repeats).all()
        assert all(0 < y[~held_out].sum() < (~held_out).sum() for held_out in folds)


def test_copies_of_a_patient_share_a_fold() -> None:
    rng = np.random.default_rng(0)
    values, y = rng.normal(size=(30, 4)), np.arange(30) % 2
    values[3, 1] = np.nan
    drawn = rng.integers(0, 30, 90)
    folds = inner_folds(values[drawn], y[drawn], 2, 0)
    for patient in range(30):
        assert len(np.unique(folds[:, drawn == patient], axis=1).T) <= 1


def test_inner_folds_do_not_follow_the_order_of_patients() -> None:
    rng = np.random.default_rng(0)
    values, y, order = rng.normal(size=(40, 3)), np.arange(40) % 2, rng.permutation(40)
    assert np.array_equal(inner_folds(values, y, 2, 0)[:, order], inner_folds(values[order], y[order], 2, 0))


def test_a_batch_solves_each_problem_as_if_it_were_alone() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 3)), (rng.random(60) < 0.6).astype(np.int64)
    weights = (rng.random((4, 60)) < 0.8).astype(float)
    penalty = 10.0 ** rng.normal(size=(4, 3))
    together = fit_logistic_batch(x, y, weights, penalty)
    for i in range(4):
        kept = weights[i] > 0
        alone = fit_logistic(x[kept], y[kept], penalty[i])
        assert together[i] == pytest.approx(np.r_[alone.intercept, alone.coef], abs=1e-6)
        gradient = x[kept].T @ (1 / (1 + np.exp(-alone.logit(x[kept]))) - y[kept]) + penalty[i] * alone.coef
        assert gradient == pytest.approx(0.0, abs=1e-6)


def test_log_loss_does_not_overflow() -> None:
    assert log_loss(np.array([1, 0]), np.array([-1000.0, 1000.0])) == pytest.approx([1000.0, 1000.0])


def test_the_average_leans_to_strong_shrinkage_on_noise_and_to_weak_on_signal() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(120, 20)), np.arange(120) % 2
    folds, deviations = inner_folds(x, y, 2, 0), np.linspace(3, 1, 20)
    noise = fit_averaged(x[:, :0], x, deviations, y, folds)
    x[:, 0] += 2.5 * (y - 0.5)
    signal = fit_averaged(x[:, :0], x, deviations, y, folds)
    assert noise.strength < 0.6 * signal.strength
    assert signal.logistic.coef[0] > 3 * np.abs(signal.logistic.coef[1:]).max()


def test_the_average_is_steadier_than_any_single_patient() -> None:
    """Leaving one patient out moves the averaged log-odds little, as a choice among settings would not."""
    bags, y = example_bags(60)
    p = create_model("morphology").fit(bags, y).predict_proba(bags)[:, 1]
    for left_out in range(0, 60, 12):
        kept = np.arange(60) != left_out
        again = create_model("morphology").fit(bags[kept], y[kept]).predict_proba(bags)[:, 1]
        assert np.abs(again - p)[kept].max() < 0.25


def test_the_simplest_within_a_standard_error_is_chosen() -> None:
    rng = np.random.default_rng(0)
    best = rng.random(100)
    close, far = best + rng.normal(0.005, 0.1, 100), best + rng.normal(0.2, 0.1, 100)
    assert _simplest_of_the_best(np.stack([far, close, best])) == 1
    assert _simplest_of_the_best(np.stack([best, close, far])) == 0
    assert _simplest_of_the_best(np.stack([far, best])) == 1


def _auto(bags: Bags, y: np.ndarray, **settings: object) -> AutoClassifier:  # type: ignore[type-arg]
    model: BagClassifier = create_model("auto", inner_repeats=1, **settings).fit(bags, y)
    assert isinstance(model, AutoClassifier)
    return model


def test_auto_takes_clinical_values_alone_where_the_cells_are_noise() -> None:
    bags, y = example_bags(90)
    noise = np.random.default_rng(0).normal(size=bags.cells.shape)
    model = _auto(Bags(noise, bags.offsets, bags.clinical, bags.patient_ids, bags.columns), y)
    assert model.chosen_["recipe"] == "clinical"
    assert model.cell_evidence(bags) is None


def test_auto_takes_the_cells_where_they_tell_more() -> None:
    bags, y = example_bags(90, effect=3.0)
    shuffled = bags.clinical[np.random.default_rng(0).permutation(90)]
    model = _auto(Bags(bags.cells, bags.offsets, shuffled, bags.patient_ids, bags.columns), y)
    assert model.chosen_["recipe"].startswith("morphology")
    assert model.cell_evidence(bags) is not None


def test_auto_keeps_what_the_evaluation_needs() -> None:
    bags, y = example_bags(60)
    model = _auto(bags, y)
    assert set(model.inner_scores_) == set(model.candidates)
    assert model.inner_oof_ is not None
    assert model.inner_oof_.shape == (60,)
    honest = log_loss(y, np.log(model.inner_oof_ / (1 - model.inner_oof_))).mean()
    assert honest == pytest.approx(model.inner_scores_[model.chosen_["recipe"]], abs=1e-6)
    assert model.settled().get_params() == model.model_.get_params()


def test_autos_inner_probabilities_come_from_models_that_did_not_see_the_patient() -> None:
    """With permuted labels they are no better than chance, which the training patients' own would be."""
    scores = []
    for seed in range(8):
        bags, y = example_bags(60, seed=seed)
        y = np.random.default_rng(seed).permutation(y)
        model = _auto(bags, y, candidates=("morphology-clinical",))
        assert model.inner_oof_ is not None
        right = (model.inner_oof_ >= model.threshold_) == y
        scores.append((right[y == 1].mean() + right[y == 0].mean()) / 2)
    assert np.mean(scores) < 0.56


def test_auto_without_inner_folds_takes_the_first_candidate() -> None:
    bags, _ = example_bags(6)
    model = _auto(bags, np.array([1, 0, 0, 0, 0, 0]))
    assert model.chosen_["recipe"] == "clinical"
    assert model.inner_scores_ == {}
    assert model.inner_oof_ is None


@pytest.mark.parametrize("candidates", [("auto",), ("clinical", "no-such-recipe")])
def test_auto_refuses_a_candidate_it_cannot_try(candidates: tuple[str, ...]) -> None:
    bags, y = example_bags(20)
    with pytest.raises(InputError, match=r"candidate|no recipe has this name"):
        _auto(bags, y, candidates=candidates)

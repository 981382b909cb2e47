from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_models import Constant, Nearest, Spy, cohort

from lymphoscope.cohort.splits import Split, repeated_stratified, stratified_holdout
from lymphoscope.evaluation.folds import out_of_fold
from lymphoscope.evaluation.out_of_fold import OutOfFold

BAGS, Y = cohort(40)
SPLITS = repeated_stratified(Y, folds=4, repeats=2, seed=1)


def same(a: OutOfFold, b: OutOfFold) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True)
        for name in ("probability", "decision", "threshold", "fold", "training_correct")
    )


def test_every_patient_is_predicted_by_a_model_that_never_saw_it() -> None:
    Spy.calls = []
    found = out_of_fold(Spy(), BAGS, Y, SPLITS, seed=3)
    fits = [ids for kind, ids, _ in Spy.calls if kind == "fit"]
    assert len(fits) == len(SPLITS)
    for split, ids in zip(SPLITS, fits, strict=True):
        assert set(ids) == {BAGS.patient_ids[i] for i in split.train}
        assert not set(ids) & {BAGS.patient_ids[i] for i in split.test}
    assert found.probability.shape == (2, 40)
    assert np.isfinite(found.probability).all()
    assert found.patient_ids == BAGS.patient_ids


def test_the_labels_of_the_test_patients_change_nothing_in_their_fold() -> None:
    split = SPLITS[0]
    flipped = Y.copy()
    flipped[split.test] = 1 - flipped[split.test]
    asked = {"wished_sensitivity": 0.8, "refits": 3}
    a = out_of_fold(Nearest(), BAGS, Y, [split], seed=3, **asked)
    b = out_of_fold(Nearest(), BAGS, flipped, [split], seed=3, **asked)
    for name in ("probability", "decision", "threshold", "referral_threshold", "refit_low", "refit_high"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name


def test_decisions_are_taken_at_the_threshold_of_the_folds_own_model() -> None:
    found = out_of_fold(Nearest(), BAGS, Y, SPLITS)
    assert np.array_equal(found.decision, found.probability >= found.threshold)
    for split in SPLITS:
        assert (found.threshold[split.repeat, split.test] == Y[split.train].mean()).all()
    assert found.settings == ({"sharpness": 1.0},) * len(SPLITS)


def test_training_decisions_are_counted_per_patient() -> None:
    found = out_of_fold(Nearest(sharpness=50.0), BAGS, Y, SPLITS)
    assert found.training_correct.shape == (2, 40)
    assert ((found.training_correct >= 0) & (found.training_correct <= 1)).all()
    # A patient is trained on in three of four folds of each repeat.
    assert np.allclose(found.training_correct * 3, np.round(found.training_correct * 3))
    malignant = found.training_correct[:, Y == 1].mean()
    reactive = found.training_correct[:, Y == 0].mean()
    assert found.training_balanced_accuracy.mean() == pytest.approx((malignant + reactive) / 2, abs=0.02)


def test_the_seed_decides_and_processes_do_not() -> None:
    once = out_of_fold(Nearest(), BAGS, Y, SPLITS, seed=3, wished_sensitivity=0.9, refits=2)
    twice = out_of_fold(Nearest(), BAGS, Y, SPLITS, seed=3, wished_sensitivity=0.9, refits=2, jobs=2)
    other = out_of_fold(Nearest(), BAGS, Y, SPLITS, seed=4)
    assert same(once, twice)
    assert np.array_equal(once.referral_threshold, twice.referral_threshold)
    assert np.array_equal(once.refit_low, twice.refit_low)
    assert not same(once, other)
    # A fold's numbers depend on the fold, not on what else is computed.
    first = out_of_fold(Nearest(), BAGS, Y, SPLITS[:4], seed=3)
    assert np.array_equal(first.probability[0], once.probability[0])


def test_a_holdout_reports_its_test_patients_alone() -> None:
    (split,) = stratified_holdout(Y, 10, seed=2)
    found = out_of_fold(Nearest(), BAGS, Y, [split])
    assert np.array_equal(found.patients, split.test)
    assert found.probability.shape == (1, 10)
    assert np.array_equal(found.training_patients, split.train)
    assert np.isfinite(found.training_correct).all()
    assert found.mean_training_patients == 30


def test_the_referral_threshold_is_chosen_within_the_training_patients() -> None:
    Spy.calls = []
    split = SPLITS[0]
    found = out_of_fold(Spy(), BAGS, Y, [split], wished_sensitivity=0.9, refits=2)
    test_ids = {BAGS.patient_ids[i] for i in split.test}
    fits = [set(ids) for kind, ids, _ in Spy.calls if kind == "fit"]
    # One fit, five inner folds, two refits; and none of them knows a test patient, copies included.
    assert len(fits) == 8
    assert not any({name.split("#")[0] for name in ids} & test_ids for ids in fits)
    assert found.referral_threshold is not None
    assert len(np.unique(found.referral_threshold)) == 1


def test_a_models_own_inner_probabilities_are_used() -> None:
    class Generous(Spy):
        def fit(self, bags, y):  # type: ignore[no-untyped-def]
            super().fit(bags, y)
            self.inner_oof_ = np.where(y == 1, 0.25, 0.0)
            return self

    Spy.calls = []
    found = out_of_fold(Generous(), BAGS, Y, SPLITS[:4], wished_sensitivity=0.9)
    assert (found.referral_threshold == 0.25).all()
    assert sum(kind == "fit" for kind, *_ in Spy.calls) == 4


def test_refits_never_lose_a_class_and_hold_the_probability_most_of_the_time() -> None:
    few = np.concatenate([np.flatnonzero(Y == 1)[:18], np.flatnonzero(Y == 0)[:2]])
    bags, y = BAGS[few], Y[few]
    splits = repeated_stratified(y, folds=2, repeats=1)
    found = out_of_fold(Nearest(), bags, y, splits, refits=20)
    assert found.refit_low is not None
    assert found.refit_high is not None
    assert (found.refit_low < found.refit_high).all()
    inside = (found.refit_low <= found.probability[0]) & (found.probability[0] <= found.refit_high)
    assert inside.mean() > 0.8


@pytest.mark.parametrize("value", [np.nan, 1.5, -0.1])
def test_what_is_no_probability_stops_the_evaluation_and_names_the_patient(value: float) -> None:
    with pytest.raises(ValueError, match=r"Constant gave .* no probability.*patient P"):
        out_of_fold(Constant(value), BAGS, Y, SPLITS)


def test_splits_that_are_none_are_refused() -> None:
    leaking = [Split(0, 0, np.arange(30), np.arange(25, 40))]
    with pytest.raises(ValueError, match="trains on it"):
        out_of_fold(Nearest(), BAGS, Y, leaking)
    with pytest.raises(ValueError, match="same patients"):
        out_of_fold(Nearest(), BAGS, Y, [*SPLITS[:4], Split(1, 0, np.arange(30), np.arange(30, 40))])
    with pytest.raises(ValueError, match="one label"):
        out_of_fold(Nearest(), BAGS, Y[:-1], SPLITS)


def test_progress_is_told(tmp_path: Path) -> None:
    class Listener:
        def __init__(self) -> None:
            self.heard: list[object] = []

        def start(self, what: str, total: int) -> None:
            self.heard.append((what, total))

        def advance(self, n: int = 1) -> None:
            self.heard.append(n)

        def done(self) -> None:
            self.heard.append("done")

    first, again = Listener(), Listener()
    out_of_fold(Nearest(), BAGS, Y, SPLITS, pieces=tmp_path, progress=first)
    out_of_fold(Nearest(), BAGS, Y, SPLITS, pieces=tmp_path, progress=again)
    assert first.heard == [("Nearest", 8), 0, *[1] * 8, "done"]
    assert again.heard == [("Nearest", 8), 8, "done"]

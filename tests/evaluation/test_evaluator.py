from __future__ import annotations

import json

import numpy as np
import pytest
from small_models import Constant, Nearest, cohort

from lymphoscope.errors import InputError
from lymphoscope.evaluation.evaluator import compare, evaluate, in_zone
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.evaluation.results import METRICS
from lymphoscope.files import to_json
from lymphoscope.stats.metrics import auc, balanced_accuracy, brier, sensitivity

BAGS, Y = cohort(80)
PROTOCOL = Protocol(folds=4, repeats=3, bootstrap=400)
FOUND = evaluate(Nearest(), BAGS, Y, PROTOCOL)


def test_estimates_are_means_over_repeats_of_the_plain_metrics() -> None:
    p, decision = FOUND.out_of_fold.probability, FOUND.out_of_fold.decision
    whole = FOUND.overall
    assert whole.balanced_accuracy is not None
    assert whole.balanced_accuracy.estimate == pytest.approx(
        np.mean([balanced_accuracy(Y, each) for each in decision])
    )
    assert whole.metric("sensitivity").estimate == pytest.approx(  # type: ignore[union-attr]
        np.mean([sensitivity(Y, each) for each in decision])
    )
    fold = FOUND.out_of_fold.fold
    within = [auc(Y[fold[r] == k], p[r, fold[r] == k]) for r in range(3) for k in range(4)]
    assert whole.metric("auc").estimate == pytest.approx(np.mean(within), abs=0.002)  # type: ignore[union-attr]
    assert whole.metric("brier").estimate == pytest.approx(np.mean([brier(Y, each) for each in p]))  # type: ignore[union-attr]
    repeats = [balanced_accuracy(Y, each) for each in decision]
    assert (whole.lowest_repeat, whole.highest_repeat) == pytest.approx((min(repeats), max(repeats)))


def test_every_number_has_an_interval_around_it() -> None:
    for zone in (FOUND.overall, FOUND.overlap):
        for name in METRICS:
            value = zone.metric(name)
            assert value is not None, name
            assert value.low <= value.estimate <= value.high
            assert value.low < value.high


def test_the_overlap_zone_is_named_and_patients_without_a_count_are_stated() -> None:
    clinical = BAGS.clinical.copy()
    clinical[:5, 2] = np.nan
    inside = in_zone(clinical[:, 2], "overlap", 10.47)
    assert not inside[:5].any()
    assert in_zone(np.array([10.47, 10.48]), "overlap", 10.47).tolist() == [True, False]

    class Blind(Nearest):
        def _table(self, bags):  # type: ignore[no-untyped-def]
            return super()._table(bags)[:, 2:]

    from dataclasses import replace

    found = evaluate(Blind(), replace(BAGS, clinical=clinical), Y, PROTOCOL)
    assert found.overlap.n_without_count == 5
    assert found.overlap.n_patients == inside.sum()
    assert found.overall.n_patients == 80


def test_training_accuracy_stands_beside_and_optimism_is_the_gap() -> None:
    whole = FOUND.overall
    assert whole.training_balanced_accuracy is not None
    assert whole.optimism is not None
    assert whole.balanced_accuracy is not None
    gap = whole.training_balanced_accuracy.estimate - whole.balanced_accuracy.estimate
    assert whole.optimism.estimate == pytest.approx(gap)
    assert whole.training_balanced_accuracy.estimate == pytest.approx(
        FOUND.out_of_fold.training_balanced_accuracy.mean(), abs=0.01
    )


def test_a_recipe_that_says_the_same_of_everybody_has_no_slope_and_no_ranking() -> None:
    found = evaluate(Constant(0.9), BAGS, Y, PROTOCOL)
    assert found.overall.calibration_slope is None
    assert found.overall.auc is not None
    assert found.overall.auc.estimate == 0.5
    assert found.overall.balanced_accuracy is not None
    assert found.overall.balanced_accuracy.estimate == 0.5


def test_results_are_canonical_json_without_nan() -> None:
    for protocol in (PROTOCOL, Protocol("holdout", test_size=20, bootstrap=200)):
        text = to_json(evaluate(Nearest(), BAGS, Y, protocol).as_dict())
        assert json.loads(text)["overall"]["n_malignant"] > 0
    no_zone = Protocol(folds=4, repeats=1, overlap_limit=0.001, bootstrap=200)
    found = evaluate(Nearest(), BAGS, Y, no_zone)
    assert found.overlap.balanced_accuracy is None
    assert "one class" in found.overlap.note
    to_json(found.as_dict())


def test_holdout_and_column_measure_the_test_side_alone() -> None:
    split = ["test" if i % 4 == 0 else "train" for i in range(80)]
    found = evaluate(Nearest(), BAGS, Y, Protocol("column"), split_column=split)
    assert found.overall.n_patients == 20
    assert found.overall.optimism is not None
    with pytest.raises(InputError, match="there is none"):
        evaluate(Nearest(), BAGS, Y, Protocol("column"))


def test_a_protocol_out_of_range_says_what_is_allowed() -> None:
    for wrong in ({"kind": "loo"}, {"folds": 1}, {"wished_sensitivity": 1.0}, {"bootstrap": 10}):
        with pytest.raises(InputError, match="allowed"):
            Protocol(**wrong)  # type: ignore[arg-type]
    assert "5-fold" in Protocol().sentence()


def test_comparison_is_paired_and_tells_better_from_no_difference() -> None:
    blind = evaluate(Constant(0.5), BAGS, Y, PROTOCOL)
    better = compare(blind, FOUND)
    assert better.balanced_accuracy is not None
    assert better.told_apart
    assert "higher balanced accuracy" in better.sentence
    assert FOUND.overall.balanced_accuracy is not None
    assert better.balanced_accuracy.estimate == pytest.approx(FOUND.overall.balanced_accuracy.estimate - 0.5)
    worse = compare(FOUND, blind)
    assert worse.balanced_accuracy is not None
    assert worse.balanced_accuracy.estimate == pytest.approx(-better.balanced_accuracy.estimate)
    assert "lower balanced accuracy" in worse.sentence
    twin = compare(FOUND, evaluate(Nearest(sharpness=1.01), BAGS, Y, PROTOCOL), "overlap")
    assert not twin.told_apart
    assert "cannot be told apart" in twin.sentence
    assert twin.balanced_accuracy is not None
    assert twin.balanced_accuracy.low < 0 < twin.balanced_accuracy.high
    # The same patients on both sides: what they share does not widen the interval.
    alone = FOUND.overlap.balanced_accuracy
    assert alone is not None
    width = twin.balanced_accuracy.high - twin.balanced_accuracy.low
    assert width < 0.7 * (alone.high - alone.low)


def test_other_folds_cannot_be_compared() -> None:
    other = evaluate(Nearest(), BAGS, Y, Protocol(folds=4, repeats=3, seed=1, bootstrap=400))
    with pytest.raises(ValueError, match="same patients and folds"):
        compare(FOUND, other)

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from lymphoscope.stats.metrics import (
    auc,
    balanced_accuracy,
    brier,
    log_loss,
    pair_wins,
    sensitivity,
    specificity,
)

# 4 malignant, 6 reactive; 3 hits, 1 miss, 2 false alarms, 4 spared: every rate is a different number.
Y = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
CALLED = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0])


def test_rates_are_of_the_truth_not_of_the_decisions() -> None:
    assert sensitivity(Y, CALLED) == 3 / 4
    assert specificity(Y, CALLED) == 4 / 6
    assert balanced_accuracy(Y, CALLED) == pytest.approx((3 / 4 + 4 / 6) / 2)
    # Arguments swapped, sensitivity would be the precision, 3/5, and specificity 4/5.
    assert sensitivity(Y, CALLED) != sk.precision_score(Y, CALLED)


def test_a_class_without_patients_has_no_rate() -> None:
    assert np.isnan(sensitivity([0, 0], [0, 1]))
    assert np.isnan(specificity([1, 1], [0, 1]))
    assert np.isnan(auc([1, 1], [0.2, 0.3]))


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), min_size=2, max_size=60).filter(
        lambda rows: len({y for y, _ in rows}) == 2
    )
)
def test_agrees_with_scikit_learn_ties_included(rows: list[tuple[int, int]]) -> None:
    y, p = np.array([row[0] for row in rows]), np.array([row[1] / 20 for row in rows])
    assert auc(y, p) == pytest.approx(sk.roc_auc_score(y, p))
    assert pair_wins(y, p).mean() == pytest.approx(auc(y, p))
    assert brier(y, p) == pytest.approx(sk.brier_score_loss(y, p))
    assert balanced_accuracy(y, p > 0.5) == pytest.approx(sk.balanced_accuracy_score(y, p > 0.5))
    inside = np.clip(p, 1e-6, 1 - 1e-6)
    assert log_loss(y, p) == pytest.approx(sk.log_loss(y, inside))


@pytest.mark.parametrize("p", [[0.1, np.nan], [0.1, 1.2], [0.1], [-0.1, 0.5]])
def test_what_is_no_probability_is_refused(p: list[float]) -> None:
    with pytest.raises(ValueError, match="p:"):
        brier([0, 1], p)


def test_probabilities_are_no_decisions_and_unlabelled_patients_no_truth() -> None:
    with pytest.raises(ValueError, match="not probabilities"):
        sensitivity([0, 1], [0.2, 0.8])
    with pytest.raises(ValueError, match="y:"):
        auc([-1, 1], [0.2, 0.8])

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from lymphoscope.models.patient_calibration import PatientCalibration


def test_no_held_out_patients_leave_the_score_as_it_is() -> None:
    found = PatientCalibration.fit(np.empty(0), np.empty(0, dtype=np.int64), 0.7)
    assert found.probability(np.array([0.0, 2.0])) == pytest.approx([0.5, expit(2.0)])


def test_a_network_that_knows_nothing_says_the_prevalence() -> None:
    """Shown malignant cells four times as often, it says so of everybody; new ones are so in 0.7."""
    found = PatientCalibration.moved(np.log(4.0), 0.7)
    assert found.probability(np.log([4.0, 8.0])) == pytest.approx([0.7, 1.4 / 1.7])


@pytest.mark.parametrize("scale", [0.01, 1.0, 50.0])
def test_a_score_on_any_scale_is_cut_in_its_middle(scale: float) -> None:
    """Networks whose scores hardly differ must not call everybody the same."""
    rng = np.random.default_rng(0)
    y = (np.arange(24) < 18).astype(np.int64)
    score = scale * (rng.normal(y * 2.5, 1.0) + 3.0)
    right = (PatientCalibration.fit(score, y, 0.7).probability(score) >= 0.7) == y
    assert (right[y == 1].mean() + right[y == 0].mean()) / 2 > 0.8


def test_many_patients_give_true_probabilities_at_the_prevalence_meant() -> None:
    rng = np.random.default_rng(1)
    y = (rng.random(20_000) < 0.5).astype(np.int64)
    score = rng.normal(2.0 * y, 1.0)  # log-odds at even classes: 2 score - 2
    found = PatientCalibration.fit(score, y, 0.7)
    assert found.slope == pytest.approx(2.0, rel=0.03)
    assert found.offset == pytest.approx(-2.0 + logit(0.7), abs=0.06)


def test_an_inverted_score_is_never_turned_round() -> None:
    y = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    found = PatientCalibration.fit(-(y * 2.0 - 1.0), y, 0.625)
    assert found.slope > 0


def test_a_constant_score_gives_the_prevalence() -> None:
    y = np.array([0, 0, 1, 1, 1, 1])
    p = PatientCalibration.fit(np.full(6, 0.3), y, 0.7).probability(np.full(2, 0.3))
    assert p == pytest.approx([0.7, 0.7], abs=0.02)

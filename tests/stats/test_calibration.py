from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from lymphoscope.stats.calibration import (
    calibration_intercept,
    calibration_slope,
    logit,
    reliability,
)


def draw(n: int, slope: float = 1.0, shift: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from true probabilities, and the probabilities that are said."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0.5, 1.5, n)
    y = (rng.random(n) < 1 / (1 + np.exp(-x))).astype(int)
    return y, 1 / (1 + np.exp(-(x / slope - shift)))


def test_recovers_how_the_probabilities_were_distorted() -> None:
    y, p = draw(60_000)
    assert calibration_slope(y, p)[0] == pytest.approx(1.0, abs=0.03)
    assert calibration_intercept(y, p)[0] == pytest.approx(0.0, abs=0.03)
    y, p = draw(60_000, slope=0.5)
    assert calibration_slope(y, p)[0] == pytest.approx(0.5, abs=0.02)
    y, p = draw(60_000, shift=0.7)
    assert calibration_intercept(y, p)[0] == pytest.approx(0.7, abs=0.03)


def test_agrees_with_plain_logistic_regression_on_many_patients() -> None:
    y, p = draw(5_000, slope=0.7, seed=3)
    plain = LogisticRegression(C=np.inf).fit(logit(p)[:, None], y)
    assert calibration_slope(y, p)[0] == pytest.approx(plain.coef_[0, 0], rel=0.005)


def test_stays_finite_where_the_classes_separate_and_says_nothing_of_constants() -> None:
    y = np.array([0] * 8 + [1] * 8)
    slope = calibration_slope(y, np.linspace(0.05, 0.95, 16))[0]
    assert 1.0 < slope < 50.0
    assert np.isfinite(calibration_slope(y, y.astype(float))).all()
    assert np.isfinite(calibration_intercept(y, y.astype(float))).all()
    assert np.isnan(calibration_slope(y, np.full(16, 0.5))).all()


def test_weights_stand_for_copies_of_patients() -> None:
    y, p = draw(40, seed=5)
    weights = np.ones((2, 40))
    weights[1, :10] = 3.0
    copies = np.concatenate([np.arange(40), np.tile(np.arange(10), 2)])
    # Firth's leverage is a patient's, and copies share it, so that weighted and copied fits are the same.
    assert calibration_slope(y, p, weights)[1] == pytest.approx(
        calibration_slope(y[copies], p[copies])[0], rel=1e-4
    )
    assert calibration_slope(y, p, weights)[0] == pytest.approx(calibration_slope(y, p)[0])
    assert calibration_intercept(y, p, weights)[1] == pytest.approx(
        calibration_intercept(y[copies], p[copies])[0], abs=1e-6
    )


def test_reliability_bins_hold_every_patient_once_and_the_truth_in_their_interval() -> None:
    y, p = draw(4_000, seed=1)
    bins = reliability(y, np.stack([p, p]))
    assert sum(each.n for each in bins) == pytest.approx(4_000)
    assert all(each.low <= each.predicted <= each.high for each in bins)
    misses = [each for each in bins if each.predicted not in each.observed]
    assert len(misses) <= 2
    assert reliability([0, 1], [0.0, 1.0])[-1].observed.estimate == 1.0
    assert bins[0].as_dict()["n"] == bins[0].n

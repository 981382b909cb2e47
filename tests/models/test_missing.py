from __future__ import annotations

import numpy as np
import pytest

from lymphoscope.models.logistic import sigmoid
from lymphoscope.models.missing import JointNormal, averaged_logit

TRUTH = JointNormal(
    np.array([1.0, -2.0, 0.5]), np.array([[2.0, 0.8, 0.3], [0.8, 1.0, -0.2], [0.3, -0.2, 0.5]])
)


def test_expectation_maximisation_finds_the_distribution_through_gaps() -> None:
    rng = np.random.default_rng(0)
    x = rng.multivariate_normal(TRUTH.mean, TRUTH.covariance, 20_000)
    x[rng.random(x.shape) < 0.3] = np.nan
    found = JointNormal.fit(x)
    assert found.mean == pytest.approx(TRUTH.mean, abs=0.05)
    assert found.covariance == pytest.approx(TRUTH.covariance, abs=0.05)


def test_a_gap_is_filled_with_the_conditional_expectation() -> None:
    x = np.array([[np.nan, -1.0, 0.5], [np.nan, np.nan, np.nan], [1.0, 2.0, 3.0]])
    filled = TRUTH.complete(x)
    block = TRUTH.covariance[1:, 1:]
    expected = 1.0 + TRUTH.covariance[0, 1:] @ np.linalg.solve(block, [1.0, 0.0])
    assert filled[0] == pytest.approx([expected, -1.0, 0.5])
    assert filled[1] == pytest.approx(TRUTH.mean)
    assert filled[2] == pytest.approx([1.0, 2.0, 3.0])


def test_open_variance_is_that_of_the_possible_values() -> None:
    x = np.array([[np.nan, -1.0, np.nan], [0.0, 0.0, 0.0]])
    coef = np.array([1.0, 2.0, -1.5])
    draws = np.stack([way @ coef for way in TRUTH.possible(x, 4000)])
    variance = TRUTH.open_variance(x, coef)
    assert variance[1] == 0.0
    assert draws.var(axis=0) == pytest.approx(variance, rel=0.1, abs=1e-12)
    assert draws.mean(axis=0) == pytest.approx(TRUTH.complete(x) @ coef, abs=0.1)


@pytest.mark.parametrize(("logit", "variance"), [(0.0, 4.0), (1.0, 0.0), (2.0, 1.0), (-3.0, 9.0)])
def test_the_averaged_log_odds_are_those_of_the_mean_probability(logit: float, variance: float) -> None:
    noise = np.random.default_rng(0).normal(size=200_000)
    mean = sigmoid(logit + np.sqrt(variance) * noise).mean()
    assert sigmoid(averaged_logit(np.array([logit]), np.array([variance])))[0] == pytest.approx(
        mean, abs=0.02
    )


def test_a_column_without_any_value_is_a_standard_one() -> None:
    x = np.column_stack([np.arange(5.0), np.full(5, np.nan)])
    normal = JointNormal.fit(x)
    assert normal.mean[1] == 0.0
    assert normal.covariance[1, 1] == pytest.approx(1.0)
    assert normal.complete(x)[:, 1] == pytest.approx(0.0)


def test_with_few_rows_a_column_is_not_guessed_boldly_from_many_others() -> None:
    x = np.random.default_rng(0).normal(size=(40, 30))
    normal = JointNormal.fit(x)
    hidden = x.copy()
    hidden[:, 0] = np.nan
    assert np.std(normal.complete(hidden)[:, 0]) < 0.8 * np.std(x[:, 0])

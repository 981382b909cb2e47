from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lymphoscope.files import to_json
from lymphoscope.stats.intervals import (
    RATE_PSEUDO_WEIGHT,
    Interval,
    PatientBootstrap,
    clopper_pearson,
    patients_to_prove,
    percentile_interval,
    provable_rate,
    wilson,
)
from lymphoscope.stats.metrics import pair_wins


def test_wilson_and_clopper_pearson_are_the_textbooks() -> None:
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for (k, n), low, high in (
        ((81, 263), 0.2553, 0.3662),
        ((15, 148), 0.0624, 0.1605),
        ((0, 20), 0.0, 0.1611),
        ((1, 29), 0.0061, 0.1718),
    ):
        found = wilson(k, n)
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    for (k, n), low, high in (((81, 263), 0.2527, 0.3676), ((0, 20), 0.0, 0.1684), ((1, 29), 0.0009, 0.1776)):
        exact = clopper_pearson(k, n)
        assert (exact.low, exact.high) == pytest.approx((low, high), abs=5e-5)
    assert wilson(20, 20).high == 1.0
    assert clopper_pearson(20, 20).high == 1.0


@given(st.integers(1, 300), st.data())
def test_intervals_of_a_proportion_hold_it(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    for found in (wilson(k, n), clopper_pearson(k, n), wilson(k, n, 0.5)):
        assert 0.0 <= found.low <= found.estimate <= found.high <= 1.0
        assert k / n in found


def test_what_patients_without_a_miss_prove() -> None:
    assert provable_rate(59) >= 0.95 > provable_rate(58)
    assert provable_rate(99) >= 0.97 > provable_rate(98)
    assert provable_rate(299) >= 0.99 > provable_rate(298)
    assert [patients_to_prove(rate) for rate in (0.95, 0.97, 0.99)] == [59, 99, 299]
    assert patients_to_prove(0.95, misses=1) == 93
    assert provable_rate(93, misses=1) >= 0.95 > provable_rate(92, misses=1)
    assert provable_rate(5, misses=5) == 0.0


@pytest.mark.parametrize(("k", "n"), [(113, 113), (0, 13), (24, 29), (3, 50)])
def test_the_bootstrap_of_plain_decisions_is_the_neutral_beta(k: int, n: int) -> None:
    y = np.array([1] * n + [0] * 5)
    good = np.concatenate([np.repeat([1.0, 0.0], [k, n - k]), np.ones(5)])
    drawn = PatientBootstrap(y, 40_000, seed=3).share(good, True)
    exact = stats.beta(k + RATE_PSEUDO_WEIGHT, n - k + RATE_PSEUDO_WEIGHT)
    assert stats.kstest(drawn, exact.cdf).pvalue > 0.001
    assert np.median(drawn) == pytest.approx(k / n, abs=0.01)


def test_a_perfect_recipe_has_intervals_of_positive_width() -> None:
    y = np.repeat([1, 0], [29, 13])
    draws = PatientBootstrap(y, 4000)
    ones = np.ones(42)
    for replicates in (draws.balanced(ones), draws.share(ones, True), draws.pairs(np.ones((29, 13)))):
        found = percentile_interval(1.0, replicates)
        assert 0.8 < found.low < 0.995
        assert found.high == 1.0
    agree = percentile_interval(0.0, draws.balanced_difference(np.zeros(42)))
    assert agree.low < -0.01
    assert agree.high > 0.01


def test_a_smaller_concentration_widens_the_variance_in_proportion() -> None:
    rng = np.random.default_rng(0)
    y, good = np.repeat([1, 0], [400, 400]), rng.random(800)
    plain = PatientBootstrap(y, 20_000).balanced(good)
    wide = PatientBootstrap(y, 20_000, concentration=0.5).balanced(good)
    assert wide.var() / plain.var() == pytest.approx(2.0, rel=0.05)
    assert wide.mean() == pytest.approx(plain.mean(), abs=0.001)


def test_replicates_scatter_as_the_standard_errors_of_the_textbook() -> None:
    rng = np.random.default_rng(1)
    y = np.repeat([1, 0], [300, 300])
    score = rng.normal(y * 1.0, 1.0)
    draws = PatientBootstrap(y, 5000)
    area = stats.norm.cdf(1 / np.sqrt(2))
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    hanley = np.sqrt((area * (1 - area) + 299 * (q1 - area**2) + 299 * (q2 - area**2)) / 300**2)
    assert draws.pairs(pair_wins(y, score)).std() == pytest.approx(hanley, rel=0.15)
    values = rng.normal(size=600)
    assert draws.mean(values).std() == pytest.approx(values.std() / np.sqrt(600), rel=0.1)


def test_pairs_with_pseudo_patients_equal_the_sum_written_out() -> None:
    y = np.repeat([1, 0], [3, 2])
    wins = np.array([[1.0, 0.5], [0.0, 1.0], [1.0, 1.0]])
    draws = PatientBootstrap(y, 5, seed=2)
    patients, _, pseudo = draws._weights
    # Rows: malignant patients, the one always right, the one always wrong; columns: the same of the reactive.
    table = np.zeros((5, 4))
    table[:3, :2] = wins
    table[:3, 2], table[:3, 3] = 1.0, 0.0
    table[3], table[4] = [1, 1, 1, 0.5], [0, 0, 0.5, 0]
    for b in range(5):
        rows = np.concatenate([patients[b, :3], pseudo[b, 1, [1, 0]]])
        columns = np.concatenate([patients[b, 3:], pseudo[b, 0, [1, 0]]])
        expected = rows @ table @ columns / rows.sum() / columns.sum()
        assert draws.pairs(wins)[b] == pytest.approx(expected)


def test_weights_depend_on_seed_and_patients_alone() -> None:
    y = np.repeat([1, 0], [8, 5])
    good = np.linspace(0, 1, 13)
    once = PatientBootstrap(y, 50, seed=1).balanced(good)
    assert np.array_equal(once, PatientBootstrap(y, 50, seed=1).balanced(good))
    assert not np.array_equal(once, PatientBootstrap(y, 50, seed=2).balanced(good))
    assert PatientBootstrap(y, 50).weights_at_prevalence[:, :8].sum(1) == pytest.approx(8)


def test_one_class_cannot_be_bootstrapped_and_json_knows_no_nan() -> None:
    with pytest.raises(ValueError, match="each class"):
        PatientBootstrap(np.ones(4), 100)
    assert '"high": null' in to_json(Interval(0.5, 0.1, float("nan")).as_dict())


def test_coverage_of_balanced_accuracy_on_small_samples() -> None:
    """29 + 13 patients with sensitivity 0.9 and specificity 0.85: the interval of one test set's score."""
    rng = np.random.default_rng(0)
    y = np.repeat([1, 0], [29, 13])
    inside = []
    for k in range(600):
        good = (rng.random(42) < np.where(y == 1, 0.9, 0.85)).astype(float)
        estimate = 0.5 * (good[:29].mean() + good[29:].mean())
        inside.append(0.875 in percentile_interval(estimate, PatientBootstrap(y, 400, seed=k).balanced(good)))
    assert 0.92 <= np.mean(inside) <= 0.98


def test_two_scores_that_rank_everybody_alike_may_still_differ_on_the_next() -> None:
    y = np.arange(20) % 2 == 0
    gain = np.zeros((10, 10))
    replicates = PatientBootstrap(y, 500).pairs_difference(gain, np.ones_like(gain))
    low, high = np.quantile(replicates, [0.025, 0.975])
    assert low < -0.01 and high > 0.01 and abs(replicates.mean()) < 0.02
    ahead = PatientBootstrap(y, 500).pairs_difference(gain + 0.3, np.ones_like(gain))
    assert 0.2 < ahead.mean() < 0.31

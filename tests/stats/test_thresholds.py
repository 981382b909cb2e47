from __future__ import annotations

import numpy as np
import pytest

from lymphoscope.stats.thresholds import referral_threshold


def test_is_the_finite_sample_order_statistic() -> None:
    scores = np.arange(1, 40) / 100
    # 39 malignant patients: k = floor(40 × 0.05) = 2, the second smallest.
    assert referral_threshold(np.ones(39), scores, 0.95) == 0.02
    # 19: k = floor(20 × 0.05) = 1 exactly, which rounding must not turn into 0.
    assert referral_threshold(np.ones(19), scores[:19], 0.95) == 0.01


def test_with_too_few_malignant_patients_everybody_is_referred() -> None:
    assert referral_threshold(np.ones(18), np.full(18, 0.9), 0.95) == 0.0


def test_reactive_patients_do_not_matter() -> None:
    y = np.array([1] * 39 + [0] * 100)
    p = np.concatenate([np.arange(1, 40) / 100, np.random.default_rng(0).random(100)])
    assert referral_threshold(y, p, 0.95) == 0.02


@pytest.mark.parametrize("n", [25, 60, 113])
def test_keeps_the_wished_sensitivity_on_average(n: int) -> None:
    rng = np.random.default_rng(n)
    new = [rng.random() >= referral_threshold(np.ones(n), rng.random(n), 0.9) for _ in range(4000)]
    assert 0.9 - 3 * np.sqrt(0.09 / 4000) <= np.mean(new) <= 0.9 + 1 / (n + 1) + 3 * np.sqrt(0.09 / 4000)


def test_refuses_a_sensitivity_that_nothing_can_promise() -> None:
    with pytest.raises(ValueError, match="wished_sensitivity"):
        referral_threshold([1], [0.5], 1.0)

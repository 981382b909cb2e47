"""Two classes compared number by number: effect, interval, and p-values that know how many were asked."""

from __future__ import annotations

import numpy as np
import pytest

from lymphoscope.stats.group_differences import compare_classes
from lymphoscope.stats.metrics import auc

Y = np.array([1] * 12 + [0] * 9)


def one(values: np.ndarray, y: np.ndarray = Y):
    (found,) = compare_classes(y, values[:, None])
    assert found is not None
    return found


def test_the_effect_is_the_difference_of_pairs_won() -> None:
    values = np.random.default_rng(0).normal(size=len(Y)) + 0.8 * Y
    found = one(values)
    assert found.effect.estimate == pytest.approx(2 * auc(Y, values) - 1)
    assert found.effect.low < found.effect.estimate < found.effect.high
    assert found.malignant == pytest.approx(values[Y == 1].mean())
    assert found.reactive == pytest.approx(values[Y == 0].mean())
    assert one(-values).effect.estimate == pytest.approx(-found.effect.estimate)


def test_complete_separation_is_one_and_still_uncertain() -> None:
    found = one(Y.astype(float) + np.linspace(0, 0.1, len(Y)))
    assert found.effect.estimate == 1 == found.effect.high
    assert 0.5 < found.effect.low < 1
    assert found.p < 1e-3


def test_a_number_that_is_the_same_for_all_differs_in_nothing() -> None:
    found = one(np.full(len(Y), 0.3))
    assert (found.effect.estimate, found.p, found.adjusted) == (0, 1, 1)


def test_p_values_are_corrected_as_benjamini_and_hochberg_did() -> None:
    rng = np.random.default_rng(1)
    values = np.column_stack([rng.normal(size=len(Y)) + shift * Y for shift in (2.0, 1.0, 0, 0, 0)])
    found = compare_classes(Y, values)
    p = np.array([each.p for each in found if each])
    order = np.argsort(p)
    expected = np.minimum.accumulate((p[order] * len(p) / np.arange(1, 6))[::-1])[::-1]
    assert [found[i].adjusted for i in order] == pytest.approx(np.minimum(expected, 1))  # type: ignore[union-attr]
    alone = one(values[:, 1])
    assert alone.adjusted == alone.p <= found[1].adjusted  # type: ignore[union-attr]


def test_missing_numbers_leave_their_patient_out_and_too_few_patients_are_not_compared() -> None:
    values = np.random.default_rng(2).normal(size=(len(Y), 2))
    values[:11, 1] = np.nan  # one malignant patient is left
    values[0, 0] = np.nan
    first, second = compare_classes(Y, values)
    assert second is None
    assert first == one(values[1:, 0], Y[1:])


def test_intervals_hold_the_true_effect_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    y = np.array([1] * 25 + [0] * 20)
    true = 0.4284  # 2 Φ(0.8 / √2) − 1, of two normals 0.8 standard deviations apart
    found = [compare_classes(y, (rng.normal(size=45) + 0.8 * y)[:, None], 400)[0] for _ in range(200)]
    covered = np.mean([true in each.effect for each in found if each])
    assert 0.90 <= covered <= 0.99


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"allowed: \(21, n_columns\)"):
        compare_classes(Y, np.zeros(len(Y)))

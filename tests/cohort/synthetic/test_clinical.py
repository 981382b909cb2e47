from __future__ import annotations

import numpy as np
import pytest

from lymphoscope.cohort.synthetic import SyntheticPlan
from lymphoscope.cohort.synthetic.clinical import draw_labels
from lymphoscope.cohort.synthetic.patients import draw_patients


def auc(score: np.ndarray, y: np.ndarray) -> float:
    """Mann-Whitney by ranks, ties counted half."""
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n1 = int((y == 1).sum())
    return float((rank[y == 1].sum() - n1 * (n1 + 1) / 2) / (n1 * (len(y) - n1)))


def test_marginals_of_a_large_population() -> None:
    patients = draw_patients(SyntheticPlan(), 40_000, 0, 0)
    y, clinical = patients.label, patients.clinical
    age, sex, count, n_cells = clinical.age, clinical.sex, clinical.count, clinical.n_cells
    log_count = np.log(count)
    assert abs(y.mean() - 113 / 163) < 0.001
    assert abs(age.mean() - 68) < 1
    assert abs(age.std() - 18) < 1.5
    assert age[y == 0].mean() < age[y == 1].mean() - 15
    assert abs(sex.mean() - 0.5) < 0.02
    assert abs(auc(sex, y) - 0.5) < 0.02
    assert abs(log_count.mean() - 2.46) < 0.1
    assert abs(log_count.std() - 1.11) < 0.15
    assert count.min() >= 4
    assert 200 < np.quantile(count[y == 1], 0.995) < 330
    assert count[y == 0].max() <= 10.6
    assert np.mean((count[y == 0] > 4) & (count[y == 0] < 8)) > 0.85
    assert abs((count[y == 1] > 10.47).mean() - 67 / 113) < 0.03
    assert abs(auc(count, y) - 0.91) < 0.02
    assert abs(auc(age, y) - 0.80) < 0.02
    assert (n_cells.min(), n_cells.max()) == (16, 198)
    assert abs(np.median(n_cells) - 66) < 4
    assert abs(auc(n_cells, y) - 0.80) < 0.02
    zone = count <= 10.47
    assert abs(auc(n_cells[zone], y[zone]) - 0.61) < 0.05


@pytest.mark.parametrize(
    ("n", "prevalence", "malignant"),
    [(163, 113 / 163, 113), (42, 113 / 163, 29), (2, 0.01, 1), (2, 0.99, 1), (0, 0.5, 0), (1, 0.9, 1)],
)
def test_labels_have_the_prevalence_and_both_classes(n: int, prevalence: float, malignant: int) -> None:
    label = draw_labels(n, prevalence, np.random.default_rng(0))
    assert (len(label), label.sum()) == (n, malignant)


def test_bags_can_be_fixed_and_their_range_scales() -> None:
    fixed = draw_patients(SyntheticPlan(cells=20, bag_size_slope=0, bag_size_spread=0), 50, 0, 1)
    assert set(fixed.clinical.n_cells) == {20}
    demo = draw_patients(SyntheticPlan(cells=20), 4000, 0, 1).clinical.n_cells
    assert (demo.min(), demo.max()) == (10, 60)
    assert abs(np.median(demo) - 20) <= 2


def test_a_shortcut_gives_away_the_labelled_patients_only() -> None:
    plan = SyntheticPlan(shortcut="bag-size", bag_size_slope=0)
    patients = draw_patients(plan, 1000, 1000, 2)
    n_cells, y, test = patients.clinical.n_cells, patients.label, patients.is_test == 1
    assert auc(n_cells[~test], y[~test]) > 0.95
    assert abs(auc(n_cells[test], y[test]) - 0.5) < 0.05


def test_one_option_leaves_the_other_draws_as_they_were() -> None:
    plain = draw_patients(SyntheticPlan(), 100, 20, 3)
    border = draw_patients(SyntheticPlan(shortcut="border", stain_shift=2), 100, 20, 3)
    assert np.array_equal(plain.clinical.age, border.clinical.age)
    assert np.array_equal(plain.clinical.n_cells, border.clinical.n_cells)
    assert np.array_equal(plain.populations.expressivity, border.populations.expressivity)
    train = plain.is_test == 0
    assert np.array_equal(plain.looks[train], border.looks[train])
    assert np.allclose((border.looks - plain.looks)[~train].max(axis=1), 2)
    assert not plain.border.any()
    assert auc(border.border[train], plain.label[train]) > 0.85

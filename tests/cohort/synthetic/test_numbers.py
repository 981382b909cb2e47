from __future__ import annotations

import time

import numpy as np

from lymphoscope.cohort.bags import segment_mean
from lymphoscope.cohort.synthetic import NUMBER_COLUMNS, SyntheticPlan, draw_numbers

PLAN = SyntheticPlan()


def auc(score: np.ndarray, y: np.ndarray) -> float:
    greater = score[y == 1][:, None] > score[y == 0][None, :]
    equal = score[y == 1][:, None] == score[y == 0][None, :]
    return float(greater.mean() + equal.mean() / 2)


def test_the_same_seed_gives_the_same_bags() -> None:
    a, y = draw_numbers(PLAN, 30, 7)
    b, z = draw_numbers(PLAN, 30, 7)
    c, _ = draw_numbers(PLAN, 30, 8)
    assert np.array_equal(a.cells, b.cells)
    assert np.array_equal(a.clinical, b.clinical)
    assert np.array_equal(y, z)
    assert not np.array_equal(a.clinical, c.clinical)


def test_marginals_of_a_large_population() -> None:
    bags, y = draw_numbers(PLAN, 8000, 0, max_cells=200)
    age, sex, count = bags.clinical.T
    log_count = np.log(count)
    assert abs(y.mean() - 113 / 163) < 0.001
    assert abs(age.mean() - 68) < 1
    assert abs(age.std() - 18) < 1.5
    assert age[y == 0].mean() < age[y == 1].mean() - 15
    assert abs(sex.mean() - 0.5) < 0.02
    assert abs(auc(sex, y) - 0.5) < 0.03
    assert abs(log_count.mean() - 2.46) < 0.1
    assert abs(log_count.std() - 1.11) < 0.15
    assert count.min() >= 4
    assert 200 < np.quantile(count[y == 1], 0.995) < 330
    assert count[y == 0].max() <= 10.6
    assert abs((count[y == 1] > 10.47).mean() - 67 / 113) < 0.03
    assert abs(auc(count, y) - 0.91) < 0.02
    assert abs(auc(age, y) - 0.80) < 0.02
    assert (bags.counts.min(), bags.counts.max()) == (16, 198)
    assert abs(np.median(bags.counts) - 66) < 4
    assert abs(auc(bags.counts, y) - 0.80) < 0.02
    zone = count <= 10.47
    assert abs(auc(bags.counts[zone], y[zone]) - 0.61) < 0.05


def test_cells_carry_signal_and_the_background_does_not() -> None:
    bags, y = draw_numbers(PLAN, 3000, 1, max_cells=40)
    means = segment_mean(bags.cells, bags.offsets)
    scores = {name: abs(auc(means[:, k], y) - 0.5) for k, name in enumerate(NUMBER_COLUMNS)}
    assert max(scores.values()) > 0.15
    for name in ("background_lab_l", "background_lab_b", "neighbours_red_cell_fraction"):
        assert scores[name] < 0.04


def test_without_effect_the_cells_say_nothing() -> None:
    plan = SyntheticPlan(morphology_effect=0, heterogeneity_effect=0, age_shift=0, log_count_shift=0)
    bags, y = draw_numbers(plan, 3000, 2, max_cells=30)
    means = segment_mean(bags.cells, bags.offsets)
    values = np.column_stack([means, bags.clinical, bags.counts])
    assert all(abs(auc(column, y) - 0.5) < 0.05 for column in values.T)


def test_planted_shortcuts_predict_the_label() -> None:
    bags, y = draw_numbers(SyntheticPlan(shortcut="bag-size"), 600, 3)
    assert auc(bags.counts, y) > 0.92
    bags, y = draw_numbers(SyntheticPlan(shortcut="background"), 600, 3)
    background = segment_mean(bags.cells, bags.offsets)[:, NUMBER_COLUMNS.index("background_lab_b")]
    assert auc(background, y) > 0.9


def test_label_noise_and_missing_values() -> None:
    clean, y = draw_numbers(PLAN, 200, 5, max_cells=2)
    dirty, z = draw_numbers(SyntheticPlan(label_noise=0.1, missing=0.2), 200, 5, max_cells=2)
    assert (y != z).sum() == 20
    assert abs(np.isnan(dirty.clinical).mean() - 0.2) < 0.05
    kept = ~np.isnan(dirty.clinical)
    assert np.array_equal(dirty.clinical[kept], clean.clinical[kept])
    assert np.array_equal(dirty.cells, clean.cells)


def test_a_cohort_is_drawn_fast_enough_for_a_thousand() -> None:
    draw_numbers(PLAN, 163, 0)
    best = float("inf")
    for seed in range(5):
        start = time.perf_counter()
        draw_numbers(PLAN, 163, seed)
        best = min(best, time.perf_counter() - start)
    # 12 ms on one core of 2024; the bound leaves room for a loaded machine.
    assert best < 0.1

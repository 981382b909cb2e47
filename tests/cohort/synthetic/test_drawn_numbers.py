from __future__ import annotations

import time

import numpy as np

from lymphoscope.cells.columns import MORPHOLOGY_COLUMNS
from lymphoscope.cohort.bags import segment_mean
from lymphoscope.cohort.synthetic import SyntheticPlan, draw_numbers

PLAN = SyntheticPlan()


def auc(score: np.ndarray, y: np.ndarray) -> float:
    greater = score[y == 1][:, None] > score[y == 0][None, :]
    equal = score[y == 1][:, None] == score[y == 0][None, :]
    return float(greater.mean() + equal.mean() / 2)


def test_the_columns_are_those_of_the_measurements() -> None:
    bags, _ = draw_numbers(PLAN, 5, 0)
    assert set(bags.columns or ()) <= set(MORPHOLOGY_COLUMNS)
    assert len(bags.columns or ()) >= 20


def test_the_same_seed_gives_the_same_bags() -> None:
    a, y = draw_numbers(PLAN, 30, 7)
    b, z = draw_numbers(PLAN, 30, 7)
    c, _ = draw_numbers(PLAN, 30, 8)
    assert np.array_equal(a.cells, b.cells)
    assert np.array_equal(a.clinical, b.clinical)
    assert np.array_equal(y, z)
    assert not np.array_equal(a.clinical, c.clinical)


def test_cells_carry_signal_and_the_background_does_not() -> None:
    bags, y = draw_numbers(PLAN, 3000, 1, max_cells=40)
    means = segment_mean(bags.cells, bags.offsets)
    scores = {name: abs(auc(means[:, k], y) - 0.5) for k, name in enumerate(bags.columns or ())}
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
    background = segment_mean(bags.cells, bags.offsets)[:, (bags.columns or ()).index("background_lab_b")]
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

"""What figures of clusters show: cells drawn at random, shares with intervals, a map."""

from __future__ import annotations

import numpy as np

from lymphoscope.models.clusters.views import cell_map, sample_cells, shares_by_class


def test_samples_are_of_all_of_a_clusters_cells_the_surest_first() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1, 1, 1], 300)
    p[:, 2] = 0
    shown = sample_cells(p, 10, seed=1)
    assert [len(each) for each in shown] == [10, 10, 0]
    for cluster, rows in enumerate(shown):
        assert (p[rows].argmax(axis=1) == cluster).all()
        assert (np.diff(p[rows].max(axis=1)) <= 0).all()
    assert [rows.tolist() for rows in shown] == [rows.tolist() for rows in sample_cells(p, 10, seed=1)]
    surest = p[p.argmax(axis=1) == 0, 0]
    assert p[shown[0], 0].min() < np.median(surest)  # not only the surest ones


def test_shares_are_means_over_patients_and_have_no_interval_of_one() -> None:
    counts = np.array([[1, 3], [40, 0], [0, 0], [2, 2]])
    first, second = shares_by_class(counts, np.array([0, 0, 0, 1]))
    assert first.reactive.estimate == (0.25 + 1) / 2  # the patient without cells is left out
    assert 0.25 <= first.reactive.low < first.reactive.high <= 1
    assert second.malignant.estimate == 0.5 and np.isnan([second.malignant.low, second.malignant.high]).all()
    nobody, _ = shares_by_class(counts, np.array([0, 0, 1, 0]))
    assert np.isnan(nobody.malignant.estimate)


def test_the_map_keeps_neighbours_together_and_is_the_same_every_time() -> None:
    rng = np.random.default_rng(0)
    kind = np.arange(90) % 3
    seen = rng.normal(size=(90, 12)) + 6 * rng.normal(size=(3, 12))[kind]
    places = cell_map(seen)
    assert np.array_equal(places, cell_map(seen)) and places.shape == (90, 2)
    apart = ((places[:, None] - places) ** 2).sum(axis=2) + np.diag(np.full(90, np.inf))
    assert (kind[apart.argmin(axis=1)] == kind).mean() > 0.95
    length = rng.uniform(1, 9, (90, 1))
    assert np.allclose(cell_map(seen[:30]), cell_map((seen * length)[:30]))  # by angle alone


def test_of_few_cells_the_map_is_the_first_two_principal_components() -> None:
    seen = np.random.default_rng(0).normal(size=(30, 4)) * [1, 5, 2, 0.5] + 3
    unit = seen / np.linalg.norm(seen, axis=1, keepdims=True)
    centred = unit - unit.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2]
    assert np.allclose(np.abs(cell_map(seen)), np.abs(centred @ axes[:2].T))


def test_few_or_equal_cells_have_a_map_too() -> None:
    assert cell_map(np.empty((0, 5))).shape == (0, 2)
    assert np.array_equal(cell_map(np.ones((1, 5))), np.zeros((1, 2)))
    assert cell_map(np.ones((3, 1))).shape == (3, 2)
    assert np.isfinite(cell_map(np.ones((60, 5)))).all()
    assert np.isfinite(cell_map(np.random.default_rng(0).normal(size=(60, 1)))).all()

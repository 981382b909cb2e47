"""Summaries per patient against numpy, patient by patient."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lymphoscope.cells.summary import ALIKENESS, SAMPLED_CELLS, STATISTICS, alikeness, summarise
from lymphoscope.cohort.bags import Bags


def bags_of(cells: list[np.ndarray]) -> Bags:
    n_columns = cells[0].shape[1]
    return Bags.from_list([c.astype(np.float32) for c in cells], columns=[f"c{i}" for i in range(n_columns)])


def expected(cells: np.ndarray) -> np.ndarray:
    """Statistics of one patient, shape (n_columns · 6,)."""
    out = np.full((cells.shape[1], len(STATISTICS)), np.nan)
    for column in range(cells.shape[1]):
        present = cells[:, column][~np.isnan(cells[:, column])].astype(np.float64)
        if len(present):
            q10, q25, q50, q75, q90 = np.quantile(present, (0.1, 0.25, 0.5, 0.75, 0.9))
            out[column] = [present.mean(), present.std(), (q75 - q25) / 1.349, q10, q50, q90]
    return out.ravel()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=6),
    st.floats(0, 1),
    st.integers(0, 2**32 - 1),
)
def test_summary_is_that_of_numpy_with_missing_cells_left_out(
    counts: list[int], missing: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    cells = [rng.normal(3, 2, (count, 3)).astype(np.float32) for count in counts]
    for patient in cells:
        patient[rng.random(patient.shape) < missing] = np.nan
    table, names = summarise(bags_of(cells))
    assert names[: len(STATISTICS)] == tuple(f"c0:{statistic}" for statistic in STATISTICS)
    np.testing.assert_allclose(table, np.stack([expected(c) for c in cells]), rtol=1e-5, atol=1e-6)


def test_order_of_cells_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    cells = rng.normal(size=(40, 4)).astype(np.float32)
    straight, _ = summarise(bags_of([cells]))
    shuffled, _ = summarise(bags_of([cells[rng.permutation(40)]]))
    np.testing.assert_allclose(straight, shuffled, rtol=1e-6)


def test_a_summary_does_not_depend_on_other_patients() -> None:
    rng = np.random.default_rng(1)
    cells = [rng.normal(size=(n, 4)).astype(np.float32) for n in (5, 30, 1)]
    together, _ = summarise(bags_of(cells))
    for i, patient in enumerate(cells):
        alone, _ = summarise(bags_of([patient]))
        np.testing.assert_allclose(together[i], alone[0], rtol=1e-6)


def test_images_are_refused() -> None:
    images = Bags.from_list([np.zeros((2, 8, 8, 3), dtype=np.uint8)])
    with pytest.raises(ValueError, match="named per-cell numbers"):
        summarise(images)


def test_alikeness_of_a_uniform_and_a_mixed_patient() -> None:
    rng = np.random.default_rng(2)
    uniform, mixed = rng.normal(0, 0.3, (60, 5)), rng.normal(0, 1.0, (60, 5))
    line = rng.normal(size=(60, 1)) * np.ones((1, 5))
    table, names = alikeness(bags_of([uniform, mixed, line]), np.ones(5))
    assert names == ALIKENESS
    distance, volume, dimensions = table.T
    assert distance[0] < 0.5 * distance[1]
    assert volume[0] < volume[1] - 1
    assert dimensions[1] > 2.5
    assert dimensions[2] == pytest.approx(1.0, abs=1e-3)


def test_pairwise_distance_is_that_of_the_pairs() -> None:
    cells = np.random.default_rng(3).normal(size=(12, 4))
    scale = np.array([1.0, 2.0, 0.5, 3.0])
    table, _ = alikeness(bags_of([cells]), scale)
    scaled = cells.astype(np.float32) / scale
    pairs = np.array([(a, b) for a in range(12) for b in range(12) if a != b])
    squares = np.square(scaled[pairs[:, 0]] - scaled[pairs[:, 1]]).sum(axis=1)
    assert table[0, 0] == pytest.approx(np.sqrt(squares.mean() / 4), rel=1e-5)


def test_alikeness_needs_two_complete_cells() -> None:
    half = np.array([[1.0, 2.0], [np.nan, 2.0], [1.5, np.nan]])
    bags = bags_of([half, np.zeros((0, 2)), np.ones((3, 2)), np.ones((SAMPLED_CELLS, 2))])
    table, _ = alikeness(bags, np.ones(2))
    assert np.isnan(table[:2]).all()
    assert table[2, 0] == 0.0
    assert np.isnan(table[2, 1:]).all()
    np.testing.assert_allclose(table[3], [0.0, np.log(0.05), 1.0])


@pytest.mark.parametrize("n_columns", [2, 30])
def test_alikeness_of_as_many_cells_as_are_sampled_is_that_of_their_covariance(n_columns: int) -> None:
    cells = np.random.default_rng(4).normal(size=(SAMPLED_CELLS, n_columns)).astype(np.float32)
    table, _ = alikeness(bags_of([cells]), np.ones(n_columns), ridge=0.3)
    eigenvalues = np.linalg.eigvalsh(np.cov(cells.T.astype(np.float64)))
    assert table[0, 1] == pytest.approx(np.log(eigenvalues + 0.3).mean())
    assert table[0, 2] == pytest.approx(eigenvalues.sum() ** 2 / np.square(eigenvalues).sum())


@pytest.mark.parametrize("n_columns", [3, 12, 40])
def test_alikeness_does_not_tell_few_cells_from_many_of_the_same_kind(n_columns: int) -> None:
    rng = np.random.default_rng(5)
    mixing = rng.normal(size=(n_columns, n_columns)) * np.geomspace(1, 0.1, n_columns)

    def mean_and_error(n_cells: int) -> tuple[np.ndarray, np.ndarray]:
        # Heavy tails, since numbers of cells have them.
        cells = [rng.standard_t(6, size=(n_cells, n_columns)) @ mixing.T for _ in range(300)]
        table, _ = alikeness(bags_of(cells), np.full(n_columns, mixing.std() * 3))
        return table.mean(axis=0), table.std(axis=0) / np.sqrt(len(cells))

    (few, error), (many, _) = mean_and_error(16), mean_and_error(128)
    spread = error * np.sqrt(300)  # between patients of 16 cells
    assert (np.abs(few - many) < 0.2 * spread).all()
    assert (np.abs(few - many) < 3.5 * error + 0.02 * np.abs(many)).all()


def test_alikeness_depends_on_the_cells_alone() -> None:
    rng = np.random.default_rng(6)
    patients = [rng.normal(size=(n, 4)) for n in (25, 60)]
    table, _ = alikeness(bags_of(patients), np.ones(4), seed=3)
    shuffled, _ = alikeness(bags_of([rng.permutation(patients[1])]), np.ones(4), seed=3)
    np.testing.assert_allclose(shuffled[0], table[1], rtol=1e-6)
    other, _ = alikeness(bags_of(patients), np.ones(4), seed=4)
    assert (other[:, 1:] != table[:, 1:]).all()
    np.testing.assert_allclose(other, table, atol=0.15)

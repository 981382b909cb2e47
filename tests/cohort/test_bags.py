from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lymphoscope.cohort.bags import (
    Bags,
    segment_mean,
    segment_quantile,
    segment_std,
    segment_sum,
)

Values = np.ndarray[Any, np.dtype[Any]]

numbers = st.floats(-1e6, 1e6, width=32)


@st.composite
def segments(draw: st.DrawFn, columns: tuple[int, ...] | None = None) -> list[Values]:
    """Per-patient arrays of the same number of columns; some, or all, may be empty."""
    shape = columns if columns is not None else draw(st.sampled_from([(1,), (3,), (2, 2)]))
    counts = draw(st.lists(st.integers(0, 5), max_size=7))
    return [draw(arrays.arrays(np.float64, (n, *shape), elements=numbers)) for n in counts]


def packed(parts: list[Values], shape: tuple[int, ...]) -> tuple[Values, Values]:
    values = np.concatenate([np.empty((0, *shape)), *parts])
    return values, np.concatenate([[0], np.cumsum([len(part) for part in parts], dtype=np.int64)]).astype(int)


def shape_of(parts: list[Values]) -> tuple[int, ...]:
    return parts[0].shape[1:] if parts else (1,)


def quartiles(part: Values) -> Values:
    return np.quantile(part, [0.0, 0.25, 0.9], axis=0)


@pytest.mark.parametrize(
    ("reduce", "expected", "empty"),
    [
        (segment_sum, lambda part: part.sum(axis=0), 0.0),
        (segment_mean, lambda part: part.mean(axis=0), np.nan),
        (segment_std, lambda part: part.std(axis=0), np.nan),
    ],
)
@given(parts=segments())
def test_reductions_equal_a_loop_over_patients(
    parts: list[Values],
    reduce: Callable[[Values, Values], Values],
    expected: Callable[[Values], Values],
    empty: float,
) -> None:
    shape = shape_of(parts)
    values, offsets = packed(parts, shape)
    found = reduce(values, offsets)
    wanted = [expected(part) if len(part) else np.full(shape, empty) for part in parts]
    assert found.shape == (len(parts), *shape)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.reshape(wanted, (len(parts), *shape)), rtol=1e-9, atol=1e-6)


def test_cells_of_neighbours_stay_in_their_file(tmp_path: Path) -> None:
    cells = np.lib.format.open_memmap(tmp_path / "cells.npy", "w+", np.uint8, (10, 2))
    cells[:] = np.arange(20).reshape(10, 2)
    bags = Bags(cells, np.array([0, 3, 3, 7, 10]), np.zeros((4, 3)), tuple("abcd"))
    for chosen in ([1, 2, 3], slice(0, 3), np.array([False, True, True, False]), 2):
        some = bags[chosen]
        assert isinstance(some.cells, np.memmap) and np.shares_memory(some.cells, cells)
        np.testing.assert_array_equal(some.cells, cells[bags.cell_indices(np.arange(4)[chosen].reshape(-1))])
    for chosen in ([0, 3], [2, 0], [1], []):
        some = bags[chosen]
        assert not np.shares_memory(some.cells, cells)
        np.testing.assert_array_equal(
            some.cells, np.asarray(cells)[bags.cell_indices(np.array(chosen, dtype=np.int64))]
        )


@given(parts=segments())
def test_quantiles_equal_a_loop_over_patients(parts: list[Values]) -> None:
    shape = shape_of(parts)
    values, offsets = packed(parts, shape)
    found = segment_quantile(values, offsets, [0.0, 0.25, 0.9])
    wanted = [quartiles(part) if len(part) else np.full((3, *shape), np.nan) for part in parts]
    np.testing.assert_allclose(found, np.reshape(wanted, (len(parts), 3, *shape)), rtol=1e-12)


@given(parts=segments())
def test_reductions_do_not_change_their_input(parts: list[Values]) -> None:
    values, offsets = packed(parts, shape_of(parts))
    before = values.copy()
    for reduce in (segment_sum, segment_mean, segment_std):
        reduce(values, offsets)
    assert np.array_equal(values, before)


def test_reductions_of_whole_numbers_do_not_overflow() -> None:
    bright = np.full((1000, 2), 255, dtype=np.uint8)
    assert segment_sum(bright, np.array([0, 1000])).tolist() == [[255_000.0, 255_000.0]]
    assert segment_mean(bright, np.array([0, 0, 1000])).tolist()[1] == [255.0, 255.0]
    assert segment_std(bright, np.array([0, 1000])).tolist() == [[0.0, 0.0]]


def test_missing_values_stay_with_their_patient() -> None:
    values = np.array([[1.0], [np.nan], [3.0]])
    assert np.isnan(segment_mean(values, np.array([0, 2, 3]))).ravel().tolist() == [True, False]


def bags_of(parts: list[Values]) -> Bags:
    shape = shape_of(parts)
    values, offsets = packed(parts, shape)
    rng = np.random.default_rng(len(values))
    return Bags(values, offsets, rng.normal(size=(len(parts), 3)), tuple(f"P{i}" for i in range(len(parts))))


@given(parts=segments(), data=st.data())
def test_choosing_patients_equals_choosing_from_a_list(parts: list[Values], data: st.DataObject) -> None:
    bags = bags_of(parts)
    n = len(parts)
    index: Any = data.draw(
        st.one_of(
            st.slices(n),
            st.lists(st.integers(-n, n - 1) if n else st.nothing(), max_size=n, unique_by=lambda i: i % n),
            st.lists(st.booleans(), min_size=n, max_size=n).map(lambda mask: np.array(mask, dtype=bool)),
        )
    )
    chosen = np.arange(n)[
        index if isinstance(index, slice) else np.asarray(index, dtype=None if len(index) else np.int64)
    ]
    part = bags[index]
    assert part.patient_ids == tuple(f"P{i}" for i in chosen)
    assert np.array_equal(part.clinical, bags.clinical[chosen])
    assert part.counts.tolist() == [len(parts[i]) for i in chosen]
    for k, i in enumerate(chosen):
        assert np.array_equal(part.cells[part.offsets[k] : part.offsets[k + 1]], parts[i])


@given(parts=segments())
def test_one_patient_can_be_chosen_by_number(parts: list[Values]) -> None:
    bags = bags_of(parts)
    for i, part in enumerate(parts):
        assert np.array_equal(bags[i].cells, part)
        assert np.array_equal(bags[np.int64(i)].cells, part)


@given(parts=segments())
def test_owners_match_counts(parts: list[Values]) -> None:
    bags = bags_of(parts)
    assert bags.patient_of_cell.tolist() == [i for i, part in enumerate(parts) for _ in part]
    assert np.array_equal(bags.cell_indices(np.arange(len(parts))), np.arange(len(bags.cells)))
    assert bags.counts.sum() == len(bags.cells)


@given(parts=segments(columns=(3,)))
def test_packing_a_list_and_taking_columns(parts: list[Values]) -> None:
    bags = Bags.from_list(parts, columns=("a", "b", "c")) if parts else Bags.from_list([], columns=("a",))
    assert len(bags) == len(parts)
    assert np.isnan(bags.clinical).all()
    if parts:
        taken = bags.select_columns(["c", "a"])
        assert taken.columns == ("c", "a")
        assert np.array_equal(taken.cells, np.concatenate(parts)[:, [2, 0]])


def test_choosing_keeps_dtype_and_works_on_a_memory_map(tmp_path: Any) -> None:
    cells = np.lib.format.open_memmap(tmp_path / "cells.npy", mode="w+", dtype=np.uint8, shape=(6, 4, 4, 3))
    cells[:] = np.arange(6)[:, None, None, None]
    bags = Bags(cells, [0, 2, 2, 6], np.zeros((3, 3)), ("a", "b", "c"))
    assert bags[[2, 0]].cells.dtype == np.uint8
    assert bags[[2, 0]].cells[:, 0, 0, 0].tolist() == [2, 3, 4, 5, 0, 1]
    assert len(bags[1].cells) == 0


GOOD = Bags(np.zeros((4, 2)), [0, 1, 4], np.zeros((2, 3)), ("P1", "P10"), ("a", "b"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offsets": [0, 4]}, "allowed: \\(3,\\) for 2 patient_ids"),
        ({"offsets": [0, 1, 3]}, "0 to the number of cells \\(4\\)"),
        ({"offsets": [1, 1, 4]}, "got 1 … 4"),
        ({"offsets": [0, 5, 4]}, "must rise"),
        ({"clinical": np.zeros((2, 2))}, "allowed: \\(2, 3\\)"),
        ({"patient_ids": ("P1", "P1")}, "every id may stand once only"),
        ({"columns": ("a",)}, "1 names for cells of shape"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(GOOD, **change)


def test_unknown_columns_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"\['x'\] are not there; allowed: a, b"):
        GOOD.select_columns(["a", "x"])
    with pytest.raises(ValueError, match="not named per-cell numbers"):
        replace(GOOD, columns=None).select_columns(["a"])


def test_the_same_patient_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="every id may stand once only"):
        GOOD[[0, 0]]

"""One patient's cells in words: shares, how alike they are, which are typical, what is said of one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lymphoscope.cells.concepts import Task
from lymphoscope.cells.portrait import agreement, by_typicality, of_cells, telling, trait_shares
from lymphoscope.stats.intervals import wilson


def task(name: str, answers: tuple[str, ...], said: list[int], sure: float = 0.8) -> Task:
    """Cells that are told answer number `said`, with probability `sure`."""
    table = np.full((len(said), len(answers)), (1 - sure) / (len(answers) - 1))
    table[np.arange(len(said)), said] = sure
    return Task(name, answers, table)


def test_shares_are_always_of_the_same_answers_with_wilsons_interval() -> None:
    told = {
        "granularity": task("granularity", ("no", "yes"), [0, 0, 0, 1]),
        "cell_size": task("cell_size", ("big", "small"), [1, 1, 0, 1]),
        "stain": task("stain", ("pale", "dark"), [0, 0, 0, 0]),
    }
    found = trait_shares(told)
    assert [(each.task, each.answer) for each in found] == [("cell_size", "small"), ("granularity", "yes")]
    assert found[0].share == wilson(3, 4) and found[1].share == wilson(1, 4)
    assert trait_shares(of_cells(told, slice(0, 0))) == ()


def test_alike_is_the_chance_that_two_cells_are_told_alike() -> None:
    told = {
        "a": task("a", ("x", "y"), [0, 0, 0, 1]),
        "b": task("b", ("x", "y", "z"), [0, 1, 2, 2]),
        "cell_type": task("cell_type", ("lymphocyte", "monocyte"), [0, 1, 0, 1]),
    }
    assert agreement(told) == pytest.approx((3 / 6 + 1 / 6) / 2)
    assert agreement({"a": task("a", ("x", "y"), [1, 1, 1])}) == 1
    assert agreement({"a": task("a", ("x", "y"), [0, 1])}) == 0


def test_alike_of_one_cell_or_of_no_attribute_is_not_known() -> None:
    assert np.isnan(agreement({"a": task("a", ("x", "y"), [1])}))
    assert np.isnan(agreement({"cell_type": task("cell_type", ("x", "y"), [1, 1])}))


def test_alike_does_not_grow_with_the_number_of_cells() -> None:
    rng = np.random.default_rng(0)
    few, many = (
        np.mean([agreement({"a": task("a", ("x", "y"), list(rng.integers(0, 2, n)))}) for _ in range(400)])
        for n in (5, 60)
    )
    assert few == pytest.approx(0.5, abs=0.04) and many == pytest.approx(0.5, abs=0.02)


@given(st.lists(st.floats(-5, 5), max_size=12))
def test_every_cell_has_its_place_and_the_nearest_to_the_mean_comes_first(values: list[float]) -> None:
    embeddings = np.array(values)[:, None]
    order = by_typicality(embeddings)
    assert sorted(order.tolist()) == list(range(len(values)))
    if values:
        away = np.abs(embeddings[order, 0] - np.mean(values))
        assert (np.diff(away) >= -1e-9).all()


def test_of_a_cell_what_is_unlike_the_others_is_said_first() -> None:
    told = {
        "cell_size": task("cell_size", ("big", "small"), [1, 1, 1], 0.9),
        "nuclear_cytoplasmic_ratio": task("nuclear_cytoplasmic_ratio", ("high", "low"), [0, 0, 0], 0.7),
        "chromatin_density": task("chromatin_density", ("densely", "loosely"), [0, 0, 1], 0.6),
        "granularity": task("granularity", ("no", "yes"), [0, 0, 1], 0.8),
    }
    usual = telling(told, 0)
    assert [each[:2] for each in usual] == [
        ("cell_size", "small"), ("nuclear_cytoplasmic_ratio", "high"), ("chromatin_density", "densely"),
    ]  # fmt: skip
    assert usual[0][2] == pytest.approx(0.9)
    assert [each[1] for each in telling(told, 2)] == ["yes", "loosely", "small"]
    assert len(telling(told, 2, most=2)) == 2

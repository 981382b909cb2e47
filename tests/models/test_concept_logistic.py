"""A concept bottleneck: named shares in, log-odds out, and nothing beside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lymphoscope.cohort.bags import CLINICAL_COLUMNS, Bags
from lymphoscope.errors import InputError
from lymphoscope.models.conformance import CONCEPT_COLUMNS, example_bags, separation
from lymphoscope.models.registry import create_model

COLUMNS = ("nucleus_area_px", "concept_size=big", "concept_size=small", "concept_type=a", "concept_type=b")


def patients(n: int = 60, seed: int = 0, *, signal: float = 0.25) -> tuple[Bags, np.ndarray]:
    """Patients of whom the malignant ones have more small cells; the type of a cell says nothing."""
    rng, y = np.random.default_rng(seed), (np.arange(n) % 3 > 0).astype(np.int64)
    cells = []
    for label in y:
        small = (rng.random(12) < 0.4 + signal * (label - 0.5)).astype(np.float32)
        kind = rng.random(12).astype(np.float32)
        area = rng.normal(0, 1e4, 12)
        cells.append(np.column_stack([area, 1 - small, small, kind, 1 - kind]).astype(np.float32))
    return Bags.from_list(cells, np.tile([60.0, 1.0, 8.0], (n, 1)), columns=COLUMNS), y


def auc(p: np.ndarray, y: np.ndarray) -> float:
    return float((p[y == 1][:, None] > p[y == 0]).mean())


@pytest.mark.parametrize("name", ["concepts", "concept-clinical"])
def test_a_planted_share_is_found_and_named(name: str) -> None:
    bags, y = patients(120, signal=0.5)
    model = create_model(name).fit(bags, y)
    weights = model.coefficients_  # type: ignore[attr-defined]
    clinical = CLINICAL_COLUMNS if name == "concept-clinical" else ()
    assert tuple(weights) == (*clinical, *COLUMNS[1:]), "each number that is weighed has a name"
    assert weights["concept_size=small"] > 0 > weights["concept_size=big"]
    assert abs(weights["concept_size=small"]) > 4 * abs(weights["concept_type=a"])
    new, truth = patients(120, seed=1, signal=0.5)
    assert auc(model.predict_proba(new)[:, 1], truth) > 0.9


def test_permuted_labels_give_nothing() -> None:
    scores = separation(lambda: create_model("concepts"), permuted=True, seeds=20)
    assert abs(scores.mean() - 0.5) < 3 * scores.std(ddof=1) / np.sqrt(len(scores))


def test_nothing_but_concepts_and_clinical_values_reaches_the_decision() -> None:
    bags, y = example_bags(40)
    other = bags.cells.copy()
    measured = [i for i, name in enumerate(bags.columns or ()) if name not in CONCEPT_COLUMNS]
    other[:, measured] = np.random.default_rng(0).normal(size=(len(other), len(measured)))
    changed = replace(bags, cells=other)
    for name in ("concepts", "concept-clinical"):
        models = [create_model(name).fit(each, y) for each in (bags, changed)]
        first, second = (model.predict_proba(bags) for model in models)
        known = ~np.isnan(bags.cells).any(axis=1)
        assert known.sum() < len(known), "the example has cells without numbers"
        filled = replace(changed, cells=np.where(np.isnan(bags.cells), np.nan, other).astype(np.float32))
        assert np.array_equal(first, create_model(name).fit(filled, y).predict_proba(bags))
        assert np.array_equal(first, second)


def test_clinical_values_are_not_looked_at_where_they_are_not_asked_for() -> None:
    bags, y = patients()
    other = replace(bags, clinical=np.random.default_rng(0).normal(60, 9, bags.clinical.shape))
    model = create_model("concepts").fit(bags, y)
    assert not model.takes_clinical
    assert np.array_equal(model.predict_proba(bags), model.predict_proba(other))


def test_evidence_of_a_patients_cells_is_its_whole_say() -> None:
    bags, y = patients(90)
    bags.cells[5] = np.nan
    model = create_model("concepts").fit(bags, y)
    evidence = model.cell_evidence(bags)
    assert evidence is not None and evidence[5] == 0
    whole = np.array([evidence[a:b].mean() for a, b in zip(bags.offsets, bags.offsets[1:], strict=False)])
    p = model.predict_proba(bags)[:, 1]
    rest = np.log(p / (1 - p)) - whole
    assert np.ptp(whole) > 0.5 and np.ptp(rest) < 1e-6


def test_a_cell_without_concepts_counts_for_nothing() -> None:
    bags, y = patients()
    model = create_model("concepts").fit(bags, y)
    gone = bags.cells.copy()
    gone[::12] = np.nan  # the first cell of each patient
    without = Bags.from_list([b.cells[1:] for b in _each(bags)], bags.clinical, columns=COLUMNS)
    expected = model.predict_proba(without)
    assert np.allclose(model.predict_proba(replace(bags, cells=gone)), expected, atol=1e-7)
    assert not np.allclose(model.predict_proba(bags), expected, atol=1e-3)


def test_a_share_that_hardly_differs_is_not_blown_up() -> None:
    bags, y = patients()
    rare = bags.cells.copy()
    rare[:, 3], rare[:, 4] = 1.0, 0.0
    rare[np.flatnonzero(np.repeat(y, 12))[:40], 4] = 1e-3  # says the label, in thousandths
    model = create_model("concepts").fit(replace(bags, cells=rare), y)
    weights = model.coefficients_  # type: ignore[attr-defined]
    assert abs(weights["concept_type=b"]) < 0.1 * abs(weights["concept_size=small"])


def test_without_an_encoder_it_says_what_is_missing() -> None:
    bags, y = patients()
    with pytest.raises(InputError, match=r"concepts.*do not switch it off"):
        create_model("concepts").fit(bags.select_columns(COLUMNS[:1]), y)
    fitted = create_model("concepts").fit(bags, y)
    with pytest.raises((InputError, KeyError, ValueError), match="concept_type=b"):
        fitted.predict_proba(bags.select_columns(COLUMNS[:4]))


def _each(bags: Bags) -> list[Bags]:
    return [bags[i : i + 1] for i in range(len(bags))]

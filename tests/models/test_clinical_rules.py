from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lymphoscope.cohort.bags import Bags
from lymphoscope.models.clinical_rules import RULES, decide
from lymphoscope.models.registry import create_model, list_models

NAN = float("nan")


def clinical_bags(rows: list[tuple[float, float]]) -> Bags:
    """Patients without cells from pairs of age and lymphocyte count."""
    table = np.array([(age, 0.0, count) for age, count in rows])
    return Bags.from_list([np.empty((0, 1), np.float32)] * len(rows), table, columns=["x"])


@pytest.mark.parametrize(
    ("rule", "age", "count", "expected"),
    [
        ("chakroun-2021", 62.5, 10.47, 0),
        ("chakroun-2021", 62.6, 5.0, 1),
        ("chakroun-2021", 30.0, 10.48, 1),
        ("chakroun-2021", NAN, 11.0, 1),
        ("chakroun-2021", NAN, 5.0, 1),
        ("chakroun-2021", 40.0, NAN, 1),
        ("andrews-2008", 67.0, 6.7, 0),
        ("andrews-2008", 67.0, 6.71, 1),
        ("andrews-2008", 67.5, 4.0, 1),
        ("andrews-2008", 67.5, 3.99, 0),
        ("andrews-2008", 49.9, 100.0, 0),
        ("andrews-2008", 50.0, 6.8, 1),
        ("andrews-2008", 40.0, NAN, 0),
        ("andrews-2008", NAN, 3.9, 0),
        ("muscara-2019", 74.9, 4.39, 0),
        ("muscara-2019", 74.9, 4.4, 1),
        ("muscara-2019", 75.0, 4.0, 1),
        ("muscara-2019", 75.0, 3.99, 0),
        ("muscara-2019", NAN, 4.2, 1),
        ("muscara-2019", NAN, 3.9, 0),
        ("muscara-2019", NAN, NAN, 1),
    ],
)
def test_rules_cut_where_the_papers_cut_and_unknown_refers(
    rule: str, age: float, count: float, expected: int
) -> None:
    assert decide(rule, clinical_bags([(age, count)]).clinical)[0] == expected


@given(
    rows=st.lists(st.tuples(st.floats(18, 100), st.floats(0.5, 300)), min_size=2, max_size=30),
    seed=st.integers(0, 1000),
)
def test_predict_is_the_rule_whatever_the_labels_are(rows: list[tuple[float, float]], seed: int) -> None:
    bags = clinical_bags(rows)
    y = np.random.default_rng(seed).integers(0, 2, len(rows))
    y[:2] = 0, 1
    for recipe in (info for info in list_models() if info.estimator == "ClinicalRule"):
        model = create_model(recipe.name).fit(bags, y)
        expected = RULES[recipe.settings["rule"]](bags.clinical[:, 0], bags.clinical[:, 2])
        assert np.array_equal(model.predict(bags), expected.astype(np.int8))


def test_probability_is_the_smoothed_share_of_malignant_patients_on_each_side() -> None:
    bags = clinical_bags([(80.0, 20.0)] * 9 + [(30.0, 5.0)] * 3)
    y = np.array([1] * 8 + [0] * 4)
    p = create_model("rule-chakroun-2021").fit(bags, y).predict_proba(bags)[:, 1]
    assert p[0] == pytest.approx(8.5 / 10)
    assert p[-1] == pytest.approx(0.5 / 4)

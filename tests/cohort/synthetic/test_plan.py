from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from lymphoscope.cohort.synthetic import SyntheticPlan
from lymphoscope.errors import InputError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("patients", 1),
        ("patients", 10.0),
        ("test", -1),
        ("cells", 0),
        ("cells", 10_001),
        ("cells", 10**18),
        ("patients", 10**12),
        ("seed", -1),
        ("prevalence", 0.0),
        ("prevalence", float("nan")),
        ("heterogeneity_effect", 1.0),
        ("shortcut", "colour"),
        ("leak", "cells"),
        ("label_noise", 0.6),
        ("missing", 1.1),
        ("stain_shift", "much"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=field) as caught:
        replace(SyntheticPlan(), **{field: value})
    assert caught.value.allowed


def test_a_cohort_that_would_fill_the_disk_is_refused() -> None:
    assert SyntheticPlan(patients=600, test=400, cells=10_000).cells == 10_000
    with pytest.raises(InputError, match="found 601; allowed: together with test at most 1,000 at 10,000"):
        SyntheticPlan(patients=601, test=400, cells=10_000)


def test_copies_into_the_test_patients_need_test_patients() -> None:
    with pytest.raises(InputError, match="leak"):
        SyntheticPlan(test=0, leak="splits")


def test_a_plan_survives_json() -> None:
    plan = SyntheticPlan(patients=9, shortcut="border", missing=0.25)
    assert SyntheticPlan(**json.loads(json.dumps(plan.as_dict()))) == plan


def test_no_fault_is_planted_by_default_but_the_blemishes_of_the_challenge() -> None:
    plan = SyntheticPlan()
    assert (plan.patients, plan.test, plan.cells) == (163, 42, 66)
    assert (plan.shortcut, plan.leak) == ("none", "none")
    assert (plan.label_noise, plan.missing, plan.stain_shift) == (0.0, 0.0, 0.0)
    assert plan.dirt

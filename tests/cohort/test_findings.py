"""A finding as plain values, and ignored by its code."""

from __future__ import annotations

import json

import pytest

from lymphoscope.cohort.findings import counted, without
from lymphoscope.cohort.table_findings import ImpossibleAge, RepeatedRow
from lymphoscope.errors import InputError


def test_finding_as_plain_values() -> None:
    finding = ImpossibleAge("1 age below 0.", patients=("P1",), files=("t.csv:2",))
    values = json.loads(json.dumps(finding.as_dict()))
    assert values["code"] == "LYM005"
    assert values["severity"] == "error"
    assert values["patients"] == ["P1"]
    assert values["anchor"] == "docs/reference/findings.md#lym005"


def test_findings_are_ignored_by_code() -> None:
    findings = (RepeatedRow("a"), ImpossibleAge("b"), RepeatedRow("c"))
    assert without(findings, [" lym001 "]) == (ImpossibleAge("b"),)
    assert without(findings, []) == findings


def test_unknown_code_to_ignore_lists_the_known() -> None:
    with pytest.raises(InputError, match=r"LYM999.*LYM001"):
        without((), ["LYM001", "LYM999"])


def test_counted() -> None:
    assert [counted(n, "row") for n in (0, 1, 2)] == ["0 rows", "1 row", "2 rows"]

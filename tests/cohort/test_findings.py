"""Every kind of finding is complete, documented, and can be ignored by its code."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from lymphoscope.cohort.findings import Severity, counted, without
from lymphoscope.cohort.folder_findings import StrayFiles
from lymphoscope.cohort.table_findings import ImpossibleAge, RepeatedRow
from lymphoscope.errors import InputError

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_findings", DOCS / "generate_findings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_kind_is_complete(generator: ModuleType) -> None:
    kinds = generator.shipped_kinds()
    assert {RepeatedRow, StrayFiles} <= set(kinds)
    for kind in kinds:
        assert re.fullmatch(r"LYM\d{3}", kind.code), kind
        assert kind.code[:4] in generator.GROUPS, kind
        assert isinstance(kind.severity, Severity), kind
        assert kind.title[0].isupper() and not kind.title.endswith("."), kind
        assert kind.remedy.endswith("."), kind
        assert "__doc__" in vars(kind) and len(kind.__doc__) > 15, kind
        assert not kind.__doc__.startswith(f"{kind.__name__}("), f"{kind} has no docstring of its own"


def test_no_code_is_used_twice(generator: ModuleType) -> None:
    codes = [kind.code for kind in generator.shipped_kinds()]
    assert sorted(set(codes)) == codes


def test_the_page_is_current(generator: ModuleType) -> None:
    assert generator.PAGE.read_text(encoding="utf-8") == generator.page(), (
        "run python docs/generate_findings.py"
    )


def test_every_anchor_is_on_the_page(generator: ModuleType) -> None:
    headings = {
        "#" + line.removeprefix("### ").lower()
        for line in generator.page().splitlines()
        if line.startswith("### ")
    }
    for kind in generator.shipped_kinds():
        page, _, anchor = kind("").anchor.partition("#")
        assert DOCS.parent / page == generator.PAGE
        assert f"#{anchor}" in headings


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

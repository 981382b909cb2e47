"""The table of columns and the page made from it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from lymphoscope.cells.columns import COLUMNS, Column

DOCS = Path(__file__).parents[2] / "docs"


def test_reference_page_is_current() -> None:
    spec = importlib.util.spec_from_file_location("generate_morphology", DOCS / "generate_morphology.py")
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    assert generator.PAGE.read_text(encoding="utf-8") == generator.page(), (
        "docs/reference/morphology.md is out of date: run python docs/generate_morphology.py"
    )


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_every_column_says_its_unit_and_meaning(column: Column) -> None:
    assert column.meaning.endswith(".")
    suffixes = {"px²": "_px", "px": "_px", "OD": "_od", "bits": "_bits", "OD·px²": "_od_px", "OD/px": "_od"}
    assert column.name.endswith(suffixes.get(column.unit, ""))
    assert (column.length_power in (1, 2)) == column.name_in_micrometres.endswith(("_um", "_um2"))

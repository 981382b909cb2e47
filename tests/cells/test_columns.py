"""The table of columns."""

from __future__ import annotations

import pytest

from lymphoscope.cells.columns import COLUMNS, Column


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_every_column_says_its_unit_and_meaning(column: Column) -> None:
    assert column.meaning.endswith(".")
    suffixes = {"px²": "_px", "px": "_px", "OD": "_od", "bits": "_bits", "OD·px²": "_od_px", "OD/px": "_od"}
    assert column.name.endswith(suffixes.get(column.unit, ""))
    assert (column.length_power in (1, 2)) == column.name_in_micrometres.endswith(("_um", "_um2"))

from __future__ import annotations

import pytest

from lymphoscope.errors import InputError
from lymphoscope.pipeline.plan import Submission


def test_columns_are_read_from_text() -> None:
    assert Submission.parse("ID, LABEL", "probability") == Submission(("ID", "LABEL"), "probability")
    assert Submission.parse("patient no,p(malignant)", "decision").columns == ("patient no", "p(malignant)")


@pytest.mark.parametrize(
    "columns",
    [
        *("=cmd,x", "x,=1+1", "+x,y", "-x,y", "x,@y", "x, =y", "\tx,y", "x,\ry", "x\n,y", "x\x1b[31m,y"),
        *(",", "x,", " ,x", "x,x", "Id,ID"),
    ],
)
def test_a_column_that_is_a_formula_or_no_name_is_refused(columns: str) -> None:
    with pytest.raises(InputError, match="of the submission"):
        Submission.parse(columns, "decision")
    with pytest.raises(InputError, match="of the submission"):
        first, second = columns.split(",")
        Submission((first.strip(" "), second.strip(" ")))


@pytest.mark.parametrize("columns", ["", "x", "x,y,z"])
def test_two_columns_are_wanted(columns: str) -> None:
    with pytest.raises(InputError, match="allowed: two names"):
        Submission.parse(columns, "decision")

from __future__ import annotations

import pytest

from lymphoscope.files import to_json
from lymphoscope.stats.comparison import Comparison, difference_sentence
from lymphoscope.stats.intervals import Interval

PATIENTS = "163 patients (113 malignant, 50 reactive)"


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (Interval(0.05, 0.01, 0.09), "morphology has a higher balanced accuracy than clinical on 163"),
        (Interval(-0.05, -0.09, -0.01), "morphology has a lower balanced accuracy than clinical on 163"),
        (Interval(0.01, -0.03, 0.05), "cannot be told apart on 163 patients"),
        (Interval(0.0, 0.0, 0.05), "cannot be told apart"),
    ],
)
def test_says_in_plain_words_what_the_interval_says(difference: Interval, words: str) -> None:
    assert words in difference_sentence("clinical", "morphology", difference, PATIENTS)


def test_told_apart_is_an_interval_without_zero() -> None:
    def made(interval: Interval | None) -> Comparison:
        return Comparison("a", "b", "overall", 113, 50, interval, None, "")

    assert made(Interval(0.05, 0.01, 0.09)).told_apart
    assert not made(Interval(0.05, -0.01, 0.09)).told_apart
    assert not made(None).told_apart
    to_json(made(None).as_dict())

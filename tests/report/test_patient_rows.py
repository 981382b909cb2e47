"""Which cells and which patients come first, how a patient is drawn, what numbers look like in words."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from report_example import BOTH, CLINICAL, RULE, cell_image, example_ladder, example_report

from lymphoscope.report import patient_table as table
from lymphoscope.report import wording
from lymphoscope.report.content import DECISIONS, CellCrop, Comparison
from lymphoscope.report.html import render_report
from lymphoscope.stats.intervals import Interval

ROWS = example_report().patients


@given(st.lists(st.floats(allow_nan=True, allow_infinity=False, width=32), max_size=40), st.integers(0, 9))
def test_strongest_cells_are_on_their_own_side_and_heaviest_first(weights: list[float], k: int) -> None:
    speaks_for, against = table.strongest_cells(weights, k)
    assert all(weights[i] > 0 for i in speaks_for)
    assert all(weights[i] < 0 for i in against)
    assert [weights[i] for i in speaks_for] == sorted((w for w in weights if w > 0), reverse=True)[:k]
    assert [weights[i] for i in against] == sorted(w for w in weights if w < 0)[:k]


@given(st.lists(st.text(max_size=12), max_size=12))
def test_natural_order_takes_any_text(ids: list[str]) -> None:
    ordered = sorted(ids, key=table.natural_key)
    assert sorted(ordered) == sorted(ids)


def test_natural_order_counts_as_people_do() -> None:
    ids = ["P10", "P2", "P100", "P1", "A7", "P" + "9" * 5000, "P02b"]
    ordered = ["A7", "P1", "P2", "P02b", "P10", "P100", ids[5]]
    assert sorted(ids, key=table.natural_key) == ordered


def test_crop_is_a_small_jpeg_of_the_whole_image() -> None:
    image = cell_image(np.random.default_rng(0), side=112)
    jpeg = table.crop_jpeg(image)
    with Image.open(io.BytesIO(jpeg)) as opened:
        assert (opened.format, opened.size, opened.mode) == ("JPEG", (table.CROP_SIDE,) * 2, "RGB")
        ground = np.asarray(opened)[:6, :6].reshape(-1, 3).mean(axis=0)
    assert np.abs(ground - (236, 220, 226)).max() < 6
    assert jpeg == table.crop_jpeg(image.copy())
    assert len(jpeg) < 4_000


def test_groups_hold_every_patient_once_by_descending_probability() -> None:
    groups = table.group_by_decision(ROWS)
    assert [group.decision for group in groups] == ["advised", "cannot say", "not advised"]
    assert sorted(id_ for group in groups for id_ in group.ids) == sorted(row.id for row in ROWS)
    for group in groups:
        estimates = [row.probability.estimate for row in group.rows if row.probability]
        assert estimates == sorted(estimates, reverse=True)


def test_surprising_labelled_patients_come_first() -> None:
    malignant, reactive = table.group_by_label(row for row in ROWS if row.labelled)
    p = [row.probability.estimate for row in malignant.rows if row.probability]
    q = [row.probability.estimate for row in reactive.rows if row.probability]
    assert p == sorted(p)
    assert q == sorted(q, reverse=True)
    assert (len(p), len(q)) == (7, 5)


def test_only_a_spared_malignant_patient_was_missed() -> None:
    row = replace(ROWS[0], label=1, decision="not advised")
    assert table.was_missed(row)
    assert not table.was_missed(replace(row, label=0))
    assert not table.was_missed(replace(row, decision="cannot say"))


@pytest.mark.parametrize(("limit", "k"), [(10**9, 3), (1000, 2), (999, 1), (500, 1), (499, 0), (0, 0)])
def test_cells_a_side_fit_the_limit(limit: int, k: int) -> None:
    row = replace(
        ROWS[0],
        cells_for=tuple(CellCrop(b"x" * 250, 1.0) for _ in range(3)),
        cells_against=tuple(CellCrop(b"x" * 250, -1.0) for _ in range(3)),
    )
    assert table.cells_per_side([row], limit) == k


def test_decisions_differ_without_colour() -> None:
    marks = {str(table.decision_mark(decision)) for decision in DECISIONS}
    assert len(marks) == 3
    assert not any(re.search("#[0-9a-f]{3}", mark) for mark in marks)
    row = ROWS[0]
    dots = {
        re.search(r'class="dot (\w+)"', table.interval_bar(replace(row, decision=decision), 0.5))[1]
        for decision in DECISIONS
    }
    assert dots == {"full", "half", "open"}


def test_bar_draws_probability_interval_and_threshold_to_scale() -> None:
    row = replace(ROWS[0], probability=Interval(0.5, 0.0, 1.0), threshold=None)
    bar = table.interval_bar(row, 0.25)
    left, right = 6.0, 144.0
    assert f'class="cut" x1="{left + 0.25 * (right - left):.1f}"' in bar
    assert f'class="interval" x1="{left}" x2="{right}"' in bar
    assert f'cx="{(left + right) / 2}"' in bar
    own = table.interval_bar(replace(row, threshold=1.0), 0.25)
    assert f'class="cut" x1="{right}"' in own


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.5, 0.95, 1.0])
def test_scale_never_writes_two_numbers_over_each_other(threshold: float) -> None:
    at = [float(x) for x in re.findall(r'<text[^>]* x="([\d.]+)"', table.axis_bar(threshold))]
    assert all(abs(a - b) > 15 for i, a in enumerate(at) for b in at[:i])
    assert len(at) >= 2


def test_scale_names_no_threshold_where_patients_have_their_own() -> None:
    assert "threshold" not in table.axis_bar(None)
    assert re.findall(r">([\d.]+)</text>", table.axis_bar(None)) == ["0", "1"]
    own = example_report().patients[-1]
    page = render_report(replace(example_report(), patients=(replace(own, threshold=0.3),)))
    assert "threshold that was chosen without the patient" in page
    assert "threshold 0.30" in page


@given(st.floats(0, 1))
def test_a_probability_is_never_certain_by_rounding(value: float) -> None:
    assert wording.probability(value) not in ("0.00", "1.00")
    if 0.005 <= value <= 0.995:
        assert abs(float(wording.probability(value)) - value) <= 0.0050001


def test_missing_numbers_are_words() -> None:
    void = Interval(0.5, float("nan"), float("nan"))
    assert wording.interval_text(None) == "not measured"
    assert wording.interval_text(void) == "0.50 (no interval)"
    assert wording.percent_text(void) == "50\u00a0% (no interval)"
    assert wording.percent_text(Interval(0.96, 0.91, 0.99)) == "96\u00a0% (91 to 99\u00a0%)"
    assert wording.describe_clinical(67.4, 0.0, 5.21) == "67 y · F · 5.2 × 10⁹/L"


def test_headline_of_one_patient() -> None:
    one = wording.headline([replace(ROWS[0], decision="cannot say")])
    assert one == (
        "Of 1 patient without a diagnosis, flow cytometry is advised for 0 and not advised for 0; "
        "for 1 the tool cannot say."
    )


def test_conclusion_is_about_the_chosen_recipe() -> None:
    ladder = example_ladder()
    text = wording.ladder_conclusion(ladder)
    assert text.startswith(f"“{BOTH}” does better than “clinical” (+0.046, interval +0.004 to +0.090).")
    assert "These patients cannot tell" in text
    assert RULE not in text
    assert wording.ladder_conclusion(replace(ladder, conclusion="As said.")) == "As said."


@pytest.mark.parametrize(
    ("difference", "verdict", "words"),
    [
        (Interval(0.1, 0.01, 0.2), "yes, better", "does better than"),
        (Interval(-0.1, -0.2, -0.01), "yes, worse", "does worse than"),
        (Interval(0.1, -0.01, 0.2), "no", "cannot tell"),
    ],
)
def test_rungs_are_told_apart_by_the_interval(difference: Interval, verdict: str, words: str) -> None:
    ladder = replace(example_ladder(), comparisons=(Comparison(CLINICAL, BOTH, difference),))
    assert wording.told_apart(difference) == verdict
    assert words in wording.ladder_conclusion(ladder)

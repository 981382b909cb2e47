"""Cells in words on the page: below each patient's line, and for the cohort."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from page_checks import Page, assert_sound
from report_example import example_report

from lymphoscope.cells.portrait import TRAITS
from lymphoscope.encoders.wbcatt import VALUES
from lymphoscope.report import concept_words as words
from lymphoscope.report import patient_table
from lymphoscope.report.concept_content import ConceptComparison, ConceptRow, DescribedCell, Portrait, Trait
from lymphoscope.report.concept_section import drawn, flagged_text
from lymphoscope.report.content import ReportContent
from lymphoscope.report.html import environment, render_report
from lymphoscope.report.patient_table import crop_jpeg
from lymphoscope.stats.group_differences import Difference
from lymphoscope.stats.intervals import Interval

JPEG = crop_jpeg(np.full((8, 8, 3), 120, dtype=np.uint8))
CELL = DescribedCell(JPEG, "mono", "monocyte 0.71, large <cell> 0.90", "000003.jpg")
PORTRAIT = Portrait(
    traits=(
        Trait("small cell", Interval(0.71, 0.60, 0.80)),
        Trait("dense chromatin", Interval(0.92, 0.83, 0.97)),
    ),
    alike=0.77,
    typical=(CELL, CELL),
    untypical=(CELL,),
    flagged={"neutrophil": 2, "platelet": 1},
)


def row(name: str, effect: float, adjusted: float, **given: bool) -> ConceptRow:
    interval = Interval(effect, effect - 0.2, min(effect + 0.2, 1.0))
    return ConceptRow(name, Difference(interval, adjusted / 4, adjusted, 0.71, 0.35), **given)


COMPARED = ConceptComparison(
    rows=(row("small cell", 0.62, 0.0004), row("how alike the cells are", 0.4, 0.03, is_share=False),
          row("blue cytoplasm", -0.2, 0.4)),
    n_compared=17, n_malignant=40, n_reactive=21,
)  # fmt: skip


def content(portrait: Portrait | None = PORTRAIT) -> ReportContent:
    given = example_report()
    return replace(given, patients=tuple(replace(each, portrait=portrait) for each in given.patients))


def said(found: ConceptComparison) -> Page:
    section = environment().get_template("concepts.html.j2").module.section(drawn(found))  # type: ignore[attr-defined]
    page = Page(str(section))
    assert not page.faults
    return page


def test_each_patient_has_a_second_line_in_words() -> None:
    page = assert_sound(render_report(content()))
    lines = [attrs for attrs in page.named("tr") if attrs.get("class") == "portrait"]
    assert len(lines) == len(example_report().patients)
    for text in ("small cell", "71\u00a0%", "60–80", "83–97", "0.77",
                 "taken for 2 neutrophils, 1 platelet"):  # fmt: skip
        assert text in page.text
    odd = [attrs for attrs in page.named("img") if attrs["alt"].startswith("odd cell")]
    assert odd[0]["alt"] == "odd cell 000003.jpg: monocyte 0.71, large <cell> 0.90"
    assert odd[0]["title"] == "monocyte 0.71, large <cell> 0.90 (000003.jpg)"
    assert "mono" in page.text


def test_without_an_encoder_there_is_no_second_line() -> None:
    page = assert_sound(render_report(content(None)))
    assert not [attrs for attrs in page.named("tr") if attrs.get("class") == "portrait"]
    assert "second line" not in page.text and "concepts" not in page.ids


def test_portraits_stand_also_where_no_cell_is_shown() -> None:
    bare = replace(PORTRAIT, typical=(), untypical=(), alike=float("nan"), flagged={})
    given = content(bare)
    rows = tuple(replace(each, cells_for=(), cells_against=()) for each in given.patients)
    page = assert_sound(render_report(replace(given, patients=rows)))
    assert "dense chromatin" in page.text and not re.search(r"alike: \d", page.text)
    assert "surely no lymphocyte" not in page.text
    assert "(typical)" not in page.text


def test_cells_that_explain_the_decision_come_first_when_room_is_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = content()
    evidence = patient_table.crop_bytes(given.patients, 9)
    for room, odd in ((evidence, 0), (evidence + 10**6, len(given.patients))):
        monkeypatch.setattr(patient_table, "CROP_BYTES_LIMIT", room)
        monkeypatch.setattr(
            patient_table.cells_per_side, "__defaults__", (room, patient_table.evidence_strips)
        )
        page = Page(render_report(given))
        pictures = [attrs["alt"] for attrs in page.named("img")]
        assert sum(each.startswith("odd cell") for each in pictures) == odd
        assert sum(each.startswith("Cell 0") for each in pictures) == 4 * len(given.patients)


def test_the_comparison_says_how_many_were_asked_and_which_differ() -> None:
    page = assert_sound(render_report(replace(content(), concepts=COMPARED)))
    assert page.ids.index("ladder") < page.ids.index("concepts") < page.ids.index("findings")
    text = said(COMPARED).text
    assert (
        "Of 17 concepts compared, 2 differ by more than chance: small cell, how alike the cells are." in text
    )
    assert "The 3 largest differences of 17" in text and "40 malignant and 21 reactive" in text
    for number in ("71\u00a0%", "0.71", "+0.62", "< 0.001", "0.030", "0.40", "−0.20"):
        assert number in text
    dots = [attrs["class"] for tag, attrs in said(COMPARED).tags if tag == "circle"]
    assert dots == ["dot full", "dot full", "dot open"]


def test_where_nothing_differs_that_is_said() -> None:
    nothing = replace(COMPARED, rows=COMPARED.rows[2:], n_compared=1)
    text = said(nothing).text
    assert "Of 1 concept compared, none differs" in text and "All that were compared" in text


def test_where_all_rows_differ_there_may_be_more_below() -> None:
    text = said(replace(COMPARED, rows=COMPARED.rows[:2])).text
    assert "at least 2 differ by more than chance" in text


def test_bars_are_to_scale() -> None:
    bars = [attrs for tag, attrs in said(COMPARED).tags if tag == "circle"]
    expected = [8 + 204 * (1 + effect) / 2 for effect in (0.62, 0.4, -0.2)]
    assert [float(each["cx"]) for each in bars] == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize(
    ("value", "word"),
    [(1.0, "much alike"), (0.95, "much alike"), (0.949, "alike"), (0.9, "alike"), (0.8, "mixed"),
     (0.79, "very mixed"), (0.0, "very mixed"), (float("nan"), "")],
)  # fmt: skip
def test_how_alike_in_a_word(value: float, word: str) -> None:
    assert words.alike_word(value) == word


def test_every_answer_of_wbcatt_has_words_of_its_own() -> None:
    assert {task for task, _ in TRAITS} <= set(VALUES)
    for task, answers in VALUES.items():
        told = [words.answer_words(task, answer) for answer in answers]
        assert len(set(told)) == len(told)
        assert not any(": " in each for each in told)
    assert words.answer_words("stain_batch", "one_a") == "stain batch: one a"
    assert words.answer_words("cell_type", "ig") == "immature granulocyte"
    assert words.short_type("lymphocyte") == "lymph" and words.short_type("megakaryocyte") == "megakar"


@pytest.mark.parametrize(("p", "text"), [(0.0, "< 0.001"), (0.0123, "0.012"), (0.46, "0.46"), (1.0, "1.00")])
def test_a_p_value_is_never_zero(p: float, text: str) -> None:
    assert words.p_text(p) == text


def test_one_flagged_cell_is_singular() -> None:
    assert flagged_text(replace(PORTRAIT, flagged={"basophil": 1})) == "taken for 1 basophil"

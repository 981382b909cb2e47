"""The report page: order, honesty about what is missing, safety, sameness, size."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
from page_checks import Page, assert_sound
from report_example import INVENTED, example_report

from lymphoscope.cells.cell_findings import NotALymphocyte
from lymphoscope.cohort.table_findings import MissingValues
from lymphoscope.report import html
from lymphoscope.report.content import CellCrop, Ladder, Methods, Probe, ReportContent
from lymphoscope.report.html import render_report, write_report

NASTY = '<script>alert("x")</script>'
NAN = float("nan")


@pytest.fixture(scope="module")
def content() -> ReportContent:
    return example_report()


@pytest.fixture(scope="module")
def text(content: ReportContent) -> str:
    return render_report(content)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return assert_sound(text)


def test_answer_then_ladder_then_findings_then_methods(page: Page) -> None:
    wanted = [
        "answer",
        "ladder",
        "decision",
        "calibration",
        "proof",
        "findings",
        "probes",
        "methods",
        "glossary",
    ]
    assert [i for i in page.ids if i in wanted] == wanted


def test_headline_says_what_the_rows_say(content: ReportContent, page: Page) -> None:
    rows = [row for row in content.patients if not row.labelled]
    n = {decision: sum(row.decision == decision for row in rows) for decision in ("advised", "not advised")}
    heading = page.text[page.text.index("Of ") :].split("\n", 1)[0]
    assert heading.startswith(
        f"Of {len(rows)} patients without a diagnosis, flow cytometry is advised for {n['advised']} "
        f"and not advised for {n['not advised']}"
    )


def test_warns_before_anything_else_that_it_is_no_diagnosis(page: Page) -> None:
    assert "This is not a diagnosis" in page.text
    assert page.text.index("Research use only") < page.text.index("How far to trust this")


def test_note_on_labels_stands_with_the_answer_and_with_the_ladder(
    page: Page, content: ReportContent
) -> None:
    assert page.text.count(INVENTED) == 2
    real = replace(content, cohort=replace(content.cohort, labels_note=""))
    assert "About the labels" not in render_report(real)


def test_every_patient_has_a_row_with_a_bar_and_its_cells(content: ReportContent, page: Page) -> None:
    assert sum(attrs.get("class") == "patient" for attrs in page.named("tr")) == len(content.patients)
    assert sum("Probability" in a.get("aria-label", "") for a in page.named("svg")) == len(content.patients)
    shown = sum(len(row.cells_for) + len(row.cells_against) for row in content.patients)
    assert len(page.named("img")) == shown


def test_cells_for_and_against_are_told_apart_in_words(page: Page) -> None:
    texts = [attrs["alt"] for attrs in page.named("img")]
    assert all(("+" in text) == text.endswith("for malignancy") for text in texts)
    assert all(("−" in text) == text.endswith("against malignancy") for text in texts)
    assert any(text.endswith("for malignancy") for text in texts)


def test_labelled_patients_are_folded_away(text: str, page: Page) -> None:
    assert page.named("details") == [{}]
    folded = text[text.index("<details>") : text.index("</details>")]
    assert folded.count('class="patient"') == 12
    assert "held out of training" in folded


def test_missed_patients_are_named(content: ReportContent) -> None:
    row = next(row for row in content.patients if row.label == 1)
    missed = replace(row, decision="not advised", reason="spared by mistake")
    others = tuple(missed if r is row else r for r in content.patients)
    shown = Page(render_report(replace(content, patients=others)))
    assert "Malignant patients the tool would have missed" in shown.text
    assert "spared by mistake" in shown.text
    assert {"href": f"#patient-{others.index(missed)}"} in shown.named("a")


def test_findings_are_grouped_worst_first_with_code_remedy_and_anchor(
    page: Page, content: ReportContent
) -> None:
    for finding in content.findings:
        for part in (finding.code, finding.message, finding.remedy, finding.anchor):
            assert part in page.text
    assert page.text.index("Warnings: look at these") < page.text.index("For information")


def test_a_shortcut_is_told_on_the_first_page(page: Page) -> None:
    first = page.text[: page.text.index("Patient by patient")]
    assert "Beware of a shortcut: the label can partly be guessed from: Number of images." in first


def test_patients_text_is_harmless(content: ReportContent) -> None:
    row = replace(content.patients[0], id=NASTY, reason=f'"><img src=x onerror=alert(1)>{NASTY}', split=NASTY)
    cell = replace(row.cells_for[0], name='"onload="x')
    row = replace(row, cells_for=(cell,))
    ladder = content.ladder
    assert ladder is not None
    rung = replace(ladder.rungs[0], title=f"{NASTY} $x^{{$ & <b>", recipe=NASTY)
    finding = MissingValues(NASTY, patients=(NASTY,), files=("../../etc/passwd", NASTY))
    nasty = replace(
        content,
        patients=(row, *content.patients[1:]),
        cohort=replace(content.cohort, name=NASTY, labels_note=NASTY),
        ladder=replace(ladder, rungs=(rung, *ladder.rungs[1:]), conclusion=NASTY),
        findings=(finding,),
        probes=(Probe(NASTY, None, remark=NASTY),),
        methods=Methods((NASTY,), ((NASTY, NASTY),), ((NASTY, NASTY),)),
        created=NASTY,
    )
    page = assert_sound(render_report(nasty))
    assert NASTY in page.text


def test_only_what_the_page_needs_is_escaped_once(page: Page) -> None:
    assert "&amp;" not in page.text
    assert "&lt;" not in page.text


def test_same_content_gives_same_bytes_in_another_process(tmp_path: Path, text: str) -> None:
    (tmp_path / "matplotlibrc").write_text("font.size: 20\nsvg.fonttype: path\naxes.grid: True\n")
    script = (
        "import sys; from report_example import example_report; from lymphoscope.report.html import *;"
        "from pathlib import Path; write_report(example_report(), Path(sys.argv[1]))"
    )
    out = tmp_path / "folder" / "report.html"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    changed = {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "MATPLOTLIBRC": str(tmp_path / "matplotlibrc"),
               "PYTHONPATH": path, "SOURCE_DATE_EPOCH": "1"}  # fmt: skip
    subprocess.run([sys.executable, "-c", script, str(out)], check=True, env=os.environ | changed, timeout=60)
    assert out.read_bytes() == text.encode("utf-8")


OPTIONAL = ["ladder", "quality", "quality_overlap", "calibration", "proof", "swing"]


@pytest.mark.parametrize("piece", OPTIONAL)
def test_a_missing_piece_is_said_to_be_missing(content: ReportContent, piece: str) -> None:
    page = assert_sound(render_report(replace(content, **{piece: None})))
    missing = {attrs.get("class") for attrs in page.named("p")}
    assert "missing" in missing or piece in ("swing", "quality_overlap")


def test_nothing_but_unlabelled_patients(content: ReportContent) -> None:
    new = tuple(row for row in content.patients if not row.labelled)
    bare = ReportContent(replace(content.cohort, n_malignant=0, n_reactive=0), new, 0.5, 0.95)
    page = assert_sound(render_report(bare))
    assert "was not measured: too few labelled patients" in page.text
    assert "The data came" not in page.text
    assert "No fault was found in the data." in page.text
    assert not page.named("details")
    assert not page.named("figure")


def test_nothing_but_labelled_patients(content: ReportContent) -> None:
    known = tuple(row for row in content.patients if row.labelled)
    page = assert_sound(render_report(replace(content, patients=known)))
    assert "there is nobody to advise on" in page.text
    assert "Patient by patient" not in page.text


def test_no_patient_at_all(content: ReportContent) -> None:
    page = assert_sound(render_report(replace(content, patients=(), ladder=Ladder((), 10.47))))
    assert "No two rungs were compared" in page.text


def test_patient_without_clinical_values_cells_or_probability(content: ReportContent) -> None:
    row = replace(content.patients[0], age=NAN, sex=NAN, count=NAN, n_cells=0, probability=None, cells_for=(),
                  cells_against=(), decision="cannot say", reason="no cells")  # fmt: skip
    page = assert_sound(render_report(replace(content, patients=(row,))))
    assert "age ? · sex ? · count ?" in page.text
    assert "no probability" in page.text
    assert not re.search(r"\bnan\b", page.text, flags=re.IGNORECASE)


def test_an_unmeasurable_interval_is_not_drawn(content: ReportContent) -> None:
    ladder = content.ladder
    assert ladder is not None
    void = replace(ladder.rungs[0].overall.balanced_accuracy, estimate=NAN, low=NAN, high=NAN)
    scores = replace(ladder.rungs[0].overall, balanced_accuracy=void, auc=void, sensitivity=None)
    rung = replace(ladder.rungs[0], overall=scores, overlap=None)
    text = render_report(replace(content, ladder=replace(ladder, rungs=(rung, *ladder.rungs[1:]))))
    page = assert_sound(text)
    assert not re.search(r"\bnan\b", text, flags=re.IGNORECASE)
    assert "not measured" in page.text


def test_a_file_name_that_is_no_text_is_shown_not_refused(content: ReportContent, tmp_path: Path) -> None:
    odd = MissingValues("a file", files=("P1/\udcff.jpg",))
    write_report(replace(content, findings=(odd,)), tmp_path / "report.html")
    assert "P1/\\udcff.jpg" in (tmp_path / "report.html").read_text("utf-8")


def test_page_of_200_patients_stays_below_10_megabytes(content: ReportContent) -> None:
    crops = [CellCrop(b"\xff" * 9_000, sign * 0.5, "c.jpg") for sign in (1, -1)]
    heavy = tuple(
        replace(content.patients[0], id=f"P{i}", cells_for=(crops[0],) * 6, cells_against=(crops[1],) * 6)
        for i in range(200)
    )
    text = render_report(replace(content, patients=heavy))
    assert 4_000_000 < len(text.encode()) < 10_000_000
    assert "To keep the file small, at most 1 cells a side are shown." in text or "at most" in text
    labelled = tuple(replace(row, id=f"L{row.id}", label=1) for row in heavy)
    both = render_report(replace(content, patients=(*heavy, *labelled)))
    assert len(both.encode()) < 10_000_000
    assert "cells are left out here" in both


def test_print_rules_hold_tables_together() -> None:
    style = str(html.style())
    printed = style[style.index("@media print") :]
    assert "@page { size: A4;" in style
    assert "thead { display: table-header-group; }" in printed
    assert re.search(r"tr, caption, figure[^{]*\{ break-inside: avoid; \}", printed)


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_text_colour_has_contrast_of_aa() -> None:
    style = str(html.style())
    named = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", style))
    used = {
        named[name] if name else colour
        for name, colour in re.findall(r"(?<![-\w])color: (?:var\(--(\w+)\)|(#[0-9a-f]{6}))", style)
    }
    assert len(used) >= 3
    darkest_ground = luminance(named["faint"])
    for colour in used:
        assert (darkest_ground + 0.05) / (luminance(colour) + 0.05) >= 4.5, colour


def test_content_names_every_field_of_the_template(content: ReportContent) -> None:
    source = html.environment().loader.get_source(html.environment(), "report.html.j2")[0]
    for field in fields(content):
        if field.name not in ("patients", "findings", "calibration"):
            assert re.search(rf"\b{field.name}\b", source), field.name


@pytest.mark.parametrize(
    "change", [{"decision": "maybe"}, {"label": 2}, {"cells_for": "against"}, {"cells_against": "for"}]
)
def test_a_row_that_contradicts_itself_is_refused(content: ReportContent, change: dict[str, object]) -> None:
    row = content.patients[0]
    swap = {"against": row.cells_against, "for": row.cells_for}
    with pytest.raises(ValueError, match=r"allowed|must have evidence"):
        replace(row, **{key: swap.get(value, value) for key, value in change.items()})


def test_threshold_must_be_a_probability(content: ReportContent) -> None:
    with pytest.raises(ValueError, match="allowed: 0 to 1"):
        replace(content, threshold=NAN)


def test_a_cohort_too_small_for_a_threshold_says_so() -> None:
    content = example_report()
    assert "Too few malignant patients to choose a threshold" not in render_report(content)
    page = render_report(replace(content, threshold=0.0))
    assert "Too few malignant patients to choose a threshold for a sensitivity of 95" in page


def test_patients_whose_cells_are_taken_for_others_are_named_on_the_first_page() -> None:
    content = example_report()
    someone = content.patients[0].id
    assert "taken for other kinds in" not in render_report(content)
    finding = NotALymphocyte("Half of all cells.", patients=(someone, "of another cohort"))
    page = render_report(replace(content, findings=(*content.findings, finding)))
    assert f"taken for other kinds in: {someone}." in page


def test_a_threshold_that_was_not_measured_on_the_held_out_says_so() -> None:
    content = example_report()
    assert "no threshold could be chosen" not in render_report(content)
    page = render_report(replace(content, without_threshold=0.2))
    assert (
        "for 20\u00a0% of them no threshold could be chosen" in page
        and "how that rule does was not measured" in page
    )
    assert "no threshold could be chosen" not in render_report(
        replace(content, threshold=0.0, without_threshold=1.0)
    )

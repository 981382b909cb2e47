"""Figures: the same bytes every time, ids that do not clash, shapes that need no colour."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from report_example import example_calibration, example_ladder, example_report

from lymphoscope.report import figures
from lymphoscope.report.content import Calibration
from lymphoscope.stats.intervals import Interval


@pytest.fixture(scope="module")
def ladder_svg() -> str:
    return figures.ladder_figure(example_ladder())


def test_svg_is_the_same_whatever_the_users_settings(ladder_svg: str) -> None:
    with mpl.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.grid": True}):
        assert figures.ladder_figure(example_ladder()) == ladder_svg
        assert mpl.rcParams["font.size"] == 30


def test_svg_holds_no_date_style_sheet_or_address(ladder_svg: str) -> None:
    assert not re.search("<style|<metadata|<!DOCTYPE|dc:date|Matplotlib", ladder_svg)
    addresses = set(re.findall(r"https?://[^\"]+", ladder_svg))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    ElementTree.fromstring(ladder_svg)


def test_ids_carry_the_figures_name_and_references_follow(ladder_svg: str) -> None:
    ids = set(re.findall(r'\bid="([^"]+)"', ladder_svg))
    used = set(re.findall(r'href="#([^"]+)"', ladder_svg)) | set(re.findall(r"url\(#([^)]+)\)", ladder_svg))
    assert used
    assert all(name.startswith("ladder-") for name in ids)
    assert used <= ids


def test_every_rung_and_zone_is_written(ladder_svg: str) -> None:
    for word in (
        "rule-2008",
        "clinical",
        "All tested patients",
        "Overlap zone: count ≤ 10.47",
        "113 malignant",
    ):
        assert word in ladder_svg


def test_inputs_differ_by_shape() -> None:
    markers = list(figures._MARKER.values())
    assert len({marker for marker, _ in markers}) == len(markers) == 4


def test_a_rung_not_measured_says_so() -> None:
    ladder = example_ladder()
    rung = replace(ladder.rungs[0], overlap=None)
    svg = figures.ladder_figure(replace(ladder, rungs=(ladder.rungs[1], rung)))
    assert svg.count("not measured") == 1


def test_formula_signs_in_a_title_stay_text() -> None:
    ladder = example_ladder()
    svg = figures.ladder_figure(replace(ladder, rungs=(replace(ladder.rungs[0], title="$\\frac{$ 日本"),)))
    assert "$\\frac{$ 日本" in svg


def test_calibration_writes_how_many_patients_each_point_stands_for() -> None:
    svg = figures.calibration_figure(example_calibration())
    for group in example_calibration().bins:
        assert f">{group.n}<" in svg
    assert "Share truly malignant" in figures.calibration_figure(Calibration(()))


def test_swing_shows_both_ranges() -> None:
    swing = example_report().swing
    assert swing is not None
    svg = figures.swing_figure(Interval(0.88, 0.81, 0.94), 163, swing)
    assert "This cohort, 163 labelled patients" in svg
    assert "One test set of 42 patients" in svg

"""Clusters of cells on the page: what each holds, whom it is found in, and what is made of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from page_checks import Page, assert_sound
from report_example import example_report

from lymphoscope.models.clusters.views import ClassifierScore, ClassShare
from lymphoscope.report.cluster_content import Cluster, Clusters
from lymphoscope.report.cluster_section import drawn
from lymphoscope.report.html import environment, render_report
from lymphoscope.report.patient_table import crop_jpeg
from lymphoscope.stats.intervals import Interval

JPEG = crop_jpeg(np.full((8, 8, 3), 120, dtype=np.uint8))
NOTHING = Interval(0.0, 0.0, 0.0)
FOUND = Clusters(
    clusters=(
        Cluster(ClassShare(1, Interval(0.21, 0.12, 0.33), Interval(0.64, 0.5, 0.7)), 8, (JPEG,) * 3),
        Cluster(ClassShare(2, NOTHING, NOTHING), 0, ()),
        Cluster(ClassShare(0, Interval(0.79, 0.6, 0.9), Interval(0.36, np.nan, np.nan)), 12, (JPEG,) * 2),
    ),
    n_patients=7,
    n_cells=20,
    places=np.random.default_rng(0).normal(size=(15, 2)),
    cluster=np.arange(15) % 2,
    chosen="GaussianNB",
    scores=(
        ClassifierScore("GaussianNB", Interval(0.8, 0.7, 0.9), (0.7, 0.9, 0.8), True),
        ClassifierScore("SVC", Interval(0.75, 0.6, 0.85), (0.5, 0.7, 0.9), False),
        ClassifierScore("DummyClassifier", Interval(0.5, 0.4, 0.6), (0.5, 0.5, 0.5), False),
    ),
    left_out=(("Takes categories, not numbers", ("CategoricalNB",)),),
)


def said(found: Clusters) -> Page:
    """The section alone, which is quicker than the whole page."""
    section = environment().get_template("clusters.html.j2").module.section(drawn(found))  # type: ignore[attr-defined]
    page = Page(str(section))
    assert not page.faults and all(attrs["alt"] for attrs in page.named("img"))
    assert all(attrs.get("aria-label") for attrs in page.named("svg"))
    return page


def test_it_stands_before_the_methods_and_only_where_there_are_clusters() -> None:
    content = replace(example_report(), clusters=FOUND)
    page = assert_sound(render_report(content))
    assert page.ids.index("training") < page.ids.index("clusters") < page.ids.index("methods")
    without = assert_sound(render_report(replace(content, clusters=None)))
    assert "clusters" not in without.ids and "sorted into" not in without.text


def test_every_cluster_with_cells_has_its_pictures_and_shares() -> None:
    page = said(FOUND)
    pictures = [attrs["alt"] for attrs in page.named("img") if attrs["alt"].startswith("Cell of cluster")]
    assert pictures == ["Cell of cluster 2"] * 3 + ["Cell of cluster 1"] * 2
    assert "1 cluster of 3 holds no cell and is left out" in page.text
    for words in ("40\u00a0%", "12 to 33\u00a0%", "no interval", "20 cells of 7 labelled patients"):
        assert words in page.text
    labels = [attrs["aria-label"] for attrs in page.named("svg") if "aria-label" in attrs]
    assert any(
        "cluster 2: reactive 21\u00a0% (12 to 33\u00a0%), malignant 64\u00a0%" in each for each in labels
    )
    assert any("cluster 1: 8 cells; cluster 2: 7 cells" in each for each in labels)


def test_the_choice_is_said_with_how_little_it_means() -> None:
    page = said(FOUND)
    assert "3 classifiers were compared" in page.text and "one of 3 inner folds" in page.text
    assert "The interval of 1 of the others reaches its number" in page.text
    assert "flattered by chance" in page.text
    assert "Takes categories, not numbers" in page.text and "CategoricalNB" in page.text


def test_one_classifier_or_too_few_patients_are_no_choice() -> None:
    page = said(replace(FOUND, scores=FOUND.scores[:1], left_out=()))
    assert "so there was nothing to choose" in page.text and "not compared" not in page.text
    assert "too few patients of one class to compare" in said(replace(FOUND, scores=())).text


def test_what_must_be_known_of_the_model_is_said() -> None:
    plain = said(FOUND).text
    assert "Transductive" not in plain and "pass it on" not in plain
    assert "not for one who comes later" in said(replace(FOUND, transductive=True)).text
    text = said(replace(FOUND, holds_patients=True)).text
    assert "sex, counts, ages and labels, without names" in text


def test_a_collapse_is_said() -> None:
    assert "Beware: They <have> collapsed." in said(replace(FOUND, warning="They <have> collapsed.")).text
    assert "Beware" not in said(FOUND).text

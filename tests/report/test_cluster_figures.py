"""Figures of clusters: they hold what they were given, and are the same bytes every time."""

from __future__ import annotations

import re

import numpy as np
import pytest

from lymphoscope.models.clusters.views import ClassifierScore, ClassShare, sample_cells
from lymphoscope.report import cluster_figures
from lymphoscope.stats.intervals import Interval

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype(np.uint8)
PROBABILITIES = np.eye(3)[np.array([0] * 7 + [1] * 5)]
PLACES = np.random.default_rng(1).normal(size=(12, 2))
SCORES = [
    ClassifierScore("GaussianNB", Interval(0.8, 0.7, 0.9), (0.7, 0.9), True),
    ClassifierScore("SVC", Interval(0.6, 0.5, 0.7), (0.5, 0.7), False),
]
SHARES = [
    ClassShare(0, Interval(0.2, 0.1, 0.3), Interval(0.6, 0.5, 0.7)),
    ClassShare(1, Interval(0.8, 0.7, 0.9), Interval(0.4, 0.3, 0.5)),
]


def all_figures() -> dict[str, str]:
    return {
        "samples": cluster_figures.samples_figure(IMAGES, sample_cells(PROBABILITIES, 5), "samples"),
        "shares": cluster_figures.shares_figure(SHARES, "shares"),
        "map": cluster_figures.map_figure(PLACES, PROBABILITIES.argmax(axis=1), "map"),
        "classifiers": cluster_figures.classifiers_figure(SCORES, "classifiers"),
    }


@pytest.fixture(scope="module")
def figures() -> dict[str, str]:
    return all_figures()


def test_they_are_standalone_pictures_and_the_same_bytes_every_time(figures: dict[str, str]) -> None:
    for svg in figures.values():
        assert svg.startswith("<svg ") and svg.endswith("</svg>\n")
    assert all_figures() == figures


def test_they_say_what_they_were_given(figures: dict[str, str]) -> None:
    for name, words in {
        "samples": ["1", "2", "3"],
        "shares": ["1", "2", "reactive", "malignant"],
        "map": ["1", "2"],
        "classifiers": ["GaussianNB", "SVC"],
    }.items():
        for word in words:
            assert re.search(rf">\s*{word}\s*<", figures[name]), (name, word)
    assert figures["samples"].count("<image") == 5 + 5  # none of the empty cluster


def test_nothing_to_show_is_no_error() -> None:
    nothing = [np.empty(0, dtype=np.int64)] * 2
    assert "<image" not in cluster_figures.samples_figure(IMAGES, nothing, "samples")
    assert cluster_figures.classifiers_figure([], "classifiers").startswith("<svg ")
    assert cluster_figures.map_figure(PLACES[:0], np.empty(0, dtype=np.int64), "map").startswith("<svg ")

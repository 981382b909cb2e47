"""Figures of clusters: they hold what they were given, and are the same bytes every time."""

from __future__ import annotations

import re

import numpy as np
import pytest

from lymphoscope.models.clusters.views import ClassifierScore, ClassShare
from lymphoscope.report import cluster_figures
from lymphoscope.stats.intervals import Interval

CLUSTER = np.array([0] * 7 + [1] * 5)
PLACES = np.random.default_rng(1).normal(size=(12, 2))
SCORES = [
    ClassifierScore("GaussianNB", Interval(0.8, 0.7, 0.9), (0.7, 0.9), True),
    ClassifierScore("SVC", Interval(0.6, 0.5, 0.7), (0.5, 0.7), False),
]
SHARES = [
    ClassShare(0, Interval(0.2, 0.1, 0.3), Interval(0.6, 0.5, 0.7)),
    ClassShare(1, Interval(0.8, np.nan, np.nan), Interval(0.4, 0.3, 0.5)),
]


def all_figures() -> dict[str, str]:
    return {
        "shares": cluster_figures.shares_figure(SHARES, "shares"),
        "map": cluster_figures.map_figure(PLACES, CLUSTER, "map"),
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
        "shares": ["1", "2", "reactive", "malignant"],
        "map": ["1", "2", "Cluster"],
        "classifiers": ["GaussianNB", "SVC"],
    }.items():
        for word in words:
            assert re.search(rf">\s*{word}\s*<", figures[name]), (name, word)


def test_nothing_to_show_is_no_error() -> None:
    assert cluster_figures.classifiers_figure([], "classifiers").startswith("<svg ")
    assert cluster_figures.map_figure(PLACES[:0], CLUSTER[:0], "map").startswith("<svg ")
    assert cluster_figures.shares_figure([], "shares").startswith("<svg ")


def test_marks_shrink_in_a_crowd_and_many_clusters_differ() -> None:
    places, cluster = np.random.default_rng(0).normal(size=(44, 2)), np.arange(44)
    svg = cluster_figures.map_figure(places, cluster, "map")
    assert re.search(r">\s*44\s*<", svg)
    looks = {(cluster_figures._MARKERS[i % 11], cluster_figures._SHADES[i % 4]) for i in range(len(cluster))}
    assert len(looks) == 44
    assert cluster_figures._mark_size(2000) < cluster_figures._mark_size(300)

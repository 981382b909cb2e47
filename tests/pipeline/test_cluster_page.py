"""A run of a recipe of clusters shows what was clustered; no other run does."""

from __future__ import annotations

import copy
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lymphoscope.cohort.bags import Bags
from lymphoscope.cohort.read import ReadOptions
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.models.clusters.classifiers import SKIPPED
from lymphoscope.models.clusters.parts import CollapseWarning
from lymphoscope.models.conformance import example_bags
from lymphoscope.models.registry import create_model
from lymphoscope.models.scan_clusters import ScanClusters
from lymphoscope.pipeline.cluster_page import SAMPLES, clusters, clusters_of
from lymphoscope.pipeline.evaluate import evaluate_cohort
from lymphoscope.pipeline.page import cautions
from lymphoscope.pipeline.plan import RunPlan
from lymphoscope.pipeline.predict import read_model
from lymphoscope.pipeline.preparation import Prepared, prepare
from lymphoscope.pipeline.run import run

READING = ReadOptions(min_cells=4)
PLAN = RunPlan(
    reading=READING,
    protocol=Protocol(folds=2, repeats=1, bootstrap=100),
    recipe="scan-clusters@smoke:least_evenness=0,transductive=true",
)


@pytest.fixture(scope="module")
def prepared(tiny_cohort: Path, cache: Path) -> Prepared:
    torch.set_num_threads(1)
    return prepare(tiny_cohort, READING, cache=cache, jobs=1)


def test_the_report_of_a_run_shows_the_clusters(prepared: Prepared, tmp_path: Path) -> None:
    page = (run(prepared, tmp_path / "run", PLAN, jobs=1) / "report.html").read_text("utf-8")
    section = page[page.index('<section id="clusters">') : page.index('<section id="methods">')]
    assert "144 cells of 24 labelled patients" in section
    assert 4 <= len(re.findall('alt="Cell of cluster', section)) <= 4 * SAMPLES
    for name in ("cluster-shares", "cluster-map", "cluster-classifiers"):
        assert f'id="{name}-' in section
    assert "3 classifiers were compared" in section and "GaussianNB" in section
    assert "<b>Transductive:</b>" in section  # 6 patients of the cohort are unlabelled
    assert "Clusters of cells, classical classifier (transductive)" in page
    model = read_model(tmp_path / "run" / "model").model
    assert isinstance(model, ScanClusters) and model.transductive_ and model.transductive


def test_folds_whose_clusters_have_collapsed_are_named(prepared: Prepared) -> None:
    """Wanted more even than clusters can be, they have in every fold; wanted anyhow, in none."""
    protocol = Protocol(folds=2, repeats=1, bootstrap=100)
    for wanted, n in (("1,restarts=0", 1), ("0", 0)):
        recipe = f"scan-clusters@smoke:least_evenness={wanted}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CollapseWarning)
            found = evaluate_cohort(prepared, protocol, [recipe])
        said = [each for each in cautions(prepared, found) if "collapsed" in each]
        assert len(said) == n and all(f"In 2 of 2 folds the clusters of cells of {recipe}" in x for x in said)


@pytest.fixture(scope="module")
def learned() -> tuple[ScanClusters, Bags, np.ndarray]:
    bags, y = example_bags(16, image_size=48)
    model = create_model("scan-clusters@smoke", merged_clusters=3, least_evenness=0.0)
    assert isinstance(model, ScanClusters)
    return model.fit(bags, y), bags, y


def test_what_is_shown_is_what_the_model_knows(
    learned: tuple[ScanClusters, Bags, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, bags, y = learned
    known = np.random.default_rng(0).dirichlet([1, 1, 1], len(bags.cells))
    monkeypatch.setattr(model, "cluster_probabilities", lambda _: known)
    found, cluster = clusters_of(model, bags, y), model.clusters_of(bags)
    assert {each.number - 1: each.n_cells for each in found.clusters} == {
        i: int((cluster == i).sum()) for i in range(3)
    }
    for labels in (y, 1 - y):
        shares = [each.share for each in clusters_of(model, bags, labels).clusters]
        gains = [share.malignant.estimate - share.reactive.estimate for share in shares]
        assert gains == sorted(gains, reverse=True) and gains[0] > gains[-1]
    assert np.array_equal(np.bincount(found.cluster, minlength=3), np.bincount(cluster, minlength=3))
    assert all(len(each.cells) == min(each.n_cells, SAMPLES) for each in found.clusters)
    assert [each.name for each in found.scores if each.chosen] == [found.chosen]
    assert found.left_out == () and len(found.scores) == 3 and found.warning == ""
    assert (found.transductive, found.holds_patients) == (False, model.holds_patients_)


def test_classifiers_are_left_out_for_reasons_where_all_are_asked(
    learned: tuple[ScanClusters, Bags, np.ndarray],
) -> None:
    model = copy.copy(learned[0]).set_params(classifiers=None)
    model.comparison_ = replace(model.comparison_, failed=("SVC",), reasons=("needs more",))
    model.parts_ = replace(model.parts_, collapsed=True)
    found = clusters_of(model, *learned[1:])
    assert {name for _, names in found.left_out for name in names} == {*SKIPPED, "SVC"}
    assert ("Needs more", ("SVC",)) in found.left_out
    assert "have collapsed" in found.warning


def test_other_models_have_no_clusters(prepared: Prepared) -> None:
    assert clusters(prepared, create_model("clinical")) is None
    plan = replace(PLAN, recipe="clinical")
    assert clusters(prepared, create_model(plan.kept)) is None

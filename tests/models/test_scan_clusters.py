"""Clusters of cells and classical classifiers as one model of patients."""

from __future__ import annotations

import warnings
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone

from lymphoscope.cohort.bags import Bags
from lymphoscope.errors import InputError
from lymphoscope.models.clusters.features import cluster_counts, patient_table
from lymphoscope.models.clusters.parts import CollapseWarning
from lymphoscope.models.clusters.patients import PatientClassifier
from lymphoscope.models.conformance import example_bags
from lymphoscope.models.registry import create_model, recipe_info
from lymphoscope.models.scan_clusters import ScanClusters
from lymphoscope.models.transductive import cells_alone

SIDE = 32
CLASSIFIERS = ("GaussianNB", "LogisticRegression", "RidgeClassifier")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def smoke(**settings: Any) -> ScanClusters:
    model = create_model("scan-clusters@smoke", image_size=SIDE, width=0.15, **settings)
    assert isinstance(model, ScanClusters)
    return model


def planted(n: int, seed: int = 0) -> tuple[Bags, np.ndarray]:
    """Patients with two kinds of cells, 6 each: the large one is frequent where malignant, rare where not."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    apart = np.hypot(*(np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2))
    cells = []
    for label in y:
        large = rng.random(6) < (0.85 if label else 0.15)
        images = rng.normal(210, 8, (6, SIDE, SIDE, 3))
        for image, big in zip(images, large, strict=True):
            image[apart < (13 if big else 6)] = rng.normal([150, 90, 190] if big else [70, 30, 130], 6)
        cells.append(np.clip(images, 0, 255).astype(np.uint8))
    clinical = np.column_stack([rng.normal(65, 9, n), rng.integers(0, 2, n), rng.normal(9, 2, n)])
    return Bags.from_list(cells, clinical), y


LEARNED = {
    "cells_per_patient": None,
    "pretext_epochs": 4,
    "pretext_batch_size": 48,
    "clustering_epochs": 5,
    "batch_size": 32,
    "neighbours": 8,
    "clusters": 4,
    "merged_clusters": 3,
    "classifiers": CLASSIFIERS,
}


@pytest.fixture(scope="module")
def learned() -> tuple[ScanClusters, Bags, np.ndarray]:
    torch.set_num_threads(1)
    bags, y = planted(40)
    return smoke(**LEARNED).fit(bags, y), bags, y


def test_budgets_are_smaller_and_the_recipe_has_the_reports_numbers() -> None:
    full, fast = create_model("scan-clusters"), create_model("scan-clusters@fast")
    assert (full.clusters, full.merged_clusters, full.classifiers) == (20, 15, None)
    assert (full.network, full.width) == ("resnet18", 1.0)
    assert fast.width < 1 and fast.pretext_epochs < full.pretext_epochs
    assert (fast.clusters, fast.merged_clusters, fast.classifiers) == (20, 15, None)
    assert "Van Gansbeke" in recipe_info("scan-clusters").source


def test_planted_proportions_are_learned(learned: tuple[ScanClusters, Bags, np.ndarray]) -> None:
    model, _, _ = learned
    new, truth = planted(40, seed=1)
    right = model.predict(new) == truth
    assert (right[truth == 1].mean() + right[truth == 0].mean()) / 2 > 0.85
    assert not model.collapsed_ and model.collapse_sentence_ is None
    assert model.chosen_["classifier"] in CLASSIFIERS


def test_permuted_labels_give_nothing(learned: tuple[ScanClusters, Bags, np.ndarray]) -> None:
    model, bags, labels = learned
    new, truth = planted(40, seed=1)
    table = patient_table(cluster_counts(model.clusters_of(bags), bags.offsets, 3), bags.clinical)
    counts = cluster_counts(model.clusters_of(new), new.offsets, 3)
    found = []
    for seed in range(24):
        y = np.random.default_rng(seed).permutation(labels)
        patients, _ = PatientClassifier.learn(table, y, CLASSIFIERS, 0)
        right = (patients.probability(counts, new.clinical) >= 0.5) == truth
        found.append((right[truth == 1].mean() + right[truth == 0].mean()) / 2)
    assert abs(np.mean(found) - 0.5) < 3 * np.std(found, ddof=1) / np.sqrt(len(found))


def test_labels_have_no_say_in_the_clusters(learned: tuple[ScanClusters, Bags, np.ndarray]) -> None:
    model, bags, y = learned
    other = smoke(**LEARNED).fit(bags, 1 - y)
    assert np.array_equal(model.cluster_probabilities(bags), other.cluster_probabilities(bags))
    assert np.array_equal(model.parts_.groups, other.parts_.groups)


def test_clusters_follow_the_planted_kinds(learned: tuple[ScanClusters, Bags, np.ndarray]) -> None:
    model, _, _ = learned
    new, _ = planted(20, seed=2)
    large = new.cells[:, SIDE // 2, SIDE // 2 + 9, 2] < 200  # a place that only large cells reach
    cluster = model.clusters_of(new)
    purity = sum(max(large[cluster == c].sum(), (~large[cluster == c]).sum()) for c in np.unique(cluster))
    assert purity / len(cluster) > 0.8  # without clusters about a half
    assert model.cell_features(new).shape[0] == len(cluster)
    assert model.cell_features(new[:0]).shape == (0, model.head_.layer.in_features)
    rows = np.array([5, 2])
    assert np.allclose(model.cell_features(new, rows), model.cell_features(new)[rows], atol=1e-5)


def test_a_patients_numbers_are_of_all_its_cells(learned: tuple[ScanClusters, Bags, np.ndarray]) -> None:
    model, bags, _ = learned
    table, cluster = model.patient_table(bags), model.clusters_of(bags)
    assert table.shape == (40, 3 + 6)
    first = cluster[:6]
    assert table[0, :3].tolist() == pytest.approx([np.mean(first == c) for c in range(3)])
    assert np.array_equal(table[:, -3:], bags.clinical[:, [1, 2, 0]])


def test_evidence_is_what_the_log_odds_fall_by(learned: tuple[ScanClusters, Bags, np.ndarray]) -> None:
    model, bags, _ = learned
    some = bags[:3]
    said = model.explain(some)
    p, evidence = said.probability, said.evidence
    assert evidence is not None and np.array_equal(p, model.predict_proba(some))
    for cell in (0, 7, 17):
        kept, owner = np.delete(np.arange(18), cell), cell // 6
        rest = replace(some, cells=some.cells[kept], offsets=np.searchsorted(kept, some.offsets))
        without = model.predict_proba(rest)[owner, 1]
        fall = np.log(p[owner, 1] / p[owner, 0]) - np.log(without / (1 - without))
        assert evidence[cell] == pytest.approx(fall, abs=1e-6)
    assert np.array_equal(evidence, model.cell_evidence(some))


def test_patients_without_cells_have_a_probability_from_the_rest(
    learned: tuple[ScanClusters, Bags, np.ndarray],
) -> None:
    model, bags, y = learned
    empty = Bags.from_list([bags.cells[:0]] * 2, [[50, 0, 6], [np.nan] * 3])
    p = model.predict_proba(empty)
    assert np.isfinite(p).all() and np.allclose(p.sum(axis=1), 1)
    assert model.cell_evidence(empty).shape == (0,)
    cells = [bags.cells[6 * i : 6 * i + 6 * (i > 1)] for i in range(16)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        assert np.isfinite(
            smoke().fit(Bags.from_list(cells, bags.clinical[:16]), y[:16]).predict_proba(bags)
        ).all()


@pytest.mark.parametrize(
    "name",
    ["GaussianNB", "RandomForestClassifier", "MLPClassifier", "LinearSVC", "GaussianProcessClassifier"],
)
def test_taken_up_again_any_classifier_says_the_same(name: str) -> None:
    bags, y = planted(16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        model = smoke(classifiers=(name,)).fit(bags, y)
    again = smoke(classifiers=(name,)).load_state(model.state())
    assert model.chosen_ == again.chosen_ and model.chosen_["classifier"] == name
    new, _ = planted(8, seed=1)
    first, second = model.explain(new), again.explain(new)
    assert np.array_equal(first.probability, second.probability)
    assert np.array_equal(first.evidence, second.evidence)
    assert again.transductive_ is False and again.collapsed_ == model.collapsed_


def test_a_forced_collapse_is_said() -> None:
    bags, y = planted(16)
    model = smoke(entropy_weight=0.0, least_evenness=0.99, restarts=1, clustering_epochs=4)
    with pytest.warns(CollapseWarning, match="collapsed in each of 2 attempts"):
        model.fit(bags, y)
    assert model.collapsed_ and len(model.parts_.evenness) == 2 and model.chosen_["collapsed"]
    taken_up = smoke(least_evenness=0.99).load_state(model.state())
    assert taken_up.collapsed_ and taken_up.collapse_sentence_ == model.collapse_sentence_


def test_a_collapse_that_a_restart_mended_is_said_too(
    learned: tuple[ScanClusters, Bags, np.ndarray],
) -> None:
    model, _, _ = learned
    again = smoke(**LEARNED).load_state(model.state())
    again.parts_ = replace(again.parts_, evenness=np.array([0.1, 0.9]), kept=1)
    assert "1 of 2 attempts" in str(again.collapse_sentence_) and not again.collapsed_


def test_unlabelled_cells_take_part_only_when_asked_for_and_are_flagged() -> None:
    bags, y = planted(16)
    others, _ = planted(8, seed=5)
    settings = {"classifiers": ("GaussianNB",), "least_evenness": 0.0}
    plain = smoke(**settings).fit(bags, y)
    asks = smoke(transductive=True, **settings)
    transductive = clone(asks).fit(bags, y, unlabelled=others)
    known = np.random.default_rng(0).random((8, 3))
    named = replace(others[np.arange(8)[::-1]], clinical=known, patient_ids=bags.patient_ids[:8])
    again = clone(asks).fit(bags, y, unlabelled=named)
    assert (plain.transductive_, transductive.transductive_) == (False, True)
    assert not np.array_equal(plain.cluster_probabilities(bags), transductive.cluster_probabilities(bags))
    assert np.array_equal(again.predict_proba(bags), transductive.predict_proba(bags))
    assert len(transductive.inner_oof_) == transductive.comparison_.scores.shape[1] == 16
    assert clone(asks).load_state(transductive.state()).transductive_ is True
    without = clone(asks).fit(bags, y)
    assert without.transductive_ is False
    assert np.array_equal(without.predict_proba(bags), plain.predict_proba(bags))
    with pytest.raises(InputError, match="not transductive"):
        smoke(**settings).fit(bags, y, unlabelled=others)


def test_cells_alone_are_all_that_is_left_of_a_patient() -> None:
    bags, _ = planted(4)
    alone = cells_alone(bags)
    assert alone.cells is bags.cells and np.array_equal(alone.offsets, bags.offsets)
    assert np.isnan(alone.clinical).all() and alone.patient_ids == ("0", "1", "2", "3")
    assert {field.name for field in fields(alone)} == {
        *("cells", "offsets", "clinical", "patient_ids", "columns"),
    }


def test_a_kept_model_holds_no_training_patient() -> None:
    bags, y = planted(16)
    model = smoke(classifiers=("GaussianNB",), least_evenness=0.0).fit(bags, y)
    state = model.state()
    numbers = np.concatenate([array.ravel() for array in state.values() if array.dtype.kind == "f"])
    for column in (0, 2):
        known = np.sort(bags.clinical[:, column])[1:-1]
        assert not np.isin(known, numbers).any()
    assert not model.holds_patients_
    kept = smoke(classifiers=("KNeighborsClassifier",), least_evenness=0.0).fit(bags, y)
    assert kept.holds_patients_


def test_settled_keeps_the_choice(learned: tuple[ScanClusters, Bags, np.ndarray]) -> None:
    model, _, _ = learned
    settled = model.settled()
    assert settled.get_params()["classifiers"] == (model.chosen_["classifier"],)
    assert not hasattr(settled, "parts_")


def test_inner_probabilities_are_offered_in_the_order_of_the_patients() -> None:
    bags, y = planted(16)
    settings = {"classifiers": ("GaussianNB",), "least_evenness": 0.0}
    order = np.random.default_rng(0).permutation(16)
    first, second = smoke(**settings).fit(bags, y), smoke(**settings).fit(bags[order], y[order])
    assert np.array_equal(first.inner_oof_[order], second.inner_oof_)
    assert len(np.unique(first.inner_oof_)) > 3


def test_shrunk_photographs_and_another_backbone_work() -> None:
    bags, y = example_bags(12, image_size=64)
    model = create_model(
        "scan-clusters@smoke", network="cnn-baseline", image_size=64, shrink=2, width=0.2, least_evenness=0.0
    ).fit(bags, y)
    assert model.predict_proba(bags).shape == (12, 2)


def test_a_list_of_no_classifiers_is_refused() -> None:
    with pytest.raises(InputError, match="classifiers"):
        create_model("scan-clusters:classifiers=")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"merged_clusters": 7}, "merged into fewer"),
        ({"network": "nonsense"}, "nonsense"),
        ({"network": "dinov2"}, "weights"),
        ({"clusters": 500}, "as many cells"),
        ({"classifiers": ("VotingClassifier",)}, "cannot be compared"),
        ({"classifiers": ("Oracle",)}, "cannot be compared"),
    ],
)
def test_what_cannot_be_learned_is_refused_before_learning(settings: dict[str, Any], words: str) -> None:
    bags, y = planted(8)
    with pytest.raises(InputError, match=words):
        smoke(**settings).fit(bags, y)
    if "clusters" not in settings:  # how many cells there are nobody knows yet
        with pytest.raises(InputError, match=words):
            smoke(**settings).check_settings()


def test_numbers_in_place_of_photographs_are_refused() -> None:
    numbers, y = example_bags(12)
    with pytest.raises(InputError, match="photographs"):
        smoke().fit(numbers, y)

"""What figures of clusters show, as plain numbers: sample cells, shares by class, a map, the classifiers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lymphoscope.cohort.bags import FloatArray, IntArray
from lymphoscope.models.clusters.classifiers import Comparison
from lymphoscope.stats.intervals import Interval, PatientBootstrap, percentile_interval
from lymphoscope.stats.metrics import balanced_accuracy

_REPLICATES = 2000


@dataclass(frozen=True)
class ClassShare:
    """Mean share of one cluster among the cells of the patients of each class, with intervals."""

    cluster: int
    reactive: Interval
    malignant: Interval


@dataclass(frozen=True)
class ClassifierScore:
    """How one classifier did on training patients held out in inner folds.

    Attributes
    ----------
    balanced_accuracy : cut at the prevalence after calibration, what the choice goes by. The best of many is
        too high: only patients outside these folds say how good the chosen one is.
    by_own_rule : of what it predicts itself, per fold; what the report compared.
    """

    name: str
    balanced_accuracy: Interval
    by_own_rule: tuple[float, ...]
    chosen: bool


def sample_cells(probabilities: FloatArray, per_cluster: int, seed: int = 0) -> list[IntArray]:
    """Rows of cells of each cluster to show, at most `per_cluster`, drawn at random, the surest first.

    Drawn from all of its cells, so that a cluster does not look purer than it is.

    Parameters
    ----------
    probabilities : of the clusters, (n_cells, n_clusters).
    """
    rng, first, highest = np.random.default_rng(seed), probabilities.argmax(axis=1), probabilities.max(axis=1)
    shown = []
    for cluster in range(probabilities.shape[1]):
        own = np.flatnonzero(first == cluster)
        drawn = rng.permutation(own)[:per_cluster]
        shown.append(drawn[np.argsort(-highest[drawn], kind="stable")])
    return shown


def shares_by_class(
    counts: IntArray, y: IntArray, replicates: int = _REPLICATES, seed: int = 0
) -> list[ClassShare]:
    """Mean share of each cluster in the patients of each class; every patient counts the same.

    Parameters
    ----------
    counts : cells of each patient in each cluster, (n_patients, n_clusters). Patients without cells are left
        out. Intervals are those of the Bayesian bootstrap over patients (Rubin 1981).
    y : labels, (n_patients,).
    """
    known, rng = counts.sum(axis=1) > 0, np.random.default_rng(seed)
    share, truth = counts[known] / counts[known].sum(axis=1, keepdims=True), y[known]
    ends: list[list[Interval]] = []
    for label in (0, 1):
        own = share[truth == label]
        weights = rng.dirichlet(np.ones(len(own)), replicates)
        ends.append([percentile_interval(float(column.mean()), weights @ column) for column in own.T])
    return [ClassShare(i, *pair) for i, pair in enumerate(zip(*ends, strict=True))]


def cell_map(features: FloatArray) -> FloatArray:
    """The first two principal components of the features of cells, (n_cells, 2).

    Each axis is turned so that its largest weight is positive; an axis that is not there is 0.
    """
    centred = features - features.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :2]
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    places = centred @ (axes * np.where(largest < 0, -1.0, 1.0))
    return np.pad(places, ((0, 0), (0, 2 - places.shape[1])))


def classifier_scores(
    compared: Comparison, y: IntArray, chosen: str, replicates: int = _REPLICATES, seed: int = 0
) -> list[ClassifierScore]:
    """Every classifier that could be fitted, the best first.

    Parameters
    ----------
    y : labels of the training patients in the order of the comparison, (n_patients,).
    """
    draws = PatientBootstrap(y == 1, replicates, seed)
    found = []
    for i, (name, calibration) in enumerate(zip(compared.names, compared.calibrations(y), strict=True)):
        says = calibration.probability(compared.scores[i]) >= y.mean()
        right = (says == (y == 1)).astype(np.float64)
        interval = percentile_interval(balanced_accuracy(y, says), draws.balanced(right))
        own = tuple(
            balanced_accuracy(y[held], compared.said[i][held])
            for held in (compared.fold == fold for fold in range(int(compared.fold.max()) + 1))
        )
        found.append(ClassifierScore(name, interval, own, name == chosen))
    return sorted(found, key=lambda each: (-each.balanced_accuracy.estimate, each.name))

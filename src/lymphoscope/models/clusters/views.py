"""What figures of clusters show, as plain numbers: sample cells, shares by class, a map, the classifiers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lymphoscope.cohort.bags import FloatArray, IntArray
from lymphoscope.models.clusters.classifiers import Comparison, quietly
from lymphoscope.stats.intervals import Interval, PatientBootstrap, percentile_interval
from lymphoscope.stats.metrics import balanced_accuracy

MOST_POINTS = 2000
"""Cells on the map; more would only hide one another, and take longer to place."""

_REPLICATES = 2000
_COMPONENTS = 50
_FEWEST = 40


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
        out. Intervals are those of the Bayesian bootstrap over patients (Rubin 1981); they take the clusters
        as given. One patient has none, and of none there is no mean: NaN.
    y : labels, (n_patients,).
    """
    known, rng = counts.sum(axis=1) > 0, np.random.default_rng(seed)
    share, truth = counts[known] / counts[known].sum(axis=1, keepdims=True), y[known]
    ends: list[list[Interval]] = []
    for label in (0, 1):
        own = share[truth == label]
        if len(own) < 2:
            ends.append([Interval(value, np.nan, np.nan) for value in _only(own)])
            continue
        weights = rng.dirichlet(np.ones(len(own)), replicates)
        ends.append([percentile_interval(float(column.mean()), weights @ column) for column in own.T])
    return [ClassShare(i, *pair) for i, pair in enumerate(zip(*ends, strict=True))]


def _only(rows: FloatArray) -> list[float]:
    """The one row, or NaN where there is none."""
    return [float(value) for value in rows[0]] if len(rows) else [np.nan] * rows.shape[1]


def cell_map(features: FloatArray, seed: int = 0) -> FloatArray:
    """Places in two dimensions at which cells lie near those they resemble, (n_cells, 2).

    t-SNE (van der Maaten & Hinton 2008) of the first 50 principal components of the features at length 1,
    since neighbours are found by angle. Axes and the distance of far cells mean nothing. Below `_FEWEST`
    cells there are no neighbourhoods to keep, and the first two components are the map.

    Parameters
    ----------
    features : (n_cells, n_features); some ten seconds for `MOST_POINTS` cells.
    """
    length = np.linalg.norm(features, axis=1, keepdims=True)
    seen = _principal(features / np.where(length > 0, length, 1.0), _COMPONENTS)
    if len(seen) < _FEWEST:
        return np.pad(seen[:, :2], ((0, 0), (0, max(2 - seen.shape[1], 0))))
    from sklearn.manifold import TSNE  # imports much of scikit-learn

    perplexity = min(30.0, len(seen) / 4)
    start = 1e-4 * seen[:, :2] / max(seen[:, 0].std(), 1e-12) if seen.shape[1] > 1 else "random"
    with quietly():
        found = TSNE(perplexity=perplexity, init=start, random_state=seed, n_jobs=1).fit_transform(seen)
    return np.asarray(found, dtype=np.float64)


def _principal(rows: FloatArray, most: int) -> FloatArray:
    """Principal components, each axis turned so that its largest weight is positive, (n, up to `most`)."""
    centred = rows - rows.mean(axis=0) if len(rows) else rows
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :most]
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    return np.asarray(centred @ (axes * np.where(largest < 0, -1.0, 1.0)))


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

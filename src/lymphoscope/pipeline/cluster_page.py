"""From a fitted model of clusters to what the report says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from lymphoscope.cohort.bags import Bags, IntArray
from lymphoscope.models.base import BagClassifier
from lymphoscope.models.clusters.classifiers import SKIPPED
from lymphoscope.models.clusters.features import cluster_counts
from lymphoscope.models.clusters.views import (
    MOST_POINTS,
    cell_map,
    classifier_scores,
    sample_cells,
    shares_by_class,
)
from lymphoscope.pipeline.preparation import Prepared
from lymphoscope.report.cluster_content import Cluster, Clusters
from lymphoscope.report.patient_table import crop_jpeg

if TYPE_CHECKING:
    from lymphoscope.models.scan_clusters import ScanClusters

SAMPLES = 10
"""Cells shown of each cluster."""


def clusters(prepared: Prepared, model: BagClassifier) -> Clusters | None:
    """The clusters of a model that was fitted on the labelled patients; None for a model without clusters."""
    if not hasattr(model, "cluster_probabilities"):  # the class itself would bring torch for every model
        return None
    bags = prepared.bags_for(model)[prepared.labelled]
    return clusters_of(cast("ScanClusters", model), bags, prepared.labels)


def clusters_of(model: ScanClusters, bags: Bags, y: IntArray) -> Clusters:
    """The clusters of a model that was fitted on `bags` with labels `y`."""
    probabilities = model.cluster_probabilities(bags)
    cluster = probabilities.argmax(axis=1)
    counts = cluster_counts(cluster, bags.offsets, probabilities.shape[1])
    shown = [
        tuple(crop_jpeg(np.asarray(bags.cells[row])) for row in rows)
        for rows in sample_cells(probabilities, SAMPLES)
    ]
    found = [
        Cluster(share, int(counts[:, share.cluster].sum()), shown[share.cluster])
        for share in shares_by_class(counts, y)
    ]
    drawn = np.random.default_rng(0).permutation(len(cluster))[:MOST_POINTS]
    return Clusters(
        clusters=tuple(sorted(found, key=_more_reactive)),
        n_patients=len(bags),
        n_cells=len(cluster),
        places=cell_map(model.cell_features(bags, drawn)),
        cluster=cluster[drawn],
        chosen=str(model.chosen_["classifier"]),
        scores=tuple(classifier_scores(model.comparison_, y, str(model.chosen_["classifier"]))),
        left_out=_left_out(model),
        transductive=model.transductive_,
        holds_patients=model.holds_patients_,
        warning=model.collapse_sentence_ or "",
    )


def _more_reactive(found: Cluster) -> float:
    return float(np.nan_to_num(found.share.reactive.estimate - found.share.malignant.estimate))


def _left_out(model: ScanClusters) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Reasons, each with the names of the classifiers that it holds for."""
    compared = model.comparison_
    reasons = dict(zip(compared.failed, compared.reasons, strict=True))
    if model.classifiers is None:
        reasons |= SKIPPED
    grouped: dict[str, list[str]] = {}
    for name, reason in sorted(reasons.items()):
        grouped.setdefault(reason[:1].upper() + reason[1:], []).append(name)
    return tuple((reason, tuple(names)) for reason, names in grouped.items())

"""What a model of clusters has learned beside the weights of its network."""

from __future__ import annotations

from dataclasses import dataclass

from lymphoscope.cohort.bags import FloatArray, IntArray
from lymphoscope.models.clusters.patients import PatientClassifier

COLLAPSED = "collapsed"
"""Among what a model of clusters chose: these are used so unevenly that they say little."""


class CollapseWarning(UserWarning):
    """Clusters are used so unevenly that they say little of the cells."""


@dataclass(frozen=True)
class ClusterParts:
    """What a `ScanClusters` learns beside the weights of its network.

    Attributes
    ----------
    groups : merged cluster of each cluster, (n_clusters,).
    evenness, kept, collapsed : as in `Found`.
    transductive : cells of other patients than the labelled ones had a say in the clusters.
    """

    threshold: float
    groups: IntArray
    evenness: FloatArray
    kept: int
    collapsed: bool
    transductive: bool
    patients: PatientClassifier

    def collapse_sentence(self, least_evenness: float) -> str | None:
        """What a reader of results must know about a collapse; None where there was none at all."""
        tries, even = len(self.evenness), float(self.evenness[self.kept])
        if self.collapsed:
            return (
                f"The clusters of cells have collapsed in each of {tries} attempts (evenness {even:.2f}, "
                f"where at least {least_evenness:g} is wanted): most cells are in a few clusters, and what "
                "the model says rests on the clinical values more than on cells."
            )
        if tries > 1:
            return (
                f"The clusters of cells had collapsed in {tries - 1} of {tries} attempts; the last one held."
            )
        return None

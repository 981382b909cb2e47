"""What the report says of clusters of cells, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lymphoscope.models.clusters.views import ClassifierScore, ClassShare


@dataclass(frozen=True)
class Cluster:
    """One cluster of cells.

    Attributes
    ----------
    share : of it among a patient's cells, by class; holds its number, from 0.
    n_cells : of the labelled patients that are in it.
    cells : small JPEGs of some of them.
    """

    share: ClassShare
    n_cells: int
    cells: tuple[bytes, ...]

    @property
    def number(self) -> int:
        """From 1, as the page counts."""
        return self.share.cluster + 1


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters that were learned without labels, and the classifier that takes a patient's shares of them.

    Attributes
    ----------
    clusters : in the order shown.
    n_patients, n_cells : that they were learned from.
    places, cluster : of the cells on the map, (n, 2), and the number of each one's cluster, from 0, (n,).
    chosen : name of the classifier that was kept.
    scores : of all classifiers that were compared, the best first; empty where there were too few patients.
    left_out : why classifiers were not compared, and which.
    transductive : cells of the patients that are predicted took part in learning the clusters.
    holds_patients : the classifier cannot be kept without its training patients' numbers and labels.
    warning : a sentence on clusters that have collapsed; "" where all is well.
    """

    clusters: tuple[Cluster, ...]
    n_patients: int
    n_cells: int
    places: npt.NDArray[np.float64]
    cluster: npt.NDArray[np.int64]
    chosen: str
    scores: tuple[ClassifierScore, ...]
    left_out: tuple[tuple[str, tuple[str, ...]], ...] = ()
    transductive: bool = False
    holds_patients: bool = False
    warning: str = ""

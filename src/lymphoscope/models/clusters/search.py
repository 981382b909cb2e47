"""All three steps of SCAN, watched for collapse and begun anew by rule."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np

from lymphoscope.cohort.bags import FloatArray, IntArray
from lymphoscope.models.clusters.cells import Cells, all_features
from lymphoscope.models.clusters.contrastive import PretextSettings, train_pretext
from lymphoscope.models.clusters.neighbours import nearest_neighbours
from lymphoscope.models.clusters.scan import ClusterHeads, ScanSettings, all_logits, self_label, train_heads
from lymphoscope.models.networks.base import CellNetwork

RAISED = 2.0
"""Factor of the entropy's weight at every restart."""


@dataclass(frozen=True)
class CollapseRule:
    """When clusters have collapsed, and how often to begin anew.

    Attributes
    ----------
    least_evenness : clusters used less evenly than this have collapsed; see `evenness`.
    restarts : at most.
    """

    least_evenness: float = 0.5
    restarts: int = 2


@dataclass(frozen=True, eq=False)
class Found:
    """What the search ended with.

    Attributes
    ----------
    network, head : backbone and one head, in `eval()`.
    evenness : of every attempt, (n_attempts,).
    kept : number of the attempt that was kept, from 0.
    collapsed : whether even that one had collapsed.
    pretext_losses, losses, certainty : per epoch of the three steps; the last two of the kept attempt.
    """

    network: CellNetwork
    head: ClusterHeads
    evenness: FloatArray
    kept: int
    collapsed: bool
    pretext_losses: FloatArray
    losses: FloatArray
    certainty: FloatArray


def evenness(cluster: IntArray, n_clusters: int) -> float:
    """Entropy of the clusters' shares of the cells over its largest value, log n_clusters; 0 to 1.

    0 is one cluster for all cells, 1 as many cells in each.
    """
    share = np.bincount(cluster, minlength=n_clusters) / max(len(cluster), 1)
    present = share[share > 0]
    return float(-(present * np.log(present)).sum() / np.log(n_clusters))


def find_clusters(
    network: CellNetwork,
    cells: Cells,
    n_neighbours: int,
    pretext: PretextSettings,
    scan: ScanSettings,
    rule: CollapseRule,
    seed: int,
) -> Found:
    """Pretext task, neighbours, clusters and self-labelling.

    Where clusters have collapsed, the second and third step begin anew from the pretext task's weights with
    the next seed and the entropy's weight doubled (`RAISED`), at most `rule.restarts` times. The first
    attempt that has not collapsed is kept; of collapsed ones the one whose clusters are used most evenly.
    """
    pretext_losses = train_pretext(network, cells, pretext, _seed(seed, 0))
    beside = nearest_neighbours(all_features(network, cells), n_neighbours)
    attempts: list[Found] = []
    for number in range(rule.restarts + 1):
        settings = replace(scan, entropy_weight=scan.entropy_weight * RAISED**number)
        attempts.append(
            _attempt(copy.deepcopy(network), cells, beside, settings, _seed(seed, number + 1), pretext_losses)
        )
        if attempts[-1].evenness[0] >= rule.least_evenness:
            break
    even = np.concatenate([each.evenness for each in attempts])
    kept = int(even.argmax()) if even[-1] < rule.least_evenness else len(even) - 1
    collapsed = bool(even[kept] < rule.least_evenness)
    return replace(attempts[kept], evenness=even, kept=kept, collapsed=collapsed)


def _attempt(
    network: CellNetwork,
    cells: Cells,
    beside: IntArray,
    settings: ScanSettings,
    seed: int,
    pretext_losses: FloatArray,
) -> Found:
    head, losses = train_heads(network, cells, beside, settings, seed)
    certainty = self_label(network, head, cells, settings, seed)
    cluster = all_logits(network, head, cells)[:, 0].argmax(dim=1).cpu().numpy()
    even = np.array([evenness(cluster, settings.clusters)])
    return Found(network.eval(), head.eval(), even, 0, False, pretext_losses, losses, certainty)


def _seed(seed: int, stage: int) -> int:
    return int(np.random.SeedSequence([seed, stage]).generate_state(1)[0])


def cluster_probabilities(network: CellNetwork, head: ClusterHeads, cells: Cells) -> FloatArray:
    """Probability of each cluster for each cell, (n_cells, n_clusters)."""
    if len(cells) == 0:
        return np.empty((0, head.n_clusters))
    return np.asarray(all_logits(network, head, cells)[:, 0].double().softmax(dim=1).cpu().numpy())

"""Clusters that the model itself confuses are merged (Collin & Le Chenadec)."""

from __future__ import annotations

import numpy as np

from lymphoscope.cohort.bags import FloatArray, IntArray
from lymphoscope.errors import InputError


def confusion(probabilities: FloatArray) -> IntArray:
    """How many cells have cluster a as their first and b as their second choice, (n_clusters, n_clusters).

    Parameters
    ----------
    probabilities : (n_cells, n_clusters), 2 clusters or more; of equal ones the lower number comes first.
    """
    ranked = np.argsort(-probabilities, axis=1, kind="stable")
    counts = np.zeros((probabilities.shape[1],) * 2, dtype=np.int64)
    np.add.at(counts, (ranked[:, 0], ranked[:, 1]), 1)
    return counts


def most_confused(counts: IntArray) -> tuple[int, int]:
    """The pair a < b to merge next, from `confusion`.

    A cluster that no cell has first goes before all others, to the one whose cells have it second most often:
    it is no cluster that could be wanted. Else the pair with the largest share of confused cells,
    (C_ab + C_ba) / (C_a + C_b), C_a being how many cells have a first. A share, because between two large
    clusters there are always many cells. Of equal ones the first in order.
    """
    cells = counts.sum(axis=1)
    empty = np.flatnonzero(cells == 0)
    if len(empty):
        beside = counts[:, empty[0]].astype(np.float64)
        beside[empty[0]] = -1.0
        pair = sorted((int(empty[0]), int(np.argmax(beside))))
        return pair[0], pair[1]
    share = (counts + counts.T) / (cells[:, None] + cells)
    share[np.tril_indices(len(counts))] = -1.0
    first, second = np.unravel_index(np.argmax(share), share.shape)
    return int(first), int(second)


def merge_clusters(probabilities: FloatArray, wanted: int) -> IntArray:
    """Merge the two most confused clusters, again and again, until `wanted` are left.

    The probability of a merged cluster is the sum of both, and who confuses what is counted anew. Clusters
    without cells go first, so that `wanted` are left with cells wherever as many had some.

    Parameters
    ----------
    probabilities : (n_cells, n_clusters).
    wanted : 1 to n_clusters.

    Returns
    -------
    (n_clusters,) : number of the merged cluster that each belongs to, 0 to `wanted` − 1, in the order of
        their first members.
    """
    n = probabilities.shape[1]
    if not 1 <= wanted <= n:
        raise InputError(
            "clusters can only be merged into fewer", found=wanted, allowed=f"at least 1 and at most {n}"
        )
    groups = np.arange(n)
    while groups.max() + 1 > wanted:
        first, second = most_confused(confusion(merged(probabilities, groups)))
        groups[groups == second] = first
        groups[groups > second] -= 1
    return groups


def merged(probabilities: FloatArray, groups: IntArray) -> FloatArray:
    """Probabilities of the merged clusters, (n_cells, n_groups): the sums over their members."""
    members = np.eye(int(groups.max()) + 1)[groups]
    return np.asarray(probabilities @ members)

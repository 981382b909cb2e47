"""Clusters that neighbours agree on, then learned from their own surest cells (SCAN).

Van Gansbeke, Vandenhende, Georgoulis, Proesmans & Van Gool 2020, arXiv:2005.12320, sections 2.2 and 2.3. Two
things are otherwise, since a few thousand cells are fewer than the tens of thousands of pictures there
(`benchmarks/cell_clusters.py`). The second step does not train the backbone, which forgot its features faster
than clusters were found. The third takes the surest share of every cluster, not all cells above one
probability: clusters of which no cell was as sure as that were lost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from lymphoscope.cohort.bags import FloatArray, IntArray
from lymphoscope.models.clusters.cells import Cells, all_features, colours, features, order, random_batches
from lymphoscope.models.image_inputs import AUGMENTATIONS
from lymphoscope.models.networks.base import CellNetwork
from lymphoscope.training.augmentation import Augmentation
from lymphoscope.training.schedules import make_optimiser

_SMALLEST = 1e-8
"""Below this a probability has no logarithm worth having."""

_LENGTH = 8.0
"""Of the features that heads see: neighbours are found by angle, and so are clusters."""

_HEAD_RATE, _BATCH = 0.01, 512
"""Adam's, in the second step. Batches are large, since the entropy of their mean stands for that of all."""


@dataclass(frozen=True)
class ScanSettings:
    """How clusters are learned once the pretext task is done.

    Attributes
    ----------
    clusters : number of clusters, 2 or more.
    heads : linear layers that learn side by side; the one of lowest loss is kept.
    entropy_weight : λ of `scan_loss`.
    epochs, self_labelling_epochs : of the second and of the third step.
    batch_size, learning_rate, weight_decay : of Adam in the third step, where a higher rate undid clusters
        rather than sharpened them; the second has a rate of its own, for linear layers on features that
        stay, and batches of `_BATCH` cells.
    surest : share of every cluster's cells, those of highest probability, that the third step learns from.
    views : changes of the cells in the third step. The paper's strong ones undid the clusters of a few
        thousand cells; mirroring and quarter turns do not.
    """

    clusters: int = 20
    heads: int = 10
    entropy_weight: float = 5.0
    epochs: int = 50
    self_labelling_epochs: int = 6
    batch_size: int = 128
    learning_rate: float = 3e-5
    weight_decay: float = 1e-4
    surest: float = 0.5
    views: Augmentation = AUGMENTATIONS["flips"]


class ClusterHeads(nn.Module):
    """Linear layers side by side from the direction of a cell's features to logits of clusters."""

    def __init__(self, n_features: int, n_clusters: int, n_heads: int) -> None:
        super().__init__()
        self.n_clusters = n_clusters
        self.layer = nn.Linear(n_features, n_heads * n_clusters)

    def forward(self, seen: Tensor) -> Tensor:
        """(n, n_features) → (n, n_heads, n_clusters)."""
        direction = _LENGTH * normalize(seen.float(), dim=1)
        return self.layer(direction).view(len(seen), -1, self.n_clusters)

    @torch.no_grad()
    def only(self, head: int) -> ClusterHeads:
        """A copy of one of them."""
        one = ClusterHeads(self.layer.in_features, self.n_clusters, 1).to(self.layer.weight.device)
        own = slice(head * self.n_clusters, (head + 1) * self.n_clusters)
        one.layer.weight.copy_(self.layer.weight[own])
        one.layer.bias.copy_(self.layer.bias[own])
        return one


def scan_loss(anchors: Tensor, neighbours: Tensor, entropy_weight: float) -> Tensor:
    """Consistency of neighbours less the entropy of the clusters' use (equation 2), (n_heads,).

    −mean_i log ⟨p_i, p_neighbour(i)⟩ + λ Σ_c p̄_c log p̄_c, with p̄ the mean of p over the anchors.

    Parameters
    ----------
    anchors, neighbours : logits of cells and of one neighbour each, (n, n_heads, n_clusters).
    entropy_weight : λ, at least 0. Without it one cluster for all is the best answer.
    """
    p, q = anchors.softmax(dim=2), neighbours.softmax(dim=2)
    consistency = -(p * q).sum(dim=2).clamp_min(_SMALLEST).log().mean(dim=0)
    mean = p.mean(dim=0)
    return consistency + entropy_weight * (mean * mean.clamp_min(_SMALLEST).log()).sum(dim=1)


def train_heads(
    network: CellNetwork, cells: Cells, neighbours: IntArray, settings: ScanSettings, seed: int
) -> tuple[ClusterHeads, FloatArray]:
    """The second step: heads learn clusters that neighbours share; the backbone rests.

    Parameters
    ----------
    neighbours : (n_cells, k); one of them is drawn per cell and epoch.

    Returns
    -------
    heads : only the one whose loss over all cells is lowest.
    losses : mean loss per epoch over heads and batches, (epochs,).
    """
    seen = all_features(network, cells).clone()  # made for looking, and to be learned from now
    heads = _new_heads(seen.shape[1], settings, seed).to(cells.device)
    optimiser = make_optimiser(heads.parameters(), "adam", _HEAD_RATE, 0.0)
    losses = []
    for epoch in range(settings.epochs):
        rng, total = order(seed, epoch), 0.0
        for places in random_batches(len(cells), _BATCH, rng):
            beside = neighbours[places, rng.integers(neighbours.shape[1], size=len(places))]
            first, second = heads(seen[np.concatenate([places, beside])]).chunk(2)
            loss = scan_loss(first, second, settings.entropy_weight).sum()
            _step(optimiser, loss)
            total += loss.item() * len(places) / settings.heads
        losses.append(total / len(cells))
    with torch.inference_mode():
        each = scan_loss_of_all(heads(seen), neighbours, settings.entropy_weight)
    return heads.only(int(each.argmin())), np.array(losses)


def self_label(
    network: CellNetwork, head: ClusterHeads, cells: Cells, settings: ScanSettings, seed: int
) -> FloatArray:
    """The third step: backbone and head, in place, learn the clusters of the cells they are sure of.

    Before every epoch all cells are looked at unchanged; the surest of every cluster (`surest_cells`) have it
    as their label, and are learned in changed views with a cross-entropy in which all clusters weigh the same
    (section 2.3).

    Returns
    -------
    highest probability of a cell before each epoch, in the mean over cells, (self_labelling_epochs,).
    """
    parameters = [*network.parameters(), *head.parameters()]
    optimiser = make_optimiser(parameters, "adam", settings.learning_rate, settings.weight_decay)
    certainty = []
    for epoch in range(settings.self_labelling_epochs):
        highest, label = all_logits(network, head, cells)[:, 0].softmax(dim=1).max(dim=1)
        certainty.append(float(highest.mean()))
        sure = surest_cells(highest.cpu().numpy(), label.cpu().numpy(), settings.surest)
        if len(sure) < 2:  # nothing that batch normalisation could learn from
            continue
        labels = label.cpu().numpy()[sure]
        weight = _balancing(labels, settings.clusters).to(cells.device)
        network.train()
        rng, chance = order(seed, epoch), colours(seed, epoch)
        for places in random_batches(len(sure), settings.batch_size, rng):
            logits = head(features(network, cells.changed(sure[places], settings.views, chance)))[:, 0]
            target = torch.from_numpy(labels[places]).to(cells.device)
            _step(optimiser, cross_entropy(logits, target, weight=weight))
    network.eval()
    return np.array(certainty)


def surest_cells(highest: FloatArray, cluster: IntArray, share: float) -> IntArray:
    """Places of the cells of highest probability in each cluster, ascending.

    Parameters
    ----------
    highest, cluster : each cell's highest probability and the cluster that has it, (n_cells,).
    share : of each cluster's cells, above 0 and at most 1; rounded up, so that no cluster goes without.
    """
    best_first = np.lexsort((-highest, cluster))
    counts = np.bincount(cluster)
    rank = np.arange(len(cluster)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(best_first[rank < np.ceil(share * counts)[cluster[best_first]]])


def all_logits(network: CellNetwork, heads: ClusterHeads, cells: Cells) -> Tensor:
    """Logits of all cells, unchanged, in `eval()`; (n_cells, n_heads, n_clusters)."""
    heads.to(cells.device)
    with torch.inference_mode():
        return torch.as_tensor(heads(all_features(network, cells)))


@torch.inference_mode()
def scan_loss_of_all(logits: Tensor, neighbours: IntArray, entropy_weight: float) -> Tensor:
    """`scan_loss` with every cell as anchor, the consistency averaged over all neighbours, (n_heads,)."""
    places = torch.from_numpy(neighbours.T.copy()).to(logits.device)
    return torch.stack([scan_loss(logits, logits[beside], entropy_weight) for beside in places]).mean(dim=0)


def _new_heads(width: int, settings: ScanSettings, seed: int) -> ClusterHeads:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ClusterHeads(width, settings.clusters, settings.heads)


def _step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


def _balancing(labels: IntArray, n_clusters: int) -> Tensor:
    """One over the number of cells of each cluster, float32 (n_clusters,); 0 for an empty one."""
    counts = np.bincount(labels, minlength=n_clusters)
    return torch.from_numpy(np.where(counts > 0, 1.0 / np.maximum(counts, 1), 0.0).astype(np.float32))

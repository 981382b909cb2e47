"""The pretext task: two views of one cell are to be alike, views of different cells apart (SimCLR).

Chen, Kornblith, Norouzi & Hinton 2020, arXiv:2002.05709.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from lymphoscope.cohort.bags import FloatArray
from lymphoscope.models.clusters.cells import Cells, all_features, colours, features, order, random_batches
from lymphoscope.models.image_inputs import AUGMENTATIONS
from lymphoscope.models.networks.base import CellNetwork
from lymphoscope.training.augmentation import Augmentation
from lymphoscope.training.contrastive import nt_xent
from lymphoscope.training.schedules import learning_rate_at, make_optimiser

STRONG: Augmentation = replace(
    AUGMENTATIONS["all"], shift=0.1, scale=0.2, brightness=0.1, contrast=0.2, stain=0.15, sharp=0.0
)
"""Views of the pretext task. Stronger than in training by label, since what changes is what clusters are to
overlook: the smear's colour and where the cell lies. The size of a cell is to stay a sign, so nothing like
SimCLR's crops of 8 to 100 % of the area."""


@dataclass(frozen=True)
class PretextSettings:
    """How the pretext task is trained.

    Attributes
    ----------
    batch_size : cells; each is seen in two views.
    learning_rate : of Adam at the start, falling to 0 by cosine.
    temperature : τ of `nt_xent`, above 0.
    projection : width of the space in which views are compared.
    """

    epochs: int = 100
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    temperature: float = 0.1
    projection: int = 128
    augmentation: Augmentation = STRONG


def train_pretext(network: CellNetwork, cells: Cells, settings: PretextSettings, seed: int) -> FloatArray:
    """Train the backbone of `network`, in place, on photographs alone.

    Returns
    -------
    mean loss of each epoch, (epochs,). The projection, one hidden layer as in the paper, is thrown away.
    """
    width = all_features(network, cells.some(np.arange(1))).shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        projection = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, settings.projection)
        ).to(cells.device)
    parameters = [*network.parameters(), *projection.parameters()]
    optimiser = make_optimiser(parameters, "adam", settings.learning_rate, settings.weight_decay)
    losses = []
    for epoch in range(settings.epochs):
        rate = learning_rate_at(epoch, settings.epochs, settings.learning_rate, "cosine")
        for group in optimiser.param_groups:
            group["lr"] = rate
        losses.append(_epoch(network, projection, optimiser, cells, settings, seed, epoch))
    network.eval()
    return np.array(losses)


def _epoch(
    network: CellNetwork,
    projection: nn.Module,
    optimiser: torch.optim.Optimizer,
    cells: Cells,
    settings: PretextSettings,
    seed: int,
    epoch: int,
) -> float:
    """One pass over the cells; its mean loss."""
    network.train()
    chance, total = colours(seed, epoch), 0.0
    for places in random_batches(len(cells), settings.batch_size, order(seed, epoch)):
        twice = np.concatenate([places, places])
        seen = features(network, cells.changed(twice, settings.augmentation, chance))
        first, second = projection(seen).chunk(2)
        loss = nt_xent(first, second, settings.temperature)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        total += loss.item() * len(places)
    return total / len(cells)

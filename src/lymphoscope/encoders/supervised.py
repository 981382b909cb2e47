"""Supervised training of an encoder on labelled cells, the same to the bit if it is cut short and resumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from lymphoscope.cohort.progress import Progress
from lymphoscope.encoders.appearance import Appearance
from lymphoscope.encoders.labelled_cells import LabelledCells, Task
from lymphoscope.encoders.multitask import MultitaskNetwork, class_weights, masked_loss
from lymphoscope.encoders.steps import EncoderTraining, ShownSteps, torch_seed, train_epochs
from lymphoscope.training.augmentation import IMAGENET, Augmentation, augment
from lymphoscope.training.balancing import batches
from lymphoscope.training.learner import Learner
from lymphoscope.training.machine import autocast, keep_memory

AUGMENTATION = Augmentation(
    flips=True, rotation=180.0, shift=0.05, scale=0.15, brightness=0.1, contrast=0.2, stain=0.25
)
"""A cell has no upright position, and stain and exposure differ between laboratories; its size, which is one
of the tasks, changes little. Free rotation makes quarter turns superfluous."""

APPEARANCE = Appearance(background=0.5, blur=0.2, compression=0.2)
"""Half of the cells keep their own surroundings, since that is what will be asked about."""

NORMALISATION = IMAGENET
"""What models that take a transformer expect unless told otherwise."""

_ORDER, _COLOURS, _APPEARANCE = 1, 2, 3
"""Streams of random numbers within an epoch."""


@dataclass(frozen=True)
class SupervisedSettings(EncoderTraining):
    """Training on labelled cells; see `EncoderTraining`."""

    warm_up: ClassVar[int] = 3

    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    average: float = 0.998


def train_supervised(
    network: MultitaskNetwork,
    cells: LabelledCells,
    tasks: Sequence[Task],
    settings: SupervisedSettings,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    key: str = "",
    progress: Progress | None = None,
) -> list[float]:
    """Train `network` in place; the mean loss of every epoch.

    Parameters
    ----------
    checkpoint : file that the training is kept in after every epoch, and taken up from if `key` is its own.

    Raises
    ------
    LymphoscopeError : the loss is no number any more.
    """
    keep_memory()
    network.to(device)
    learner = Learner(network, settings.engine)
    weights = [each.to(device) for each in class_weights(cells.targets, tasks)]
    losses = train_epochs(
        learner,
        settings,
        lambda epoch, shown: _epoch(learner, cells, weights, settings, epoch, device, shown),
        what="training",
        steps=len(batches(np.arange(len(cells)), settings.batch_size)),
        device=device,
        checkpoint=checkpoint,
        key=key,
        progress=progress,
    )
    network.load_state_dict(learner.judged.state_dict())
    network.eval()
    return losses


def _epoch(
    learner: Learner,
    cells: LabelledCells,
    weights: Sequence[Tensor],
    settings: SupervisedSettings,
    epoch: int,
    device: torch.device,
    shown: ShownSteps,
) -> float:
    """One pass over the cells; the mean loss."""
    order = np.random.default_rng([settings.seed, epoch, _ORDER]).permutation(len(cells))
    looks = np.random.default_rng([settings.seed, epoch, _APPEARANCE])
    colours = torch.Generator().manual_seed(torch_seed(settings.seed, epoch, _COLOURS))
    network, total = learner.network.train(), 0.0
    for rows in batches(order.astype(np.int64), settings.batch_size):
        changed = APPEARANCE.change(cells.images[rows], cells.masks[rows], looks)
        batch, target = (torch.from_numpy(each).to(device) for each in (changed, cells.targets[rows]))
        photographs = augment(batch, AUGMENTATION, NORMALISATION, colours)
        with autocast(settings.engine, device):
            loss = masked_loss(network(photographs), target, weights)
        learner.step(loss)
        value = loss.item()
        total += value * len(rows)
        shown.step(epoch, len(rows), value)
    return total / len(cells)

"""Supervised training of an encoder on labelled cells, the same to the bit if it is cut short and resumed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lymphoscope.cohort.progress import Progress
from lymphoscope.encoders.appearance import Appearance
from lymphoscope.encoders.labelled_cells import LabelledCells, Task
from lymphoscope.encoders.multitask import MultitaskNetwork, class_weights, masked_loss
from lymphoscope.encoders.steps import ShownSteps, torch_seed
from lymphoscope.errors import LymphoscopeError
from lymphoscope.training.augmentation import IMAGENET, Augmentation, augment
from lymphoscope.training.balancing import batches
from lymphoscope.training.bounds import check_range
from lymphoscope.training.checkpoints import read_tensors, write_tensors
from lymphoscope.training.learner import Learner
from lymphoscope.training.machine import autocast, keep_memory, same_bits
from lymphoscope.training.schedules import learning_rate_at
from lymphoscope.training.settings import Precision, TrainingSettings

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

_WARM_UP = 3
"""Epochs in which the learning rate rises, if there are more than that."""


@dataclass(frozen=True)
class SupervisedSettings:
    """How an encoder is trained: AdamW, a short warm-up, then a cosine; the last epoch's weights are kept.

    Attributes
    ----------
    epochs : passes over the training cells.
    batch_size : cells per step, at most.
    learning_rate : the highest.
    weight_decay : of AdamW.
    average : what is kept is an average of the weights over the steps, in which a step weighs this times what
        the next one does (Tarvainen & Valpola 2017, arXiv:1703.01780, section 2); 0 keeps the last ones.
    clip_norm : largest norm of the gradient.
    precision : of the training; what is measured at the end is measured in single precision.
    seed : of every random number.
    """

    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    average: float = 0.998
    clip_norm: float = 1.0
    precision: Precision = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("epochs", self.epochs, 1, math.inf, open_high=True)
        check_range("batch_size", self.batch_size, 1, math.inf, open_high=True)
        check_range("learning_rate", self.learning_rate, 0, math.inf, open_low=True, open_high=True)
        check_range("average", self.average, 0, 1, open_high=True)
        check_range("seed", self.seed, 0, math.inf, open_high=True)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @property
    def engine(self) -> TrainingSettings:
        """What the shared parts of training ask for."""
        return TrainingSettings(
            optimiser="adamw",
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            average=self.average,
            clip_norm=self.clip_norm,
            precision=self.precision,
        )

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch, 0 for the first."""
        warm_up = min(_WARM_UP, self.epochs - 1)
        return learning_rate_at(epoch, self.epochs, self.learning_rate, "cosine", warmup_epochs=warm_up)


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
    losses = (_load(checkpoint, key, learner) if checkpoint else None) or []
    weights = [each.to(device) for each in class_weights(cells.targets, tasks)]
    steps = len(batches(np.arange(len(cells)), settings.batch_size))
    shown = ShownSteps(progress, "training", settings.epochs * steps, len(losses) * steps)
    for epoch in range(len(losses), settings.epochs):
        learner.set_rate(settings.rate(epoch))
        with same_bits(device):
            loss = _epoch(learner, cells, weights, settings, epoch, device, shown)
        if not math.isfinite(loss):
            raise LymphoscopeError(
                f"the training came apart in epoch {epoch + 1}: its loss is no number any more. "
                "Choose a lower learning rate."
            )
        losses.append(loss)
        if checkpoint:
            write_tensors(checkpoint, learner.tensors(), {"key": key, "losses": json.dumps(losses)})
    shown.done()
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


def _load(path: Path, key: str, learner: Learner) -> list[float] | None:
    """Take up what was saved under `key`; None, and nothing changed, where there is no such checkpoint."""
    found = read_tensors(path, key)
    if found is None or not learner.take_up(found[0]):
        return None
    return [float(loss) for loss in json.loads(found[1]["losses"])]

"""What trainings of encoders share: settings, seeds, the loop over epochs, and what is told of steps."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from lymphoscope.cohort.progress import Noting, Progress
from lymphoscope.errors import LymphoscopeError
from lymphoscope.training.bounds import check_range
from lymphoscope.training.checkpoints import read_tensors, write_tensors
from lymphoscope.training.learner import Learner
from lymphoscope.training.machine import same_bits
from lymphoscope.training.schedules import learning_rate_at
from lymphoscope.training.settings import Precision, TrainingSettings


@dataclass(frozen=True)
class EncoderTraining:
    """How an encoder is trained: AdamW, a short warm-up, then a cosine; the last epoch's weights are kept.

    Attributes
    ----------
    epochs : passes over the cells.
    batch_size : cells per step, at most.
    learning_rate : the highest.
    weight_decay : of AdamW.
    average : what is kept is an average of the weights over the steps, in which a step weighs this times what
        the next one does (Tarvainen & Valpola 2017, arXiv:1703.01780, section 2); 0 keeps the last ones.
    clip_norm : largest norm of the gradient.
    precision : of the training; what is measured at the end is measured in single precision.
    seed : of every random number.
    """

    warm_up: ClassVar[int]
    """Epochs in which the learning rate rises, if there are more than that."""

    smallest_batch: ClassVar[int] = 1

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    average: float
    clip_norm: float = 1.0
    precision: Precision = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("epochs", self.epochs, 1, math.inf, open_high=True)
        check_range("batch_size", self.batch_size, self.smallest_batch, math.inf, open_high=True)
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
        warm_up = min(self.warm_up, self.epochs - 1)
        return learning_rate_at(epoch, self.epochs, self.learning_rate, "cosine", warmup_epochs=warm_up)


def train_epochs(
    learner: Learner,
    settings: EncoderTraining,
    one_epoch: Callable[[int, ShownSteps], float],
    *,
    what: str,
    steps: int,
    device: torch.device,
    checkpoint: Path | None,
    key: str,
    progress: Progress | None,
) -> list[float]:
    """Train all epochs that are left; the mean loss of every epoch, also of those of an earlier call.

    Parameters
    ----------
    one_epoch : trains an epoch, counted from 0, and gives its mean loss.
    what : the training in a word.
    steps : of an epoch.
    checkpoint : file that the training is kept in after every epoch, and taken up from if `key` is its own.

    Raises
    ------
    LymphoscopeError : the loss is no number any more.
    """
    losses = (_load(checkpoint, key, learner) if checkpoint else None) or []
    shown = ShownSteps(progress, what, settings.epochs * steps, len(losses) * steps)
    for epoch in range(len(losses), settings.epochs):
        learner.set_rate(settings.rate(epoch))
        with same_bits(device):
            losses.append(one_epoch(epoch, shown))
        if not math.isfinite(losses[-1]):
            raise LymphoscopeError(
                f"{what} came apart in epoch {epoch + 1}: its loss is no number any more. "
                "Choose a lower learning rate."
            )
        if checkpoint:
            write_tensors(checkpoint, learner.tensors(), {"key": key, "losses": json.dumps(losses)})
    shown.done()
    return losses


def _load(path: Path, key: str, learner: Learner) -> list[float] | None:
    """Take up what was saved under `key`; None, and nothing changed, where there is no such checkpoint."""
    found = read_tensors(path, key)
    if found is None or not learner.take_up(found[0]):
        return None
    return [float(loss) for loss in json.loads(found[1]["losses"])]


def torch_seed(*parts: int) -> int:
    """A seed for torch that every one of `parts` changes."""
    return int(np.random.SeedSequence(list(parts)).generate_state(1)[0])


class ShownSteps:
    """What is told of the steps, short enough for 80 columns to show the time left beside it.

    Parameters
    ----------
    what : name of the work.
    steps : in all.
    done : of these, in an earlier call.
    """

    def __init__(self, progress: Progress | None, what: str, steps: int, done: int) -> None:
        self._progress = progress
        self._began, self._images, self._loss = time.perf_counter(), 0, math.nan
        if progress:
            progress.start(what, steps)
            progress.advance(done)

    def step(self, epoch: int, images: int, loss: float) -> None:
        """One step of an epoch, counted from 0, on so many photographs."""
        self._images += images
        self._loss = loss if math.isnan(self._loss) else 0.98 * self._loss + 0.02 * loss
        if self._progress:
            self._progress.advance()
            self._note(f"epoch {epoch + 1}, {self._speed:,.0f}/s, loss {self._loss:.2f}")

    def done(self) -> None:
        """The training has ended."""
        if self._progress:
            self._note(f"steps, {self._speed:,.0f} images/s, loss {self._loss:.2f}")
            self._progress.done()

    @property
    def _speed(self) -> float:
        return self._images / max(time.perf_counter() - self._began, 1e-9)

    def _note(self, text: str) -> None:
        if isinstance(self._progress, Noting):
            self._progress.note(text)

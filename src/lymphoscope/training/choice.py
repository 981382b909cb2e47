"""Which epochs are trained, at which learning rate, and which of them are kept: from history alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from lymphoscope.training.curves import Epoch
from lymphoscope.training.schedules import learning_rate_at
from lymphoscope.training.settings import TrainingSettings


def kept_epochs(history: list[Epoch], settings: TrainingSettings) -> list[int]:
    """Numbers of the epochs whose weights are kept, by what is known so far."""
    if settings.snapshots == 1:
        return [selected_epoch(history, settings)]
    return [end for _, end in _cycles(settings) if end <= len(history)]


def selected_epoch(history: list[Epoch], settings: TrainingSettings) -> int:
    """Number of the best epoch so far, the first of equals; or of the last."""
    if settings.select == "last" or history[-1].validation is None:
        return len(history)
    measured = [epoch.validation for epoch in history if epoch.validation is not None]
    if settings.select_by == "loss":
        values = [-each.loss for each in measured]
    else:
        values = [each.balanced_accuracy for each in measured]
    if np.isnan(values).all():  # of scored patients of one class, say, no balanced accuracy is known
        return len(history)
    return int(np.argmax(np.nan_to_num(values, nan=-np.inf))) + 1


def out_of_patience(history: list[Epoch], settings: TrainingSettings) -> bool:
    if settings.patience is None or settings.snapshots > 1 or not history:
        return False
    return len(history) - selected_epoch(history, settings) >= settings.patience


def learning_rate(number: int, settings: TrainingSettings) -> float:
    if settings.snapshots > 1:
        start, end = next(cycle for cycle in _cycles(settings) if number <= cycle[1])
        return learning_rate_at(
            number - 1 - start,
            end - start,
            settings.learning_rate,
            kind="cosine",
            warmup_epochs=0 if start else min(settings.warmup_epochs, end - 1),
        )
    return learning_rate_at(
        number - 1,
        settings.epochs,
        settings.learning_rate,
        kind=settings.schedule,
        decay=settings.decay,
        warmup_epochs=min(settings.warmup_epochs, settings.epochs - 1),
    )


def _cycles(settings: TrainingSettings) -> list[tuple[int, int]]:
    """Of each cycle of the learning rate, the epochs before it, and its last one."""
    ends = [round(i * settings.epochs / settings.snapshots) for i in range(settings.snapshots + 1)]
    return [(start, end) for start, end in pairwise(ends) if end > start]

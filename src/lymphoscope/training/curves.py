"""What is watched while a network trains: one record per epoch, for training and validation patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from lymphoscope.stats.metrics import sensitivity, specificity

Scores = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Measured:
    """Loss and decisions on some patients after one epoch.

    Attributes
    ----------
    loss : mean of what is minimised, over cells or patients as the training goes.
    balanced_accuracy, sensitivity, specificity : of patients, their scores cut where training has them
        malignant as often as not; NaN without patients of the class.
    """

    loss: float
    balanced_accuracy: float
    sensitivity: float
    specificity: float

    @classmethod
    def of(cls, loss: float, y: Labels, score: Scores, cut: float) -> Measured:
        """From the log-odds `score` of patients, shape (n_patients,), and their labels."""
        decision = (score >= cut).astype(np.int64)
        found, spared = sensitivity(y, decision), specificity(y, decision)
        return cls(float(loss), (found + spared) / 2, found, spared)


@dataclass(frozen=True)
class Epoch:
    """One epoch.

    Attributes
    ----------
    number : from 1.
    training : measured on the cells as they were trained on, augmented, while the weights were changing.
    validation : of patients that are not trained on; None where none are held out.
    images, seconds : trained on, and how long that took; left out of anything that must be reproducible.
    member : of the networks that a model averages, the one that was trained, from 0.
    kept : its weights are among those that predict.
    """

    number: int
    learning_rate: float
    training: Measured
    validation: Measured | None
    images: int
    seconds: float
    member: int = 0
    kept: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Epoch:
        """What `as_dict` gave."""
        validation = values["validation"]
        return cls(
            **{
                **values,
                "training": Measured(**values["training"]),
                "validation": None if validation is None else Measured(**validation),
            }
        )


def by_member(history: Sequence[Epoch]) -> list[list[Epoch]]:
    """The epochs of each member in turn."""
    return [list(epochs) for _, epochs in groupby(history, key=lambda epoch: epoch.member)]


MEASURES = tuple(each.name for each in fields(Measured))


def curve(history: Sequence[Epoch], measure: str, of: str) -> npt.NDArray[np.float64]:
    """One measure per epoch, shape (n_epochs,); `of` is "training" or "validation"."""
    measured = (getattr(epoch, of) for epoch in history)
    return np.array([np.nan if each is None else getattr(each, measure) for each in measured])

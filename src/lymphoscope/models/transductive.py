"""Models that may learn from the cells of the patients they will predict, never from more of them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Self, TypeGuard

import numpy as np

from lymphoscope.cohort.bags import Bags
from lymphoscope.models.base import BagClassifier, Labels


class TransductiveClassifier(BagClassifier):
    """A classifier that can be transductive: what it is scored on has then taken part in learning.

    Attributes
    ----------
    transductive : `fit` wants the cells of the patients that will be predicted. Results are then those of
        patients who were all there from the start, and say nothing of a patient who comes later.
    """

    transductive: bool

    @abstractmethod
    def fit(self, bags: Bags, y: Labels, *, unlabelled: Bags | None = None) -> Self:
        """Learn as any classifier does.

        Parameters
        ----------
        unlabelled : other patients, whose cells and nothing else take part; for a transductive model alone.
        """


def is_transductive(model: BagClassifier) -> TypeGuard[TransductiveClassifier]:
    """Whether `model` wants the cells of the patients that it will predict."""
    return isinstance(model, TransductiveClassifier) and model.transductive


def cells_alone(bags: Bags) -> Bags:
    """The same cells of patients of whom nothing else is known: no ids, no age, sex or count."""
    ids = tuple(str(i) for i in range(len(bags)))
    return replace(bags, clinical=np.full_like(bags.clinical, np.nan), patient_ids=ids)

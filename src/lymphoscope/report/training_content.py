"""What the report says of networks' training, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MEASURES: Mapping[str, str] = {
    "loss": "Loss",
    "balanced_accuracy": "Balanced accuracy",
    "sensitivity": "Sensitivity (TPR)",
    "specificity": "Specificity (TNR)",
}
"""What is drawn, and what it is called."""

Curves = Mapping[str, tuple[float, ...]]
"""One value per epoch for each name in `MEASURES`; NaN where it could not be measured."""


@dataclass(frozen=True)
class FoldCurves:
    """How one training in a fold went.

    Attributes
    ----------
    name : "repeat 1, fold 2".
    chosen : numbers of the epochs whose weights were kept, from 1.
    training, validation : of the patients trained on, and of others; empty where there are none.
    """

    name: str
    chosen: tuple[int, ...]
    training: Curves
    validation: Curves


@dataclass(frozen=True)
class Balancing:
    """Patients and cells of an epoch before and after classes were evened out, mean over the folds.

    Attributes
    ----------
    how : one sentence.
    patients_before, patients_after, cells_before, cells_after : (reactive, malignant).
    """

    how: str
    patients_before: tuple[float, float]
    patients_after: tuple[float, float]
    cells_before: tuple[float, float]
    cells_after: tuple[float, float]

    @property
    def changes(self) -> bool:
        """Whether other patients or cells are drawn at all."""
        return (self.patients_before, self.cells_before) != (self.patients_after, self.cells_after)


@dataclass(frozen=True)
class Training:
    """One recipe that is trained in epochs.

    Attributes
    ----------
    recipe, title : as on the ladder.
    rule : one or two sentences on which epoch was kept and who the validation patients are.
    folds : in order.
    optimistic : the epoch was chosen on the patients that are scored.
    balancing : None where nothing is evened out.
    """

    recipe: str
    title: str
    rule: str
    folds: tuple[FoldCurves, ...]
    optimistic: bool = False
    balancing: Balancing | None = None

    def kept(self, measure: str) -> tuple[float, ...]:
        """A measure of every fold at the epochs kept, on validation patients where there are any."""
        values = [(fold.validation or fold.training)[measure] for fold in self.folds]
        pairs = zip(values, self.folds, strict=True)
        return tuple(curve[epoch - 1] for curve, fold in pairs for epoch in fold.chosen)

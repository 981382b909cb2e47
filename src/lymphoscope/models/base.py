"""The contract every model keeps: bags of cells and a small table in, a probability per patient out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError

from lymphoscope.cohort.bags import Bags, FloatArray
from lymphoscope.errors import InputError
from lymphoscope.training.balancing import BalanceCounts
from lymphoscope.training.curves import Epoch

Labels = npt.NDArray[np.integer[Any]]
State = dict[str, npt.NDArray[Any]]
CellInput = Literal["none", "numbers", "images"]
Stain = Literal["as-is", "normalised"]

SCORED_FOLD = "scored-fold"
"""The selection that chooses an epoch by the patients that are scored."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """What a model says of patients, and why.

    Attributes
    ----------
    probability : of reactive and malignant, (n_patients, 2).
    evidence : of every cell, as `cell_evidence` has it, (n_cells,), or None.
    shares : how much of each decision came from where, e.g. "cells" and "clinical": 0 to 1 per patient,
        (n_patients,), NaN where unknown; together 1. Empty where the model cannot say.
    """

    probability: FloatArray
    evidence: FloatArray | None
    shares: Mapping[str, FloatArray]


class BagClassifier(BaseEstimator, ABC):
    """Scikit-learn's estimator contract over `Bags`.

    The constructor stores its parameters and nothing else; `fit` learns state whose names end in `_`;
    `clone`, `get_params` and `set_params` work. Probabilities are meant at the prevalence of the training
    patients, so that `threshold_`, by default that prevalence, is the cut that maximises balanced accuracy.

    Attributes
    ----------
    cell_input : what `bags.cells` must hold: "none" (cells are not looked at), "numbers" or "images".
        A model of clinical values alone takes bags of any cells.
    image_size, segmented, stain : of a model of photographs: side in pixels of the centre that it takes,
        whether what is not the cell is to be painted over, and whether stain and light are to be those of a
        reference.
    classes_ : array([0, 1]).
    threshold_ : probability of malignancy at and above which `predict` says 1.
    """

    cell_input: ClassVar[CellInput] = "numbers"
    image_size: int = 0
    segmented: bool = False
    stain: Stain = "as-is"

    classes_: npt.NDArray[np.int64]
    threshold_: float

    @abstractmethod
    def fit(self, bags: Bags, y: Labels) -> Self:
        """Learn from `bags` with labels `y`, shape (n_patients,), each 0 or 1."""

    @abstractmethod
    def predict_proba(self, bags: Bags) -> FloatArray:
        """Probability of reactive and malignant per patient, shape (n_patients, 2), rows sum to 1."""

    @abstractmethod
    def state(self) -> State:
        """Everything `fit` learned, as named arrays (no object arrays): what a model bundle stores."""

    @abstractmethod
    def load_state(self, state: State) -> Self:
        """Take up what `state` returned on a model of the same parameters; predictions are then identical."""

    @property
    def looks_at_cells(self) -> bool:
        """Whether what it says of a patient may depend on cells at all."""
        return self.cell_input != "none"

    def check_fitted(self) -> None:
        """Raise scikit-learn's `NotFittedError` unless `fit` or `load_state` has been called."""
        if not hasattr(self, "threshold_"):
            raise NotFittedError(f"{type(self).__name__} is not fitted yet; call fit or load_state first")

    def predict(self, bags: Bags) -> npt.NDArray[np.int8]:
        """1 malignant, 0 reactive per patient, shape (n_patients,)."""
        self.check_fitted()
        return (self.predict_proba(bags)[:, 1] >= self.threshold_).astype(np.int8)

    def settled(self) -> BagClassifier:
        """An unfitted model with what this fitted one chose in inner folds fixed: what bootstrap refits use.

        A model that chooses nothing is its own clone.
        """
        return cast("BagClassifier", clone(self))

    def begins_with(self) -> str | None:
        """Name or place of the encoder or other weights that `fit` begins with; None where it needs none."""
        return None

    def built_on(self) -> str:
        """SHA-256 of what `fit` reads besides the bags, wherever it lies; "" where that is nothing."""
        return ""

    @property
    def built_from_weights(self) -> bool:
        """Whether predictions need weights again that the fitted model does not hold."""
        return False

    def check_settings(self) -> None:
        """Raise the `InputError` of `fit` for settings that no patients could make fit."""

    def kept_parameters(self) -> dict[str, Any]:
        """Parameters as they are kept with a fitted model, of the machine that fitted it nothing."""
        elsewhere = {"device": "auto"}
        return {key: elsewhere.get(key, value) for key, value in self.get_params(deep=False).items()}

    def cell_evidence(self, bags: Bags) -> FloatArray | None:
        """How much each cell speaks for malignancy (positive) or against (negative), shape (n_cells,).

        None where the model cannot say.
        """
        return None

    def explain(self, bags: Bags) -> Explanation:
        """Everything the model says of patients; one that looks at cells for long does so once for all."""
        return Explanation(self.predict_proba(bags), self.cell_evidence(bags), {})


@dataclass(frozen=True)
class Beginning:
    """What the training of a network begins with.

    Attributes
    ----------
    weights_sha256 : of the weights; "" without.
    tuned : a sentence on what is trained; "" where that is everything.
    """

    weights_sha256: str
    tuned: str


class EpochClassifier(BagClassifier):
    """A classifier trained epoch after epoch: long enough to be watched, killed and resumed.

    Attributes
    ----------
    epochs : at most, of each member.
    members : networks that are trained and averaged.
    selection : what chooses the epoch that is kept; "scored-fold" looks at the patients that are scored, and
        its results are optimistic.
    weights : where a backbone's weights are read from before training, or None.
    weights_sha256_ : of their content; "" without.
    history_ : what was measured after every epoch, member after member.
    balance_ : patients and cells of the first epoch before and after balancing; None without balancing.
    """

    cell_input: ClassVar[CellInput] = "images"

    epochs: int
    members: int
    selection: str
    weights: str | None
    weights_sha256_: str
    history_: list[Epoch]
    balance_: BalanceCounts | None = None

    @property
    def all_epochs(self) -> int:
        """Most epochs of a fit, of all members."""
        return self.epochs * self.members

    @property
    def optimistic(self) -> bool:
        """Whether the epoch that is kept is chosen on the patients that are scored."""
        return self.selection == SCORED_FOLD

    @property
    def holds_out_each(self) -> bool:
        """Whether a fit offers `inner_oof_`, so that a threshold needs no inner folds."""
        return False

    @property
    def tuned(self) -> str:
        """What was trained of a fitted model, in a sentence."""
        return ""

    @property
    def untrained(self) -> bool:
        """Whether it keeps weights that have learned nothing, so that no comparison should rank it."""
        return self.weights == "random"

    def unheard(self) -> Mapping[str, str]:
        """Why a setting says nothing to this model whatever the others are, by its name."""
        return {}

    def begins_with(self) -> str | None:
        """Name or place of the weights that a fit begins with."""
        return self.weights

    def built_on(self) -> str:
        """SHA-256 of the weights that a fit begins with."""
        return self.check_network().weights_sha256

    def check_settings(self) -> None:
        """As `check_network`."""
        self.check_network()

    @abstractmethod
    def check_network(self) -> Beginning:
        """What a fit begins with.

        Raises
        ------
        InputError : that of `fit`, for a network or weights that no patients could make fit.
        """

    @abstractmethod
    def fit(
        self,
        bags: Bags,
        y: Labels,
        *,
        scored: tuple[Bags, Labels] | None = None,
        checkpoint: Path | None = None,
        watch: Callable[[Epoch], None] | None = None,
    ) -> Self:
        """Learn as any classifier does.

        Parameters
        ----------
        scored : patients that will be scored, for the selection "scored-fold" alone.
        checkpoint : file to keep the training in after every epoch, and to take it up from.
        watch : told of every finished epoch.
        """


def check_labels(bags: Bags, y: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """`y` as int64 of shape (n_patients,), holding 0 and 1, both at least once; else an `InputError`."""
    labels = np.asarray(y)
    if labels.shape != (len(bags),):
        raise InputError(
            "there must be one label per patient", found=labels.shape, allowed=f"shape ({len(bags)},)"
        )
    present = np.unique(labels)
    if not np.isin(present, (0, 1)).all():
        raise InputError(
            "a label is neither malignant nor reactive",
            found=present.tolist(),
            allowed="1 (malignant) and 0 (reactive)",
            remedy="Fit on the labelled patients only.",
        )
    if len(present) < 2:
        raise InputError(
            "patients of one class only cannot teach a model to tell two apart",
            found=f"{len(labels)} patients with labels {present.tolist()}",
            allowed="at least one patient with label 1 and one with label 0",
            remedy="Add labelled patients of the other class.",
        )
    return labels.astype(np.int64)

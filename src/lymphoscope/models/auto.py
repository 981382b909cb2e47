"""A model that chooses its recipe in inner folds of the patients it is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from annotated_types import Ge, MinLen

from lymphoscope.cohort.bags import Bags, FloatArray
from lymphoscope.errors import InputError
from lymphoscope.models.base import BagClassifier, CellInput, Explanation, Labels, State, check_labels
from lymphoscope.models.inner_folds import held_out_logits, inner_folds, signature
from lymphoscope.models.learned import pack_text, unpack_text
from lymphoscope.models.logistic import log_loss, sigmoid
from lymphoscope.models.patient_space import ENCODER_NUMBERS, has_numbers
from lymphoscope.models.registry import create_model, recipe_info

_CANDIDATES = (
    "clinical",
    "morphology",
    "encoder-mean",
    "morphology-clinical-late",
    "morphology-clinical",
    "encoder-mean-clinical",
    "encoder-morphology-clinical",
)


class AutoClassifier(BagClassifier):
    """Try every candidate in inner folds, choose one, and fit it on all patients.

    A candidate is judged by its log-loss on held-out patients, everything of its own being chosen inside the
    rest. Of those that the best one beats by at most one standard error of the difference, patient by
    patient, the first in the list is taken (the one-standard-error rule of Breiman et al. 1984, paired), so
    list the simplest first.

    Parameters
    ----------
    candidates : names of recipes on clinical values or per-cell numbers, simplest first. Late fusion
        counts as simpler than early: between cells and clinical values it sets two weights. Those on
        embeddings take no part where the bags hold none.
    inner_repeats : rounds of five inner folds.
    random_state : seed of the inner folds and of the candidates.

    Attributes
    ----------
    chosen_ : "recipe", and what the chosen model chose itself.
    inner_scores_ : mean log-loss of each candidate on held-out patients; nothing without inner folds.
    inner_oof_ : probability of malignancy that the chosen recipe gave each training patient while held out,
        shape (n_patients,); None without inner folds, and on a model that was loaded.
    model_ : the chosen recipe, fitted on all patients.
    """

    cell_input: ClassVar[CellInput] = "numbers"

    inner_scores_: dict[str, float]
    inner_oof_: FloatArray | None
    model_: BagClassifier

    def __init__(
        self,
        candidates: Annotated[tuple[str, ...], MinLen(1)] = _CANDIDATES,
        inner_repeats: Annotated[int, Ge(1)] = 2,
        random_state: Annotated[int, Ge(0)] = 0,
    ) -> None:
        self.candidates = candidates
        self.inner_repeats = inner_repeats
        self.random_state = random_state

    @property
    def chosen_(self) -> dict[str, Any]:
        """Name of the chosen recipe, and what that chose itself."""
        self.check_fitted()
        return {"recipe": self.recipe_, **getattr(self.model_, "chosen_", {})}

    @property
    def looks_at_cells(self) -> bool:
        """Fitted, whether the chosen recipe does."""
        return self.model_.looks_at_cells if hasattr(self, "model_") else True

    def fit(self, bags: Bags, y: Labels) -> Self:
        """Choose among the candidates and fit the chosen one on all of `bags`."""
        labels = check_labels(bags, y)
        models = candidates_for(bags, self.candidates, self)
        folds = inner_folds(signature(bags), labels, self.inner_repeats, self.random_state)
        self.inner_scores_, self.inner_oof_, self.recipe_ = {}, None, next(iter(models))
        if len(folds):
            logits = {name: held_out_logits(model, bags, labels, folds) for name, model in models.items()}
            losses = np.stack([log_loss(labels, logit).mean(axis=0) for logit in logits.values()])
            self.inner_scores_ = dict(zip(models, losses.mean(axis=1).tolist(), strict=True))
            self.recipe_ = list(models)[_simplest_of_the_best(losses)]
            self.inner_oof_ = sigmoid(logits[self.recipe_].mean(axis=0))
        self.model_ = models[self.recipe_].fit(bags, labels)
        self.classes_, self.threshold_ = self.model_.classes_, self.model_.threshold_
        return self

    def predict_proba(self, bags: Bags) -> FloatArray:
        """What the chosen model says."""
        self.check_fitted()
        return self.model_.predict_proba(bags)

    def cell_evidence(self, bags: Bags) -> FloatArray | None:
        """What the chosen model says of the cells; None where it does not look at them."""
        self.check_fitted()
        return self.model_.cell_evidence(bags)

    def explain(self, bags: Bags) -> Explanation:
        """That of the chosen recipe."""
        self.check_fitted()
        return self.model_.explain(bags)

    def settled(self) -> BagClassifier:
        """The chosen recipe, unfitted."""
        self.check_fitted()
        return self.model_.settled()

    def state(self) -> State:
        """The chosen model's state, its name and the candidates' scores."""
        self.check_fitted()
        return {
            "recipe": pack_text(self.recipe_),
            "scores": np.array([self.inner_scores_.get(name, np.nan) for name in self.candidates]),
            **{f"model.{name}": array for name, array in self.model_.state().items()},
        }

    def load_state(self, state: State) -> Self:
        """Take up what `state` returned."""
        self.recipe_, self.inner_oof_ = unpack_text(state["recipe"]), None
        scores = zip(self.candidates, state["scores"].tolist(), strict=True)
        self.inner_scores_ = {name: score for name, score in scores if not np.isnan(score)}
        inside = {
            name.removeprefix("model."): array for name, array in state.items() if name.startswith("model.")
        }
        self.model_ = candidate(self.recipe_, self).load_state(inside)
        self.classes_, self.threshold_ = self.model_.classes_, self.model_.threshold_
        return self


def candidates_for(bags: Bags, names: Sequence[str], chooser: BagClassifier) -> dict[str, BagClassifier]:
    """Unfitted models, by name, of the recipes that `bags` hold the numbers for.

    Raises
    ------
    InputError : there is none; or as `candidate`.
    """
    models = {name: candidate(name, chooser) for name in names}
    found = {name: model for name, model in models.items() if has_numbers(model, bags)}
    if not found:
        raise InputError(
            f"no candidate of {type(chooser).__name__} can be tried on these cells",
            found=", ".join(names),
            allowed="at least one on clinical values or measured numbers, or an encoder",
            remedy="Embeddings and concepts come from an encoder: do not switch it off.",
        )
    return found


def candidate(name: str, chooser: BagClassifier) -> BagClassifier:
    """An unfitted model of a recipe that `chooser` may try, with its seed.

    Raises
    ------
    InputError : the recipe takes photographs, or is of the same kind as `chooser`.
    """
    info = recipe_info(name)
    if info.cell_input == "images" or info.estimator == type(chooser).__name__:
        raise InputError(
            f"{type(chooser).__name__} cannot try this candidate",
            found=name,
            allowed="recipes on clinical values or per-cell numbers, other than its own",
        )
    model = create_model(name)
    if "random_state" in model.get_params():
        model.set_params(random_state=chooser.get_params()["random_state"])
    return model


def looks_at_an_encoder(model: BagClassifier) -> bool:
    """Whether a model takes embeddings or concepts, or may try one that does; fitted, what it has chosen."""
    if isinstance(model, AutoClassifier) and hasattr(model, "model_"):
        return looks_at_an_encoder(model.model_)
    if any(kind in getattr(model, "numbers", "") for kind in ENCODER_NUMBERS):
        return True
    return any(looks_at_an_encoder(create_model(name)) for name in getattr(model, "candidates", ()))


def _simplest_of_the_best(losses: FloatArray) -> int:
    """First row whose mean exceeds the lowest by at most a standard error of their paired difference."""
    excess = losses - losses[losses.mean(axis=1).argmin()]
    error = excess.std(axis=1, ddof=1) / np.sqrt(losses.shape[1])
    return int(np.flatnonzero(excess.mean(axis=1) <= error)[0])

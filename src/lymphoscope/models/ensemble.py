"""Several recipes that decide together, weighed by what they said of patients while these were held out."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, MinLen

from lymphoscope.cohort.bags import Bags, FloatArray
from lymphoscope.models.auto import candidate, candidates_for
from lymphoscope.models.base import BagClassifier, CellInput, Labels, State, check_labels
from lymphoscope.models.inner_folds import CERTAIN, held_out_logits, inner_folds, signature
from lymphoscope.models.learned import pack_text, unpack_text
from lymphoscope.models.logistic import fit_logistic, log_loss, sigmoid

_CANDIDATES = ("clinical", "morphology-clinical-late", "morphology-clinical", "encoder-mean-clinical")

_TEMPER = 0.3
"""As where strengths of shrinkage are averaged: losses on few patients tell candidates apart less well than
they seem."""

_SLOPE_PENALTY = 1.0
"""On the slope of the recalibration, in units of the standardised log-odds; hardly felt, never infinite."""


class EnsembleClassifier(BagClassifier):
    """The weighted mean of the log-odds of several recipes.

    A candidate weighs exp(-τ · its log-loss on held-out patients, summed over patients), so that one which is
    clearly worse has no say, and those that cannot be told apart share it. Slope and intercept of the mean
    are then learned on the same held-out log-odds. Everything happens within the patients it is given.

    Parameters
    ----------
    candidates : names of recipes on clinical values or per-cell numbers. Those on embeddings take no part
        where the bags hold none.
    inner_repeats : rounds of five inner folds.
    random_state : seed of the inner folds and of the candidates.

    Attributes
    ----------
    weights_ : of each candidate, together 1.
    inner_scores_ : mean log-loss of each candidate on held-out patients; nothing without inner folds.
    models_ : the candidates, fitted on all patients.
    """

    cell_input: ClassVar[CellInput] = "numbers"

    weights_: dict[str, float]
    inner_scores_: dict[str, float]
    models_: dict[str, BagClassifier]
    slope_: float
    intercept_: float

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
        """Weight of each candidate."""
        self.check_fitted()
        return {f"{name}_weight": weight for name, weight in self.weights_.items()}

    def fit(self, bags: Bags, y: Labels) -> Self:
        """Weigh the candidates and fit each on all of `bags`."""
        labels = check_labels(bags, y)
        models = candidates_for(bags, self.candidates, self)
        folds = inner_folds(signature(bags), labels, self.inner_repeats, self.random_state)
        self._weigh(models, bags, labels, folds)
        self.models_ = {name: model.fit(bags, labels) for name, model in models.items()}
        self.classes_, self.threshold_ = np.array([0, 1]), float(labels.mean())
        return self

    def _weigh(
        self,
        models: dict[str, BagClassifier],
        bags: Bags,
        y: npt.NDArray[np.int64],
        folds: npt.NDArray[np.bool_],
    ) -> None:
        """Set weights, slope and intercept; without inner folds all weigh the same."""
        share = np.full(len(models), 1 / len(models))
        self.inner_scores_, self.slope_, self.intercept_ = {}, 1.0, 0.0
        if len(folds):
            logits = np.stack([held_out_logits(model, bags, y, folds) for model in models.values()])
            losses = log_loss(y, logits).mean(axis=1)  # (n_candidates, n_patients)
            self.inner_scores_ = dict(zip(models, losses.mean(axis=1).tolist(), strict=True))
            total = losses.sum(axis=1)
            share = np.exp(-_TEMPER * (total - total.min()))
            share /= share.sum()
            together = np.einsum("c,cn->n", share, logits.mean(axis=1))
            self.slope_, self.intercept_ = _recalibrated(together, y)
        self.weights_ = dict(zip(models, share.tolist(), strict=True))

    def predict_proba(self, bags: Bags) -> FloatArray:
        """Probability of reactive and malignant per patient, shape (n_patients, 2), rows sum to 1."""
        self.check_fitted()
        mean = np.zeros(len(bags))
        for name, model in self.models_.items():
            p = np.clip(model.predict_proba(bags)[:, 1], CERTAIN, 1 - CERTAIN)
            mean += self.weights_[name] * np.log(p / (1 - p))
        malignant = sigmoid(self.intercept_ + self.slope_ * mean)
        return np.stack([1.0 - malignant, malignant], axis=1)

    def cell_evidence(self, bags: Bags) -> FloatArray | None:
        """The candidates' evidence, weighed as they are; None where none of them looks at cells."""
        self.check_fitted()
        told = [(self.weights_[name], model.cell_evidence(bags)) for name, model in self.models_.items()]
        seen = [weight * each for weight, each in told if each is not None]
        return self.slope_ * np.sum(seen, axis=0) if seen else None

    def state(self) -> State:
        """The candidates' states, their weights and scores, slope and intercept."""
        self.check_fitted()
        state: State = {
            "recipes": pack_text(json.dumps(list(self.models_))),
            "weights": np.array(list(self.weights_.values())),
            "scores": np.array([self.inner_scores_.get(name, np.nan) for name in self.models_]),
            "line": np.array([self.slope_, self.intercept_, self.threshold_]),
        }
        for name, model in self.models_.items():
            state |= {f"{name}.{key}": array for key, array in model.state().items()}
        return state

    def load_state(self, state: State) -> Self:
        """Take up what `state` returned."""
        names = json.loads(unpack_text(state["recipes"]))
        self.weights_ = dict(zip(names, state["weights"].tolist(), strict=True))
        scores = zip(names, state["scores"].tolist(), strict=True)
        self.inner_scores_ = {name: score for name, score in scores if not np.isnan(score)}
        self.slope_, self.intercept_, self.threshold_ = state["line"].tolist()
        self.models_ = {name: candidate(name, self).load_state(_under(name, state)) for name in names}
        self.classes_ = np.array([0, 1])
        return self


def _under(name: str, state: State) -> State:
    return {key[len(name) + 1 :]: array for key, array in state.items() if key.startswith(f"{name}.")}


def _recalibrated(logit: FloatArray, y: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Slope and intercept of the logistic regression of the labels on log-odds; the slope is not below 0."""
    centre, deviation = float(logit.mean()), max(float(logit.std()), 1e-9)
    line = fit_logistic(((logit - centre) / deviation)[:, None], y, _SLOPE_PENALTY)
    slope = max(0.0, float(line.coef[0])) / deviation
    return slope, line.intercept - slope * centre

"""Models that pool the cells of a patient: level and spread of per-cell numbers, reduced and shrunk.

Every patient becomes the mean and the spread of each per-cell number, robustly scaled and reduced to
principal components (`patient_space`); a logistic regression averaged over strengths of shrinkage
(`averaged_ridge`) makes the log-odds. It is linear in the patient's level and spread, so what it says
divides among the cells exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from annotated_types import Ge

from lymphoscope.cohort.bags import Bags, FloatArray
from lymphoscope.models.averaged_ridge import AveragedFit, fit_averaged
from lymphoscope.models.base import CellInput
from lymphoscope.models.clinical_values import ClinicalScale
from lymphoscope.models.inner_folds import inner_folds
from lymphoscope.models.learned import LearnedClassifier
from lymphoscope.models.logistic import Logistic, fit_logistic, fit_logistic_batch, sigmoid
from lymphoscope.models.missing import JointNormal, averaged_logit
from lymphoscope.models.patient_space import (
    Numbers,
    PatientSpace,
    cell_columns,
    known_columns,
    level_and_spread,
)

_CLINICAL_PENALTY = 0.1
"""On the standardised clinical columns of the clinical expert, as in the recipe `clinical`."""

_FUSION_PENALTY = 1.0
"""On the weights of two experts' log-odds, which are several units wide: hardly felt, but never infinite."""


@dataclass(frozen=True)
class Expert:
    """Log-odds that are linear in standardised columns, missing ones averaged over."""

    normal: JointNormal
    logistic: Logistic

    def logit(self, x: FloatArray) -> FloatArray:
        """Log-odds of malignancy, shape (n_patients,), from columns with NaN where missing."""
        logit = self.logistic.logit(self.normal.complete(x))
        return averaged_logit(logit, self.normal.open_variance(x, self.logistic.coef))


@dataclass(frozen=True)
class PooledState:
    """What `PooledLogistic` learns; the expert's columns are the clinical ones, if any, then components."""

    space: PatientSpace
    scale: ClinicalScale
    expert: Expert
    strength: float


class PooledLogistic(LearnedClassifier):
    """One logistic regression on the pooled cells, with or without age, log count and sex.

    Every per-cell number that describes the cell itself (no background, no neighbours, no focus) becomes two
    numbers of the patient, its mean and its spread over the cells. These are robustly scaled and reduced to
    principal components, and ridge regressions of five different strengths are averaged by how well they
    predict in inner folds. The number of cells of a patient is not used. A patient without cells, or with
    missing clinical values, gets the probability that the rest lets expect.

    Parameters
    ----------
    clinical : take age, lymphocyte count and sex as further columns of the same regression.
    numbers : which numbers of a cell are taken.
    spread_weight : weight of the spreads of the per-cell numbers beside their means, before they are reduced
        together; the spreads are noisier, above 1 they would crowd out the means. 0 leaves them out.
    max_components : principal components kept at most; the shrinkage decides how much each may say.
    inner_repeats : rounds of five inner folds in which strengths of shrinkage are compared.
    random_state : seed of the inner folds.
    """

    cell_input: ClassVar[CellInput] = "numbers"
    learned_type = PooledState
    learned_: PooledState

    def __init__(
        self,
        clinical: bool = False,
        numbers: Numbers = "morphology",
        spread_weight: Annotated[float, Ge(0)] = 0.5,
        max_components: Annotated[int, Ge(1)] = 32,
        inner_repeats: Annotated[int, Ge(1)] = 2,
        random_state: Annotated[int, Ge(0)] = 0,
    ) -> None:
        self.clinical = clinical
        self.numbers = numbers
        self.spread_weight = spread_weight
        self.max_components = max_components
        self.inner_repeats = inner_repeats
        self.random_state = random_state

    @property
    def takes_clinical(self) -> bool:
        """Whether age, count and sex change the result."""
        return self.clinical

    @property
    def chosen_(self) -> dict[str, Any]:
        """The strength to which the average leans; small is much shrinkage."""
        self.check_fitted()
        return {"strength": self.learned_.strength}

    def _learn(self, bags: Bags, y: npt.NDArray[np.int64]) -> PooledState:
        columns = cell_columns(bags, self.numbers)
        table = level_and_spread(bags.select_columns(columns))
        space = PatientSpace.fit(columns, table, self.spread_weight, self.max_components)
        scale = ClinicalScale.fit(bags.clinical)
        x = self._columns(space, scale, table, bags.clinical)
        normal = JointNormal.fit(x)
        x = normal.complete(x)
        n_fixed = x.shape[1] - len(space.deviations)
        seen = np.column_stack([bags.clinical, table]) if self.clinical else table
        folds = inner_folds(seen, y, self.inner_repeats, self.random_state)
        fit = fit_averaged(x[:, :n_fixed], x[:, n_fixed:], space.deviations, y, folds)
        return PooledState(space, scale, Expert(normal, fit.logistic), fit.strength)

    def _columns(
        self, space: PatientSpace, scale: ClinicalScale, table: FloatArray, clinical: FloatArray
    ) -> FloatArray:
        components = space.components(table)
        return np.column_stack([scale.apply(clinical), components]) if self.clinical else components

    def _probability(self, bags: Bags) -> FloatArray:
        learned = self.learned_
        table = level_and_spread(known_columns(bags, learned.space.columns))
        return sigmoid(
            learned.expert.logit(self._columns(learned.space, learned.scale, table, bags.clinical))
        )

    def cell_evidence(self, bags: Bags) -> FloatArray:
        """Share of each cell in the log-odds, (n_cells,): their mean per patient is the cells' whole say."""
        self.check_fitted()
        coef = self.learned_.expert.logistic.coef
        return self.learned_.space.cell_shares(bags, coef[-len(self.learned_.space.deviations) :])


@dataclass(frozen=True)
class LateFusionState:
    """What `LateFusion` learns; `fusion` takes the log-odds of the clinical and of the cells' expert."""

    space: PatientSpace
    scale: ClinicalScale
    clinical: Expert
    cells: Expert
    fusion: Logistic


class LateFusion(LearnedClassifier):
    """Two experts, one for the clinical values and one for the cells, calibrated and fused.

    The fusion is a logistic regression on what both experts said of patients while these were held out in
    inner folds (stacking, Wolpert 1992), so it calibrates each and weighs them; no weight is below 0
    (Breiman 1996). The cells' expert is the recipe `morphology`, the other the recipe `clinical`.

    Parameters
    ----------
    numbers : which numbers of a cell are taken.
    spread_weight : weight of the spreads of the per-cell numbers beside their means, before they are reduced
        together; the spreads are noisier, above 1 they would crowd out the means. 0 leaves them out.
    max_components : principal components kept at most; the shrinkage decides how much each may say.
    inner_repeats : rounds of five inner folds in which shrinkages are compared and experts judged.
    random_state : seed of the inner folds.
    """

    cell_input: ClassVar[CellInput] = "numbers"
    learned_type = LateFusionState
    learned_: LateFusionState

    def __init__(
        self,
        numbers: Numbers = "morphology",
        spread_weight: Annotated[float, Ge(0)] = 0.5,
        max_components: Annotated[int, Ge(1)] = 32,
        inner_repeats: Annotated[int, Ge(1)] = 2,
        random_state: Annotated[int, Ge(0)] = 0,
    ) -> None:
        self.numbers = numbers
        self.spread_weight = spread_weight
        self.max_components = max_components
        self.inner_repeats = inner_repeats
        self.random_state = random_state

    @property
    def chosen_(self) -> dict[str, Any]:
        """Weights of the two experts."""
        self.check_fitted()
        clinical, cells = self.learned_.fusion.coef
        return {"clinical_weight": float(clinical), "cells_weight": float(cells)}

    def _learn(self, bags: Bags, y: npt.NDArray[np.int64]) -> LateFusionState:
        columns = cell_columns(bags, self.numbers)
        table = level_and_spread(bags.select_columns(columns))
        space = PatientSpace.fit(columns, table, self.spread_weight, self.max_components)
        scale = ClinicalScale.fit(bags.clinical)
        folds = inner_folds(np.column_stack([bags.clinical, table]), y, self.inner_repeats, self.random_state)
        cells, cells_held_out = _cells_expert(space, table, y, folds)
        clinical, clinical_held_out = _clinical_expert(scale.apply(bags.clinical), y, folds)
        fusion = _fuse(np.column_stack([clinical_held_out, cells_held_out]), y)
        return LateFusionState(space, scale, clinical, cells, fusion)

    def _probability(self, bags: Bags) -> FloatArray:
        learned = self.learned_
        table = level_and_spread(known_columns(bags, learned.space.columns))
        clinical = learned.clinical.logit(learned.scale.apply(bags.clinical))
        cells = learned.cells.logit(learned.space.components(table))
        return sigmoid(learned.fusion.logit(np.column_stack([clinical, cells])))

    def cell_evidence(self, bags: Bags) -> FloatArray:
        """Share of each cell in the log-odds, (n_cells,): their mean per patient is the cells' whole say."""
        self.check_fitted()
        learned = self.learned_
        return float(learned.fusion.coef[1]) * learned.space.cell_shares(bags, learned.cells.logistic.coef)


def _cells_expert(
    space: PatientSpace, table: FloatArray, y: npt.NDArray[np.int64], folds: npt.NDArray[np.bool_]
) -> tuple[Expert, FloatArray]:
    """The expert for the cells and its log-odds for held-out patients."""
    components = space.components(table)
    normal = JointNormal.fit(components)
    filled = normal.complete(components)
    fit: AveragedFit = fit_averaged(filled[:, :0], filled, space.deviations, y, folds)
    return Expert(normal, fit.logistic), fit.held_out


def _clinical_expert(
    x: FloatArray, y: npt.NDArray[np.int64], folds: npt.NDArray[np.bool_]
) -> tuple[Expert, FloatArray]:
    """The expert for the clinical values and its log-odds for held-out patients."""
    normal = JointNormal.fit(x)
    filled = normal.complete(x)
    weights = np.concatenate([~folds, np.ones((1, len(y)), dtype=bool)]).astype(np.float64)
    beta = fit_logistic_batch(filled, y, weights, np.full((len(weights), x.shape[1]), _CLINICAL_PENALTY))
    logit = beta[:-1, :1] + beta[:-1, 1:] @ filled.T
    times = folds.sum(axis=0)
    held_out = (logit * folds).sum(axis=0) / np.where(times > 0, times, np.nan)
    return Expert(normal, Logistic(float(beta[-1, 0]), beta[-1, 1:])), held_out


def _fuse(held_out: FloatArray, y: npt.NDArray[np.int64]) -> Logistic:
    """Weigh two experts' log-odds, (n_patients, 2); without inner folds both are taken at their word.

    An expert that ranks held-out patients the wrong way has no say; where neither has any, the answer is the
    prevalence.
    """
    base = np.log(y.mean() / (1.0 - y.mean()))
    if np.isnan(held_out).any():
        return Logistic(float(-base), np.ones(2))
    both = fit_logistic(held_out, y, _FUSION_PENALTY)
    if (both.coef >= 0).all():
        return both
    alone = [fit_logistic(held_out[:, [i]], y, _FUSION_PENALTY) for i in (0, 1)]
    loss = {
        i: np.logaddexp(0, np.where(y == 1, -1, 1) * e.logit(held_out[:, [i]])).sum()
        for i, e in enumerate(alone)
        if e.coef[0] > 0
    }
    coef = np.zeros(2)
    if not loss:
        return Logistic(float(base), coef)
    best = min(loss, key=loss.__getitem__)
    coef[best] = float(alone[best].coef[0])
    return Logistic(alone[best].intercept, coef)

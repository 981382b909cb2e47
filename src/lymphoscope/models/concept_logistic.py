"""A concept bottleneck: nothing reaches the decision but what an encoder can name, and clinical values.

Every cell is described by the probability of each answer to each question (its type, its size, its
chromatin …); a patient by the means of these over its cells, the shares in which its cells are so. A logistic
regression on the shares, and on age, log count and sex, makes the log-odds: every number that it weighs has a
name that a haematologist knows (Koh et al. 2020, arXiv:2007.04612).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from annotated_types import Ge

from lymphoscope.cohort.bags import CLINICAL_COLUMNS, Bags, FloatArray, segment_mean, segment_sum
from lymphoscope.models.averaged_ridge import fit_averaged
from lymphoscope.models.base import CellInput
from lymphoscope.models.clinical_values import ClinicalScale
from lymphoscope.models.inner_folds import inner_folds
from lymphoscope.models.learned import LearnedClassifier
from lymphoscope.models.logistic import Logistic, sigmoid
from lymphoscope.models.missing import JointNormal, averaged_logit
from lymphoscope.models.patient_space import Numbers, cell_columns

_LEAST_DEVIATION = 0.02
"""Of a share between patients: one that hardly differs must not be blown up to weigh as much as others."""

_LIMIT = 4.0


@dataclass(frozen=True)
class ConceptState:
    """What `ConceptLogistic` learns; the columns of `logistic` are the clinical ones, if any, then shares."""

    columns: tuple[str, ...]
    mean: FloatArray
    deviation: FloatArray
    scale: ClinicalScale
    normal: JointNormal
    logistic: Logistic
    strength: float


class ConceptLogistic(LearnedClassifier):
    """Logistic regression on the shares of cells in which each concept is seen, and on clinical values.

    Parameters
    ----------
    clinical : take age, lymphocyte count and sex too.
    inner_repeats : rounds of five inner folds in which strengths of shrinkage are compared.
    random_state : seed of the inner folds.
    """

    cell_input: ClassVar[CellInput] = "numbers"
    numbers: ClassVar[Numbers] = "concepts"
    learned_type = ConceptState
    learned_: ConceptState

    def __init__(
        self,
        clinical: bool = True,
        inner_repeats: Annotated[int, Ge(1)] = 2,
        random_state: Annotated[int, Ge(0)] = 0,
    ) -> None:
        self.clinical = clinical
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

    @property
    def coefficients_(self) -> dict[str, float]:
        """Change of the log-odds per standard deviation between patients, by the name of what changes.

        Of a share that differs less than that, per 0.02: see `_LEAST_DEVIATION`.
        """
        self.check_fitted()
        names = [*(CLINICAL_COLUMNS if self.clinical else ()), *self.learned_.columns]
        return dict(zip(names, self.learned_.logistic.coef.tolist(), strict=True))

    def _learn(self, bags: Bags, y: npt.NDArray[np.int64]) -> ConceptState:
        columns = cell_columns(bags, "concepts")
        shares = _shares(bags, columns)
        known = shares[~np.isnan(shares).any(axis=1)]
        mean = known.mean(axis=0) if len(known) else np.zeros(len(columns))
        deviation = np.maximum(known.std(axis=0) if len(known) else 0.0, _LEAST_DEVIATION)
        deviation = np.broadcast_to(deviation, mean.shape).copy()
        scale = ClinicalScale.fit(bags.clinical)
        x = self._columns(_standardised(shares, mean, deviation), scale, bags.clinical)
        normal = JointNormal.fit(x)
        filled = normal.complete(x)
        n_fixed = x.shape[1] - len(columns)
        seen = np.column_stack([bags.clinical, shares]) if self.clinical else shares
        folds = inner_folds(seen, y, self.inner_repeats, self.random_state)
        fit = fit_averaged(filled[:, :n_fixed], filled[:, n_fixed:], np.ones(len(columns)), y, folds)
        return ConceptState(columns, mean, deviation, scale, normal, fit.logistic, fit.strength)

    def _columns(self, shares: FloatArray, scale: ClinicalScale, clinical: FloatArray) -> FloatArray:
        return np.column_stack([scale.apply(clinical), shares]) if self.clinical else shares

    def _probability(self, bags: Bags) -> FloatArray:
        learned = self.learned_
        shares = _standardised(_shares(bags, learned.columns), learned.mean, learned.deviation)
        x = self._columns(shares, learned.scale, bags.clinical)
        logit = learned.logistic.logit(learned.normal.complete(x))
        return sigmoid(averaged_logit(logit, learned.normal.open_variance(x, learned.logistic.coef)))

    def cell_evidence(self, bags: Bags) -> FloatArray:
        """Share of each cell in the log-odds, (n_cells,): their mean per patient is the cells' whole say.

        0 for a cell without concepts; but for shares at the limit of their scale, of which a part is left.
        """
        self.check_fitted()
        learned = self.learned_
        concepts, told = _concepts(bags, learned.columns)
        weights = learned.logistic.coef[-len(learned.columns) :] / learned.deviation
        apart = np.where(told, (concepts - learned.mean) @ weights, 0.0)
        part = np.maximum(segment_mean(told.astype(np.float64), bags.offsets), 1e-9)
        return np.asarray(apart / part[bags.patient_of_cell])


def _concepts(bags: Bags, columns: tuple[str, ...]) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Concepts of every cell, (n_cells, n_concepts), and which cells have them; 0 where they have not."""
    concepts = np.asarray(bags.select_columns(columns).cells, dtype=np.float64)
    told = np.asarray(~np.isnan(concepts).any(axis=1))
    return np.where(told[:, None], concepts, 0.0), told


def _shares(bags: Bags, columns: tuple[str, ...]) -> FloatArray:
    """Mean of every concept over the cells that have them, (n_patients, n_concepts); NaN where none has."""
    concepts, told = _concepts(bags, columns)
    n = segment_sum(told, bags.offsets)[:, None]
    return segment_sum(concepts, bags.offsets) / np.where(n > 0, n, np.nan)


def _standardised(shares: FloatArray, mean: FloatArray, deviation: FloatArray) -> FloatArray:
    """Within ±4, so that no single odd share decides; NaN stays NaN."""
    return np.clip((shares - mean) / deviation, -_LIMIT, _LIMIT)

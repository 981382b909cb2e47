"""Published rules on age and lymphocyte count: the first rungs of every ladder.

A rule decides, it gives no probability. Its probability here is the share of malignant training patients
on its side of the cut (Jeffreys estimate, (k + ½) / (n + 1); Jeffreys 1946), held on the side of
`threshold_` that the rule itself says, so that `predict` is the published rule to the letter whatever
the training patients are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.bags import CLINICAL_COLUMNS, Bags, FloatArray
from lymphoscope.models.base import CellInput, Labels
from lymphoscope.models.learned import LearnedClassifier

BoolArray = npt.NDArray[np.bool_]
RuleName = Literal["chakroun-2021", "andrews-2008", "muscara-2019"]


def chakroun_2021(age: FloatArray, count: FloatArray) -> BoolArray:
    """Count > 10.47 × 10⁹/L or age > 62.5 years.

    Chakroun et al. 2021, Medical Laboratory Journal 15(6):23-30.
    """
    return (count > 10.47) | (age > 62.5)


def andrews_2008(age: FloatArray, count: FloatArray) -> BoolArray:
    """Count ≥ 4 × 10⁹/L above 67 years, > 6.7 × 10⁹/L from 50 to 67 years; never below 50 years.

    Andrews et al. 2008, Leukemia & Lymphoma 49(9):1731-1737, doi:10.1080/10428190802251787. The study
    had patients of 50 years and older; below that age the rule is silent and says 0 here.
    """
    return ((age > 67) & (count >= 4.0)) | ((age >= 50) & (age <= 67) & (count > 6.7))


def muscara_2019(age: FloatArray, count: FloatArray) -> BoolArray:
    """Count ≥ 4.4 × 10⁹/L below 75 years, ≥ 4.0 × 10⁹/L from 75 years: refer to flow cytometry.

    Muscara et al. 2019, American Journal of Clinical Pathology 152(4):458-462, doi:10.1093/ajcp/aqz057.
    """
    return count >= np.where(age >= 75, 4.0, 4.4)


RULES: dict[str, Callable[[FloatArray, FloatArray], BoolArray]] = {
    "chakroun-2021": chakroun_2021,
    "andrews-2008": andrews_2008,
    "muscara-2019": muscara_2019,
}


def decide(rule: str, clinical: FloatArray) -> BoolArray:
    """What the rule says of each row of `clinical`, shape (n_patients, 3); True is malignant, or refer.

    A patient is spared only if the rule spares him whatever a missing value may be. All three rules rise
    with age and with count, so a missing value is taken as infinitely high.
    """
    age = clinical[:, CLINICAL_COLUMNS.index("age")]
    count = clinical[:, CLINICAL_COLUMNS.index("lymphocyte_count")]
    return RULES[rule](*(np.where(np.isnan(value), np.inf, value) for value in (age, count)))


@dataclass(frozen=True)
class RuleOdds:
    """Probability of malignancy where the rule says 0 (`spared`) and where it says 1 (`flagged`)."""

    spared: float
    flagged: float


class ClinicalRule(LearnedClassifier):
    """A published rule; `fit` learns only how often it is right, never where it cuts.

    `predict` is the rule to the letter. The probability is the share of malignant training patients on the
    patient's side of the rule, smoothed. A patient with a missing value is referred unless the rule would
    spare him whatever the value were.

    Parameters
    ----------
    rule : the publication whose rule is applied.
    """

    cell_input: ClassVar[CellInput] = "none"
    learned_type = RuleOdds
    learned_: RuleOdds

    def __init__(self, rule: RuleName = "chakroun-2021") -> None:
        self.rule = rule

    def fit(self, bags: Bags, y: Labels) -> Self:
        """Count malignant patients on both sides of the rule; `threshold_` lies between."""
        super().fit(bags, y)
        self.threshold_ = _jeffreys(np.asarray(y))
        return self

    def _learn(self, bags: Bags, y: npt.NDArray[np.int64]) -> RuleOdds:
        flagged, base = decide(self.rule, bags.clinical), _jeffreys(y)
        # The gap keeps a rule that the training patients contradict (or whose one side is empty) the rule.
        return RuleOdds(
            spared=min(_jeffreys(y[~flagged]), base - 1e-6), flagged=max(_jeffreys(y[flagged]), base)
        )

    def _probability(self, bags: Bags) -> FloatArray:
        return np.where(decide(self.rule, bags.clinical), self.learned_.flagged, self.learned_.spared)


def _jeffreys(y: Labels) -> float:
    return float((y.sum() + 0.5) / (len(y) + 1.0))

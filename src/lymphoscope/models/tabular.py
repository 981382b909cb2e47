"""Models of age, lymphocyte count and sex alone: what images have to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from annotated_types import Gt

from lymphoscope.cohort.bags import Bags, FloatArray
from lymphoscope.models.base import CellInput
from lymphoscope.models.clinical_values import ClinicalScale
from lymphoscope.models.learned import LearnedClassifier
from lymphoscope.models.logistic import Logistic, fit_logistic, sigmoid
from lymphoscope.models.missing import JointNormal, averaged_logit


@dataclass(frozen=True)
class LogisticState:
    """What `ClinicalLogistic` learns."""

    scale: ClinicalScale
    normal: JointNormal
    logistic: Logistic


class ClinicalLogistic(LearnedClassifier):
    """Ridge logistic regression on age, log count and sex, standardised.

    A missing value is replaced by what the patient's other values let expect, and the probability is
    averaged over what they leave open; see `models.missing`.

    Parameters
    ----------
    C : inverse strength of the ridge penalty on the standardised columns; small is strong. At 130 synthetic
        patients 10 gives calibration slope 0.99, against 1.36 at 1, and the lowest log-loss of 0.3 to 100.
    """

    cell_input: ClassVar[CellInput] = "none"
    learned_type = LogisticState
    learned_: LogisticState

    def __init__(self, C: Annotated[float, Gt(0)] = 10.0) -> None:
        self.C = C

    def _learn(self, bags: Bags, y: npt.NDArray[np.int64]) -> LogisticState:
        scale = ClinicalScale.fit(bags.clinical)
        x = scale.apply(bags.clinical)
        normal = JointNormal.fit(x)
        return LogisticState(scale, normal, fit_logistic(normal.complete(x), y, 1.0 / self.C))

    def _probability(self, bags: Bags) -> FloatArray:
        learned, x = self.learned_, self.learned_.scale.apply(bags.clinical)
        logit = learned.logistic.logit(learned.normal.complete(x))
        return sigmoid(averaged_logit(logit, learned.normal.open_variance(x, learned.logistic.coef)))

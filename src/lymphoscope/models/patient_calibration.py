"""From a network's score of a patient to a probability, learned on patients that it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from lymphoscope.cohort.bags import FloatArray, IntArray

_SLOPE_SPREAD = 1.0
"""Prior standard deviation of the logarithm of the slope: from about a third to three times the score."""

_OFFSET_SPREAD = 2.0
"""Prior standard deviation of the offset, in log-odds."""


@dataclass(frozen=True)
class PatientCalibration:
    """Logistic calibration (Platt 1999): the log-odds are `offset` + `slope` · score.

    The slope is positive, so that calibration never turns a ranking round. Both are drawn towards 0 and 1
    by a prior, since some twenty held-out patients are all there is to learn them from.
    """

    slope: float
    offset: float

    @classmethod
    def fit(cls, score: FloatArray, y: IntArray) -> PatientCalibration:
        """From log-odds of held-out patients, shape (n_patients,); none leaves the score as it is."""
        sign = 2.0 * np.asarray(y, dtype=np.float64) - 1.0

        def cost(parameters: FloatArray) -> tuple[float, FloatArray]:
            log_slope, offset = parameters
            slope = np.exp(log_slope)
            margin = sign * (offset + slope * score)
            pull = -sign * expit(-margin)
            prior = log_slope**2 / (2 * _SLOPE_SPREAD**2) + offset**2 / (2 * _OFFSET_SPREAD**2)
            gradient = np.array(
                [
                    (pull * slope * score).sum() + log_slope / _SLOPE_SPREAD**2,
                    pull.sum() + offset / _OFFSET_SPREAD**2,
                ]
            )
            return float(prior - log_expit(margin).sum()), gradient

        found = minimize(cost, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(-5, 5), (-20, 20)])
        return cls(float(np.exp(found.x[0])), float(found.x[1]))

    def probability(self, score: FloatArray) -> FloatArray:
        """Probability of malignancy, shape (n_patients,)."""
        return np.asarray(expit(self.offset + self.slope * score))

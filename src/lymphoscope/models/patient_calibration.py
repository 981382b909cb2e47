"""From a network's score of a patient to a probability, learned on patients that it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit

from lymphoscope.cohort.bags import FloatArray, IntArray

_SLOPE_SPREAD = 1.0
"""Prior standard deviation of the logarithm of the slope on the standardised score: a third to threefold."""

_OFFSET_SPREAD = 1.0
"""Prior standard deviation of the offset about the log-odds of the prevalence."""

_LEAST_SPREAD = 1e-3
"""Log-odds; a score that differs less between patients than this says nothing."""


@dataclass(frozen=True)
class PatientCalibration:
    """Logistic calibration (Platt 1999): the log-odds are `offset` + `slope` · score.

    The slope is positive, so that calibration never turns a ranking round. Some twenty held-out patients are
    all there is to learn from, so both numbers are held by a prior. It is a prior on the score in units of
    its own spread, since some networks hardly leave 0 in log-odds and others never come near it.
    """

    slope: float
    offset: float

    @classmethod
    def fit(cls, score: FloatArray, y: IntArray, prevalence: float) -> PatientCalibration:
        """From log-odds of held-out patients, shape (n_patients,); none leaves the score as it is.

        Parameters
        ----------
        prevalence : share of malignant patients at which probabilities are meant, above 0 and below 1. Few
            held-out patients cannot have it exactly, so the classes are weighted to it.
        """
        if len(score) == 0:
            return cls(1.0, 0.0)
        centre, spread = float(np.mean(score)), max(float(np.std(score)), _LEAST_SPREAD)
        z, malignant = (score - centre) / spread, np.asarray(y) == 1
        sign, expected = np.where(malignant, 1.0, -1.0), float(logit(prevalence))
        shares = {True: prevalence, False: 1 - prevalence}
        weight = sum(
            np.where(malignant == c, shares[c] / max((malignant == c).mean(), 1e-9), 0.0) for c in shares
        )

        def cost(parameters: FloatArray) -> tuple[float, FloatArray]:
            log_slope, offset = parameters
            slope = np.exp(log_slope)
            margin = sign * (offset + slope * z)
            pull = -weight * sign * expit(-margin)
            away = offset - expected
            prior = log_slope**2 / (2 * _SLOPE_SPREAD**2) + away**2 / (2 * _OFFSET_SPREAD**2)
            gradient = np.array(
                [
                    (pull * slope * z).sum() + log_slope / _SLOPE_SPREAD**2,
                    pull.sum() + away / _OFFSET_SPREAD**2,
                ]
            )
            return float(prior - (weight * log_expit(margin)).sum()), gradient

        start = np.array([0.0, expected])
        found = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=[(-5, 5), (-20, 20)])
        slope = float(np.exp(found.x[0])) / spread
        return cls(slope, float(found.x[1]) - slope * centre)

    @classmethod
    def moved(cls, prior: float, prevalence: float) -> PatientCalibration:
        """Learned on nobody: the score `prior`, of a network that knows no patient, becomes `prevalence`.

        Parameters
        ----------
        prior : log-odds by the shares of the classes in training.
        """
        return cls(1.0, float(logit(prevalence)) - prior)

    def probability(self, score: FloatArray) -> FloatArray:
        """Probability of malignancy, shape (n_patients,)."""
        return np.asarray(expit(self.offset + self.slope * score))

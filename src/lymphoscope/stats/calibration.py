"""Are 70 % of the patients called 70 % really malignant? Recalibration and reliability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lymphoscope.stats.intervals import Interval, wilson
from lymphoscope.stats.metrics import CLIP, FloatArray, malignant, probabilities

MAX_STEPS = 60
MAX_STEP = 3.0


@dataclass(frozen=True)
class ReliabilityBin:
    """Patients whose probability lies in [low, high): how many, what was said, what was true.

    Attributes
    ----------
    low, high : the bin's edges.
    n : patients in the bin, a patient in each of several repeats counted by its share.
    predicted : mean probability said.
    observed : share truly malignant with its Wilson interval (of the rounded number of patients).
    """

    low: float
    high: float
    n: float
    predicted: float
    observed: Interval

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "predicted": self.predicted,
            "observed": self.observed.as_dict(),
        }


def logit(p: npt.ArrayLike) -> FloatArray:
    """ln(p / (1 − p)), probabilities kept `CLIP` away from 0 and 1."""
    clipped = np.clip(np.asarray(p, dtype=np.float64), CLIP, 1.0 - CLIP)
    return np.log(clipped / (1.0 - clipped))


def calibration_slope(y: npt.ArrayLike, p: npt.ArrayLike, weights: FloatArray | None = None) -> FloatArray:
    """Slope of the logistic regression of the truth on the logit of `p`, shape (n_replicates,).

    1 is right; below 1 the probabilities are too extreme, above 1 too timid (Cox 1958). The likelihood is
    penalised after Firth (1993), so that the slope stays finite where the classes separate (Heinze & Schemper
    2002). NaN where the probabilities do not differ.

    Parameters
    ----------
    weights : replicates of the patients' weights, shape (n_replicates, n_patients); default: one of ones.
    """
    truth = malignant(y).astype(np.float64)
    x = logit(probabilities(p, truth.shape))
    table = np.ones((1, len(x))) if weights is None else weights
    if np.ptp(x) < 1e-9:
        return np.full(len(table), np.nan)
    # Centred and scaled, the Newton steps are tame; a slope transforms back by the scale alone.
    scale = x.std()
    return _firth(truth, (x - x.mean()) / scale, table)[:, 1] / scale


def calibration_intercept(
    y: npt.ArrayLike, p: npt.ArrayLike, weights: FloatArray | None = None
) -> FloatArray:
    """Calibration in the large, shape (n_replicates,): what must be added to every logit, the slope being 1.

    0 is right; below 0 the probabilities are too high on average, above 0 too low.
    """
    truth = malignant(y).astype(np.float64)
    offset = logit(probabilities(p, truth.shape))
    table = np.ones((1, len(truth))) if weights is None else weights
    shift = np.zeros(len(table))
    for _ in range(MAX_STEPS):
        fitted = _sigmoid(offset[None, :] + shift[:, None])
        variance = fitted * (1 - fitted)
        information = np.einsum("bn,bn->b", table, variance)
        # Firth's penalty for one parameter: half a case shared out by leverage.
        pull = np.einsum("bn,bn->b", table * variance, 0.5 - fitted) / information
        step = (np.einsum("bn,bn->b", table, truth[None, :] - fitted) + pull) / information
        step = np.clip(step, -MAX_STEP, MAX_STEP)
        shift += step
        if np.abs(step).max() < 1e-8:
            break
    return shift


def reliability(y: npt.ArrayLike, p: npt.ArrayLike, bins: int = 10) -> tuple[ReliabilityBin, ...]:
    """Observed against predicted in equal-width bins of probability; empty bins are left out.

    Parameters
    ----------
    p : shape (n_repeats, n_patients) or (n_patients,); each repeat counts 1 / n_repeats.
    """
    truth = malignant(y)
    table = np.atleast_2d(np.asarray(p, dtype=np.float64))
    table = probabilities(table, (len(table), len(truth)))
    at = np.minimum((table * bins).astype(int), bins - 1)
    out = []
    for k in range(bins):
        inside = at == k
        if not inside.any():
            continue
        n = inside.sum() / len(table)
        positive = (inside & truth[None, :]).sum() / len(table)
        whole = max(1, round(n))
        bounds = wilson(min(whole, round(positive / n * whole)), whole)
        observed = Interval(
            float(positive / n), min(bounds.low, positive / n), max(bounds.high, positive / n), bounds.level
        )
        out.append(ReliabilityBin(k / bins, (k + 1) / bins, float(n), float(table[inside].mean()), observed))
    return tuple(out)


def _firth(truth: FloatArray, x: FloatArray, weights: FloatArray) -> FloatArray:
    """Intercept and slope of Firth's logistic regression for every row of `weights`, shape (B, 2)."""
    beta = np.zeros((len(weights), 2))
    x2 = x * x
    for _ in range(MAX_STEPS):
        fitted = _sigmoid(beta[:, :1] + beta[:, 1:] * x[None, :])
        w = weights * fitted * (1 - fitted)
        i00, i01, i11 = w.sum(1), w @ x, w @ x2
        determinant = np.maximum(i00 * i11 - i01 * i01, 1e-12)
        # Leverage of each patient: w · (1, x) I⁻¹ (1, x)ᵀ.
        leverage = w * (i11[:, None] - 2 * i01[:, None] * x + i00[:, None] * x2) / determinant[:, None]
        residual = weights * (truth - fitted) + leverage * (0.5 - fitted)
        u0, u1 = residual.sum(1), residual @ x
        step = np.stack([i11 * u0 - i01 * u1, i00 * u1 - i01 * u0], axis=1) / determinant[:, None]
        # A step that is too long oscillates where the classes almost separate.
        step *= np.minimum(1.0, MAX_STEP / np.maximum(np.abs(step).max(1, keepdims=True), 1e-12))
        beta += step
        if np.abs(step).max() < 1e-8:
            break
    return beta


def _sigmoid(x: FloatArray) -> FloatArray:
    return 0.5 * (1.0 + np.tanh(0.5 * x))

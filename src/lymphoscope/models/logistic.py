"""Ridge logistic regression by Newton's method, many problems on the same patients at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.bags import FloatArray

_STEPS = 50
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Logistic:
    """logit = intercept + x · coef."""

    intercept: float
    coef: FloatArray

    def logit(self, x: FloatArray) -> FloatArray:
        """Log-odds of malignancy of each row of `x`, shape (n_patients, n_columns)."""
        return self.intercept + x @ self.coef


def sigmoid(logit: npt.ArrayLike) -> FloatArray:
    """1 / (1 + exp(−logit)) without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(logit, dtype=np.float64)))


def log_loss(y: npt.NDArray[np.int64], logit: FloatArray) -> FloatArray:
    """−log p(y) of each patient, shape of `logit` (its last axis runs over patients)."""
    return np.logaddexp(0.0, np.where(y == 1, -logit, logit))


def fit_logistic(x: FloatArray, y: npt.NDArray[np.int64], penalty: npt.ArrayLike) -> Logistic:
    """Minimise Σ log-loss + ½ Σ penalty · coef²; the intercept is free.

    `penalty` is a number or one number per column, above 0 (1 / C of scikit-learn), so that the minimum
    exists also where the classes can be separated.
    """
    weights = np.ones((1, len(y)))
    beta = fit_logistic_batch(x, y, weights, np.broadcast_to(penalty, (1, x.shape[1])))[0]
    return Logistic(float(beta[0]), beta[1:])


def fit_logistic_batch(
    x: FloatArray, y: npt.NDArray[np.int64], weights: FloatArray, penalty: FloatArray
) -> FloatArray:
    """Solve several weighted ridge problems on the same rows.

    Parameters
    ----------
    x : (n_patients, n_columns).
    y : (n_patients,), 0 or 1.
    weights : (n_problems, n_patients); 0 leaves a patient out of that problem.
    penalty : (n_problems, n_columns), above 0.

    Returns
    -------
    (n_problems, 1 + n_columns), intercept first.
    """
    n, width = x.shape[0], x.shape[1] + 1
    design = np.column_stack([np.ones(n), x])
    products = (design[:, :, None] * design[:, None, :]).reshape(n, width * width)
    ridge = np.concatenate([np.full((len(weights), 1), 1e-9), penalty], axis=1)
    diagonal = np.arange(width)

    def objective(beta: FloatArray) -> FloatArray:
        return (weights * log_loss(y, beta @ design.T)).sum(1) + 0.5 * (ridge * beta**2).sum(1)

    beta = np.zeros((len(weights), width))
    value = objective(beta)
    for _ in range(_STEPS):
        p = sigmoid(beta @ design.T)
        gradient = (weights * (p - y)) @ design + ridge * beta
        hessian = ((weights * p * (1.0 - p)) @ products).reshape(-1, width, width)
        hessian[:, diagonal, diagonal] += ridge
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        beta, value = _descend(objective, beta, value, step)
        if np.abs(step).max(initial=0.0) < _TOLERANCE:
            break
    return beta


def _descend(
    objective: Callable[[FloatArray], FloatArray], beta: FloatArray, value: FloatArray, step: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Take each problem's Newton step, halved until it does not climb."""
    length = np.ones(len(beta))
    for _ in range(30):
        candidate = beta - length[:, None] * step
        new = objective(candidate)
        climbs = new > value + 1e-12 * np.abs(value)
        if not climbs.any():
            return candidate, new
        length[climbs] *= 0.5
    candidate[climbs], new[climbs] = beta[climbs], value[climbs]
    return candidate, new

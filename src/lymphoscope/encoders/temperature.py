"""Probabilities that mean what they say: one temperature for each task, and how far off it leaves them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from lymphoscope.cohort.bags import FloatArray, IntArray
from lymphoscope.encoders.labelled_cells import MISSING

_BOUNDS = (np.log(0.2), np.log(5.0))
"""Of the logarithm of a temperature: beyond it a handful of cells is taken at its word."""

BINS = 10


@dataclass(frozen=True)
class TaskCalibration:
    """How a task's logits become probabilities, and how right these are of cells that were held out.

    Attributes
    ----------
    temperature : that logits are divided by (Guo et al. 2017, arXiv:1706.04599, equation 9).
    error_before, error : mean distance of confidence from accuracy over ten bins of confidence, weighted by
        their cells (expected calibration error, the same paper, equation 3), without the temperature and with
        one that was learned on the other half of the cells.
    bins : of those that hold cells: cells, mean confidence, share told correctly; with that temperature.
    """

    temperature: float
    error_before: float
    error: float
    bins: tuple[tuple[int, float, float], ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "temperature": self.temperature,
            "calibration_error_before": self.error_before,
            "calibration_error": self.error,
            "reliability": self.bins,
        }


def calibrate(logits: FloatArray, targets: IntArray) -> TaskCalibration:
    """Learn a task's temperature on held-out cells.

    Parameters
    ----------
    logits : (n, n_classes).
    targets : (n,), -1 where the answer is not known; such cells say nothing.
    """
    known = targets != MISSING
    logits, targets = logits[known], targets[known]
    if len(targets) < 2:
        return TaskCalibration(1.0, 0.0, 0.0, ())
    halves = np.arange(len(targets)) % 2 == 0
    crossed = np.empty_like(logits)
    for learned_on in (halves, ~halves):
        crossed[~learned_on] = logits[~learned_on] / _temperature(logits[learned_on], targets[learned_on])
    bins = _reliability(crossed, targets)
    return TaskCalibration(
        _temperature(logits, targets), _error(_reliability(logits, targets)), _error(bins), bins
    )


def _temperature(logits: FloatArray, targets: IntArray) -> float:
    """The one with the lowest log-loss."""

    def loss(log_temperature: float) -> float:
        told = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(told[np.arange(len(targets)), targets].mean())

    return float(np.exp(minimize_scalar(loss, bounds=_BOUNDS, method="bounded").x))


def _reliability(logits: FloatArray, targets: IntArray) -> tuple[tuple[int, float, float], ...]:
    confidence, right = softmax(logits, axis=1).max(axis=1), logits.argmax(axis=1) == targets
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    held = [place == i for i in range(BINS) if (place == i).any()]
    return tuple((int(at.sum()), float(confidence[at].mean()), float(right[at].mean())) for at in held)


def _error(bins: tuple[tuple[int, float, float], ...]) -> float:
    total = sum(n for n, _, _ in bins)
    return sum(n * abs(confidence - right) for n, confidence, right in bins) / total

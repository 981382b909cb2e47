"""How well decisions and probabilities agree with the truth, one number at a time.

Everywhere `y` is the truth, shape (n_patients,), 1 malignant (the positive class) and 0 reactive; the truth
always comes first. `decision` is 0 or 1 per patient, `p` a probability of malignancy in [0, 1].
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

CLIP = 1e-6
"""Probabilities are kept this far from 0 and 1 before a logarithm is taken."""


def malignant(y: npt.ArrayLike) -> BoolArray:
    """Labels as a boolean array, shape (n_patients,); ValueError for anything but 0 and 1."""
    values = np.asarray(y)
    if values.ndim != 1 or not np.isin(values, (0, 1)).all():
        raise ValueError("y: must be one-dimensional and hold 0 (reactive) and 1 (malignant) only")
    return values.astype(bool)


def probabilities(p: npt.ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    """Probabilities as float64 of the given shape; ValueError where one is missing or outside [0, 1]."""
    values = np.asarray(p, dtype=np.float64)
    if values.shape != shape:
        raise ValueError(f"p: shape {values.shape}; allowed: {shape}, one probability per patient")
    if not ((values >= 0.0) & (values <= 1.0)).all():
        raise ValueError("p: every probability must be a number from 0 to 1")
    return values


def sensitivity(y: npt.ArrayLike, decision: npt.ArrayLike) -> float:
    """Share of the malignant patients that were called malignant (true-positive rate, recall)."""
    truth, called = malignant(y), _decisions(decision)
    return float(np.mean(called[truth])) if truth.any() else float("nan")


def specificity(y: npt.ArrayLike, decision: npt.ArrayLike) -> float:
    """Share of the reactive patients that were called reactive (true-negative rate)."""
    truth, called = malignant(y), _decisions(decision)
    return float(np.mean(~called[~truth])) if not truth.all() else float("nan")


def balanced_accuracy(y: npt.ArrayLike, decision: npt.ArrayLike) -> float:
    """Mean of sensitivity and specificity; NaN where a class has no patient."""
    return 0.5 * (sensitivity(y, decision) + specificity(y, decision))


def pair_wins(y: npt.ArrayLike, score: npt.ArrayLike) -> FloatArray:
    """Which of each malignant-reactive pair scored higher, shape (n_malignant, n_reactive).

    1 where the malignant patient did, 0.5 for a tie, 0 where the reactive one did; the mean is the AUC.
    """
    truth, values = malignant(y), np.asarray(score, dtype=np.float64)
    difference = values[truth][:, None] - values[~truth][None, :]
    return 0.5 * (1.0 + np.sign(difference))


def met_in_a_fold(
    truth: BoolArray, score: FloatArray, folds: npt.NDArray[np.int64]
) -> tuple[FloatArray, FloatArray]:
    """How often the malignant patient of each pair won and how often they met, (n_malignant, n_reactive).

    `score` and `folds` are (n_repeats, n_patients). Only patients of the same fold meet. Between folds one
    patient's label helped to train the model that judges the other, which biases the AUC of pooled folds
    downwards (Forman & Scholz 2010; Airola et al. 2011): with labels that mean nothing it lies below 0.5.
    """
    wins, times = (np.zeros((truth.sum(), (~truth).sum())) for _ in range(2))
    for p, fold in zip(score, folds, strict=True):
        together = fold[truth][:, None] == fold[~truth][None, :]
        wins += together * pair_wins(truth, p)
        times += together
    return wins, times


def auc(y: npt.ArrayLike, score: npt.ArrayLike) -> float:
    """Chance that a random malignant patient scores above a random reactive one, ties counted half.

    The Mann-Whitney statistic from mid-ranks (Hanley & McNeil 1982); NaN where a class has no patient.
    """
    truth, values = malignant(y), np.asarray(score, dtype=np.float64)
    n_malignant, n_reactive = int(truth.sum()), int((~truth).sum())
    if not n_malignant or not n_reactive:
        return float("nan")
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    mid_rank = np.cumsum(count) - 0.5 * (count - 1.0)
    rank_sum = mid_rank[inverse][truth].sum()
    return float((rank_sum - n_malignant * (n_malignant + 1) / 2) / (n_malignant * n_reactive))


def squared_error(y: npt.ArrayLike, p: npt.ArrayLike) -> FloatArray:
    """Each patient's part of the Brier score, (p − y)², shape of `p`."""
    return np.square(np.asarray(p, dtype=np.float64) - np.asarray(y, dtype=np.float64))


def surprise(y: npt.ArrayLike, p: npt.ArrayLike) -> FloatArray:
    """Each patient's part of the log loss in nats, −ln of the probability given to the truth."""
    clipped = np.clip(np.asarray(p, dtype=np.float64), CLIP, 1.0 - CLIP)
    return -np.log(np.where(np.asarray(y) == 1, clipped, 1.0 - clipped))


def brier(y: npt.ArrayLike, p: npt.ArrayLike) -> float:
    """Mean squared distance of probability and truth (Brier 1950); 0 is perfect."""
    truth = malignant(y)
    return float(squared_error(truth, probabilities(p, truth.shape)).mean())


def log_loss(y: npt.ArrayLike, p: npt.ArrayLike) -> float:
    """Mean negative log-likelihood in nats, probabilities kept `CLIP` away from 0 and 1."""
    truth = malignant(y)
    return float(surprise(truth, probabilities(p, truth.shape)).mean())


def _decisions(decision: npt.ArrayLike) -> npt.NDArray[Any]:
    values = np.asarray(decision)
    if not np.isin(values, (0, 1)).all():
        raise ValueError("decision: must hold 0 (reactive) and 1 (malignant) only, not probabilities")
    return values.astype(bool)

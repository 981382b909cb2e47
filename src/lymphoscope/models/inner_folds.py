"""Folds within the training patients, for everything that a model chooses itself."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.bags import Bags, FloatArray, segment_mean
from lymphoscope.cohort.splits import repeated_stratified
from lymphoscope.models.base import BagClassifier

FOLDS = 5

CERTAIN = 1e-6
"""Probabilities are taken no nearer to 0 and 1 than this."""


def inner_folds(
    values: FloatArray, y: npt.NDArray[np.int64], repeats: int, seed: int
) -> npt.NDArray[np.bool_]:
    """Which patients are held out in each inner fold, shape (n_folds · repeats, n_patients).

    Every patient is held out once per repeat; the classes are spread evenly. Patients alike in label and in
    all of `values`, shape (n_patients, n_values), are taken for copies of one patient (as in a bootstrap
    sample) and share a fold. The order of the patients does not matter. Where a class has fewer patients
    than five there are fewer folds, and none where it has a single patient.
    """
    rows = np.column_stack([y, np.nan_to_num(values, nan=-1e300)])
    distinct, patient = np.unique(rows, axis=0, return_inverse=True)
    labels = distinct[:, 0].astype(np.int64)
    folds = min(FOLDS, int(labels.sum()), int((1 - labels).sum()))
    if folds < 2:
        return np.zeros((0, len(y)), dtype=bool)
    splits = repeated_stratified(labels, folds, repeats, seed)
    return np.stack([np.isin(patient.ravel(), split.test) for split in splits])


def signature(bags: Bags) -> FloatArray:
    """Numbers by which a copy of a patient is known, (n_patients, 3 + n_columns)."""
    cells = np.nan_to_num(np.asarray(bags.cells, dtype=np.float64))
    return np.column_stack([bags.clinical, segment_mean(cells.reshape(len(cells), -1), bags.offsets)])


def held_out_logits(
    model: BagClassifier, bags: Bags, y: npt.NDArray[np.int64], folds: npt.NDArray[np.bool_]
) -> FloatArray:
    """Log-odds of every patient while held out, shape (n_repeats, n_patients)."""
    logit, repeat = np.empty((int(folds[:, 0].sum()), len(y))), np.zeros(len(y), dtype=np.int64)
    for held_out in folds:
        fitted = model.fit(bags[~held_out], y[~held_out])
        p = np.clip(fitted.predict_proba(bags[held_out])[:, 1], CERTAIN, 1.0 - CERTAIN)
        logit[repeat[held_out], np.flatnonzero(held_out)] = np.log(p / (1.0 - p))
        repeat[held_out] += 1
    return logit

"""Folds within the training patients, for everything that a model chooses itself."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.bags import FloatArray
from lymphoscope.cohort.splits import repeated_stratified

FOLDS = 5


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

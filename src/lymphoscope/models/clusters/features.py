"""What a patient is to a classical classifier: 21 numbers from clusters of cells and clinical values.

With 15 clusters (Collin & Le Chenadec): 15 proportions, entropy, variety, outliers, sex, count, age.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lymphoscope.cohort.bags import CLINICAL_COLUMNS, FloatArray, IntArray

_CLINICAL_ORDER = ("sex", "lymphocyte_count", "age")
_OUTLYING = 0.9
_N_BESIDE = 6
"""Numbers beside the proportions."""


def feature_names(n_clusters: int) -> tuple[str, ...]:
    """Names of the columns that `PatientFeatures.table` gives."""
    shares = tuple(f"cluster_{i + 1}" for i in range(n_clusters))
    return (*shares, "entropy", "variety", "outliers", *_CLINICAL_ORDER)


def cluster_counts(cluster: IntArray, offsets: IntArray, n_clusters: int) -> IntArray:
    """Cells of each patient in each cluster, (n_patients, n_clusters), from the cluster of each cell."""
    n = len(offsets) - 1
    owner = np.repeat(np.arange(n), np.diff(offsets))
    return np.bincount(owner * n_clusters + cluster, minlength=n * n_clusters).reshape(n, n_clusters)


def patient_table(counts: IntArray, clinical: FloatArray) -> FloatArray:
    """Everything but the outliers, (n_patients, n_clusters + 5).

    Parameters
    ----------
    counts : cells of each patient in each cluster, (n_patients, n_clusters). Without any cell, proportions
        (0 to 1), entropy (nats, 0 to log n_clusters) and variety (clusters present) are NaN.
    clinical : columns as in `Bags.clinical`; NaN where missing.
    """
    total = counts.sum(axis=1, keepdims=True).astype(np.float64)
    total[total == 0] = np.nan
    share = counts / total
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=1)
    variety = np.where(np.isnan(total[:, 0]), np.nan, (counts > 0).sum(axis=1))
    at = [CLINICAL_COLUMNS.index(name) for name in _CLINICAL_ORDER]
    return np.column_stack([share, entropy, variety, np.asarray(clinical, dtype=np.float64)[:, at]])


@dataclass(frozen=True)
class PatientFeatures:
    """What training patients say of the columns of `patient_table`.

    Attributes
    ----------
    outlying : 90th percentile of each column, (n_columns,).
    fill, low, high : mean, least and greatest value of each column of `table`, (n_columns + 1,).
    """

    outlying: FloatArray
    fill: FloatArray
    low: FloatArray
    high: FloatArray

    @classmethod
    def fit(cls, table: FloatArray) -> PatientFeatures:
        """From `patient_table` of the training patients; a column without any value counts as 0."""
        outlying = np.array([_quantile(column) for column in table.T])
        whole = _with_outliers(table, outlying)
        known = ~np.isnan(whole)
        fill = np.where(known, whole, 0.0).sum(0) / np.maximum(known.sum(0), 1)
        filled = np.where(known, whole, fill)
        return cls(outlying, fill, filled.min(0), filled.max(0))

    def table(self, table: FloatArray) -> FloatArray:
        """With the outliers: how many columns lie above the training patients' 90th percentile.

        Columns (n_patients, n_clusters + 6) as in `feature_names`; 21 with 15 clusters. NaN where missing.
        """
        return _with_outliers(table, self.outlying)

    def inputs(self, table: FloatArray) -> FloatArray:
        """`table` as classifiers take it: from 0 to 1 over the training patients, the mean where missing.

        Values beyond the training patients' are held at 0 and 1; a column that never differed is 0.
        """
        whole = self.table(table)
        filled = np.where(np.isnan(whole), self.fill, whole)
        span = self.high - self.low
        scaled = (filled - self.low) / np.where(span > 0, span, 1.0)
        return np.clip(scaled, 0.0, 1.0) * (span > 0)


def _with_outliers(table: FloatArray, outlying: FloatArray) -> FloatArray:
    n_clusters = table.shape[1] - _N_BESIDE + 1
    above = (table > outlying).sum(axis=1).astype(np.float64)  # NaN is above nothing
    above[np.isnan(table[:, 0])] = np.nan
    return np.insert(table, n_clusters + 2, above, axis=1)


def _quantile(column: FloatArray) -> float:
    known = column[~np.isnan(column)]
    return float(np.quantile(known, _OUTLYING)) if len(known) else np.inf

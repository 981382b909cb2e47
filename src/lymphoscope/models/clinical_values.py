"""Age, logarithm of the lymphocyte count and sex on one scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lymphoscope.cohort.bags import CLINICAL_COLUMNS, FloatArray

_LOWEST_COUNT = 0.1
_LIMIT = 4.0


def clinical_columns(clinical: FloatArray) -> FloatArray:
    """Age in years, natural logarithm of the count in 10⁹/L, sex (0 female, 1 male); NaN stays NaN.

    Counts run over two orders of magnitude, hence the logarithm; a count below 0.1 is taken as 0.1.
    """
    out = np.array(clinical, dtype=np.float64)
    count = CLINICAL_COLUMNS.index("lymphocyte_count")
    out[:, count] = np.log(np.maximum(out[:, count], _LOWEST_COUNT))
    return out


@dataclass(frozen=True)
class ClinicalScale:
    """Mean and standard deviation of `clinical_columns` among the training patients, shape (3,) each."""

    mean: FloatArray
    deviation: FloatArray

    @classmethod
    def fit(cls, clinical: FloatArray) -> ClinicalScale:
        """Measured without the missing values; a column without any spread is left as it is."""
        columns = clinical_columns(clinical)
        known = ~np.isnan(columns)
        counts = np.maximum(known.sum(0), 1)
        mean = np.where(known, columns, 0.0).sum(0) / counts
        deviation = np.sqrt((np.where(known, columns - mean, 0.0) ** 2).sum(0) / counts)
        return cls(mean, np.where(deviation > 1e-9, deviation, 1.0))

    def apply(self, clinical: FloatArray) -> FloatArray:
        """Standardised columns, held within ±4 so that one odd value cannot decide alone."""
        return np.clip((clinical_columns(clinical) - self.mean) / self.deviation, -_LIMIT, _LIMIT)

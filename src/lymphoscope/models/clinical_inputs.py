"""Clinical values as networks take them: three numbers of about unit size, 0 where missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.bags import FloatArray
from lymphoscope.models.clinical_values import clinical_columns

Scaling = Literal["standard", "minmax"]


@dataclass(frozen=True)
class ClinicalInputs:
    """How age, lymphocyte count and sex are moved and scaled; learned from training patients.

    Attributes
    ----------
    logarithm : the count is taken as its logarithm.
    centre, scale : shape (3,) each; a value becomes (value - centre) / scale. The scale is infinite where
        training patients never differed: nothing was learned of such a value, so it must not count later.
    """

    logarithm: bool
    centre: FloatArray
    scale: FloatArray

    @classmethod
    def fit(cls, clinical: FloatArray, scaling: Scaling) -> ClinicalInputs:
        """From clinical values (n_patients, 3) with NaN where missing.

        "standard": age and log count to mean 0 and variance 1. "minmax": age and count over their range. Sex
        spans 1 either way. Every column is centred at its mean: 0 is the patient one knows nothing of.
        """
        columns = clinical_columns(clinical) if scaling == "standard" else np.array(clinical, dtype=float)
        known = ~np.isnan(columns)
        counts = np.maximum(known.sum(0), 1)
        centre = np.where(known, columns, 0.0).sum(0) / counts
        spans = np.where(known, columns, -np.inf).max(0) - np.where(known, columns, np.inf).min(0)
        if scaling == "standard":
            scale = np.sqrt(np.where(known, (columns - centre) ** 2, 0.0).sum(0) / counts)
        else:
            scale = spans.copy()
        scale[1] = 1.0
        return cls(scaling == "standard", centre, np.where(spans > 1e-9, scale, np.inf))

    def apply(self, clinical: FloatArray) -> npt.NDArray[np.float32]:
        """Scaled values, (n_patients, 3), held within ±4; 0 where missing or the same in all of training."""
        columns = clinical_columns(clinical) if self.logarithm else np.array(clinical, dtype=float)
        scaled = np.clip((columns - self.centre) / self.scale, -4.0, 4.0)
        return np.nan_to_num(scaled, nan=0.0).astype(np.float32)

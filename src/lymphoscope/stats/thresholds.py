"""A cut on a score that keeps a wished sensitivity, with a guarantee for finite samples."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from lymphoscope.stats.metrics import malignant


def referral_threshold(y: npt.ArrayLike, p: npt.ArrayLike, wished_sensitivity: float) -> float:
    """Probability at and above which a patient is referred, so that few enough malignant ones are missed.

    The k-th smallest probability of the n malignant patients, k = ⌊(n + 1)(1 − wished sensitivity)⌋: of a
    further patient, exchangeable with these, the chance to lie at or above it is at least the wished
    sensitivity (split conformal prediction; Vovk, Gammerman & Shafer 2005, Lei et al. 2018). With too few
    malignant patients k is 0, and everybody is referred: threshold 0.

    Parameters
    ----------
    p : probabilities from models that had not seen the patient, shape (n_patients,).
    """
    if not 0.0 < wished_sensitivity < 1.0:
        raise ValueError(f"wished_sensitivity: {wished_sensitivity}; allowed: above 0 and below 1")
    scores = np.sort(np.asarray(p, dtype=np.float64)[malignant(y)])
    # (n + 1)(1 − s) may miss a whole number by rounding: 10 × (1 − 0.9) is 0.9999999999999998.
    k = math.floor((len(scores) + 1) * (1.0 - wished_sensitivity) + 1e-9)
    return float(scores[k - 1]) if k >= 1 else 0.0

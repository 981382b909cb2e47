"""Clinical values and numbers of photographs, drawn to the challenge's marginals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.synthetic.plan import SyntheticPlan

Labels = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

INCLUSION_LIMIT = 4.0
"""Lymphocyte count (10⁹/L) above which a patient counts as having lymphocytosis."""

REACTIVE_LOG_CEILING = np.log(10.47 / INCLUSION_LIMIT)
"""No reactive patient of the challenge lies above 10.47 (Chakroun 2021's cut: specificity 1)."""

MEAN_AGE, AGE_SD_REACTIVE, AGE_SD_MALIGNANT = 68.0, 22.0, 12.5
AGE_RANGE = (18.0, 100.0)
MEDIAN_LOG_COUNT = 2.27
SMALLEST_BAG, LARGEST_BAG = 16 / 66, 198 / 66
BAG_SHORTCUT = 1.0


@dataclass(frozen=True, eq=False)
class ClinicalDraw:
    """Clinical values of n patients, each shape (n,).

    Attributes
    ----------
    age : years.
    sex : 0 female, 1 male.
    count : lymphocytes, 10⁹/L.
    n_cells : photographs.
    """

    age: Floats
    sex: Labels
    count: Floats
    n_cells: Ints

    def table(self) -> Floats:
        """Age, sex, count: shape (n, 3), the columns of `Bags.clinical`."""
        return np.column_stack([self.age, self.sex, self.count])


def draw_labels(n: int, prevalence: float, rng: np.random.Generator) -> Labels:
    """`n` labels in random order, of which the share `prevalence` (to the nearest patient) is 1.

    From two patients on, both classes occur.
    """
    malignant = round(n * prevalence)
    if n >= 2:
        malignant = min(max(malignant, 1), n - 1)
    return rng.permutation((np.arange(n) < malignant).astype(np.int8))


def draw_clinical(
    plan: SyntheticPlan, label: Labels, giveaway: Labels, rng: np.random.Generator
) -> ClinicalDraw:
    """Draw the values of patients with these labels; `giveaway` is what a planted shortcut shows."""
    n = len(label)
    age = _ages(plan, label, rng)
    log_excess = _log_excess(plan, label, rng)
    count = INCLUSION_LIMIT * np.exp(log_excess)
    sex = rng.integers(0, 2, n, dtype=np.int8)
    return ClinicalDraw(age, sex, count, _bag_sizes(plan, np.log(count), giveaway, rng))


def _ages(plan: SyntheticPlan, label: Labels, rng: np.random.Generator) -> Floats:
    centre = MEAN_AGE + plan.age_shift * (label - plan.prevalence)
    age = centre + np.where(label == 1, AGE_SD_MALIGNANT, AGE_SD_REACTIVE) * rng.standard_normal(len(label))
    return np.clip(age, *AGE_RANGE)


def _log_excess(plan: SyntheticPlan, label: Labels, rng: np.random.Generator) -> Floats:
    """Natural log of count / 4: for all a short gamma, for malignant patients plus a long beta tail."""
    n = len(label)
    reactive = rng.gamma(2.0, 0.17, n)
    reactive = np.where(reactive < REACTIVE_LOG_CEILING, reactive, rng.uniform(0, REACTIVE_LOG_CEILING, n))
    a, b = 0.6, 1.5
    tail = rng.beta(a, b, n) * (a + b) / a
    return reactive + 0.01 + plan.log_count_shift * tail * (label == 1)


def _bag_sizes(plan: SyntheticPlan, log_count: Floats, giveaway: Labels, rng: np.random.Generator) -> Ints:
    log_ratio = plan.bag_size_slope * (log_count - MEDIAN_LOG_COUNT)
    log_ratio = log_ratio + plan.bag_size_spread * rng.standard_normal(len(log_count))
    if plan.shortcut == "bag-size":
        log_ratio = log_ratio + BAG_SHORTCUT * (giveaway - 0.5)
    # A demo with few cells still gets bags that are worth reading: the floor is ten cells or the median.
    low = max(round(plan.cells * SMALLEST_BAG), min(plan.cells, 10))
    sizes = np.clip(np.round(plan.cells * np.exp(log_ratio)), low, round(plan.cells * LARGEST_BAG))
    return sizes.astype(np.int64)

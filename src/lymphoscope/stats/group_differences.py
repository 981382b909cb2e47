"""Do malignant and reactive patients differ in a number? Effect size, interval, and a corrected p-value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from lymphoscope.stats.intervals import Interval, PatientBootstrap, percentile_interval
from lymphoscope.stats.metrics import BoolArray, FloatArray, malignant, pair_wins

LEAST_PATIENTS = 2
"""Of each class, below which nothing is compared."""


@dataclass(frozen=True)
class Difference:
    """One number, compared between malignant and reactive patients.

    Attributes
    ----------
    effect : Cliff's delta, which is the rank-biserial correlation: the share of malignant-reactive pairs in
        which the malignant patient has the larger number, less the share in which the reactive one has. From
        −1 to 1; 0 is no difference.
    p : of the two-sided Mann-Whitney test.
    adjusted : the same after Benjamini & Hochberg (1995) over all numbers that were compared together.
    malignant, reactive : mean of the number in each class.
    """

    effect: Interval
    p: float
    adjusted: float
    malignant: float
    reactive: float


def compare_classes(
    y: npt.ArrayLike, values: npt.ArrayLike, replicates: int = 2000, seed: int = 0
) -> tuple[Difference | None, ...]:
    """Compare every column of `values`, (n_patients, n_columns), between the classes of `y`.

    A missing number (NaN) leaves its patient out of that column; a column with fewer than `LEAST_PATIENTS`
    patients of a class is not compared and takes no part in the correction. Intervals are of a bootstrap of
    patients, paired across columns.
    """
    truth, table = malignant(y), np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or len(table) != len(truth):
        raise ValueError(f"values: shape {table.shape}; allowed: ({len(truth)}, n_columns)")
    draws: dict[bytes, PatientBootstrap] = {}
    found: list[tuple[Interval, float, float, float] | None] = []
    for column in table.T:
        there = np.isfinite(column)
        side = truth[there]
        if min(side.sum(), (~side).sum()) < LEAST_PATIENTS:
            found.append(None)
            continue
        draw = draws.setdefault(there.tobytes(), PatientBootstrap(side, replicates, seed))
        found.append(_compare(draw, side, column[there]))
    adjusted = iter(_corrected([each[1] for each in found if each is not None]))
    return tuple(
        None if each is None else Difference(each[0], each[1], next(adjusted), each[2], each[3])
        for each in found
    )


def _compare(
    draw: PatientBootstrap, side: BoolArray, values: FloatArray
) -> tuple[Interval, float, float, float]:
    """Effect, p-value, and the means of malignant and reactive patients."""
    wins = pair_wins(side, values)
    effect = percentile_interval(2 * float(wins.mean()) - 1, 2 * draw.pairs(wins) - 1)
    above, below = values[side], values[~side]
    p = 1.0 if np.ptp(values) == 0 else float(stats.mannwhitneyu(above, below).pvalue)
    return effect, p, float(above.mean()), float(below.mean())


def _corrected(p: list[float]) -> list[float]:
    return [float(each) for each in stats.false_discovery_control(p, method="bh")] if p else []

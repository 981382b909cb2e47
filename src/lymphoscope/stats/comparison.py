"""Can two recipes be told apart on these patients? Paired differences on the same folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lymphoscope.stats.intervals import Interval

TRANSDUCTIVE = "cells of the scored patients took part in learning, without labels; no later patient's will"
UNTRAINED = "its weights have learned nothing before, so its numbers only show that the software runs"
OPTIMISTIC = "the epoch was chosen on the patients that are scored"
"""Why a number is too good, wherever one is shown that is."""


@dataclass(frozen=True)
class Comparison:
    """One recipe against another on the same patients and folds.

    Attributes
    ----------
    first, second : names of the recipes; a positive difference says that `second` is better.
    zone : "overall" or "overlap".
    n_malignant, n_reactive : patients compared.
    balanced_accuracy, auc : second minus first; None where a class has no patient in the zone.
    sentence : the same in words.
    optimistic : those of the two whose epoch was chosen on the patients that are scored.
    transductive : those of the two that had learned from the scored patients' cells.
    """

    first: str
    second: str
    zone: str
    n_malignant: int
    n_reactive: int
    balanced_accuracy: Interval | None
    auc: Interval | None
    sentence: str
    optimistic: tuple[str, ...] = ()
    transductive: tuple[str, ...] = ()

    @property
    def told_apart(self) -> bool:
        """Whether the interval of the difference in balanced accuracy leaves out zero."""
        interval = self.balanced_accuracy
        return interval is not None and (interval.low > 0.0 or interval.high < 0.0)

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "first": self.first,
            "second": self.second,
            "zone": self.zone,
            "n_malignant": self.n_malignant,
            "n_reactive": self.n_reactive,
            "balanced_accuracy": None if self.balanced_accuracy is None else self.balanced_accuracy.as_dict(),
            "auc": None if self.auc is None else self.auc.as_dict(),
            "told_apart": self.told_apart,
            "optimistic": list(self.optimistic),
            "transductive": list(self.transductive),
            "sentence": self.sentence,
        }


def difference_sentence(
    first: str,
    second: str,
    difference: Interval,
    patients: str,
    optimistic: Sequence[str] = (),
    transductive: Sequence[str] = (),
) -> str:
    """Say in plain words whether `second` differs from `first` in balanced accuracy.

    Parameters
    ----------
    difference : second minus first.
    patients : what was compared, e.g. "163 patients (113 malignant, 50 reactive)".
    optimistic : those of the two whose epoch was chosen on the patients that are scored.
    transductive : those of the two that had learned from the scored patients' cells.
    """
    return " ".join(
        [
            _difference(first, second, difference, patients),
            *(f"{each} is optimistic: {OPTIMISTIC}." for each in optimistic),
            *(f"{each} is transductive: {TRANSDUCTIVE}." for each in transductive),
        ]
    )


def _difference(first: str, second: str, difference: Interval, patients: str) -> str:
    low, high = difference.low, difference.high
    bounds = (
        f"difference {difference.estimate:+.3f}, {difference.level:.0%} interval {low:+.3f} to {high:+.3f}"
    )
    if low > 0.0:
        return f"{second} has a higher balanced accuracy than {first} on {patients}: {bounds}."
    if high < 0.0:
        return f"{second} has a lower balanced accuracy than {first} on {patients}: {bounds}."
    span = max(abs(low), abs(high))
    return (
        f"{second} and {first} cannot be told apart on {patients}: {bounds}; "
        f"a difference of up to {np.ceil(span * 100) / 100:.2f} either way cannot be ruled out."
        if low < -0.5 * span and high > 0.5 * span
        else f"{second} and {first} cannot be told apart on {patients}: {bounds}."
    )

"""What an evaluation found, as plain values that pages and files are made of.

Every number that comes from few patients is an `Interval` (estimate, low, high, level), and None where the
zone holds no patient of one class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lymphoscope.evaluation.out_of_fold import OutOfFold
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.stats.calibration import ReliabilityBin
from lymphoscope.stats.intervals import Interval

Zone = Literal["overall", "overlap"]

METRICS = (
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "auc",
    "brier",
    "log_loss",
    "calibration_slope",
    "calibration_intercept",
    "training_balanced_accuracy",
    "optimism",
)
"""Fields of `ZoneResult` that are intervals, in the order in which they are shown."""


@dataclass(frozen=True)
class ZoneResult:
    """One recipe's numbers on all patients or on those of the overlap zone.

    Attributes
    ----------
    zone : "overall", or "overlap": patients with a known count up to the protocol's limit.
    n_malignant, n_reactive : tested patients in the zone.
    n_without_count : tested patients without a count, who are therefore in no overlap zone.
    balanced_accuracy, sensitivity, specificity : at the thresholds of the folds' own models.
    auc, brier, log_loss : of the probabilities; log loss in nats. The AUC compares patients of the same fold.
    calibration_slope, calibration_intercept : 1 and 0 are right; slope below 1: probabilities too extreme;
        intercept (in the large, log odds) below 0: too high on average.
    training_balanced_accuracy : of the same models on their own training patients.
    optimism : training minus out-of-fold balanced accuracy.
    lowest_repeat, highest_repeat : balanced accuracy of the luckiest and the unluckiest division into folds.
    reliability : observed against predicted, in ten bins.
    note : a sentence where something could not be computed, else "".
    """

    zone: Zone
    n_malignant: int
    n_reactive: int
    n_without_count: int
    balanced_accuracy: Interval | None
    sensitivity: Interval | None
    specificity: Interval | None
    auc: Interval | None
    brier: Interval | None
    log_loss: Interval | None
    calibration_slope: Interval | None
    calibration_intercept: Interval | None
    training_balanced_accuracy: Interval | None
    optimism: Interval | None
    lowest_repeat: float | None
    highest_repeat: float | None
    reliability: tuple[ReliabilityBin, ...]
    note: str = ""

    @property
    def n_patients(self) -> int:
        """Tested patients in the zone."""
        return self.n_malignant + self.n_reactive

    def metric(self, name: str) -> Interval | None:
        """The interval called `name`, one of `METRICS`."""
        if name not in METRICS:
            raise ValueError(f"no metric {name!r}; allowed: {', '.join(METRICS)}")
        value: Interval | None = getattr(self, name)
        return value

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        intervals = {name: self.metric(name) for name in METRICS}
        return {
            "zone": self.zone,
            "n_malignant": self.n_malignant,
            "n_reactive": self.n_reactive,
            "n_without_count": self.n_without_count,
            **{name: None if value is None else value.as_dict() for name, value in intervals.items()},
            "lowest_repeat": self.lowest_repeat,
            "highest_repeat": self.highest_repeat,
            "reliability": [each.as_dict() for each in self.reliability],
            "note": self.note,
        }


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One recipe under one protocol.

    Attributes
    ----------
    recipe : its name.
    protocol : what was asked for.
    out_of_fold : every probability and decision the numbers come from.
    overall, overlap : the numbers.
    """

    recipe: str
    protocol: Protocol
    out_of_fold: OutOfFold
    overall: ZoneResult
    overlap: ZoneResult

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON; without times, so that two equal runs give equal bytes."""
        return {
            "recipe": self.recipe,
            "optimistic": self.out_of_fold.optimistic,
            "untrained": self.out_of_fold.untrained,
            "transductive": self.out_of_fold.transductive,
            "protocol": self.protocol.as_dict(),
            "overall": self.overall.as_dict(),
            "overlap": self.overlap.as_dict(),
            "settings": list(self.out_of_fold.settings),
        }

"""What this number of patients can show, and what luck does to a small test set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lymphoscope.evaluation.out_of_fold import OutOfFold
from lymphoscope.stats.intervals import Interval, patients_to_prove, provable_rate

TARGETS = (0.95, 0.97, 0.99)


@dataclass(frozen=True)
class SampleSize:
    """What the labelled patients can prove at best, one-sided with 95 % confidence (exact binomial).

    Attributes
    ----------
    n_malignant, n_reactive : labelled patients.
    sensitivity_without_miss : the sensitivity that is proven if not one malignant patient is missed.
    specificity_without_false_alarm : likewise for reactive patients.
    needed : pairs (sensitivity, malignant patients needed to prove it without a single miss).
    sentence : the same in words.
    """

    n_malignant: int
    n_reactive: int
    sensitivity_without_miss: float
    specificity_without_false_alarm: float
    needed: tuple[tuple[float, int], ...]
    sentence: str

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "n_malignant": self.n_malignant,
            "n_reactive": self.n_reactive,
            "sensitivity_without_miss": self.sensitivity_without_miss,
            "specificity_without_false_alarm": self.specificity_without_false_alarm,
            "needed": [list(pair) for pair in self.needed],
            "sentence": self.sentence,
        }


@dataclass(frozen=True)
class Swing:
    """How far the score of one small test set would swing by luck alone.

    Attributes
    ----------
    recipe : whose out-of-fold decisions were drawn from.
    n_malignant, n_reactive : patients in such a test set, in the cohort's proportion.
    balanced_accuracy : mean, and the range that holds 95 % of random test sets.
    one_miss, one_false_alarm : how far a single patient moves the score.
    sentence : the same in words.
    """

    recipe: str
    n_malignant: int
    n_reactive: int
    balanced_accuracy: Interval
    one_miss: float
    one_false_alarm: float
    sentence: str

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "recipe": self.recipe,
            "n_malignant": self.n_malignant,
            "n_reactive": self.n_reactive,
            "balanced_accuracy": self.balanced_accuracy.as_dict(),
            "one_miss": self.one_miss,
            "one_false_alarm": self.one_false_alarm,
            "sentence": self.sentence,
        }


def what_patients_prove(n_malignant: int, n_reactive: int) -> SampleSize:
    """The best case for a cohort of this size: both numbers at least 1."""
    sensitivity, specificity = provable_rate(n_malignant), provable_rate(n_reactive)
    needed = tuple((target, patients_to_prove(target)) for target in TARGETS)
    wanted = ", ".join(f"{count} prove {target:.2f}" for target, count in needed)
    return SampleSize(
        n_malignant,
        n_reactive,
        sensitivity,
        specificity,
        needed,
        f"Without a single miss, {n_malignant} malignant patients prove a sensitivity of "
        f"{_floor3(sensitivity)}; {wanted} (one-sided, 95 % confidence).",
    )


def swing_of_a_test_set(found: OutOfFold, n_test: int = 42, draws: int = 10_000, seed: int = 0) -> Swing:
    """Balanced accuracy of random test sets of `n_test` patients under the recipe's out-of-fold decisions.

    Within each class, every patient of a test set is decided rightly with the share of the cohort's that were
    in one randomly chosen repeat; half a patient is added to the right and to the wrong ones (Jeffreys'
    prior), because a recipe that made no error on these patients is not one that never will.
    """
    truth = found.y == 1
    if truth.all() or not truth.any():
        raise ValueError("a test set's balanced accuracy needs patients of both classes")
    n_malignant = min(max(round(n_test * truth.mean()), 1), n_test - 1)
    n_reactive = n_test - n_malignant
    rng = np.random.default_rng(np.random.SeedSequence([seed]))
    repeat = rng.integers(found.n_repeats, size=draws)
    right = found.decision == found.y
    rates = [
        rng.binomial(size, ((right[:, side].sum(1) + 0.5) / (side.sum() + 1))[repeat]) / size
        for side, size in ((truth, n_malignant), (~truth, n_reactive))
    ]
    scores = 0.5 * (rates[0] + rates[1])
    low, high = np.quantile(scores, [0.025, 0.975])
    one_miss, one_false_alarm = 0.5 / n_malignant, 0.5 / n_reactive
    return Swing(
        found.recipe,
        n_malignant,
        n_reactive,
        Interval(float(scores.mean()), float(low), float(high)),
        one_miss,
        one_false_alarm,
        f"On a test set of {n_test} patients ({n_malignant} malignant, {n_reactive} reactive) the balanced "
        f"accuracy of {found.recipe} would land between {low:.2f} and {high:.2f} in 95 of 100 cases by luck "
        f"alone, were it exactly as good as here: one miss moves it by {one_miss:.3f}, one false alarm by "
        f"{one_false_alarm:.3f}.",
    )


def _floor3(value: float) -> str:
    """Three digits, never rounded up: a proof must not claim more than it gives."""
    return f"{np.floor(value * 1000) / 1000:.3f}"

"""Intervals: how far a number measured on this many patients may lie from the true one.

Single proportions have closed forms (`wilson`, `clopper_pearson`). Everything else comes from a bootstrap of
patients, `PatientBootstrap`, whose unit is the patient.

The bootstrap is the Bayesian one (Rubin 1981): instead of drawing patients with replacement, every replicate
gives each patient a random positive weight. Three things differ from the textbook:

*Pseudo-patients.* Each class gets two more members, one that every rule gets right and one that none does,
with a mean weight of a third each. A sensitivity of 1.0 then has an interval of positive width: for plain
yes-no decisions the bootstrap of a proportion is exactly Beta(k + ⅓, n − k + ⅓), the posterior under the
neutral prior, whose median stays at the proportion seen (Kerman 2011). Percentiles of the ordinary bootstrap
collapse to a point there and are too narrow elsewhere (Hesterberg 2015).

*One repeat each.* Where patients were judged in several repeats, every replicate lets each patient speak with
one of them, drawn at random. The mean over repeats is steadier than one repeat, but hardly nearer to the
truth: all repeats share the same patients, and what makes a patient's result change from repeat to repeat
makes it change from cohort to cohort. An interval from patients' means over repeats leaves that part of the
variance out, and is too narrow for recipes that learn much from few patients.

*Concentration.* Patient weights are Gamma(concentration, 1). With concentration 1 this is the Bayesian
bootstrap; with n_train / n it widens the variance by n / n_train, as Nadeau & Bengio (2003) do because
models, not only test patients, vary with the cohort.

`benchmarks/coverage.py` measures what all this gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import special

from lymphoscope.stats.metrics import BoolArray, FloatArray, malignant

RATE_PSEUDO_WEIGHT = 1 / 3
"""Mean weight of each pseudo-patient in a rate: Kerman's neutral prior."""

PAIR_PSEUDO_WEIGHT = 0.1
"""The same in an AUC, where one pseudo-patient loses against a whole class and so weighs much more: with a
third the coverage of the AUC becomes one-sided."""


@dataclass(frozen=True)
class Interval:
    """An estimate and the range, at confidence `level`, in which the true value is believed to lie."""

    estimate: float
    low: float
    high: float
    level: float = 0.95

    def as_dict(self) -> dict[str, float | None]:
        """Plain values for JSON; None where a bound does not exist."""
        return {
            "estimate": finite_or_none(self.estimate),
            "low": finite_or_none(self.low),
            "high": finite_or_none(self.high),
            "level": self.level,
        }

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def finite_or_none(value: float) -> float | None:
    """The value, or None where it is not a finite number (JSON knows no NaN)."""
    return float(value) if np.isfinite(value) else None


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Interval of one proportion by inverting the score test (Wilson 1927)."""
    _check_count(successes, n)
    z2 = float(special.ndtri(0.5 + level / 2)) ** 2
    share = successes / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # At 0 and n the bound is exactly 0 or 1; rounding must not leave it a hair beside.
    low = 0.0 if successes == 0 else float(centre - half)
    high = 1.0 if successes == n else float(centre + half)
    return Interval(share, low, high, level)


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Interval of one proportion that never covers less than `level` (Clopper & Pearson 1934)."""
    _check_count(successes, n)
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(special.betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(special.betaincinv(successes + 1, n - successes, 1 - tail))
    return Interval(successes / n, low, high, level)


def provable_rate(n: int, misses: int = 0, confidence: float = 0.95) -> float:
    """The rate that `misses` failures among `n` patients prove, one-sided (exact binomial).

    With 0 misses, 59 malignant patients prove a sensitivity of 0.95, 99 prove 0.97 and 299 prove 0.99.
    """
    _check_count(misses, n)
    if misses == n:
        return 0.0
    return float(special.betaincinv(n - misses, misses + 1, 1 - confidence))


def patients_to_prove(rate: float, misses: int = 0, confidence: float = 0.95) -> int:
    """The fewest patients that prove `rate` with `misses` failures, one-sided (exact binomial)."""
    if not 0 < rate < 1:
        raise ValueError(f"rate: {rate}; allowed: above 0 and below 1")
    low, high = misses, max(2 * misses, 1)
    while provable_rate(high, misses, confidence) < rate:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if provable_rate(middle, misses, confidence) >= rate else (middle, high)
    return high


def percentile_interval(estimate: float, replicates: npt.ArrayLike, level: float = 0.95) -> Interval:
    """Central `level` of the replicates, widened where needed to hold the estimate itself."""
    tail = (1 - level) / 2
    low, high = np.quantile(np.asarray(replicates, dtype=np.float64), [tail, 1 - tail])
    return Interval(float(estimate), min(float(low), estimate), max(float(high), estimate), level)


@dataclass(frozen=True, eq=False)
class PatientBootstrap:
    """Random weights for patients, stratified by class, shared by every statistic that is computed from them.

    Attributes
    ----------
    y : labels, shape (n_patients,), both classes present.
    replicates : number of bootstrap replicates.
    seed : of the weights; the same seed gives the same weights, so that statistics are paired.
    concentration : shape of the patients' Gamma weights, in (0, 1]; see the module's description.
    repeats : rows of every table of patients' results, shape (repeats, n_patients).
    """

    y: BoolArray
    replicates: int = 2000
    seed: int = 0
    concentration: float = 1.0
    repeats: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "y", malignant(self.y))
        if self.y.all() or not self.y.any():
            raise ValueError("y: a bootstrap needs at least one patient of each class")
        if self.replicates < 1 or self.repeats < 1 or not 0 < self.concentration <= 1:
            raise ValueError("replicates, repeats: at least 1; concentration: above 0, at most 1")

    @cached_property
    def _weights(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Weights of the patients, and of the pseudo-patients for rates and for pairs.

        Patients: (replicates, n_patients); pseudo-patients: (replicates, 2, 2), [class, wrong or right].
        """
        rng = np.random.default_rng(self.seed)
        patients = rng.standard_gamma(self.concentration, (self.replicates, len(self.y)))
        rate, pair = (
            rng.standard_gamma(mean, (self.replicates, 2, 2))
            for mean in (RATE_PSEUDO_WEIGHT, PAIR_PSEUDO_WEIGHT)
        )
        return patients, rate, pair

    @cached_property
    def _repeat(self) -> npt.NDArray[np.int64]:
        """Which repeat each patient speaks with, shape (replicates, n_patients)."""
        rng = np.random.default_rng([self.seed, 1])
        return rng.integers(self.repeats, size=(self.replicates, len(self.y)))

    def _total(self, results: FloatArray, side: BoolArray) -> FloatArray:
        """Weighted sum of one class's results, one repeat per patient, shape (replicates,)."""
        table = np.atleast_2d(results)
        if table.shape != (self.repeats, len(self.y)):
            raise ValueError(f"results: shape {table.shape}; allowed: ({self.repeats}, {len(self.y)})")
        spoken = table[self._repeat, np.arange(len(self.y))] if self.repeats > 1 else table
        return np.einsum(
            "bn,bn->b", self._weights[0][:, side], np.broadcast_to(spoken, self._repeat.shape)[:, side]
        )

    def share(self, good: FloatArray, positive: bool) -> FloatArray:
        """Replicates of the mean of `good` in one class, pseudo-patients included, shape (replicates,).

        `good`, shape (repeats, n_patients), says whether a patient was handled right: 0, 1, or between.
        """
        patients, pseudo, _ = self._weights
        side, extra = self.y == positive, pseudo[:, int(positive)]
        return (self._total(good, side) + extra[:, 1]) / (patients[:, side].sum(1) + extra.sum(1))

    def balanced(self, good: FloatArray) -> FloatArray:
        """Replicates of the mean of the two classes' `share`, shape (replicates,)."""
        return 0.5 * (self.share(good, True) + self.share(good, False))

    def balanced_difference(self, gain: FloatArray) -> FloatArray:
        """Replicates of the class-balanced mean of differences in [−1, 1], shape (replicates,).

        The pseudo-patients speak once for each side and twice for neither, as one in each cell of the paired
        two-by-two table would (Agresti & Min 2005), so that two recipes that agree on every patient seen may
        still differ on the next.

        Parameters
        ----------
        gain : shape (repeats, n_patients).
        """
        patients, pseudo, _ = self._weights
        means = [
            (self._total(gain, side) + pseudo[:, k, 1] - pseudo[:, k, 0])
            / (patients[:, side].sum(1) + pseudo[:, k].sum(1) + 2 * RATE_PSEUDO_WEIGHT)
            for k, side in enumerate((~self.y, self.y))
        ]
        return 0.5 * (means[0] + means[1])

    def pairs(self, wins: FloatArray, times: FloatArray | None = None) -> FloatArray:
        """Replicates of the AUC from `pair_wins`, shape (replicates,).

        A pseudo-patient that is right outranks the whole other class, one that is wrong is outranked by it;
        two pseudo-patients tie where they contradict each other.

        Parameters
        ----------
        wins : how often the malignant patient of each pair won, shape (n_malignant, n_reactive).
        times : how often each pair was compared, same shape, some above 0; default: once.
        """
        patients, _, pseudo = self._weights
        above, below = patients[:, self.y], patients[:, ~self.y]
        compared = np.ones_like(wins) if times is None else times
        won = np.einsum("bj,bj->b", above @ wins, below)
        met = np.einsum("bj,bj->b", above @ compared, below)
        (reactive_wrong, reactive_right), (malignant_wrong, malignant_right) = (
            (pseudo[:, k, 0], pseudo[:, k, 1]) for k in (0, 1)
        )
        # A pseudo-patient meets everybody as often as real patients meet each other on average.
        often = compared.mean()
        won += often * (malignant_right * below.sum(1) + reactive_right * above.sum(1))
        won += often * malignant_right * reactive_right
        won += often * 0.5 * (malignant_right * reactive_wrong + malignant_wrong * reactive_right)
        extra_above, extra_below = malignant_right + malignant_wrong, reactive_right + reactive_wrong
        met += often * (extra_above * (below.sum(1) + extra_below) + extra_below * above.sum(1))
        return won / met

    def pairs_difference(self, gain: FloatArray, times: FloatArray) -> FloatArray:
        """Replicates of the difference of two AUCs, shape (replicates,).

        A pseudo-patient is outranked by the whole other class under one score and outranks it under the
        other, so that two scores that rank everybody seen alike may still differ on the next.

        Parameters
        ----------
        gain : difference of the two `wins`; times : as in `pairs`.
        """
        patients, _, pseudo = self._weights
        above, below = patients[:, self.y], patients[:, ~self.y]
        met = np.einsum("bj,bj->b", above @ times, below)
        won = np.einsum("bj,bj->b", above @ gain, below)
        often, (reactive, malignant_) = times.mean(), (pseudo[:, k] for k in (0, 1))
        won += often * (malignant_[:, 1] - malignant_[:, 0]) * below.sum(1)
        won += often * (reactive[:, 1] - reactive[:, 0]) * above.sum(1)
        extra_above, extra_below = malignant_.sum(1), reactive.sum(1)
        met += often * (extra_above * (below.sum(1) + extra_below) + extra_below * above.sum(1))
        return won / met

    def wobble(self, placements: FloatArray) -> FloatArray:
        """What is added to replicates of an AUC because each patient speaks with one repeat, (replicates,).

        An AUC is a mean over pairs, and a pair has no repeat of its own; its patients' placements have.

        Parameters
        ----------
        placements : per repeat and patient, the share of the other class that it outranks (malignant) or
            that outranks it (reactive), shape (repeats, n_patients); for two AUCs, their difference.
        """
        away = np.atleast_2d(placements) - np.mean(np.atleast_2d(placements), axis=0)
        patients = self._weights[0]
        parts = [self._total(away, side) / patients[:, side].sum(1) for side in (self.y, ~self.y)]
        return parts[0] + parts[1]

    def mean(self, values: FloatArray) -> FloatArray:
        """Replicates of the mean over all patients, each class keeping its share, shape (replicates,).

        Parameters
        ----------
        values : shape (repeats, n_patients).
        """
        patients = self._weights[0]
        parts = [
            side.mean() * self._total(values, side) / patients[:, side].sum(1) for side in (self.y, ~self.y)
        ]
        return parts[0] + parts[1]

    @cached_property
    def weights_at_prevalence(self) -> FloatArray:
        """Patients' weights scaled so that each class keeps its number, shape (replicates, n_patients)."""
        scaled = self._weights[0].copy()
        for side in (self.y, ~self.y):
            scaled[:, side] *= side.sum() / scaled[:, side].sum(1, keepdims=True)
        return scaled


def _check_count(successes: int, n: int) -> None:
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n}: n must be at least 1 and the count between 0 and n")

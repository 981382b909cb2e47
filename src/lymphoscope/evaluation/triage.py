"""Should this patient go to flow cytometry? The decision, and what it did to patients not seen."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.bags import Bags, FloatArray, IntArray
from lymphoscope.cohort.findings import counted
from lymphoscope.evaluation.evaluator import in_zone
from lymphoscope.evaluation.folds import inner_scores, refit_models
from lymphoscope.evaluation.out_of_fold import OutOfFold
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.evaluation.resampling import (
    Watch,
    as_model,
    check_bags,
    derived_seed,
    malignancy,
    one_thread,
    run_tasks,
)
from lymphoscope.evaluation.results import Zone
from lymphoscope.models.base import BagClassifier
from lymphoscope.stats.intervals import Interval, PatientBootstrap, percentile_interval
from lymphoscope.stats.thresholds import referral_threshold

Decision = Literal["advised", "not advised", "cannot say"]

DECISIONS: tuple[Decision, ...] = get_args(Decision)

NO_CELLS_NEEDED = -1
"""In the place of a patient's number of cells: the model looks at none, so these are not too few."""


@dataclass(frozen=True)
class Advice:
    """What is said about flow cytometry for one patient.

    Attributes
    ----------
    decision : "advised", "not advised" or "cannot say".
    reason : one clause in plain words.
    """

    decision: Decision
    reason: str

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {"decision": self.decision, "reason": self.reason}


@dataclass(frozen=True)
class TriageSummary:
    """How the decision did on labelled patients while they were held out. "Cannot say" counts as referred.

    Attributes
    ----------
    zone : "overall" or "overlap".
    n_malignant, n_reactive : patients.
    wished_sensitivity : what the threshold was chosen for.
    sensitivity : share of the malignant patients that were referred.
    specificity : share of the reactive patients that were spared.
    share_referred, tests_saved : shares of all patients; they add up to 1.
    share_cannot_say : share of all patients.
    sentence : the same in words.
    """

    zone: Zone
    n_malignant: int
    n_reactive: int
    wished_sensitivity: float
    sensitivity: Interval | None
    specificity: Interval | None
    share_referred: Interval | None
    tests_saved: Interval | None
    share_cannot_say: Interval | None
    sentence: str

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        names = ("sensitivity", "specificity", "share_referred", "tests_saved", "share_cannot_say")
        intervals: dict[str, Interval | None] = {name: getattr(self, name) for name in names}
        return {
            "zone": self.zone,
            "n_malignant": self.n_malignant,
            "n_reactive": self.n_reactive,
            "wished_sensitivity": self.wished_sensitivity,
            **{name: None if value is None else value.as_dict() for name, value in intervals.items()},
            "sentence": self.sentence,
        }


@dataclass(frozen=True, eq=False)
class Triage:
    """The decision for every labelled patient while held out (first repeat), and how good it was.

    Attributes
    ----------
    recipe : its name.
    patient_ids : n_patients ids.
    probability, low, high : float64 (n_patients,), of the first repeat, with the bounds from refits; NaN
        without refits.
    threshold : float64 (n_patients,), the referral threshold of the patient's fold.
    advice : per patient.
    overall, overlap : quality of the decision, "cannot say" included.
    threshold_only_overall, threshold_only_overlap : quality of the threshold alone, averaged over all
        repeats, nobody being "cannot say".
    """

    recipe: str
    patient_ids: tuple[str, ...]
    probability: FloatArray
    low: FloatArray
    high: FloatArray
    threshold: FloatArray
    advice: tuple[Advice, ...]
    overall: TriageSummary
    overlap: TriageSummary
    threshold_only_overall: TriageSummary
    threshold_only_overlap: TriageSummary

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON, without the patients."""
        return {
            "recipe": self.recipe,
            "overall": self.overall.as_dict(),
            "overlap": self.overlap.as_dict(),
            "threshold_only_overall": self.threshold_only_overall.as_dict(),
            "threshold_only_overlap": self.threshold_only_overlap.as_dict(),
        }


def advise(
    patient_ids: tuple[str, ...],
    probability: FloatArray,
    low: FloatArray,
    high: FloatArray,
    threshold: FloatArray | float,
    *,
    n_cells: IntArray | None = None,
    min_cells: int = 10,
    with_errors: Collection[str] = (),
) -> tuple[Advice, ...]:
    """The decision for each patient.

    Parameters
    ----------
    probability, low, high : of malignancy with its interval, shape (n_patients,).
    threshold : probability at and above which flow cytometry is advised, one or per patient.
    n_cells : readable photographs per patient, or `NO_CELLS_NEEDED`; leave out where that holds for all.
    min_cells : with fewer, nothing is said.
    with_errors : ids of patients with a finding of severity error.
    """
    cut = np.broadcast_to(np.asarray(threshold, dtype=np.float64), probability.shape)
    bad = set(with_errors)
    return tuple(
        _advice(
            float(probability[i]),
            float(low[i]),
            float(high[i]),
            float(cut[i]),
            None if n_cells is None else int(n_cells[i]),
            min_cells,
            patient in bad,
        )
        for i, patient in enumerate(patient_ids)
    )


def triage(
    found: OutOfFold,
    protocol: Protocol,
    *,
    n_cells: IntArray | None = None,
    min_cells: int = 10,
    with_errors: Collection[str] = (),
) -> Triage:
    """Apply the decision to held-out patients and count.

    Parameters
    ----------
    found : from `out_of_fold` or `evaluate` with a wished sensitivity; with refits the intervals are used.
    n_cells : readable photographs per tested patient, shape (n_tested,); see `advise`.
    """
    if found.referral_threshold is None or found.wished_sensitivity is None:
        raise ValueError("these out-of-fold probabilities were made without a referral threshold")
    p, threshold = found.probability[0], found.referral_threshold[0]
    low = p if found.refit_low is None else np.minimum(found.refit_low, p)
    high = p if found.refit_high is None else np.maximum(found.refit_high, p)
    advice = advise(
        found.patient_ids,
        p,
        low,
        high,
        threshold,
        n_cells=n_cells,
        min_cells=min_cells,
        with_errors=with_errors,
    )
    referred = np.array([each.decision != "not advised" for each in advice], dtype=np.float64)
    unsure = np.array([each.decision == "cannot say" for each in advice], dtype=np.float64)
    by_threshold = (found.probability >= found.referral_threshold).mean(0)
    zones: tuple[Zone, Zone] = ("overall", "overlap")
    whole = [_summary(found, protocol, zone, referred, unsure, threshold[None]) for zone in zones]
    bare = [
        _summary(found, protocol, zone, by_threshold, np.zeros_like(unsure), found.referral_threshold)
        for zone in zones
    ]
    if found.refit_low is None:
        low, high = np.full_like(p, np.nan), np.full_like(p, np.nan)
    return Triage(found.recipe, found.patient_ids, p, low, high, threshold, advice, *whole, *bare)


def choose_referral_threshold(
    recipe: str | BagClassifier,
    bags: Bags,
    y: npt.ArrayLike,
    wished_sensitivity: float,
    *,
    seed: int = 0,
    fitted: BagClassifier | None = None,
    watch: Watch | None = None,
) -> float:
    """The referral threshold for new patients, chosen by cross-validation within the labelled ones.

    Parameters
    ----------
    fitted : the model fitted on `bags`, if there is one; its own inner probabilities are then used.
    watch : told of the epochs of inner folds, where the model is trained in epochs.
    """
    labels, model = check_bags(bags, y), as_model(recipe)
    with one_thread(model):
        scores = inner_scores(
            model if fitted is None else fitted, model, bags, labels, derived_seed(seed), watch
        )
    return referral_threshold(labels, scores, wished_sensitivity)


def bootstrap_refits(
    model: BagClassifier, bags: Bags, y: npt.ArrayLike, n_refits: int = 100, seed: int = 0, *, jobs: int = 1
) -> tuple[BagClassifier, ...]:
    """`model` fitted on `n_refits` bootstrap samples of the labelled patients, for `refit_bounds`.

    Samples are drawn within each class, so that none is without malignant or without reactive patients.
    Sample `k` depends on `seed` and `k` alone, so that the work can be divided.
    """
    labels = check_bags(bags, y)
    if n_refits < 2:
        raise ValueError(f"n_refits: {n_refits}; allowed: 2 or more")
    chunks = np.array_split(np.arange(n_refits), min(n_refits, 4 * jobs))
    tasks = [(model, bags, labels, [int(k) for k in chunk], seed) for chunk in chunks]
    return tuple(each for fitted in run_tasks(_refit_chunk, tasks, jobs) for each in fitted)


def refit_bounds(
    refits: Sequence[BagClassifier], bags: Bags, probability: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """2.5th and 97.5th percentile of the refits' probabilities, widened to hold `probability`."""
    spread = np.array([malignancy(each, bags) for each in refits])
    low, high = np.quantile(spread, [0.025, 0.975], axis=0)
    return np.minimum(low, probability), np.maximum(high, probability)


def _refit_chunk(
    model: BagClassifier, bags: Bags, y: IntArray, which: Sequence[int], seed: int
) -> list[BagClassifier]:
    with one_thread(model):
        return list(refit_models(model, bags, y, which, seed))


def _advice(
    p: float, low: float, high: float, threshold: float, n_cells: int | None, min_cells: int, has_error: bool
) -> Advice:
    if has_error:
        return Advice("cannot say", "an error was found in this patient's data")
    if n_cells == 0:
        return Advice("cannot say", "no readable cell, so that the probability rests on none")
    if n_cells is not None and NO_CELLS_NEEDED < n_cells < min_cells:
        return Advice("cannot say", f"{counted(n_cells, 'readable cell')}, fewer than {min_cells}")
    if threshold == 0:
        return Advice("advised", "no threshold could be chosen, so everybody is referred")
    if low < threshold <= high:
        return Advice("cannot say", "the interval spans the threshold")
    what = "probability" if low == high else "whole interval"
    if p >= threshold:
        return Advice("advised", f"the {what} is above the threshold")
    return Advice("not advised", f"the {what} is below the threshold")


def _summary(
    found: OutOfFold,
    protocol: Protocol,
    zone: Zone,
    referred: FloatArray,
    unsure: FloatArray,
    thresholds: FloatArray,
) -> TriageSummary:
    wished = float(found.wished_sensitivity or 0.0)
    inside = in_zone(found.lymphocyte_count, zone, protocol.overlap_limit)
    truth, referred, unsure = found.y[inside] == 1, referred[inside], unsure[inside]
    n_malignant, n_reactive = int(truth.sum()), int((~truth).sum())
    if not n_malignant or not n_reactive:
        sentence = f"{n_malignant} malignant and {n_reactive} reactive patients: nothing can be measured."
        return TriageSummary(zone, n_malignant, n_reactive, wished, None, None, None, None, None, sentence)
    seed = derived_seed(protocol.seed, 2)
    draws = PatientBootstrap(truth, protocol.bootstrap, seed, found.mean_training_patients / found.n_patients)
    share = truth.mean()

    def overall(values: FloatArray) -> Interval:
        replicates = share * draws.share(values, True) + (1 - share) * (1 - draws.share(1 - values, False))
        return percentile_interval(float(values.mean()), replicates)

    sensitivity = percentile_interval(referred[truth].mean(), draws.share(referred, True))
    specificity = percentile_interval(1 - referred[~truth].mean(), draws.share(1 - referred, False))
    all_referred = overall(referred)
    saved = Interval(1 - all_referred.estimate, 1 - all_referred.high, 1 - all_referred.low)
    where = "with a count in the overlap zone " if zone == "overlap" else ""
    sentence = (
        f"Of the malignant patients {where}{_percent(sensitivity)} were referred to flow cytometry; "
        f"{_percent(saved)} of all tests were saved. {_threshold_sentence(thresholds[:, inside], wished)}"
    )
    return TriageSummary(
        zone,
        n_malignant,
        n_reactive,
        wished,
        sensitivity,
        specificity,
        all_referred,
        saved,
        overall(unsure),
        sentence,
    )


def _threshold_sentence(thresholds: FloatArray, wished: float) -> str:
    without = float((thresholds == 0).mean())
    if without == 0:
        return f"The threshold was chosen for {wished:.0%}."
    whom = "every patient" if without == 1 else f"{without:.0%} of the patients"
    return (
        f"For {whom} the training patients held too few malignant ones to choose a threshold for "
        f"{wished:.0%}, so everybody was referred."
    )


def _percent(value: Interval) -> str:
    return f"{value.estimate:.0%} ({value.low:.0%} to {value.high:.0%})"

"""From out-of-fold probabilities to numbers with intervals, and two recipes side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.bags import Bags, FloatArray
from lymphoscope.cohort.progress import Progress
from lymphoscope.evaluation.epoch_progress import Track
from lymphoscope.evaluation.folds import out_of_fold
from lymphoscope.evaluation.out_of_fold import OutOfFold
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.evaluation.resampling import derived_seed
from lymphoscope.evaluation.results import METRICS, Evaluation, Zone, ZoneResult
from lymphoscope.models.base import BagClassifier
from lymphoscope.stats.calibration import calibration_intercept, calibration_slope, reliability
from lymphoscope.stats.comparison import Comparison, difference_sentence
from lymphoscope.stats.intervals import Interval, PatientBootstrap, percentile_interval
from lymphoscope.stats.metrics import BoolArray, met_in_a_fold, pair_wins, squared_error, surprise

CALIBRATION_REPLICATES = 500
"""Replicates behind calibration's intervals: each is a fit, and 500 fix the bounds well enough."""


def evaluate(
    recipe: str | BagClassifier,
    bags: Bags,
    y: npt.ArrayLike,
    protocol: Protocol = Protocol(),  # noqa: B008 - frozen
    *,
    split_column: Sequence[str] | None = None,
    jobs: int = 1,
    pieces: Path | None = None,
    progress: Progress | None = None,
    track: Track | None = None,
    refer: bool = False,
    refits: int = 0,
    fingerprint: str | None = None,
    name: str | None = None,
) -> Evaluation:
    """Measure a recipe on patients it has not seen.

    Parameters
    ----------
    recipe : name of a recipe, or an unfitted model.
    bags, y : the labelled patients, and 0 or 1 for each.
    split_column : "train" or "test" per patient, where the protocol asks for the table's split.
    jobs, pieces, progress, track, fingerprint, name : see `out_of_fold`.
    refer : also choose referral thresholds inside the folds, for `triage`.
    refits : bootstrap refits per fold of the first repeat, for `triage`.

    Raises
    ------
    InputError : too few patients for the protocol, or of one class only.
    """
    splits = protocol.splits(y, split_column)
    found = out_of_fold(
        recipe,
        bags,
        y,
        splits,
        seed=protocol.seed,
        jobs=jobs,
        pieces=pieces,
        progress=progress,
        track=track,
        wished_sensitivity=protocol.wished_sensitivity if refer else None,
        refits=refits,
        fingerprint=fingerprint,
        name=name,
    )
    return summarise(found, protocol, bags.clinical[:, 2])


def summarise(found: OutOfFold, protocol: Protocol, lymphocyte_count: FloatArray) -> Evaluation:
    """The numbers of an `OutOfFold`.

    Parameters
    ----------
    lymphocyte_count : of all evaluated patients in 10⁹/L, shape (n_patients,): also those only trained on.
    """
    zones: tuple[Zone, Zone] = ("overall", "overlap")
    overall, overlap = (_zone_result(found, protocol, zone, lymphocyte_count) for zone in zones)
    return Evaluation(found.recipe, protocol, found, overall, overlap)


def compare(first: Evaluation, second: Evaluation, zone: Zone = "overall") -> Comparison:
    """Paired differences, second minus first, on the same patients and folds.

    Raises
    ------
    ValueError : the two were not evaluated on the same folds.
    """
    a, b = first.out_of_fold, second.out_of_fold
    if a.patient_ids != b.patient_ids or not np.array_equal(a.fold, b.fold):
        raise ValueError(f"{a.recipe} and {b.recipe} were not evaluated on the same patients and folds")
    inside = in_zone(a.lymphocyte_count, zone, first.protocol.overlap_limit)
    truth = a.y[inside] == 1
    n_malignant, n_reactive = int(truth.sum()), int((~truth).sum())
    patients = patients_in_words(n_malignant, n_reactive, zone)
    optimistic = tuple(each.recipe for each in (a, b) if each.optimistic)
    transductive = tuple(each.recipe for each in (a, b) if each.transductive)
    if not n_malignant or not n_reactive:
        sentence = f"{second.recipe} and {first.recipe} cannot be compared on {patients}: a class is missing."
        return Comparison(
            a.recipe, b.recipe, zone, n_malignant, n_reactive, None, None, sentence, optimistic, transductive
        )
    gain = ((b.decision == b.y).astype(np.float64) - (a.decision == a.y))[:, inside]
    decisions = _decision_bootstrap(a, first.protocol, truth)
    accuracy = percentile_interval(_balanced(gain, truth), decisions.balanced_difference(gain))
    (wins_a, times), (wins_b, _) = _met_in_a_fold(a, inside), _met_in_a_fold(b, inside)
    ranking = None
    if times.any():
        draws, gained = _probability_bootstrap(a, first.protocol, truth), wins_b - wins_a
        placements = _placements(b, inside) - _placements(a, inside)
        replicates = draws.pairs_difference(gained, times) + draws.wobble(placements)
        ranking = percentile_interval(float(gained.sum() / times.sum()), replicates)
    return Comparison(
        a.recipe,
        b.recipe,
        zone,
        n_malignant,
        n_reactive,
        accuracy,
        ranking,
        difference_sentence(a.recipe, b.recipe, accuracy, patients, optimistic, transductive),
        optimistic,
        transductive,
    )


def patients_in_words(n_malignant: int, n_reactive: int, zone: Zone) -> str:
    """Whom a sentence is about: "163 patients (113 malignant, 50 reactive)"."""
    where = " of the overlap zone" if zone == "overlap" else ""
    return f"{n_malignant + n_reactive} patients ({n_malignant} malignant, {n_reactive} reactive){where}"


def in_zone(lymphocyte_count: FloatArray, zone: Zone, limit: float) -> BoolArray:
    """Which patients belong to the zone; without a count nobody belongs to the overlap zone."""
    if zone == "overall":
        return np.ones(len(lymphocyte_count), dtype=bool)
    with np.errstate(invalid="ignore"):
        return np.asarray(lymphocyte_count <= limit)


def _zone_result(
    found: OutOfFold, protocol: Protocol, zone: Zone, lymphocyte_count: FloatArray
) -> ZoneResult:
    inside = in_zone(found.lymphocyte_count, zone, protocol.overlap_limit)
    truth = found.y[inside] == 1
    counts: dict[str, Any] = {
        "zone": zone,
        "n_malignant": int(truth.sum()),
        "n_reactive": int((~truth).sum()),
        "n_without_count": int(np.isnan(found.lymphocyte_count).sum()),
    }
    if truth.all() or not truth.any():
        return ZoneResult(
            **counts,
            **_none(),
            lowest_repeat=None,
            highest_repeat=None,
            reliability=(),
            note=f"{counts['n_malignant']} malignant and {counts['n_reactive']} reactive patients: "
            "with one class nothing can be measured here",
        )
    decisions = _decision_bootstrap(found, protocol, truth)
    probabilities = _probability_bootstrap(found, protocol, truth)
    right = (found.decision == found.y)[:, inside].astype(np.float64)
    repeats = 0.5 * (right[:, truth].mean(1) + right[:, ~truth].mean(1))
    training, optimism = _training(found, protocol, zone, lymphocyte_count, decisions, right)
    p = found.probability[:, inside]
    return ZoneResult(
        **counts,
        **_decision_metrics(decisions, right),
        auc=_auc(found, inside, probabilities),
        **_probability_metrics(probabilities, p),
        training_balanced_accuracy=training,
        optimism=optimism,
        lowest_repeat=float(repeats.min()),
        highest_repeat=float(repeats.max()),
        reliability=reliability(truth, p),
    )


def _none() -> dict[str, Any]:
    return dict.fromkeys(METRICS)


def _balanced(results: FloatArray, truth: BoolArray) -> float:
    """Mean over repeats and patients of each class, then over classes."""
    return float(0.5 * (results[:, truth].mean() + results[:, ~truth].mean()))


def _decision_metrics(draws: PatientBootstrap, right: FloatArray) -> dict[str, Any]:
    truth = draws.y
    return {
        "balanced_accuracy": percentile_interval(_balanced(right, truth), draws.balanced(right)),
        "sensitivity": percentile_interval(right[:, truth].mean(), draws.share(right, True)),
        "specificity": percentile_interval(right[:, ~truth].mean(), draws.share(right, False)),
    }


def _probability_metrics(draws: PatientBootstrap, p: FloatArray) -> dict[str, Any]:
    truth = draws.y
    error = squared_error(truth[None, :], p)
    surprised = surprise(np.broadcast_to(truth, p.shape), p)
    weights = draws.weights_at_prevalence[:CALIBRATION_REPLICATES]
    ones = np.ones((1, len(truth)))
    recalibrated = {}
    for name, measure in (
        ("calibration_slope", calibration_slope),
        ("calibration_intercept", calibration_intercept),
    ):
        values = np.mean([measure(truth, each, np.concatenate([ones, weights])) for each in p], axis=0)
        # A recipe that says the same of everybody has no slope.
        recalibrated[name] = percentile_interval(values[0], values[1:]) if np.isfinite(values).all() else None
    return {
        "brier": percentile_interval(float(error.mean()), draws.mean(error)),
        "log_loss": percentile_interval(float(surprised.mean()), draws.mean(surprised)),
        **recalibrated,
    }


def _training(
    found: OutOfFold,
    protocol: Protocol,
    zone: Zone,
    lymphocyte_count: FloatArray,
    draws: PatientBootstrap,
    right: FloatArray,
) -> tuple[Interval | None, Interval | None]:
    """Balanced accuracy on the training patients, and how much lower it is on patients not seen."""
    inside = in_zone(lymphocyte_count[found.training_patients], zone, protocol.overlap_limit)
    truth = found.training_y[inside] == 1
    if truth.all() or not truth.any():
        return None, None
    kept = found.training_correct[:, inside]
    same = np.array_equal(found.training_patients, found.patients)
    trained = draws if same else _decision_bootstrap(found, protocol, truth, tested=False)
    gap = draws.balanced_difference(kept - right) if same else trained.balanced(kept) - draws.balanced(right)
    value = _balanced(kept, truth)
    optimism = percentile_interval(value - _balanced(right, draws.y), gap)
    return percentile_interval(value, trained.balanced(kept)), optimism


def _decision_bootstrap(
    found: OutOfFold, protocol: Protocol, truth: BoolArray, *, tested: bool = True
) -> PatientBootstrap:
    """Weights for shares of right decisions; from protocol and patients alone, so that recipes share them.

    Several repeats show by themselves how much decisions depend on the training patients. With a single one
    the variance is widened instead.

    Parameters
    ----------
    tested : False for weights that are independent of the tested patients'.
    """
    seed = derived_seed(protocol.seed, 0 if tested else 1)
    concentration = _trained_share(found) if found.n_repeats == 1 else 1.0
    return PatientBootstrap(truth, protocol.bootstrap, seed, concentration, found.n_repeats)


def _probability_bootstrap(found: OutOfFold, protocol: Protocol, truth: BoolArray) -> PatientBootstrap:
    """Weights for AUC, Brier score, log loss and calibration.

    Probabilities of overlapping training sets differ less between repeats than those of two cohorts would, so
    the variance is widened with several repeats, too.
    """
    seed = derived_seed(protocol.seed, 2)
    return PatientBootstrap(truth, protocol.bootstrap, seed, _trained_share(found), found.n_repeats)


def _trained_share(found: OutOfFold) -> float:
    return found.mean_training_patients / found.n_patients


def _auc(found: OutOfFold, inside: BoolArray, draws: PatientBootstrap) -> Interval | None:
    """AUC over the pairs of patients that one and the same model predicted."""
    wins, times = _met_in_a_fold(found, inside)
    if not times.any():
        return None
    replicates = draws.pairs(wins, times) + draws.wobble(_placements(found, inside))
    return percentile_interval(float(wins.sum() / times.sum()), np.clip(replicates, 0.0, 1.0))


def _placements(found: OutOfFold, inside: BoolArray) -> FloatArray:
    """Share of the pairs of each patient that come out right, per repeat, shape (n_repeats, n_patients)."""
    truth = found.y[inside] == 1
    out = np.empty((found.n_repeats, len(truth)))
    for row, p in zip(out, found.probability[:, inside], strict=True):
        wins = pair_wins(truth, p)
        row[truth], row[~truth] = wins.mean(1), wins.mean(0)
    return out


def _met_in_a_fold(found: OutOfFold, inside: BoolArray) -> tuple[FloatArray, FloatArray]:
    return met_in_a_fold(found.y[inside] == 1, found.probability[:, inside], found.fold[:, inside])

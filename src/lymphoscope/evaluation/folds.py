"""Probabilities for patients that the model has never seen, fold by fold.

For every split a clone is fitted on the training patients alone; scaling, settings, decision threshold and
referral threshold come from these, and the test patients are only predicted. Seeds follow from the
evaluation's seed, the repeat and the fold, so that neither the number of processes nor a kill and resume
changes a bit of the result.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.bags import Bags, FloatArray, IntArray
from lymphoscope.cohort.progress import Progress
from lymphoscope.cohort.splits import Split
from lymphoscope.evaluation import pieces as store
from lymphoscope.evaluation.resampling import (
    as_model,
    bootstrap_patients,
    check_bags,
    derived_seed,
    fit,
    inner_probabilities,
    malignancy,
    one_thread,
    recipe_name,
    resample,
    run_tasks,
)
from lymphoscope.models.base import BagClassifier
from lymphoscope.stats.metrics import balanced_accuracy
from lymphoscope.stats.thresholds import referral_threshold

DECISION, INNER, REFITS = 1, 2, 3
"""Streams of random numbers within one fold: the fit itself, its inner folds, its bootstrap refits."""

_ARRAYS = (
    "probability",
    "decision",
    "threshold",
    "training_decision",
    "referral",
    "refits",
    "settings",
    "seconds",
)


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """What a recipe said about patients it had not seen.

    `n_tested` patients are those that are tested at all: everybody in cross-validation, the test side of a
    hold-out or of a fixed split. Every one of them is tested once per repeat.

    Attributes
    ----------
    recipe : its name.
    patients : int64 (n_tested,), ascending indices into the evaluated bags.
    patient_ids : their ids.
    y : int64 (n_tested,), their labels.
    lymphocyte_count : float64 (n_tested,), 10⁹/L, NaN where missing.
    probability : float64 (n_repeats, n_tested), from 0 to 1, never NaN.
    decision : int8 (n_repeats, n_tested), at the threshold of the fold's own model.
    threshold : float64 (n_repeats, n_tested), that threshold.
    fold : int64 (n_repeats, n_tested), the fold in which the patient was tested.
    training_correct : float64 (n_repeats, n_patients): how often, among the models of a repeat that were
        trained on a patient, its training label was repeated; NaN where none was trained on it.
    training_patients, training_y : indices and labels of the patients in the columns of `training_correct`.
    training_balanced_accuracy : float64 (n_splits,), of each fitted model on its own training patients.
    referral_threshold : float64 (n_repeats, n_tested) or None if not asked for: probability at and above
        which flow cytometry is advised, chosen within the training patients for `wished_sensitivity`.
    wished_sensitivity : or None.
    refit_low, refit_high : float64 (n_tested,) or None if not asked for: bounds of the probability in the
        first repeat, 2.5th and 97.5th percentile of models refitted on bootstrap samples of the fold's
        training patients.
    settings : per split, what the model chose itself (its `chosen_`), empty where it says nothing.
    mean_training_patients : number of patients a model was trained on, mean over splits.
    n_patients : patients in all splits, trained on or tested.
    seconds : fitting and predicting, summed over splits.
    """

    recipe: str
    patients: IntArray
    patient_ids: tuple[str, ...]
    y: IntArray
    lymphocyte_count: FloatArray
    probability: FloatArray
    decision: npt.NDArray[np.int8]
    threshold: FloatArray
    fold: IntArray
    training_correct: FloatArray
    training_patients: IntArray
    training_y: IntArray
    training_balanced_accuracy: FloatArray
    referral_threshold: FloatArray | None
    wished_sensitivity: float | None
    refit_low: FloatArray | None
    refit_high: FloatArray | None
    settings: tuple[dict[str, Any], ...]
    mean_training_patients: float
    n_patients: int
    seconds: float

    @property
    def n_repeats(self) -> int:
        """How often every tested patient was tested."""
        return len(self.probability)

    @property
    def correct(self) -> FloatArray:
        """Share of the repeats in which the decision was right, shape (n_tested,)."""
        return (self.decision == self.y).mean(0)

    @property
    def mean_probability(self) -> FloatArray:
        """Mean over repeats, shape (n_tested,)."""
        return self.probability.mean(0)


@dataclass(frozen=True)
class _Task:
    """One fold's work, apart from the data."""

    model: BagClassifier
    split: Split
    seed: int
    wished_sensitivity: float | None
    refits: int
    folder: Path | None
    key: str


def out_of_fold(
    recipe: str | BagClassifier,
    bags: Bags,
    y: npt.ArrayLike,
    splits: Sequence[Split],
    *,
    seed: int = 0,
    jobs: int = 1,
    pieces: Path | None = None,
    progress: Progress | None = None,
    wished_sensitivity: float | None = None,
    refits: int = 0,
    fingerprint: str | None = None,
) -> OutOfFold:
    """Fit a clone of `recipe` on the training patients of every split and predict its test patients.

    Parameters
    ----------
    recipe : name of a recipe, or an unfitted model.
    bags, y : the labelled patients, and 0 or 1 for each.
    splits : from `Protocol.splits`; every repeat tests the same patients, each once.
    seed : of the fits; with the same seed the same numbers, whatever `jobs` and whether resumed.
    jobs : processes; 1 works in this one.
    pieces : folder for finished folds; those found there are not computed again.
    wished_sensitivity : choose a referral threshold for it within each training set.
    refits : bootstrap refits per fold of the first repeat, for intervals of the probability.
    fingerprint : of `bags` and `y` if the caller knows it already; else it is computed.
    """
    labels = check_bags(bags, y)
    model = as_model(recipe)
    name = recipe_name(recipe)
    print_ = fingerprint
    if pieces is not None and print_ is None:
        print_ = store.bags_fingerprint(bags, labels)
    tasks = [
        _Task(
            model,
            split,
            seed,
            wished_sensitivity,
            refits if split.repeat == 0 else 0,
            pieces,
            "" if pieces is None else _key(model, print_, split, seed, wished_sensitivity, refits),
        )
        for split in splits
    ]
    found = [None if pieces is None else store.read_piece(pieces, task.key, _ARRAYS) for task in tasks]
    todo = [i for i, piece in enumerate(found) if piece is None]
    if progress is not None:
        progress.start(name, len(tasks))
        progress.advance(len(tasks) - len(todo))
    for i, piece in zip(todo, run_tasks(_fold, [(tasks[i], bags, labels) for i in todo], jobs), strict=True):
        found[i] = piece
        if progress is not None:
            progress.advance()
    if progress is not None:
        progress.done()
    return _assemble(name, bags, labels, splits, [p for p in found if p is not None], wished_sensitivity)


def _key(
    model: BagClassifier,
    fingerprint: str | None,
    split: Split,
    seed: int,
    wished_sensitivity: float | None,
    refits: int,
) -> str:
    return store.piece_key(
        model=store.describe_model(model),
        data=fingerprint,
        repeat=split.repeat,
        fold=split.fold,
        train=split.train,
        test=split.test,
        seed=seed,
        wished_sensitivity=wished_sensitivity,
        refits=refits if split.repeat == 0 else 0,
    )


def _fold(task: _Task, bags: Bags, y: IntArray) -> store.Arrays:
    """Fit, predict, and leave the piece behind. Test labels are never looked at."""
    began = time.perf_counter()
    split, model = task.split, task.model
    seeds = {
        stream: derived_seed(task.seed, split.repeat, split.fold, stream)
        for stream in (DECISION, INNER, REFITS)
    }
    train, test, y_train = bags[split.train], bags[split.test], y[split.train]
    with one_thread(model):
        fitted = fit(model, train, y_train, seeds[DECISION])
        probability = malignancy(fitted, test)
        referral = np.nan
        if task.wished_sensitivity is not None:
            inner = inner_scores(fitted, model, train, y_train, seeds[INNER])
            referral = referral_threshold(y_train, inner, task.wished_sensitivity)
        settled = fitted.settled()
        refits = [
            malignancy(each, test)
            for each in refit_models(settled, train, y_train, range(task.refits), seeds[REFITS])
        ]
        arrays: store.Arrays = {
            "probability": probability,
            "decision": (probability >= fitted.threshold_).astype(np.int8),
            "threshold": np.asarray(float(fitted.threshold_)),
            "training_decision": (malignancy(fitted, train) >= fitted.threshold_).astype(np.int8),
            "referral": np.asarray(referral),
            "refits": np.array(refits).reshape(task.refits, len(test)),
            "settings": np.frombuffer(json.dumps(chosen_settings(fitted)).encode(), dtype=np.uint8),
            "seconds": np.asarray(time.perf_counter() - began),
        }
    if task.folder is not None:
        store.write_piece(task.folder, task.key, arrays)
    return arrays


def inner_scores(
    fitted: BagClassifier, model: BagClassifier, bags: Bags, y: IntArray, seed: int
) -> FloatArray:
    """Out-of-fold probabilities within the training patients, shape (n_patients,).

    A fitted model that kept those of its own inner folds offers them as `inner_oof_`; else they are made.
    """
    offered = getattr(fitted, "inner_oof_", None)
    if offered is not None and np.shape(offered) == (len(y),):
        return np.asarray(offered, dtype=np.float64)
    if min(int(y.sum()), int((1 - y).sum())) < 2:
        return np.zeros(len(y))
    return inner_probabilities(model, bags, y, seed)


def refit_models(
    model: BagClassifier, bags: Bags, y: IntArray, which: Sequence[int], seed: int
) -> Iterator[BagClassifier]:
    """`model` fitted on bootstrap samples of patients, drawn within each class.

    Sample `k` depends on `seed` and `k` alone, so that the work can be divided.
    """
    for k in which:
        drawn = bootstrap_patients(y, np.random.default_rng(np.random.SeedSequence([seed, k])))
        yield fit(model, resample(bags, drawn), y[drawn], derived_seed(seed, k))


def chosen_settings(fitted: BagClassifier) -> dict[str, Any]:
    """What a fitted model chose in its inner folds: its `chosen_`, names to plain values, if it has one."""
    return {
        str(key): value.item() if isinstance(value, np.generic) else value
        for key, value in dict(getattr(fitted, "chosen_", None) or {}).items()
    }


def _assemble(
    name: str,
    bags: Bags,
    y: IntArray,
    splits: Sequence[Split],
    pieces: Sequence[store.Arrays],
    wished_sensitivity: float | None,
) -> OutOfFold:
    repeats = max(split.repeat for split in splits) + 1
    tested = np.unique(np.concatenate([split.test for split in splits]))
    trained = np.unique(np.concatenate([split.train for split in splits]))
    column = np.full(len(y), -1)
    column[tested] = np.arange(len(tested))
    shape = (repeats, len(tested))
    probability, threshold, referral = (np.full(shape, np.nan) for _ in range(3))
    decision, fold = np.full(shape, -1, dtype=np.int8), np.full(shape, -1, dtype=np.int64)
    refits = np.full((len(pieces[0]["refits"]), len(tested)), np.nan)
    correct, times = np.zeros((repeats, len(y))), np.zeros((repeats, len(y)))
    for split, piece in zip(splits, pieces, strict=True):
        at = (split.repeat, column[split.test])
        if (fold[at] >= 0).any() or np.intersect1d(split.train, split.test).size:
            raise ValueError(f"splits: repeat {split.repeat} tests a patient twice or trains on it")
        probability[at], decision[at], fold[at] = piece["probability"], piece["decision"], split.fold
        threshold[at], referral[at] = float(piece["threshold"]), float(piece["referral"])
        if split.repeat == 0:
            refits[:, column[split.test]] = piece["refits"]
        correct[split.repeat, split.train] += piece["training_decision"] == y[split.train]
        times[split.repeat, split.train] += 1
    if (fold < 0).any():
        raise ValueError("splits: every repeat must test the same patients")
    with np.errstate(invalid="ignore"):
        training_correct = (correct / times)[:, trained]
    bounds = np.quantile(refits, [0.025, 0.975], axis=0) if len(refits) else None
    return OutOfFold(
        recipe=name,
        patients=tested,
        patient_ids=tuple(bags.patient_ids[i] for i in tested),
        y=y[tested],
        lymphocyte_count=bags.clinical[tested, 2],
        probability=probability,
        decision=decision,
        threshold=threshold,
        fold=fold,
        training_correct=training_correct,
        training_patients=trained,
        training_y=y[trained],
        training_balanced_accuracy=np.array(
            [
                balanced_accuracy(y[split.train], piece["training_decision"])
                for split, piece in zip(splits, pieces, strict=True)
            ]
        ),
        referral_threshold=None if wished_sensitivity is None else referral,
        wished_sensitivity=wished_sensitivity,
        refit_low=None if bounds is None else bounds[0],
        refit_high=None if bounds is None else bounds[1],
        settings=tuple(json.loads(piece["settings"].tobytes()) for piece in pieces),
        mean_training_patients=float(np.mean([len(split.train) for split in splits])),
        n_patients=len(np.union1d(tested, trained)),
        seconds=float(sum(float(piece["seconds"]) for piece in pieces)),
    )

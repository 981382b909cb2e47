"""Probabilities for patients that the model has never seen, fold by fold.

For every split a clone is fitted on the training patients alone; scaling, settings, decision threshold and
referral threshold come from these, and the test patients are only predicted. Seeds follow from the
evaluation's seed, the repeat and the fold, so that neither the number of processes nor a kill and resume
changes a bit of the result.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.bags import Bags, FloatArray, IntArray
from lymphoscope.cohort.progress import Progress
from lymphoscope.cohort.splits import Split
from lymphoscope.errors import InputError
from lymphoscope.evaluation import pieces as store
from lymphoscope.evaluation.epoch_log import write_epoch
from lymphoscope.evaluation.epoch_progress import INNER_LOG, Track, epochs_shown, fold_log
from lymphoscope.evaluation.out_of_fold import OutOfFold, assemble
from lymphoscope.evaluation.resampling import (
    Watch,
    as_model,
    bootstrap_patients,
    check_bags,
    derived_seed,
    explained,
    fit,
    inner_folds,
    inner_probabilities,
    limited_threads,
    malignancy,
    recipe_name,
    resample,
    run_tasks,
    seeded,
    threads_each,
)
from lymphoscope.models.base import BagClassifier, EpochClassifier
from lymphoscope.models.transductive import cells_alone, is_transductive
from lymphoscope.stats.thresholds import referral_threshold

CHECKPOINT = ".training.safetensors"
"""Ends the name of the file in which a training is kept while it goes on, beside the pieces."""

GLIMPSE = 16
"""Cells per training patient by which a network is judged on the patients that taught it."""

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
    "history",
    "balance",
    "evidence",
    "shares",
    "share_names",
    "seconds",
)


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
    log: Path | None
    threads: int


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
    track: Track | None = None,
    wished_sensitivity: float | None = None,
    refits: int = 0,
    fingerprint: str | None = None,
    name: str | None = None,
) -> OutOfFold:
    """Fit a clone of `recipe` on the training patients of every split and predict its test patients.

    Parameters
    ----------
    recipe : name of a recipe, or an unfitted model.
    name : what the results are called; by default the recipe's name.
    bags, y : the labelled patients, and 0 or 1 for each.
    splits : from `Protocol.splits`; every repeat tests the same patients, each once.
    seed : of the fits; with the same seed the same numbers, whatever `jobs` and whether resumed.
    jobs : processes; 1 works in this one.
    pieces : folder for finished folds; those found there are not computed again.
    track : told of every epoch of a model that is trained in epochs, while it is trained.
    wished_sensitivity : choose a referral threshold for it within each training set.
    refits : bootstrap refits per fold of the first repeat, for intervals of the probability.
    fingerprint : of `bags` and `y` if the caller knows it already; else it is computed.
    """
    labels = check_bags(bags, y)
    model = as_model(recipe)
    name = name or recipe_name(recipe)
    print_ = fingerprint
    if pieces is not None and print_ is None:
        print_ = store.bags_fingerprint(bags, labels)
    with _log_folder(model) as log:
        tasks = [
            _Task(
                model,
                split,
                seed,
                wished_sensitivity,
                refits if split.repeat == 0 else 0,
                pieces,
                "" if pieces is None else _key(model, print_, split, seed, wished_sensitivity, refits),
                log,
                threads_each(model, len(splits)),
            )
            for split in splits
        ]
        found = [None if pieces is None else store.read_piece(pieces, task.key, _ARRAYS) for task in tasks]
        todo = [i for i, piece in enumerate(found) if piece is None]
        with _shown(progress, track, name, tasks, todo, labels, jobs) as fold_done:
            arguments = [(tasks[i], bags, labels) for i in todo]
            for i, piece in zip(todo, run_tasks(_fold, arguments, jobs), strict=True):
                found[i] = piece
                fold_done(tasks[i])
    pieces_ = [piece for piece in found if piece is not None]
    network = model if isinstance(model, EpochClassifier) else None
    return assemble(
        name,
        bags,
        labels,
        splits,
        pieces_,
        wished_sensitivity,
        optimistic=network is not None and network.optimistic,
        untrained=network is not None and network.untrained,
        transductive=is_transductive(model),
    )


@contextmanager
def _log_folder(model: BagClassifier) -> Iterator[Path | None]:
    """A folder where models that are trained in epochs say how far they are."""
    if not isinstance(model, EpochClassifier):
        yield None
        return
    with TemporaryDirectory() as folder:
        yield Path(folder)


@contextmanager
def _shown(
    progress: Progress | None,
    track: Track | None,
    name: str,
    tasks: Sequence[_Task],
    todo: Sequence[int],
    y: IntArray,
    jobs: int,
) -> Iterator[Callable[[_Task], None]]:
    """Progress in folds, or in epochs of all folds; yields what is to be called after every fold."""
    model, log = tasks[0].model, tasks[0].log
    if isinstance(model, EpochClassifier) and log is not None:
        total = sum(_epochs(model, task, y) for task in tasks)
        left = sum(_epochs(model, tasks[i], y) for i in todo)
        processes = max(min(jobs, len(todo)), 1)
        with epochs_shown(progress, track, log, name, total, total - left, processes) as finished:
            yield lambda task: finished(task.split.repeat, task.split.fold, _epochs(model, task, y))
        return
    if progress is None:
        yield lambda _: None
        return
    progress.start(name, len(tasks))
    progress.advance(len(tasks) - len(todo))
    yield lambda _: progress.advance()
    progress.done()


def _epochs(model: EpochClassifier, task: _Task, y: IntArray) -> int:
    """Most epochs of a fold: of its model, and in inner folds if a referral threshold is wanted.

    Members may have held out each training patient already.
    """
    asked = task.wished_sensitivity is not None and not model.holds_out_each
    inner = inner_folds(y[task.split.train]) if asked else 0
    return model.all_epochs * (1 + inner)


def _key(
    model: BagClassifier,
    fingerprint: str | None,
    split: Split,
    seed: int,
    wished_sensitivity: float | None,
    refits: int,
) -> str:
    weights = model.built_on()
    return store.piece_key(
        model=store.describe_model(model),
        **({"weights": weights} if weights else {}),  # what they hold, wherever they lie
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
    """Fit, predict, and leave the piece behind.

    Test labels are looked at by one kind of model alone, which says so: selection "scored-fold". The cells of
    test patients, and nothing else of them, are shown to another that says so: a transductive one.
    """
    began = time.perf_counter()
    split, model = task.split, task.model
    seeds = {
        stream: derived_seed(task.seed, split.repeat, split.fold, stream)
        for stream in (DECISION, INNER, REFITS)
    }
    train, test, y_train = bags[split.train], bags[split.test], y[split.train]
    with limited_threads(model, task.threads):
        fitted = _fitted(task, train, test, y, seeds[DECISION])
        evidence, shares = None, dict[str, FloatArray]()
        if split.repeat == 0:
            probability, said = explained(fitted, test)
            evidence, shares = said.evidence, dict(said.shares)
        else:
            probability = malignancy(fitted, test)
        referral = np.nan
        if task.wished_sensitivity is not None:
            watch = _writer(task, INNER_LOG)
            inner = inner_scores(fitted, model, train, y_train, seeds[INNER], watch)
            referral = referral_threshold(y_train, inner, task.wished_sensitivity)
        settled = fitted.settled()
        refits = [
            malignancy(each, test)
            for each in refit_models(settled, train, y_train, range(task.refits), seeds[REFITS])
        ]
        taught = malignancy(fitted, _glimpse(fitted, train))
        arrays: store.Arrays = {
            "probability": probability,
            "decision": (probability >= fitted.threshold_).astype(np.int8),
            "threshold": np.asarray(float(fitted.threshold_)),
            "training_decision": (taught >= fitted.threshold_).astype(np.int8),
            "referral": np.asarray(referral),
            "refits": np.array(refits).reshape(task.refits, len(test)),
            "settings": _packed(chosen_settings(fitted)),
            "history": _packed([epoch.as_dict() for epoch in getattr(fitted, "history_", [])]),
            "balance": _packed(_plain_counts(fitted)),
            "evidence": np.empty(0) if evidence is None else evidence,
            "shares": np.array(list(shares.values())).reshape(len(shares), len(test)),
            "share_names": _packed(list(shares)),
            "seconds": np.asarray(time.perf_counter() - began),
        }
    if task.folder is not None:
        store.write_piece(task.folder, task.key, arrays)
        for kept in task.folder.glob(f"{task.key}{CHECKPOINT}*"):
            kept.unlink()
    return arrays


def _fitted(task: _Task, train: Bags, test: Bags, y: IntArray, seed: int) -> BagClassifier:
    """The fold's model; one that is trained in epochs keeps each on disk, and is resumed from there.

    `train` and `test` are the fold's: cut out once more they would be photographs twice in memory.
    """
    split, model = task.split, seeded(task.model, seed)
    y_train = y[split.train]
    if is_transductive(model):
        return model.fit(train, y_train, unlabelled=cells_alone(test))
    if not isinstance(model, EpochClassifier):
        return model.fit(train, y_train)
    return model.fit(
        train,
        y_train,
        scored=(test, y[split.test]) if model.optimistic else None,
        checkpoint=None if task.folder is None else _checkpoint(task),
        watch=_writer(task),
    )


def _writer(task: _Task, ending: str = "") -> Watch | None:
    """What tells the waiting process of an epoch."""
    if task.log is None:
        return None
    return functools.partial(write_epoch, task.log / fold_log(task.split.repeat, task.split.fold, ending))


def _plain_counts(fitted: BagClassifier) -> dict[str, Any] | None:
    counts = fitted.balance_ if isinstance(fitted, EpochClassifier) else None
    return None if counts is None else asdict(counts)


def _glimpse(model: BagClassifier, bags: Bags) -> Bags:
    """Some cells of each training patient for a network, which would take longer over all than to train."""
    if not isinstance(model, EpochClassifier):
        return bags
    rows = bags.cell_indices(np.arange(len(bags)), GLIMPSE)
    offsets = np.concatenate([[0], np.cumsum(np.minimum(bags.counts, GLIMPSE))])
    return replace(bags, cells=bags.cells[rows], offsets=offsets)


def _checkpoint(task: _Task) -> Path:
    return (task.folder or Path()) / f"{task.key}{CHECKPOINT}"


def _packed(value: Any) -> npt.NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)


def inner_scores(
    fitted: BagClassifier,
    model: BagClassifier,
    bags: Bags,
    y: IntArray,
    seed: int,
    watch: Watch | None = None,
) -> FloatArray:
    """Out-of-fold probabilities within the training patients, shape (n_patients,).

    A fitted model that kept those of its own inner folds offers them as `inner_oof_`; else they are made.
    """
    offered = getattr(fitted, "inner_oof_", None)
    if offered is not None and np.shape(offered) == (len(y),):
        return np.asarray(offered, dtype=np.float64)
    if not inner_folds(y):
        return np.zeros(len(y))
    return inner_probabilities(model, bags, y, seed, watch)


def refit_models(
    model: BagClassifier, bags: Bags, y: IntArray, which: Sequence[int], seed: int
) -> Iterator[BagClassifier]:
    """`model` fitted on bootstrap samples of patients, drawn within each class.

    Sample `k` depends on `seed` and `k` alone, so that the work can be divided.

    Raises
    ------
    InputError : the model is trained in epochs, which it would choose on copies of patients it has learned.
    """
    for k in which:
        if isinstance(model, EpochClassifier):
            raise InputError(
                "networks are not refitted on bootstrap samples of patients",
                found=type(model).__name__,
                allowed="models that are fitted at once",
                remedy="Ask for no refits.",
            )
        drawn = bootstrap_patients(y, np.random.default_rng(np.random.SeedSequence([seed, k])))
        yield fit(model, resample(bags, drawn), y[drawn], derived_seed(seed, k))


def chosen_settings(fitted: BagClassifier) -> dict[str, Any]:
    """What a fitted model chose in its inner folds: its `chosen_`, names to plain values, if it has one."""
    return {
        str(key): value.item() if isinstance(value, np.generic) else value
        for key, value in dict(getattr(fitted, "chosen_", None) or {}).items()
    }

"""Every scikit-learn classifier on the same few numbers of a patient, compared in folds; the best is kept."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import logit
from threadpoolctl import ThreadpoolController

from lymphoscope.cohort.bags import FloatArray, IntArray
from lymphoscope.errors import InputError
from lymphoscope.models.clusters.features import PatientFeatures
from lymphoscope.models.patient_calibration import PatientCalibration
from lymphoscope.stats.metrics import balanced_accuracy, log_loss

_WRAPS = "wraps another classifier, which it needs as an argument"
_SEVERAL = "is for several labels a patient, and wraps another classifier"
SKIPPED = {
    "CategoricalNB": "takes categories, not numbers",
    "ClassifierChain": _SEVERAL,
    "FixedThresholdClassifier": _WRAPS,
    "MultiOutputClassifier": _SEVERAL,
    "OneVsOneClassifier": _WRAPS,
    "OneVsRestClassifier": _WRAPS,
    "OutputCodeClassifier": _WRAPS,
    "QuadraticDiscriminantAnalysis": "needs covariances of full rank; proportions sum to 1, so none has it",
    "RadiusNeighborsClassifier": "has no answer for a patient without neighbours within its radius",
    "SelfTrainingClassifier": _WRAPS,
    "StackingClassifier": _WRAPS,
    "TunedThresholdClassifierCV": _WRAPS,
    "VotingClassifier": _WRAPS,
}
"""Classifiers that do not fit these tables with scikit-learn's own settings, and why."""

DEFAULT = "GaussianNB"
"""What the report chose; taken where there are too few patients to compare."""

_SUREST = 1e-6
"""Probabilities are kept so far from 0 and 1 before their log-odds are taken."""


def comparable() -> tuple[str, ...]:
    """Names of all classifiers that are compared, sorted."""
    return tuple(sorted(set(_classes()) - set(SKIPPED)))


def make_classifier(name: str, seed: int) -> Any:
    """An unfitted classifier with scikit-learn's own settings, and its random state where it has one."""
    if name not in comparable():
        raise InputError(
            "this classifier cannot be compared",
            found=f"{name} ({SKIPPED[name]})" if name in SKIPPED else name,
            allowed=", ".join(comparable()),
        )
    kind = _classes()[name]
    own = {"random_state": seed} if "random_state" in inspect.signature(kind).parameters else {}
    return kind(**own)


def fit_classifier(name: str, x: FloatArray, y: IntArray, seed: int) -> Any:
    """The classifier fitted on (n_patients, n_columns); the same rows in the same order give the same one."""
    with quietly():
        return make_classifier(name, seed).fit(x, y)


def scores(classifier: Any, x: FloatArray) -> FloatArray:
    """Log-odds of malignancy, or the decision function where there are no probabilities, (n_patients,)."""
    if len(x) == 0:
        return np.empty(0)
    with quietly():
        if hasattr(classifier, "predict_proba"):
            return bounded_log_odds(classifier.predict_proba(x)[:, 1])
        return np.asarray(classifier.decision_function(x), dtype=np.float64)


@contextmanager
def quietly() -> Iterator[None]:
    """One thread, so that sums have one order; and no advice on settings that nobody tunes here."""
    with _threads().limit(limits=1), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def bounded_log_odds(p: FloatArray) -> FloatArray:
    """Log-odds of probabilities, which are held off 0 and 1 by a millionth, same shape."""
    return np.asarray(logit(np.clip(p, _SUREST, 1 - _SUREST)), dtype=np.float64)


@dataclass(frozen=True)
class Comparison:
    """What each classifier said of patients held out in folds of the training patients.

    Attributes
    ----------
    names : of the classifiers that could be fitted, n_classifiers of them.
    scores : of the held-out patients, (n_classifiers, n_patients).
    said : what each predicts by its own rule, 0 or 1, same shape: what the report compared.
    fold : in which each patient was held out, (n_patients,); −1 where there were no folds.
    failed, reasons : names of those that could not, and scikit-learn's words.
    """

    names: tuple[str, ...]
    scores: FloatArray
    said: npt.NDArray[np.int8]
    fold: IntArray
    failed: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @classmethod
    def of_nothing(cls, n_patients: int) -> Comparison:
        """Where there are too few patients for folds."""
        empty = np.empty((0, n_patients))
        return cls((), empty, empty.astype(np.int8), np.full(n_patients, -1, dtype=np.int64))

    def ordered(self, order: IntArray) -> Comparison:
        """The same with patient i of this one in place `order[i]`."""
        back = np.argsort(order)
        return replace(self, scores=self.scores[:, back], said=self.said[:, back], fold=self.fold[back])

    def of(self, patients: npt.NDArray[np.bool_]) -> Comparison:
        """The same of some patients only, (n_patients,)."""
        return replace(
            self, scores=self.scores[:, patients], said=self.said[:, patients], fold=self.fold[patients]
        )

    def calibrations(self, y: IntArray) -> list[PatientCalibration]:
        """From each classifier's held-out scores to probabilities at the prevalence of `y`."""
        return [PatientCalibration.fit(each, y, float(y.mean())) for each in self.scores]

    def best(self, y: IntArray) -> int:
        """The highest balanced accuracy of held-out patients, cut at the prevalence after calibration.

        Of equal ones the lower log-loss, then the first name.
        """
        prevalence, keys = float(y.mean()), []
        for each, calibration in zip(self.scores, self.calibrations(y), strict=True):
            p = calibration.probability(each)
            keys.append((-round(balanced_accuracy(y, p >= prevalence), 9), log_loss(y, p)))
        return min(range(len(keys)), key=keys.__getitem__)


def compare(
    names: Sequence[str], table: FloatArray, y: IntArray, held_out: npt.NDArray[np.bool_], seed: int
) -> Comparison:
    """Fit every classifier in every fold, on what the fold's own training patients say of the columns.

    Parameters
    ----------
    table : as `patient_table` gives it, (n_patients, n_clusters + 5).
    held_out : patients of each fold, (n_folds, n_patients); each patient is held out once.
    """
    parts = []
    for held in held_out:
        learned = PatientFeatures.fit(table[~held])
        parts.append((learned.inputs(table[~held]), y[~held], learned.inputs(table[held])))
    kept: dict[str, tuple[FloatArray, npt.NDArray[np.int8]]] = {}
    failed: dict[str, str] = {}
    for name in names:
        try:
            kept[name] = _held_out_answers(name, parts, held_out, seed)
        except Exception as error:  # whatever a classifier of another library stumbles over
            failed[name] = str(error).strip().partition("\n")[0][:120] or type(error).__name__
    if not kept:
        listed = "; ".join(f"{name}: {why}" for name, why in failed.items())
        raise InputError("no classifier could be fitted", found=listed, remedy="Name others.")
    return Comparison(
        tuple(kept),
        np.stack([score for score, _ in kept.values()]),
        np.stack([said for _, said in kept.values()]),
        held_out.argmax(axis=0).astype(np.int64),
        tuple(failed),
        tuple(failed.values()),
    )


def _held_out_answers(
    name: str,
    parts: Sequence[tuple[FloatArray, IntArray, FloatArray]],
    held_out: npt.NDArray[np.bool_],
    seed: int,
) -> tuple[FloatArray, npt.NDArray[np.int8]]:
    score, said = np.full(held_out.shape[1], np.nan), np.zeros(held_out.shape[1], dtype=np.int8)
    for held, (x, y, new) in zip(held_out, parts, strict=True):
        fitted = fit_classifier(name, x, y, seed)
        score[held] = scores(fitted, new)
        with quietly():
            said[held] = fitted.predict(new)
    if not np.isfinite(score).all():
        raise ValueError("its answers are not finite numbers")
    return score, said


@cache
def _threads() -> ThreadpoolController:
    """Of every library that counts; looking for them anew each time would take longer than most fits."""
    _classes()
    return ThreadpoolController()


@cache
def _classes() -> dict[str, Any]:
    from sklearn.utils import all_estimators  # imports all of scikit-learn

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(all_estimators(type_filter="classifier"))

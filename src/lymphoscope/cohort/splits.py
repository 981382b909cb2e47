"""Who trains and who tests. Patients are split, never cells: no patient is ever on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.bags import IntArray
from lymphoscope.errors import InputError

CLASS_NAMES = {0: "reactive (0)", 1: "malignant (1)"}


@dataclass(frozen=True, eq=False)
class Split:
    """One division of the patients.

    Attributes
    ----------
    repeat, fold : which one it is, both from 0.
    train, test : ascending indices of patients; disjoint.
    """

    repeat: int
    fold: int
    train: IntArray
    test: IntArray


def repeated_stratified(y: npt.ArrayLike, folds: int = 5, repeats: int = 10, seed: int = 0) -> list[Split]:
    """Repeated stratified cross-validation over patients.

    In each repeat every patient is tested once, and the numbers of malignant and of reactive patients, and of
    all patients, differ between folds by one at most. A repeat's folds depend on `seed` and on the repeat's
    number only, so that more repeats never change the earlier ones.

    Raises
    ------
    InputError : a class has fewer patients than `folds`.
    """
    labels = _labels(y)
    if folds < 2 or repeats < 1:
        raise InputError("cross-validation needs at least 2 folds and 1 repeat", found=(folds, repeats))
    counts = _class_counts(labels)
    scarce = min(counts, key=lambda label: counts[label])
    if counts[scarce] < folds:
        raise InputError(
            f"{folds}-fold cross-validation needs at least {folds} patients of each class",
            found=f"{counts[scarce]} {CLASS_NAMES[scarce]} among {len(labels)} labelled patients",
            allowed=f"at most {counts[scarce]} folds" if counts[scarce] >= 2 else None,
            remedy=(
                f"Ask for {counts[scarce]} folds, or label more {CLASS_NAMES[scarce]} patients."
                if counts[scarce] >= 2
                else "No cross-validation is possible: label at least 2 patients of each class."
            ),
        )
    splits = []
    for repeat in range(repeats):
        rng = np.random.default_rng(np.random.SeedSequence([seed, repeat]))
        fold_of = _deal(labels, folds, rng)
        for fold in range(folds):
            test = np.flatnonzero(fold_of == fold)
            splits.append(Split(repeat, fold, np.flatnonzero(fold_of != fold), test))
    return splits


def stratified_holdout(y: npt.ArrayLike, test_size: int = 33, seed: int = 0) -> list[Split]:
    """One split with `test_size` test patients, both classes in proportion and at least one of each."""
    labels = _labels(y)
    counts = _class_counts(labels)
    n = len(labels)
    if min(counts.values()) < 2 or not 2 <= test_size <= n - 2:
        raise InputError(
            f"a hold-out of {test_size} test patients needs patients of each class on either side",
            found=f"{counts[1]} malignant and {counts[0]} reactive labelled patients",
            allowed=f"2 to {n - 2} test patients, with at least 2 patients of each class",
            remedy="Choose a test size in that range, or label more patients.",
        )
    malignant_tested = round(test_size * counts[1] / n)
    malignant_tested = min(max(malignant_tested, 1, test_size - counts[0] + 1), counts[1] - 1, test_size - 1)
    rng = np.random.default_rng(np.random.SeedSequence([seed]))
    test = np.concatenate(
        [
            rng.permutation(np.flatnonzero(labels == label))[:size]
            for label, size in ((0, test_size - malignant_tested), (1, malignant_tested))
        ]
    )
    tested = np.isin(np.arange(n), test)
    return [Split(0, 0, np.flatnonzero(~tested), np.flatnonzero(tested))]


def fixed_split(split: Sequence[str]) -> list[Split]:
    """The one split that a column of the table gives: "train" or "test" for every patient.

    Raises
    ------
    InputError : another word, or one side without patients.
    """
    words = np.array([str(word).strip().lower() for word in split], dtype=object)
    for row, word in enumerate(words):
        if word not in ("train", "test"):
            raise InputError(
                f"labelled patient number {row + 1} is on no side of the split",
                column="split",
                found=str(split[row]),
                allowed="train, test",
                remedy="Give every labelled patient one of the two words, or use cross-validation.",
            )
    train, test = np.flatnonzero(words == "train"), np.flatnonzero(words == "test")
    if not len(train) or not len(test):
        raise InputError(
            "a fixed split needs labelled patients on both sides",
            column="split",
            found=f"{len(train)} train and {len(test)} test",
            remedy="Mark some labelled patients as test, or use cross-validation.",
        )
    return [Split(0, 0, train, test)]


def _labels(y: npt.ArrayLike) -> npt.NDArray[np.int64]:
    labels = np.asarray(y)
    if labels.ndim != 1 or not np.isin(labels, (0, 1)).all():
        raise ValueError("y: must be one-dimensional and hold 0 and 1 only; leave unlabelled patients out")
    return labels.astype(np.int64)


def _class_counts(labels: npt.NDArray[np.int64]) -> dict[int, int]:
    counts = {label: int((labels == label).sum()) for label in (0, 1)}
    for label, count in counts.items():
        if not count:
            raise InputError(
                f"no labelled patient is {CLASS_NAMES[label]}",
                found=f"{len(labels)} labelled patients of one class",
                allowed="both classes",
                remedy="Nothing can be learned or measured from one class: label patients of the other.",
            )
    return counts


def _deal(labels: npt.NDArray[np.int64], folds: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Deal the shuffled patients of one class after the other to the folds in turn, like cards."""
    fold_of = np.empty(len(labels), dtype=np.int64)
    names = rng.permutation(folds)
    dealt = 0
    for label in (0, 1):
        members = rng.permutation(np.flatnonzero(labels == label))
        fold_of[members] = names[(dealt + np.arange(len(members))) % folds]
        dealt += len(members)
    return fold_of

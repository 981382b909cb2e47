"""Which cells or patients one epoch of training sees, in which order, and how much each class weighs.

All of it works on the patients given, which are to be those of the training folds, and on their cells packed
one patient after another: with `counts` cells per patient, the first patient's are 0 to counts[0] - 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.bags import IntArray
from lymphoscope.errors import InputError
from lymphoscope.training.bounds import check_choice, check_range

Balance = Literal["none", "oversample", "undersample", "weighted-sampler", "class-weights"]
"""How classes of unequal size are treated.

- none: every patient or cell once.
- oversample: those of the smaller class repeated, each as often as any other or once more, until both
  classes are equal.
- undersample: as many of the larger class, drawn anew for every epoch, as there are of the smaller.
- weighted-sampler: as many as there are, drawn with replacement, both classes with the same probability.
- class-weights: every patient or cell once; the loss weighs the classes, see `class_weights`.
"""

By = Literal["patient", "cell"]
"""What is counted when classes are made equal. A patient drawn several times gives cells each time."""

Labels = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class PatientBatch:
    """A few patients and the cells of theirs that a training step sees, packed as in `Bags`.

    Attributes
    ----------
    patients : int64 (n_patients,); one may stand more than once.
    cells : int64 (n_cells,), places among the packed cells of all patients.
    offsets : int64 (n_patients + 1,); the i-th patient's are `cells[offsets[i]:offsets[i + 1]]`.
    """

    patients: IntArray
    cells: IntArray
    offsets: IntArray


@dataclass(frozen=True)
class BalanceCounts:
    """Patients and cells of the (reactive, malignant) class, before and after balancing one epoch.

    Patients without cells are not counted. Balanced by patient, one drawn twice counts twice; balanced by
    cell, every patient counts once of whom at least one cell was drawn. With `class-weights` nothing is drawn
    differently: before and after are the same.
    """

    patients_before: tuple[int, int]
    cells_before: tuple[int, int]
    patients_after: tuple[int, int]
    cells_after: tuple[int, int]


def epoch_cells(
    counts: IntArray,
    y: Labels,
    *,
    balance: Balance = "none",
    by: By = "patient",
    cells_per_patient: int | None = None,
    rng: np.random.Generator,
) -> IntArray:
    """Cells of one epoch of per-cell training, in random order.

    Parameters
    ----------
    counts : (n_patients,) cells per patient; 0 is allowed.
    y : (n_patients,) labels, 0 or 1.
    cells_per_patient : the most cells that a patient gives each time it is drawn, chosen at random without
        replacement, anew in every call; None for all. Cells are balanced after this choice.

    Returns
    -------
    int64 places among the packed cells, each as often as it is to be seen.

    Raises
    ------
    InputError : there is no cell, or none of a class that is to be balanced.
    """
    return _epoch(counts, y, balance, by, cells_per_patient, rng)[1]


def epoch_patients(y: Labels, *, balance: Balance = "none", rng: np.random.Generator) -> IntArray:
    """Patients of one epoch of per-patient training, int64 indices in random order.

    `y` is (n_patients,), 0 or 1, of patients that have cells. Raises `InputError` if there is no patient, or
    none of a class that is to be balanced.
    """
    return _balanced(_checked_labels(y), balance, "patient", rng)


def batches(indices: IntArray, size: int) -> list[IntArray]:
    """`indices` in their order, in batches of at most `size` that differ by one at most.

    Even batches, because batch normalisation learns nonsense from a last batch of one or two.
    """
    check_range("batch size", size, 1, math.inf, open_high=True)
    return np.array_split(indices, math.ceil(len(indices) / size)) if len(indices) else []


def patient_batches(
    counts: IntArray,
    patients: IntArray,
    *,
    batch_size: int,
    cells_per_patient: int | None = None,
    rng: np.random.Generator,
) -> Iterator[PatientBatch]:
    """Batches of whole patients in the order given, at most `batch_size` each.

    `cells_per_patient` bounds the cells of a patient, and with them the memory of a step: they are drawn at
    random without replacement, anew in every step. A patient without cells is an empty segment.
    """
    for batch in batches(patients, batch_size):
        cells, sizes = _some_cells(counts, batch, cells_per_patient, rng)
        yield PatientBatch(batch, cells, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))


def class_weights(
    y: Labels, balance: Balance = "none", positive_weight: float | None = None
) -> tuple[float, float]:
    """Weights of the reactive and the malignant class in the loss.

    Parameters
    ----------
    y : labels, 0 or 1, of whatever the loss is taken over (patients or cells).
    balance : "class-weights" weighs each class by n / (2 n_class), so that both count the same in all.
    positive_weight : what a malignant example weighs beside a reactive one (Collin & Le Chenadec: 2), on top
        of `balance`.
    """
    check_choice("balance", balance, get_args(Balance))
    reactive = malignant = 1.0
    if balance == "class-weights":
        sizes = _both_classes(_checked_labels(y), balance, "row")
        reactive, malignant = (sum(sizes) / (2 * size) for size in sizes)
    if positive_weight is not None:
        check_range("positive_weight", positive_weight, 0.0, math.inf, open_low=True, open_high=True)
        malignant *= positive_weight
    return reactive, malignant


def balance_counts(
    counts: IntArray,
    y: Labels,
    *,
    balance: Balance = "none",
    by: By = "patient",
    cells_per_patient: int | None = None,
    rng: np.random.Generator,
) -> BalanceCounts:
    """What balancing does to the numbers of patients and cells, counted in an epoch really drawn.

    Takes what `epoch_cells` takes; with `by="patient"` it holds for per-patient training too.
    """
    patients, cells = _epoch(counts, y, balance, by, cells_per_patient, rng)
    labels, owner = np.asarray(y), np.repeat(np.arange(len(counts)), counts)
    if by == "cell":
        patients = np.unique(owner[cells])
    return BalanceCounts(
        _per_class(labels[counts > 0]),
        _per_class(labels[owner]),
        _per_class(labels[patients]),
        _per_class(labels[owner[cells]]),
    )


def _epoch(
    counts: IntArray,
    y: Labels,
    balance: Balance,
    by: By,
    cells_per_patient: int | None,
    rng: np.random.Generator,
) -> tuple[IntArray, IntArray]:
    """Patients as often as they were drawn, and the cells of one epoch in random order."""
    check_choice("by", by, get_args(By))
    labels = _checked_labels(y)
    if len(counts) != len(labels):
        raise InputError(
            "there must be one label per patient", found=len(labels), allowed=f"{len(counts)} labels"
        )
    patients = np.flatnonzero(counts)
    if by == "patient":
        patients = patients[_balanced(labels[patients], balance, "patient with cells", rng)]
    cells, sizes = _some_cells(counts, patients, cells_per_patient, rng)
    if by == "patient":
        return patients, rng.permutation(cells)
    return patients, cells[_balanced(np.repeat(labels[patients], sizes), balance, "cell", rng)]


def _balanced(labels: Labels, balance: Balance, what: str, rng: np.random.Generator) -> IntArray:
    """Indices into `labels`, balanced and in random order."""
    check_choice("balance", balance, get_args(Balance))
    n = len(labels)
    if n == 0:
        raise InputError(f"an epoch needs a {what}", found=0, allowed="at least 1")
    if balance in ("none", "class-weights"):
        return rng.permutation(n)
    sizes = _both_classes(labels, balance, what)
    if balance == "weighted-sampler":
        return rng.choice(n, n, p=1 / (2 * np.asarray(sizes)[labels]))
    wanted = max(sizes) if balance == "oversample" else min(sizes)
    return rng.permutation(
        np.concatenate([_repeated(np.flatnonzero(labels == c), wanted, rng) for c in (0, 1)])
    )


def _repeated(members: IntArray, n: int, rng: np.random.Generator) -> IntArray:
    """`n` of the `members`, each as often as any other or once more."""
    whole, rest = divmod(n, len(members))
    return np.concatenate([np.tile(members, whole), rng.choice(members, rest, replace=False)])


def _some_cells(
    counts: IntArray, patients: IntArray, limit: int | None, rng: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Cells of each of the `patients` in turn, at most `limit` of each, ascending; and how many of each."""
    sizes = counts[patients]
    first = np.cumsum(sizes) - sizes
    place = np.arange(sizes.sum(), dtype=np.int64)
    cells = place + np.repeat((np.cumsum(counts) - counts)[patients] - first, sizes)
    if limit is None:
        return cells, sizes
    check_range("cells_per_patient", limit, 1, math.inf, open_high=True)
    # Shuffled within each patient, the first `limit` of each are a draw without replacement.
    shuffled = np.lexsort((rng.random(len(cells)), np.repeat(np.arange(len(patients)), sizes)))
    kept = np.sort(shuffled[place - np.repeat(first, sizes) < limit])
    return cells[kept], np.minimum(sizes, limit)


def _per_class(labels: Labels) -> tuple[int, int]:
    return int((labels == 0).sum()), int((labels == 1).sum())


def _both_classes(labels: Labels, balance: Balance, what: str) -> tuple[int, int]:
    sizes = _per_class(labels)
    if min(sizes) == 0:
        raise InputError(
            f"balance {balance!r} needs both classes",
            found=f"{sizes[0]} reactive, {sizes[1]} malignant",
            allowed=f"at least one {what} of each",
        )
    return sizes


def _checked_labels(y: Labels) -> Labels:
    labels = np.asarray(y)
    if not np.isin(labels, (0, 1)).all():
        raise InputError(
            "a label is neither malignant nor reactive", found=np.unique(labels).tolist(), allowed="1 and 0"
        )
    return labels.astype(np.int64)

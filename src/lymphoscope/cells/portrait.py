"""What the cells of one patient look like, from an encoder's concepts: shares, how alike, how typical."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lymphoscope.cells.concepts import CELL_TYPE, Task
from lymphoscope.stats.intervals import Interval, wilson

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Told = Mapping[str, Task]

TRAITS = (
    ("cell_size", "small"),
    ("nuclear_cytoplasmic_ratio", "high"),
    ("chromatin_density", "densely"),
    ("nucleus_shape", "unsegmented-round"),
    ("cell_shape", "round"),
    ("cytoplasm_colour", "blue"),
    ("cytoplasm_vacuole", "yes"),
    ("granularity", "yes"),
)
"""What is told of a patient's lymphocytes: always the same answers in the same order, so that patients can be
compared at a glance. These are what a haematologist looks at, size first."""


@dataclass(frozen=True)
class Share:
    """Part of a patient's cells for which `answer` is likeliest; the interval is Wilson's, over the cells."""

    task: str
    answer: str
    share: Interval


def of_cells(told: Told, rows: slice | IntArray) -> dict[str, Task]:
    """The concepts of some cells."""
    return {name: Task(name, task.answers, task.probability[rows]) for name, task in told.items()}


def trait_shares(told: Told) -> tuple[Share, ...]:
    """The shares of `TRAITS` that the encoder knows among these cells; nothing of no cells."""
    found = []
    for name, answer in TRAITS:
        if name in told and answer in told[name].answers:
            seen = told[name].likeliest == told[name].answers.index(answer)
            if len(seen):
                found.append(Share(name, answer, wilson(int(seen.sum()), len(seen))))
    return tuple(found)


def agreement(told: Told) -> float:
    """How alike cells are: the part of the attributes in which two of them, drawn at random, are told alike.

    With n cells, n_a of them told answer a, it is Σ n_a (n_a − 1) / (n (n − 1)), meaned over the attributes
    (Simpson 1949): 0 where no two cells share an answer, 1 where all cells are told alike. It depends on no
    other patient and, apart from chance, not on the number of cells. The cell type is no attribute. NaN for
    fewer than two cells or no attributes.
    """
    found = []
    for name, task in told.items():
        counts = np.bincount(task.likeliest, minlength=len(task.answers)).astype(np.float64)
        n = counts.sum()
        if name != CELL_TYPE and n >= 2:
            found.append(float((counts * (counts - 1)).sum() / (n * (n - 1))))
    return float(np.mean(found)) if found else float("nan")


def by_typicality(embeddings: npt.ArrayLike) -> IntArray:
    """Cells, the most typical first: by the distance of their embedding to the mean of all, (n_cells,)."""
    values = np.asarray(embeddings, dtype=np.float64)
    if not len(values):
        return np.empty(0, dtype=np.int64)
    away = np.linalg.norm(values - values.mean(axis=0), axis=1)
    return np.asarray(np.argsort(away, kind="stable"), dtype=np.int64)


def telling(told: Told, cell: int, most: int = 3) -> tuple[tuple[str, str, float], ...]:
    """What is worth saying of one cell among these: (task, answer, probability) of at most `most` attributes.

    First those in which it is told otherwise than most of the cells, the surest first; then in the order of
    `TRAITS`.
    """
    odd: list[tuple[str, str, float]] = []
    usual: list[tuple[str, str, float]] = []
    for name, _ in TRAITS:
        if name not in told:
            continue
        task = told[name]
        likeliest = int(task.likeliest[cell])
        said = (name, task.answers[likeliest], float(task.probability[cell, likeliest]))
        common = int(np.bincount(task.likeliest).argmax())
        (usual if likeliest == common else odd).append(said)
    odd.sort(key=lambda each: -each[2])
    return tuple((*odd, *usual)[:most])

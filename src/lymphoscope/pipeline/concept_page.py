"""From an encoder's concepts to how the report compares malignant and reactive patients."""

from __future__ import annotations

import numpy as np

from lymphoscope.cells.concepts import CELL_TYPE, Task, concepts
from lymphoscope.cells.portrait import TRAITS, agreement, of_cells
from lymphoscope.cohort.bags import Bags, FloatArray, IntArray, segment_mean
from lymphoscope.report.concept_content import ConceptComparison, ConceptRow
from lymphoscope.report.concept_words import answer_words
from lymphoscope.stats.group_differences import compare_classes

MOST_ROWS = 12

ALIKE = "how alike the cells are"

_RARE = 0.01
"""Answers given for fewer of all cells, or for all but so few, are not compared: they would only add to what
p-values are corrected for."""


def compare_concepts(bags: Bags, y: IntArray, *, replicates: int, seed: int) -> ConceptComparison | None:
    """Shares of cells per patient, compared between the classes; None without an encoder or enough patients.

    Parameters
    ----------
    bags : of labelled patients, whose cells are numbers.
    y : their labels: 1 malignant, 0 reactive.
    """
    told = concepts(bags.cells, bags.columns or ())
    if not told or not len(bags.cells):
        return None
    words, columns = [], []
    for name, task in told.items():
        for answer in _asked(task):
            seen = (task.likeliest == task.answers.index(answer)).astype(np.float64)
            if _RARE <= seen.mean() <= 1 - _RARE:
                said = answer_words(name, answer)
                words.append(f"cell type: {said}" if name == CELL_TYPE else said)
                columns.append(segment_mean(seen, bags.offsets))
    words.append(ALIKE)
    columns.append(_alike(told, bags))
    found = compare_classes(y, np.column_stack(columns), replicates, seed)
    rows = [
        ConceptRow(what, each, what != ALIKE)
        for what, each in zip(words, found, strict=True)
        if each is not None
    ]
    if not rows:
        return None
    rows.sort(key=lambda row: (-abs(row.difference.effect.estimate), row.words))
    there = np.asarray(bags.counts > 0)
    return ConceptComparison(
        tuple(rows[:MOST_ROWS]), len(rows), int((y[there] == 1).sum()), int((y[there] == 0).sum())
    )


def _asked(task: Task) -> tuple[str, ...]:
    """The answers that are compared: of two one, as the other says the same; no granules once."""
    if len(task.answers) == 2:
        return tuple(answer for name, answer in TRAITS if name == task.name) or task.answers[1:]
    return tuple(answer for answer in task.answers if answer != "nil")


def _alike(told: dict[str, Task], bags: Bags) -> FloatArray:
    ends = zip(bags.offsets[:-1].tolist(), bags.offsets[1:].tolist(), strict=True)
    return np.array([agreement(of_cells(told, slice(first, last))) for first, last in ends])

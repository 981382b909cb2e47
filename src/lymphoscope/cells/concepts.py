"""What an encoder says of cells: type, attributes, and which of them are surely no lymphocytes.

The numbers are the columns `concept_TASK=ANSWER` that an encoder adds to a cell's: calibrated probabilities,
those of one task sum to 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lymphoscope.cells.cell_findings import NotALymphocyte
from lymphoscope.cells.columns import CONCEPT_PREFIX
from lymphoscope.cohort.findings import counted

CELL_TYPE, LYMPHOCYTE = "cell_type", "lymphocyte"

SURELY_OTHER = ("basophil", "eosinophil", "neutrophil", "platelet")
"""Types that no lymphoid cell is taken for: granules, a nucleus in lobes, no nucleus at all.

The other types are left alone. An encoder has learned from healthy blood and has seen no malignant cell; to
it a blast may look like an immature granulocyte, a large lymphoma cell like a monocyte, a small dense nucleus
like an erythroblast. Those are the very cells that matter, so nothing is concluded from them.
"""

SURE = 0.9
"""Probability of `SURELY_OTHER`, taken together, from which on a cell is flagged.

The probabilities are calibrated on healthy cells of one laboratory: of such cells that reach it, at most one
in ten is flagged wrongly; of other cells nothing is known. Losing a
tenth of few cells hardly moves a mean over some 60, while a lower limit would begin to cost lymphocytes.
"""

_MOST = 0.5

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Task:
    """One question to every cell: its possible answers, and their probabilities, (n_cells, n_answers)."""

    name: str
    answers: tuple[str, ...]
    probability: FloatArray

    @property
    def likeliest(self) -> npt.NDArray[np.int64]:
        """Which answer is the likeliest for each cell, (n_cells,)."""
        return np.asarray(self.probability.argmax(axis=1), dtype=np.int64)

    def of(self, answers: Sequence[str]) -> FloatArray:
        """Probability that one of `answers` holds, (n_cells,); of answers that the task lacks, 0."""
        at = [self.answers.index(answer) for answer in answers if answer in self.answers]
        return np.asarray(self.probability[:, at].sum(axis=1))


def concepts(cells: npt.ArrayLike, columns: Sequence[str]) -> dict[str, Task]:
    """The concepts among per-cell numbers, (n_cells, n_columns), by the name of the task; {} without any."""
    values = np.asarray(cells)
    found: dict[str, dict[str, int]] = {}
    for at, column in enumerate(columns):
        if column.startswith(CONCEPT_PREFIX):
            task, _, answer = column.removeprefix(CONCEPT_PREFIX).partition("=")
            found.setdefault(task, {})[answer] = at
    return {
        task: Task(task, tuple(at), values[:, list(at.values())].astype(np.float64))
        for task, at in found.items()
    }


def not_lymphocytes(told: dict[str, Task]) -> BoolArray | None:
    """Which cells are surely no lymphocytes, (n_cells,); None where the encoder does not tell them apart."""
    types = told.get(CELL_TYPE)
    if types is None or LYMPHOCYTE not in types.answers or not set(SURELY_OTHER) & set(types.answers):
        return None
    return np.asarray(types.of(SURELY_OTHER) >= SURE)


def find_not_lymphocytes(
    told: dict[str, Task],
    patient: npt.NDArray[np.int64],
    ids: Sequence[str],
    paths: npt.NDArray[np.object_],
) -> tuple[NotALymphocyte, ...]:
    """The finding on cells that are surely no lymphocytes, if there are any.

    Parameters
    ----------
    patient : index into `ids` of each cell's patient, (n_cells,).
    paths : of the cells' photographs.
    """
    flagged = not_lymphocytes(told)
    if flagged is None or not flagged.any():
        return ()
    types = told[CELL_TYPE]
    kinds = Counter(types.answers[i] for i in types.likeliest[flagged])
    listed = ", ".join(
        f"{n} {kind}" for kind, n in sorted(kinds.items(), key=lambda each: (-each[1], each[0]))
    )
    n, total = int(flagged.sum()), len(flagged)
    share = np.bincount(patient, flagged, len(ids)) / np.maximum(np.bincount(patient, minlength=len(ids)), 1)
    mostly = tuple(ids[i] for i in np.flatnonzero(share > _MOST).tolist())
    message = f"{n} of {total} cells ({n / total:.1%}) are taken for something else: {listed}."
    if n > _MOST * total:
        message += (
            " The encoder takes most cells for something else: either this is no cohort of lymphocytes, or "
            "its photographs are unlike those that the encoder has learned from, and its words mean little."
        )
    elif mostly:
        message += f" In {counted(len(mostly), 'patient')} they are more than half of the cells."
    return (NotALymphocyte(message, mostly, tuple(str(path) for path in paths[flagged])),)

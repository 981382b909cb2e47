"""Cells that are left out of every bag: which, how many, and whom that would leave without any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from lymphoscope.cells.concepts import concepts, not_lymphocytes
from lymphoscope.cells.numbers import blurred, not_segmented
from lymphoscope.cells.stain import Plane
from lymphoscope.cohort.cell_store import CellStore
from lymphoscope.cohort.cohort import Cohort
from lymphoscope.cohort.findings import counted
from lymphoscope.encoders.encoder import Encoder
from lymphoscope.errors import InputError

LeaveOut = Literal["none", "flagged"]
"""Which cells are left out: none, or those that LYM301, LYM302 and LYM304 report."""

_SHOWN = 8


@dataclass(frozen=True)
class LeftOut:
    """How many cells were left out, and why; a cell with several reasons counts under the first.

    Attributes
    ----------
    total : cells that there were.
    not_segmented, blurred, not_lymphocytes : left out of them.
    """

    total: int
    not_segmented: int
    blurred: int
    not_lymphocytes: int

    @property
    def n(self) -> int:
        """All that were left out."""
        return self.not_segmented + self.blurred + self.not_lymphocytes

    def sentence(self) -> str:
        """ "12 of 644 cells are left out: 9 taken for other cells, 2 not segmented, 1 out of focus"."""
        reasons = (
            (
                self.not_lymphocytes,
                f"taken for {'another cell' if self.not_lymphocytes == 1 else 'other cells'}",
            ),
            (self.not_segmented, "not segmented"),
            (self.blurred, "out of focus"),
        )
        listed = ", ".join(f"{n} {what}" for n, what in reasons if n)
        return f"{self.n} of {counted(self.total, 'cell')} left out" + (f": {listed}." if listed else ".")


def require_told(encoder: Encoder | None) -> None:
    """Refuse to leave out flagged cells where nothing says which cells are no lymphocytes."""
    columns = () if encoder is None else encoder.concept_columns
    if not_lymphocytes(concepts(np.empty((0, len(columns))), columns)) is None:
        raise InputError(
            "cells cannot be flagged: no encoder says which of them are no lymphocytes",
            found="no encoder"
            if encoder is None
            else f"the encoder {encoder.name}, which names no cell types",
            allowed="an encoder that tells lymphocytes from neutrophils, eosinophils, basophils or platelets",
            remedy="Name one with --encoder, or leave no cells out.",
        )


def leave_out_flagged(
    cohort: Cohort, store: CellStore, measured: Plane, told: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], LeftOut]:
    """Indices of the cells that stay, and what is left out.

    Parameters
    ----------
    measured : numbers of all cells of `store`, in the order of `MORPHOLOGY_COLUMNS`.
    told : which of them are surely no lymphocytes, (n_cells,).

    Raises
    ------
    InputError : a patient who has cells would have none left; names them.
    """
    lost, unsharp = not_segmented(measured), blurred(measured)
    flagged = lost | unsharp | told
    kept = np.flatnonzero(~flagged)
    patient = store.index.patient
    emptied = [cohort.patients.ids[i] for i in np.setdiff1d(patient, patient[kept])]
    if emptied:
        more = f" and {len(emptied) - _SHOWN} more" if len(emptied) > _SHOWN else ""
        raise InputError(
            f"leaving out flagged cells would leave {counted(len(emptied), 'patient')} without any",
            file=cohort.root,
            found=", ".join(emptied[:_SHOWN]) + more,
            allowed="a cohort in which every patient keeps a cell",
            remedy="`lymphoscope check` lists the flagged cells: LYM301, LYM302, LYM304. Look at these "
            "photographs; photograph the patients again, or leave no cells out.",
        )
    return kept, LeftOut(
        total=len(store),
        not_segmented=int(lost.sum()),
        blurred=int((unsharp & ~lost).sum()),
        not_lymphocytes=int((told & ~lost & ~unsharp).sum()),
    )

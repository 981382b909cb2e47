"""Bags: the cells of many patients, packed and ragged, never padded.

This is what every model takes. Numpy only, so that it also runs on a bare machine.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

CLINICAL_COLUMNS = ("age", "sex", "lymphocyte_count")
"""Columns of `Bags.clinical`: years; 0 female, 1 male; 10⁹ cells per litre. NaN is missing."""

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
PatientIndex = int | np.integer[Any] | slice | Sequence[int] | npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Bags:
    """Cells of `n_patients` patients, one after another.

    Attributes
    ----------
    cells : array-like of shape (n_cells, ...); uint8 images or float per-cell numbers. Patient `i` owns
        rows `offsets[i]` to `offsets[i + 1]`; a patient may own none.
    offsets : int64 array of shape (n_patients + 1,), non-decreasing, from 0 to n_cells.
    clinical : float64 array of shape (n_patients, 3); see `CLINICAL_COLUMNS`; NaN where missing.
    patient_ids : n_patients unique strings.
    columns : names of the columns of `cells` where these are numbers (n_cells, n_columns); else None.
    """

    cells: Any
    offsets: IntArray
    clinical: FloatArray
    patient_ids: tuple[str, ...]
    columns: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "offsets", np.asarray(self.offsets, dtype=np.int64))
        object.__setattr__(self, "clinical", np.asarray(self.clinical, dtype=np.float64))
        object.__setattr__(self, "patient_ids", tuple(self.patient_ids))
        n = len(self.patient_ids)
        if self.offsets.shape != (n + 1,):
            raise ValueError(f"offsets: shape {self.offsets.shape}; allowed: ({n + 1},) for {n} patient_ids")
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.cells) or np.any(np.diff(self.offsets) < 0):
            raise ValueError(
                f"offsets: must rise from 0 to the number of cells ({len(self.cells)}); "
                f"got {self.offsets[0]} … {self.offsets[-1]}"
            )
        if self.clinical.shape != (n, len(CLINICAL_COLUMNS)):
            raise ValueError(
                f"clinical: shape {self.clinical.shape}; allowed: ({n}, {len(CLINICAL_COLUMNS)}) "
                f"with columns {CLINICAL_COLUMNS}"
            )
        if len(set(self.patient_ids)) != n:
            raise ValueError("patient_ids: every id may stand once only")
        if self.columns is not None:
            object.__setattr__(self, "columns", tuple(self.columns))
            if np.shape(self.cells)[1:] != (len(self.columns),):
                raise ValueError(
                    f"columns: {len(self.columns)} names for cells of shape {np.shape(self.cells)}"
                )

    @classmethod
    def from_list(
        cls,
        bags: Sequence[npt.NDArray[Any]],
        clinical: npt.ArrayLike | None = None,
        patient_ids: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> Bags:
        """Pack one array of cells per patient; missing clinical values become NaN, missing ids numbers."""
        n = len(bags)
        table = np.full((n, len(CLINICAL_COLUMNS)), np.nan) if clinical is None else np.asarray(clinical)
        return cls(
            cells=np.concatenate(list(bags)) if n else np.empty((0, len(columns or ()))),
            offsets=np.concatenate([[0], np.cumsum([len(b) for b in bags], dtype=np.int64)]),
            clinical=table,
            patient_ids=tuple(patient_ids) if patient_ids is not None else tuple(str(i) for i in range(n)),
            columns=None if columns is None else tuple(columns),
        )

    def __len__(self) -> int:
        return len(self.patient_ids)

    @property
    def counts(self) -> IntArray:
        """Cells per patient, shape (n_patients,)."""
        return np.diff(self.offsets)

    @property
    def patient_of_cell(self) -> IntArray:
        """Index of the patient that owns each cell, shape (n_cells,)."""
        return np.repeat(np.arange(len(self)), self.counts)

    def cell_indices(self, patients: IntArray, most: int | None = None) -> IntArray:
        """Rows of `cells` owned by `patients`, in their order; at most `most` of each, evenly spread."""
        return spread_rows(self.offsets[patients], self.counts[patients], most)

    def __getitem__(self, patients: PatientIndex) -> Bags:
        """The bags of some patients, chosen by index, slice, index array or boolean mask, in that order.

        Cells that already lie together in that order are not copied: photographs of neighbours in a
        memory-mapped file stay in the file.
        """
        if isinstance(patients, int | np.integer):
            patients = [int(patients)]
        if not isinstance(patients, slice):
            # An empty list has no type of its own; numpy would take it for floats.
            patients = np.asarray(patients, dtype=None if len(patients) else np.int64)
        chosen = np.arange(len(self))[patients]
        rows = self.cell_indices(chosen)
        together = len(rows) > 0 and bool((np.diff(rows) == 1).all())
        return Bags(
            cells=self.cells[rows[0] : rows[-1] + 1] if together else self.cells[rows],
            offsets=np.concatenate([[0], np.cumsum(self.counts[chosen])]),
            clinical=self.clinical[chosen],
            patient_ids=tuple(self.patient_ids[i] for i in chosen),
            columns=self.columns,
        )

    def select_columns(self, names: Sequence[str]) -> Bags:
        """The same patients with only the named columns of per-cell numbers, in the order of `names`."""
        if self.columns is None:
            raise ValueError("these bags hold images, not named per-cell numbers")
        missing = [name for name in names if name not in self.columns]
        if missing:
            raise ValueError(f"columns {missing} are not there; allowed: {', '.join(self.columns)}")
        at = [self.columns.index(name) for name in names]
        return replace(self, cells=np.asarray(self.cells)[:, at], columns=tuple(names))


def segment_sum(values: npt.NDArray[Any], offsets: IntArray) -> FloatArray:
    """Sum of each segment, shape (n_segments, ...); 0 for an empty one."""
    padded = np.concatenate([values, np.zeros((1, *values.shape[1:]))]).astype(np.float64, copy=False)
    sums = np.add.reduceat(padded, offsets[:-1], axis=0) if len(offsets) > 1 else padded[:0]
    sums[np.diff(offsets) == 0] = 0.0
    return sums


def segment_mean(values: npt.NDArray[Any], offsets: IntArray) -> FloatArray:
    """Mean of each segment, shape (n_segments, ...); NaN for an empty one."""
    counts = np.diff(offsets).astype(np.float64)
    counts[counts == 0] = np.nan
    return segment_sum(values, offsets) / counts.reshape(-1, *[1] * (values.ndim - 1))


def segment_std(values: npt.NDArray[Any], offsets: IntArray) -> FloatArray:
    """Population standard deviation of each segment; 0 for a single cell, NaN for an empty one."""
    mean = segment_mean(values, offsets)
    centred = values - np.repeat(mean, np.diff(offsets), axis=0)
    return np.sqrt(segment_mean(centred**2, offsets))


def segment_quantile(values: npt.NDArray[Any], offsets: IntArray, q: Sequence[float]) -> FloatArray:
    """Linear-interpolated quantiles `q` of each segment and column, shape (n_segments, len(q), n_columns)."""
    out = np.full((len(offsets) - 1, len(q), *values.shape[1:]), np.nan)
    for i, (start, stop) in enumerate(itertools.pairwise(offsets)):
        if stop > start:
            out[i] = np.quantile(values[start:stop], q, axis=0)
    return out


def spread_rows(starts: IntArray, counts: IntArray, most: int | None = None) -> IntArray:
    """Rows of runs that begin at `starts` and are `counts` long; at most `most` of each, evenly spread."""
    kept = counts if most is None else np.minimum(counts, most)
    place = np.arange(kept.sum(), dtype=np.int64) - np.repeat(np.cumsum(kept) - kept, kept)
    return np.repeat(starts, kept) + place * np.repeat(counts, kept) // np.maximum(np.repeat(kept, kept), 1)

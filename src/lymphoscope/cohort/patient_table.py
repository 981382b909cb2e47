"""The patient table: any common dialect, layout and spelling into ids, labels and clinical values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort import table_checks as checks
from lymphoscope.cohort.dates import DateOrders, age_in_years
from lymphoscope.cohort.findings import Finding
from lymphoscope.cohort.options import ReadOptions
from lymphoscope.cohort.table_columns import TableRow, find_columns, is_known, read_rows
from lymphoscope.cohort.table_text import TableText, read_table_text
from lymphoscope.cohort.table_values import unit_divisor


@dataclass(frozen=True, eq=False)
class PatientTable:
    """A patient table after ingest; no birth date gets this far.

    Attributes
    ----------
    name : the table's path as messages give it.
    ids : n unique ids in the order of the table.
    label : int8 (n,); 1, 0, or -1.
    clinical : float64 (n, 3); age in years, sex (0 female, 1 male), count in 10⁹/L; NaN where missing.
    split, date_layout : as in `cohort.Patients`.
    lines : line of the file for each patient.
    orders : how the dates of birth were read.
    given : canonical names of the columns that the table has.
    findings, notes : what was found, and how the table was read.
    """

    name: str
    ids: tuple[str, ...]
    label: npt.NDArray[np.int8]
    clinical: npt.NDArray[np.float64]
    split: tuple[str, ...]
    date_layout: tuple[str, ...]
    lines: tuple[int, ...]
    orders: DateOrders
    given: frozenset[str]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)


def read_patient_table(
    path: Path, options: ReadOptions, *, name: str | None = None, orders: DateOrders | None = None
) -> PatientTable:
    """Read the patient table at `path`.

    Parameters
    ----------
    name : the path as messages should give it; default the file's name.
    orders : how dates are read, where another table of the cohort has settled it.

    Raises
    ------
    InputError : the table cannot be read, lacks a column, or holds fields without a meaning.
    """
    name = name or path.name
    divisor = unit_divisor(options.count_unit)
    text = read_table_text(path, lambda header: is_known(header, options.columns))
    at = find_columns(text, options.columns)
    rows, orders = read_rows(text, at, options, orders)
    rows, findings = checks.one_row_per_patient(rows, name)
    findings += checks.label_findings(rows, name, "label" in at)
    findings += checks.date_findings(rows, orders)
    findings += checks.same_person_findings(rows)
    clinical = _clinical_values(rows, options, divisor)
    findings += checks.value_findings(rows, clinical, name, options.count_unit, options.inclusion_limit)
    findings += checks.text_findings(text, tuple(at.values()), name)
    return PatientTable(
        name=name,
        ids=tuple(row.id for row in rows),
        label=np.array([-1 if row.label is None else row.label for row in rows], dtype=np.int8),
        clinical=clinical,
        split=tuple(row.split for row in rows),
        date_layout=tuple(row.born.layout for row in rows),
        lines=tuple(row.line for row in rows),
        orders=orders,
        given=frozenset(at),
        findings=tuple(findings),
        notes=_notes(text, at, options, name),
    )


def _clinical_values(
    rows: Sequence[TableRow], options: ReadOptions, divisor: float
) -> npt.NDArray[np.float64]:
    """Age, sex and count of each row, shape (n, 3); an age that is given goes before a date of birth."""
    table = np.full((len(rows), 3), math.nan)
    for i, row in enumerate(rows):
        if row.age is not None:
            table[i, 0] = row.age
        elif row.born.value is not None:
            table[i, 0] = age_in_years(row.born.value, options.reference_date)
        if row.sex is not None:
            table[i, 1] = row.sex
        if row.lymphocyte_count is not None:
            table[i, 2] = row.lymphocyte_count / divisor
    return table


def _notes(text: TableText, at: Mapping[str, int], options: ReadOptions, name: str) -> tuple[str, ...]:
    """Sentences that say how the table was read."""
    notes = [f"{name} was read as {text.delimiter}-separated {text.encoding} text."]
    if "dob" in at:
        first = "Ages come from the age column and, where that is empty," if "age" in at else "Ages come"
        notes.append(
            f"{first} from dates of birth at {options.reference_date.isoformat()}, to 0.1 years; "
            "the dates were then dropped."
        )
    if "lymphocyte_count" in at:
        notes.append(f"Lymphocyte counts were taken as {options.count_unit}.")
    return tuple(notes)

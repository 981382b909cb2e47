"""Tables that lie beside the photographs and repeat rows of the patient table: do they agree with it?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lymphoscope.cohort import table_findings as kinds
from lymphoscope.cohort.cohort import UNLABELLED
from lymphoscope.cohort.findings import Finding, counted
from lymphoscope.cohort.image_folders import split_of
from lymphoscope.cohort.options import ReadOptions
from lymphoscope.cohort.patient_table import PatientTable, read_patient_table
from lymphoscope.errors import InputError

_CLINICAL_SOURCES = ({"age", "dob"}, {"sex"}, {"lymphocyte_count"})
"""Columns of a table that give each of the clinical values."""

_MESSAGES: Mapping[type[Finding], str] = {
    kinds.TablesDisagreeOnLabel: "{patients} with another label beside the photographs than in {table}.",
    kinds.TablesDisagree: (
        "{patients} with another label or other clinical values beside the photographs than in {table}."
    ),
    kinds.OnlyInOtherTable: "{patients} in a table beside the photographs and not in {table}.",
}


@dataclass(frozen=True)
class RepeatedTables:
    """What the tables beside the photographs say.

    Attributes
    ----------
    findings : where they disagree with the patient table.
    splits : id → "train" or "test", by the folder of the table that lists it.
    unreadable : tables that are no patient tables.
    """

    findings: tuple[Finding, ...]
    splits: Mapping[str, str]
    unreadable: tuple[str, ...]


def compare_tables(
    root: Path, names: Sequence[str], table: PatientTable | None, options: ReadOptions
) -> RepeatedTables:
    """Compare the tables `names`, relative to `root`, with the patient table.

    A table that the user has named is a choice already: other labels beside the photographs are then only
    a disagreement, not an error.
    """
    if table is None:
        return RepeatedTables((), {}, ())
    found: dict[type[Finding], dict[str, str]] = defaultdict(dict)
    splits: dict[str, str] = {}
    unreadable = []
    for name in names:
        try:
            other = read_patient_table(root / name, options, name=name, orders=table.orders)
        except InputError:
            unreadable.append(name)
            continue
        splits.update(dict.fromkeys(other.ids, split_of(name)))
        for kind, places in _differences(table, other, chosen=options.table is not None).items():
            found[kind].update(places)
    findings = tuple(
        kind(
            _MESSAGES[kind].format(patients=counted(len(places), "patient"), table=table.name),
            patients=tuple(places),
            files=tuple(places.values()),
        )
        for kind, places in found.items()
    )
    return RepeatedTables(findings, splits, tuple(unreadable))


def _differences(
    table: PatientTable, other: PatientTable, chosen: bool
) -> Mapping[type[Finding], dict[str, str]]:
    """Kind of finding → id → place in the other table."""
    row_of = {patient: i for i, patient in enumerate(table.ids)}
    found: dict[type[Finding], dict[str, str]] = defaultdict(dict)
    for there, patient in enumerate(other.ids):
        place = f"{other.name}:{other.lines[there]}"
        here = row_of.get(patient)
        if here is None:
            found[kinds.OnlyInOtherTable][patient] = place
        elif _labels_conflict(table, here, other, there) and not chosen:
            found[kinds.TablesDisagreeOnLabel][patient] = place
        elif not _same_values(table, here, other, there):
            found[kinds.TablesDisagree][patient] = place
    return found


def _labels_conflict(table: PatientTable, here: int, other: PatientTable, there: int) -> bool:
    labels = {int(table.label[here]), int(other.label[there])}
    return len(labels) == 2 and UNLABELLED not in labels


def _same_values(table: PatientTable, here: int, other: PatientTable, there: int) -> bool:
    """Whether label and clinical values agree, as far as the other table has the columns."""
    if "label" in other.given and table.label[here] != other.label[there]:
        return False
    has = [bool(columns & other.given) for columns in _CLINICAL_SOURCES]
    return np.array_equal(table.clinical[here, has], other.clinical[there, has], equal_nan=True)

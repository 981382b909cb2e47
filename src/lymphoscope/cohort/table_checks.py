"""What the rows of a patient table show: repeats, labels, dates, and values that cannot be."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort import table_findings as kinds
from lymphoscope.cohort.dates import DateOrders, ParsedDate
from lymphoscope.cohort.findings import Finding, counted
from lymphoscope.cohort.table_columns import TableRow
from lymphoscope.cohort.table_text import TableText, shown, shown_name
from lymphoscope.cohort.table_values import likelier_unit

Mask = npt.NDArray[np.bool_]

MAXIMUM_AGE = 120.0
MAXIMUM_COUNT = 1000.0
"""In 10⁹/L; above this a lymphocyte count is taken for a mistake."""

_MERGED: Mapping[str, Any] = {
    "label": -1,
    "age": None,
    "sex": None,
    "lymphocyte_count": None,
    "split": "",
    "born": ParsedDate(),
}
"""Fields of a row, and what each becomes where rows of one patient disagree on it."""


def text_findings(text: TableText, used: Sequence[int], name: str) -> list[Finding]:
    """What the text itself shows, values aside; `used` are the numbers of the columns that are read."""
    found: list[Finding] = []
    if text.encoding == "Latin-1":
        found.append(
            kinds.GuessedEncoding(f"{name} is not UTF-8 text and was read as Latin-1.", files=(name,))
        )
    unused = [
        shown_name(h) or f"number {i + 1} (unnamed)" for i, h in enumerate(text.header) if i not in used
    ]
    if unused:
        message = f"{counted(len(unused), 'column')} of {name} not used: {', '.join(unused)}."
        found.append(kinds.IgnoredColumns(message, files=(name,)))
    repeated = len(text.repeated_headers)
    if text.blank_lines or repeated:
        found.append(
            kinds.LinesLeftOut(
                f"{counted(text.blank_lines + repeated, 'line')} of {name} left out: "
                f"{text.blank_lines} blank, {repeated} repeating the header.",
                files=tuple(f"{name}:{line}" for line in text.repeated_headers) or (name,),
            )
        )
    return found


def one_row_per_patient(rows: Sequence[TableRow], name: str) -> tuple[list[TableRow], list[Finding]]:
    """Join the rows of each patient; what they disagree on becomes missing."""
    of_id: dict[str, list[TableRow]] = defaultdict(list)
    for row in rows:
        of_id[row.id].append(row)
    kinds_found: dict[type[Finding], list[list[TableRow]]] = defaultdict(list)
    joined = []
    for group in of_id.values():
        if len(group) == 1:
            joined.append(group[0])
            continue
        changes = {field: missing for field, missing in _MERGED.items() if _differ(group, field)}
        joined.append(group[0]._replace(**changes))
        if "label" in changes:
            kinds_found[kinds.ConflictingLabel].append(group)
        if changes.keys() - {"label"}:
            kinds_found[kinds.ConflictingValues].append(group)
        if not changes:
            kinds_found[kinds.RepeatedRow].append(group)
    what = {
        kinds.ConflictingLabel: "different labels",
        kinds.ConflictingValues: "different clinical values",
        kinds.RepeatedRow: "the same values",
    }
    return joined, [
        kind(
            f"{counted(len(groups), 'patient')} listed more than once in {name} with {what[kind]}.",
            patients=tuple(group[0].id for group in groups),
            files=tuple(f"{name}:{row.line}" for group in groups for row in group),
        )
        for kind, groups in kinds_found.items()
    ]


def _differ(group: Sequence[TableRow], field: str) -> bool:
    if field == "born":
        return len({row.born.value for row in group}) > 1
    return len({getattr(row, field) for row in group}) > 1


def label_findings(rows: Sequence[TableRow], name: str, has_column: bool) -> list[Finding]:
    """Labels that mean nothing, are missing, or are all the same."""
    found: list[Finding] = []
    unknown = [row for row in rows if row.label is None]
    if unknown:
        texts = ", ".join(repr(shown(text)) for text in sorted({row.label_text for row in unknown})[:5])
        found.append(
            kinds.UnknownLabel(
                f"{counted(len(unknown), 'label')} of {name} outside 0, 1, -1, e.g. {texts}.",
                patients=tuple(row.id for row in unknown),
                files=tuple(f"{name}:{row.line}" for row in unknown),
            )
        )
    unlabelled = tuple(row.id for row in rows if row.label in (None, -1))
    if unlabelled:
        why = "" if has_column else "; the table has no label column (--column label=COLUMN names one)"
        message = f"{len(unlabelled)} of {counted(len(rows), 'patient')} without a label{why}."
        found.append(kinds.Unlabelled(message, patients=unlabelled))
    labels = {row.label for row in rows} - {None, -1}
    if len(labels) == 1:
        n = len(rows) - len(unlabelled)
        found.append(kinds.OneClassOnly(f"{counted(n, 'labelled patient')}, all with label {labels.pop()}."))
    return found


def date_findings(rows: Sequence[TableRow], orders: DateOrders) -> list[Finding]:
    """Dates of birth that could be read in two ways, and several layouts in one column."""
    found: list[Finding] = []
    for separator, order in orders.order.items():
        patients = tuple(row.id for row in rows if row.born.separator == separator)
        if not patients:
            continue
        message = f'{counted(len(patients), "date")} of birth with "{separator}" could be read in two ways'
        read = f"read {order.replace('-', ' ')}"
        if separator in orders.settled:
            found.append(kinds.SettledDate(f"{message} by themselves; all {read}.", patients=patients))
        else:
            why = "others show both orders" if separator in orders.contradictory else "no other settles it"
            found.append(kinds.AmbiguousDate(f"{message}, and {why}; {read}.", patients=patients))
    layouts: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row.born.layout:
            layouts[row.born.layout].append(row.id)
    if len(layouts) > 1:
        usual = max(layouts, key=lambda layout: len(layouts[layout]))
        each = ", ".join(f"{layout} ({len(ids)})" for layout, ids in layouts.items())
        others = tuple(row.id for row in rows if row.born.layout not in ("", usual))
        message = f"Dates of birth come in {len(layouts)} layouts: {each}."
        found.append(kinds.MixedDateLayouts(message, patients=others))
    return found


def same_person_findings(rows: Sequence[TableRow]) -> list[Finding]:
    """Patients who share sex and date of birth."""
    groups: dict[tuple[float, date], list[str]] = defaultdict(list)
    for row in rows:
        if row.sex is not None and not math.isnan(row.sex) and row.born.value is not None:
            groups[row.sex, row.born.value].append(row.id)
    shared = [ids for ids in groups.values() if len(ids) > 1]
    if not shared:
        return []
    pairs = sum(len(ids) * (len(ids) - 1) // 2 for ids in shared)
    examples = "; ".join(", ".join(ids[:5]) for ids in shared[:5])
    concerned = {patient for ids in shared for patient in ids}
    return [
        kinds.SameSexAndBirth(
            f"{counted(pairs, 'pair')} of patients share sex and date of birth (about "
            f"{_pairs_by_chance(groups):.1f} by chance alone): {examples}{' …' if len(shared) > 5 else ''}.",
            patients=tuple(row.id for row in rows if row.id in concerned),
        )
    ]


def _pairs_by_chance(groups: Mapping[tuple[float, date], Sequence[str]]) -> float:
    """Expected pairs of the same sex and birthday, were birthdays normally distributed.

    Two draws from a normal distribution with a standard deviation of s days fall on one day with a
    probability of 1 / (2 s √π), the density of their difference at 0.
    """
    expected = 0.0
    for sex in (0.0, 1.0):
        days = [born.toordinal() for (s, born), ids in groups.items() if s == sex for _ in ids]
        if len(days) > 1:
            spread = max(float(np.std(days)), 1.0)
            expected += len(days) * (len(days) - 1) / 2 / (2 * spread * math.sqrt(math.pi))
    return expected


def value_findings(
    rows: Sequence[TableRow],
    clinical: npt.NDArray[np.float64],
    name: str,
    count_unit: str,
    inclusion_limit: float,
) -> list[Finding]:
    """Ages and counts that cannot be, which become NaN in `clinical`; low counts; missing values."""
    age, _, count = clinical.T
    found: list[Finding] = []
    missing = [
        f"{label} of {int(np.isnan(column).sum())}"
        for label, column in zip(("age", "sex", "lymphocyte count"), clinical.T, strict=True)
        if np.isnan(column).any()
    ]
    if missing:
        incomplete: Mask = np.isnan(clinical.sum(axis=1))
        message = f"{counted(int(incomplete.sum()), 'patient')} of {name} lack values: {', '.join(missing)}."
        found.append(kinds.MissingValues(message, patients=_ids(rows, incomplete)))
    impossible: Mask = (age < 0) | (age > MAXIMUM_AGE)
    if impossible.any():
        message = f"{counted(int(impossible.sum()), 'age')} in {name} below 0 or above {MAXIMUM_AGE:g} years."
        found.append(kinds.ImpossibleAge(message, _ids(rows, impossible), _places(rows, impossible, name)))
    age[impossible] = np.nan
    found += _count_findings(rows, count, name, count_unit, inclusion_limit)
    return found


def _count_findings(
    rows: Sequence[TableRow],
    count: npt.NDArray[np.float64],
    name: str,
    count_unit: str,
    inclusion_limit: float,
) -> list[Finding]:
    found: list[Finding] = []
    known = count[count > 0]
    typical = float(np.median(known)) if known.size else math.nan
    impossible: Mask = (count <= 0) | (count > MAXIMUM_COUNT)
    if known.size and not 0.3 <= typical <= MAXIMUM_COUNT:
        unit = likelier_unit(count_unit, typical)
        guess = f"; in {unit} they would be plausible" if unit else ""
        message = (
            f"The counts of {name}, stated in {count_unit}, have a median of {typical:.3g} × 10⁹/L{guess}."
        )
        found.append(kinds.CountsInAnotherUnit(message, _ids(rows, np.isfinite(count)), (name,)))
    elif impossible.any():
        n, top = counted(int(impossible.sum()), "count"), f"{MAXIMUM_COUNT:g} × 10⁹/L"
        message = f"{n} in {name} not above 0 or above {top}."
        found.append(kinds.ImpossibleCount(message, _ids(rows, impossible), _places(rows, impossible, name)))
    count[impossible] = np.nan
    low: Mask = count < inclusion_limit
    if low.any():
        n = counted(int(low.sum()), "count")
        message = f"{n} in {name} below the inclusion limit of {inclusion_limit:g} × 10⁹/L."
        found.append(kinds.CountBelowInclusion(message, _ids(rows, low), _places(rows, low, name)))
    return found


def _ids(rows: Sequence[TableRow], mask: Mask) -> tuple[str, ...]:
    return tuple(rows[i].id for i in np.flatnonzero(mask).tolist())


def _places(rows: Sequence[TableRow], mask: Mask, name: str) -> tuple[str, ...]:
    return tuple(f"{name}:{rows[i].line}" for i in np.flatnonzero(mask).tolist())

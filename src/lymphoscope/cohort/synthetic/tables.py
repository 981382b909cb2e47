"""The tables of a synthetic cohort as text: the challenge's layout with its blemishes, and the truth."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.synthetic.clinical import INCLUSION_LIMIT, Floats
from lymphoscope.cohort.synthetic.patients import PatientDraw

REFERENCE_DATE = date(2020, 1, 1)
"""The day at which a synthetic patient has its age."""

DAYS_PER_YEAR = 365.25
DASHED_DATE_SHARE = (0.30, 0.07)
"""Share of dates of birth written DD-MM-YYYY, reactive and malignant: 29 of 205 in all, and it tells."""

SAMPLE_SUBMISSION_ROWS = 17
COLUMNS = ("ID", "LABEL", "GENDER", "DOB", "LYMPH_COUNT")


@dataclass(frozen=True)
class Row:
    """A patient as the tables show it; an empty text is a missing value."""

    patient_id: str
    label: int
    gender: str
    birth: str
    count: str

    def fields(self) -> tuple[str, ...]:
        return (self.patient_id, str(self.label), self.gender, self.birth, self.count)


def table_rows(
    patients: PatientDraw,
    ids: Sequence[str],
    label: npt.NDArray[np.int8],
    missing: npt.NDArray[np.bool_],
    *,
    dirt: bool,
    rng: np.random.Generator,
) -> list[Row]:
    """One row per patient, in the order of `patients`; test patients have label −1."""
    births = [REFERENCE_DATE - timedelta(days=round(age * DAYS_PER_YEAR)) for age in patients.clinical.age]
    dashed = rng.random(len(patients)) < np.asarray(DASHED_DATE_SHARE)[patients.label]
    rows = []
    for i, birth in enumerate(births):
        text = birth.strftime("%d-%m-%Y") if dirt and dashed[i] else f"{birth.month}/{birth.day}/{birth.year}"
        row = Row(
            patient_id=ids[i],
            label=-1 if patients.is_test[i] else int(label[i]),
            gender="FM"[patients.clinical.sex[i]],
            birth=text,
            count=f"{patients.clinical.count[i]:.2f}",
        )
        rows.append(_without(row, *missing[i].tolist()))
    return _one_lower_case(rows, rng) if dirt else rows


def _without(row: Row, age: bool, sex: bool, count: bool) -> Row:
    """The row with these clinical values left empty."""
    return replace(
        row,
        birth="" if age else row.birth,
        gender="" if sex else row.gender,
        count="" if count else row.count,
    )


def _one_lower_case(rows: list[Row], rng: np.random.Generator) -> list[Row]:
    """The challenge writes one woman's sex as `f`."""
    women = [i for i, row in enumerate(rows) if row.gender == "F"]
    if women:
        i = int(rng.choice(women))
        rows[i] = replace(rows[i], gender="f")
    return rows


def below_inclusion(count: Floats, is_test: npt.NDArray[np.int8], rng: np.random.Generator) -> Floats:
    """Counts of which two, the lowest of the labelled patients, lie below the inclusion limit."""
    lowest = np.argsort(np.where(is_test == 1, np.inf, count))[:2]
    low = count.copy()
    low[lowest] = INCLUSION_LIMIT * rng.uniform(0.55, 0.99, 2)
    return low


def challenge_tables(rows: Sequence[Row], *, dirt: bool, rng: np.random.Generator) -> dict[str, str]:
    """File name → text of the tables of a cohort, rows shuffled; with dirt, the tables it has too many."""
    shuffled = [rows[i] for i in rng.permutation(len(rows))]
    test = [row for row in shuffled if row.label == -1]
    body = [row.fields() for row in shuffled]
    if not dirt:
        return {"clinical_annotation.csv": csv_text(COLUMNS, body)}
    # The unnamed first column of an exported index.
    tables = {
        "clinical_annotation.csv": csv_text(
            ("", *COLUMNS), [(str(i), *fields) for i, fields in enumerate(body)]
        ),
        "trainset/trainset_true.csv": csv_text(COLUMNS, [row.fields() for row in shuffled if row.label >= 0]),
    }
    if test:
        tables["testset/testset_data.csv"] = csv_text(COLUMNS, [row.fields() for row in test])
        sample = [(row.patient_id, "1") for row in test[:SAMPLE_SUBMISSION_ROWS]]
        tables["sample_submission.csv"] = csv_text(("ID", "LABEL"), sample)
    return tables


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Comma-separated text with a header and Unix line ends."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue()

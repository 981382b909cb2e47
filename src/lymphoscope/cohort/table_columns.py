"""Which column of a patient table means what, and its fields as values, row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from lymphoscope.cohort import dates
from lymphoscope.cohort import table_values as values
from lymphoscope.cohort.options import CANONICAL_COLUMNS, ReadOptions
from lymphoscope.cohort.table_text import TableText, masked, shown, shown_name
from lymphoscope.errors import InputError

ALIASES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "patient", "patient_id", "patientid", "patient id", "subject", "subject_id"),
    "label": ("label",),
    "sex": ("gender", "sex"),
    "dob": ("dob", "birth_date", "birthdate", "date_of_birth", "date of birth"),
    "age": ("age", "age_years"),
    "lymphocyte_count": ("lymph_count", "lymphocyte_count", "lymphocytes", "lymphocyte count"),
    "split": ("split",),
}
"""Names, in lower case, by which a column is recognised without being told."""

Value = TypeVar("Value")


class TableRow(NamedTuple):
    """One row while the table is being read: the only place that knows the date of birth.

    `label` is None where the field says something else than 1, 0, -1 or nothing; numbers are None where
    missing; the count is in the unit of the table.
    """

    id: str
    line: int
    label: int | None
    label_text: str
    age: float | None
    sex: float | None
    lymphocyte_count: float | None
    split: str
    born: dates.ParsedDate

    def __repr__(self) -> str:
        return f"TableRow(line={self.line})"


def is_known(header: str, named: Mapping[str, str]) -> bool:
    """Whether a column of this name is read."""
    return any(_means(header, canonical, named.get(canonical)) for canonical in CANONICAL_COLUMNS)


def find_columns(text: TableText, named: Mapping[str, str]) -> dict[str, int]:
    """Canonical name → number of the column, for the columns that the table has.

    Raises
    ------
    InputError : a named column is not there, the id is not there, or two columns could be meant.
    """
    unknown = set(named) - set(CANONICAL_COLUMNS)
    if unknown:
        raise InputError(
            "this is no column that can be named",
            found=", ".join(sorted(unknown)),
            allowed=", ".join(CANONICAL_COLUMNS),
            remedy="Write --column NAME=COLUMN with one of these as NAME.",
        )
    at: dict[str, int] = {}
    for canonical in CANONICAL_COLUMNS:
        wanted = named.get(canonical)
        matches = [i for i, header in enumerate(text.header) if _means(header, canonical, wanted)]
        if len(matches) > 1:
            raise InputError(
                f"several columns may be the {canonical}",
                file=text.file,
                found=", ".join(shown_name(text.header[i]) for i in matches),
                allowed="one column",
                remedy=f"Rename all but one, or name the one that is meant with --column {canonical}=….",
            )
        if not matches and (wanted or canonical == "id"):
            raise _missing_column(text, canonical, wanted)
        if matches:
            at[canonical] = matches[0]
    return at


def _means(header: str, canonical: str, wanted: str | None) -> bool:
    return header == wanted if wanted else header.casefold() in ALIASES[canonical]


def _missing_column(text: TableText, canonical: str, wanted: str | None) -> InputError:
    digits = [column.strip("+-").replace(".", "").replace(",", "").isdigit() for column in text.header]
    if len(text.header) == 1:
        remedy = "The header seems to be one column: part fields by commas, semicolons or tabs."
    elif any(digits):
        remedy = "The first line seems to be a patient: put the names of the columns above it."
    else:
        remedy = f"Name the column that is meant with --column {canonical}=COLUMN."
    return InputError(
        f"there is no column {wanted!r} for the {canonical}" if wanted else f"there is no {canonical} column",
        file=text.file,
        found=", ".join(shown_name(column) or "(unnamed)" for column in text.header),
        allowed=None if wanted else f"a column called {', '.join(ALIASES[canonical])} in any case",
        remedy=remedy,
    )


def read_rows(
    text: TableText, at: Mapping[str, int], options: ReadOptions, orders: dates.DateOrders | None = None
) -> tuple[list[TableRow], dates.DateOrders]:
    """Every row of the table as values, and how its dates of birth were read.

    Parameters
    ----------
    at : number of the column of each canonical name that the table has.
    orders : how dates are to be read; None: as the option and the column itself decide.

    Raises
    ------
    InputError : fields cannot be read; one message for all of a column.
    """
    reader = _ColumnReader(text, at)
    ids = reader.ids()
    ages, counts = reader.numbers("age"), reader.numbers("lymphocyte_count")
    sexes = reader.sexes(options)
    births, orders = reader.births(options, orders)
    labels, label_texts = reader.labels(), reader.texts("label")
    splits = reader.splits()
    fields = zip(ids, text.lines, labels, label_texts, ages, sexes, counts, splits, births, strict=True)
    return list(map(TableRow._make, fields)), orders


@dataclass(frozen=True)
class _ColumnReader:
    """Reads the columns of one table; a column that is not there gives missing values."""

    text: TableText
    at: Mapping[str, int]

    def texts(self, name: str) -> list[str]:
        return self.text.column(self.at[name]) if name in self.at else [""] * len(self.text.rows)

    def _convert(
        self,
        name: str,
        read: Callable[[str], Value],
        missing: Value,
        allowed: str,
        remedy: str,
        show: Callable[[str], str] = shown,
    ) -> list[Value]:
        if name not in self.at:
            return [missing] * len(self.text.rows)
        return values.convert(
            self.text, self.at[name], read, allowed=allowed, remedy=remedy, missing=missing, show=show
        )

    def ids(self) -> list[str]:
        return values.convert(
            self.text,
            self.at["id"],
            values.read_id,
            allowed="the plain name of a folder, e.g. P1",
            remedy="Correct the id.",
            missing="",
            missing_words=frozenset(),
        )

    def labels(self) -> list[int | None]:
        return self._convert("label", values.read_label, -1, "1, 0, -1 or nothing", "Correct the label.")

    def splits(self) -> list[str]:
        return self._convert(
            "split",
            values.read_split,
            "",
            "train, test or nothing",
            "Correct the field, or rename the column.",
        )

    def numbers(self, name: str) -> list[float | None]:
        if name in self.at:
            values.refuse_doubtful_commas(self.text, self.at[name])
        read: Callable[[str], float | None] = values.read_number
        return self._convert(
            name,
            read,
            None,
            "a number such as 14.8 or 14,8, or nothing",
            "Correct the field or leave it empty.",
        )

    def sexes(self, options: ReadOptions) -> list[float | None]:
        return self._convert(
            "sex",
            values.sex_reader(self.texts("sex"), options.sex_codes),
            None,
            "M or F, male or female, man or woman, Mann or Frau, homme or femme, or nothing",
            "Correct the field, or say what it stands for with --sex, e.g. --sex 1=male.",
        )

    def births(
        self, options: ReadOptions, orders: dates.DateOrders | None
    ) -> tuple[Sequence[dates.ParsedDate], dates.DateOrders]:
        orders = orders or dates.decide_orders(self.texts("dob"), options.date_order)

        def read(field: str) -> dates.ParsedDate:
            parsed = dates.parse_date(field, orders)
            if parsed.problem:
                raise values.Unreadable(parsed.problem)
            return parsed

        allowed = f"{dates.ALLOWED}, or nothing"
        remedy = "Correct the field (shown here without its digits), leave it empty, or give ages instead."
        return self._convert("dob", read, dates.ParsedDate(), allowed, remedy, show=masked), orders

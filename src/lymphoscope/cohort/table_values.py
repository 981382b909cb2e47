"""Fields of a patient table into values: ids, labels, sexes, numbers and units."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from lymphoscope.cohort.table_text import TableText, shown, shown_name
from lymphoscope.errors import InputError

MISSING = frozenset({"", "na", "n/a", "#n/a", "nan", "null", "none", "-", "--", "?", ".", "missing"})
"""Spellings, in lower case, of a value that is not there."""

FEMALE, MALE = 0.0, 1.0

_SPELLINGS: Mapping[float, str] = {
    FEMALE: """f female fem woman girl w weiblich frau femme féminin feminin féminine feminine
        mujer femenino donna femmina vrouw""",
    MALE: """m male masc man boy männlich maennlich mann homme masculin masculino
        h hombre uomo maschio""",
    math.nan: "u unknown unk unbekannt inconnu x d divers diverse other undetermined",
}
_SEXES: Mapping[str, float] = {
    spelling: sex for sex, spellings in _SPELLINGS.items() for spelling in spellings.split()
}

_PER_GIGA_PER_LITRE: Mapping[str, float] = {
    **dict.fromkeys(("10^9/L", "G/L", "10^3/µL", "10^3/mm3", "K/µL", "Gpt/L", "/nL"), 1.0),
    **dict.fromkeys(("cells/µL", "/µL", "cells/mm3", "/mm3", "10^6/L"), 1e3),
    **dict.fromkeys(("cells/mL", "/mL"), 1e6),
    **dict.fromkeys(("cells/L", "/L"), 1e9),
}
COUNT_UNITS = tuple(_PER_GIGA_PER_LITRE)
"""Units that lymphocyte counts may come in."""

_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_PERHAPS_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)
LONGEST_ID = 255
"""In bytes, as of the name of a folder on the usual file systems."""

_FORMULA = re.compile(r"[=@]|[+-].*[(|!]")
"""What a spreadsheet would run if it opened a table with this as an id; "-" or "-12" it would only show."""

_BAD_CELLS_SHOWN = 8

Value = TypeVar("Value")


class Unreadable(Exception):
    """A field that has no value; its text says why, without the field itself."""


def convert(
    table: TableText,
    at: int,
    read: Callable[[str], Value],
    *,
    allowed: str,
    remedy: str,
    missing: Value,
    missing_words: frozenset[str] = MISSING,
    show: Callable[[str], str] = shown,
) -> list[Value]:
    """Read every field of column number `at`; fields in `missing_words` become `missing`.

    `show` turns a field into what a message may say of it.

    Raises
    ------
    InputError : some fields cannot be read; names the first rows of them, all in one message.
    """
    fields = table.column(at)
    values: dict[str, Value] = {}
    problems: dict[str, str] = {}
    for field in set(fields):
        try:
            values[field] = missing if field.casefold() in missing_words else read(field)
        except Unreadable as problem:
            problems[field] = str(problem)
    if problems:
        raise _bad_cells(table, at, problems, show, allowed, remedy)
    return [values[field] for field in fields]


def _bad_cells(
    table: TableText,
    at: int,
    problems: Mapping[str, str],
    show: Callable[[str], str],
    allowed: str,
    remedy: str,
) -> InputError:
    bad = [(line, row[at]) for line, row in zip(table.lines, table.rows, strict=True) if row[at] in problems]
    line, field = bad[0]
    problem = problems[field]
    if len(bad) > 1:
        rows = ", ".join(f"{row} ({show(text)})" for row, text in bad[1:_BAD_CELLS_SHOWN])
        more = f" and {len(bad) - _BAD_CELLS_SHOWN} others" if len(bad) > _BAD_CELLS_SHOWN else ""
        problem += f" (and {len(bad) - 1} more such rows: {rows}{more})"
    return InputError(
        problem,
        file=table.file,
        row=line,
        column=shown_name(table.header[at]) or f"number {at + 1}",
        found=show(field),
        allowed=allowed,
        remedy=remedy,
    )


def read_number(field: str) -> float:
    """A decimal number with point or comma; no thousands separators."""
    if not _NUMBER.fullmatch(field):
        thousands = bool(re.fullmatch(r"[\d.,' ]+", field, re.ASCII)) and any(c.isdigit() for c in field)
        raise Unreadable("thousands separators are not read" if thousands else "this is not a number")
    value = float(field.replace(",", "."))
    if not math.isfinite(value):
        raise Unreadable("this number is too large")
    return value


def refuse_doubtful_commas(table: TableText, at: int) -> None:
    """Refuse a column whose commas may separate thousands as well as decimals ("12,000").

    Raises
    ------
    InputError : every comma of the column is followed by exactly three digits, and there is one.
    """
    commas = [(line, row[at]) for line, row in zip(table.lines, table.rows, strict=True) if "," in row[at]]
    if commas and all(_PERHAPS_THOUSANDS.fullmatch(field) for _, field in commas):
        raise InputError(
            "the comma may separate thousands or decimals, and no other row settles which",
            file=table.file,
            row=commas[0][0],
            column=shown_name(table.header[at]),
            found=shown(commas[0][1]),
            allowed="numbers without thousands separators",
            remedy="Write 12000 or 12.000 with a decimal point instead of 12,000.",
        )


def read_id(field: str) -> str:
    """An id as it stands, refused where it could not be the plain name of a folder."""
    if not field:
        raise Unreadable("the id is empty")
    if field in {".", ".."} or "/" in field or "\\" in field:
        raise Unreadable("an id may not be a path")
    if not field.isprintable() and any(unicodedata.category(c).startswith("C") for c in field):
        raise Unreadable("an id may not hold control or invisible characters")
    if _FORMULA.match(field):
        raise Unreadable("an id may not begin like a formula, as a spreadsheet would run it")
    if len(field.encode()) > LONGEST_ID:
        raise Unreadable(f"an id may not have more than {LONGEST_ID} bytes, as no folder's name can")
    return field


def is_safe_id(name: str) -> bool:
    """Whether `name` may be a patient's id."""
    try:
        return bool(read_id(name))
    except Unreadable:
        return False


def read_label(field: str) -> int | None:
    """1, 0 or -1; None where the field says something else."""
    try:
        value = read_number(field)
    except Unreadable:
        return None
    return int(value) if value in (-1.0, 0.0, 1.0) else None


def read_split(field: str) -> str:
    """ "train" or "test"."""
    word = field.casefold()
    if word in {"train", "training", "trainset"}:
        return "train"
    if word in {"test", "testing", "testset"}:
        return "test"
    raise Unreadable("this names no part of the cohort")


def sex_reader(fields: Sequence[str], codes: Mapping[str, str]) -> Callable[[str], float]:
    """A reader of sexes: 0.0 female, 1.0 male, NaN unknown.

    Parameters
    ----------
    fields : the whole column: M is male beside F, but means *mujer* beside H.
    codes : spellings that the user has explained, → any spelling that is known.

    Raises
    ------
    InputError : an explained spelling stands for no known sex.
    """
    spellings = {field.casefold() for field in fields}
    spanish_or_french = {"h", "m"} <= spellings and not {"f", "w"} & spellings
    for spelling, sex in codes.items():
        if sex.casefold() not in _SEXES:
            raise InputError(
                f"the sex code {spelling!r} is given no sex", found=sex, allowed="female or male"
            )
    explained = {spelling.casefold(): _SEXES[sex.casefold()] for spelling, sex in codes.items()}

    def read(field: str) -> float:
        spelling = unicodedata.normalize("NFC", field.casefold().rstrip("."))
        if spelling in explained:
            return explained[spelling]
        if spanish_or_french and spelling in {"h", "m"}:
            raise Unreadable("H and M in one column may be homme and masculin, or hombre and mujer")
        if spelling not in _SEXES:
            code = spelling.replace(".", "").isdigit()
            raise Unreadable("a number does not say which sex it means" if code else "this names no sex")
        return _SEXES[spelling]

    return read


def unit_divisor(unit: str) -> float:
    """What a count in `unit` is divided by to give 10⁹ cells per litre.

    Raises
    ------
    InputError : the unit is unknown; lists the known ones.
    """
    known = {_plain_unit(name): divisor for name, divisor in _PER_GIGA_PER_LITRE.items()}
    divisor = known.get(_plain_unit(unit))
    if divisor is None:
        raise InputError(
            "this unit of a count is not known",
            found=unit,
            allowed=", ".join(COUNT_UNITS),
            remedy="State one of these (option --count-unit).",
        )
    return divisor


def likelier_unit(unit: str, typical: float) -> str | None:
    """A unit in which a count that reads as `typical` × 10⁹/L in `unit` would be plausible; else None."""
    bare = typical * unit_divisor(unit)
    for name in ("10^9/L", "cells/µL", "cells/mL", "cells/L"):
        if 1.0 <= bare / unit_divisor(name) <= 300.0:
            return name
    return None


def _plain_unit(unit: str) -> str:
    """`unit` without blanks, case, and typographic variants."""
    text = unicodedata.normalize("NFKC", unit).casefold().replace(" ", "")
    text = text.replace("μ", "u").replace("mcl", "ul").replace("×", "").replace("*", "")
    text = re.sub(r"^x(?=10)", "", text)
    text = re.sub(r"^10(?:e|\^)?([369])(?=/)", r"10^\1", text)
    return text.replace("cells", "").replace("cell", "").replace("mm^3", "mm3").replace("cmm", "mm3")

"""Dates of birth in the layouts that clinics write, and the age they give.

A date of birth identifies a person: it is turned into an age here and goes no further. Nothing in this
module puts a date into a message.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from lymphoscope.cohort.options import DateOrder

Order = Literal["month-first", "day-first"]

DEFAULT_ORDER: Mapping[str, Order] = {"/": "month-first", "-": "day-first", ".": "day-first"}
"""How a date is read where no other date with the same separator settles it."""

ALLOWED = "M/D/YYYY, DD-MM-YYYY, DD.MM.YYYY or YYYY-MM-DD, the year with four digits"

_MIDNIGHT = r"(?:[ T]+0{1,2}:00(?::00(?:\.0+)?)?)?"
_YEAR_LAST = re.compile(rf"(\d{{1,2}})([-/.])(\d{{1,2}})\2(\d{{4}}){_MIDNIGHT}", re.ASCII)
_YEAR_FIRST = re.compile(rf"(\d{{4}})([-/.])(\d{{1,2}})\2(\d{{1,2}}){_MIDNIGHT}", re.ASCII)
_SHORT_YEAR = re.compile(r"\d{1,2}[-/.]\d{1,2}[-/.]\d{2}", re.ASCII)
_LAYOUTS = {
    ("/", "month-first"): "M/D/YYYY",
    ("/", "day-first"): "D/M/YYYY",
    ("-", "month-first"): "MM-DD-YYYY",
    ("-", "day-first"): "DD-MM-YYYY",
    (".", "month-first"): "MM.DD.YYYY",
    (".", "day-first"): "DD.MM.YYYY",
}


@dataclass(frozen=True)
class ParsedDate:
    """A date of birth; `problem` is "" where it could be read.

    Attributes
    ----------
    value : the date; None where missing or unreadable.
    layout : e.g. "M/D/YYYY".
    separator : the separator where the order of day and month mattered and either could have been meant.
    problem : what is wrong, without the date.
    """

    value: date | None = None
    layout: str = ""
    separator: str = ""
    problem: str = ""


@dataclass(frozen=True)
class DateOrders:
    """How dates with each separator are read, and why.

    Attributes
    ----------
    order : separator → "month-first" or "day-first".
    settled : separators whose order is given, by the option or by other dates of the column that can be
        read in one way only.
    contradictory : separators that stand in dates of both orders.
    """

    order: Mapping[str, Order]
    settled: frozenset[str]
    contradictory: frozenset[str]


def decide_orders(texts: Sequence[str], wished: DateOrder) -> DateOrders:
    """Decide, for the dates of one column, which of day and month comes first with each separator."""
    if wished != "auto":
        return DateOrders(dict.fromkeys(DEFAULT_ORDER, wished), frozenset(DEFAULT_ORDER), frozenset())
    evidence: dict[str, Counter[Order]] = defaultdict(Counter)
    for text in texts:
        match = _YEAR_LAST.fullmatch(text)
        if match:
            first, second = int(match[1]), int(match[3])
            if first > 12 >= second:
                evidence[match[2]]["day-first"] += 1
            elif second > 12 >= first:
                evidence[match[2]]["month-first"] += 1
    orders = dict(DEFAULT_ORDER)
    orders.update({separator: next(iter(seen)) for separator, seen in evidence.items() if len(seen) == 1})
    return DateOrders(
        orders,
        settled=frozenset(separator for separator, seen in evidence.items() if len(seen) == 1),
        contradictory=frozenset(separator for separator, seen in evidence.items() if len(seen) > 1),
    )


def parse_date(text: str, orders: DateOrders) -> ParsedDate:
    """Read one date; an empty text must not be given."""
    match = _YEAR_FIRST.fullmatch(text)
    if match:
        return _make(int(match[1]), int(match[3]), int(match[4]), f"YYYY{match[2]}MM{match[2]}DD")
    match = _YEAR_LAST.fullmatch(text)
    if not match:
        short = "the year has two digits only" if _SHORT_YEAR.fullmatch(text) else "this is not a date"
        return ParsedDate(problem=short)
    first, separator, second, year = int(match[1]), match[2], int(match[3]), int(match[4])
    order = orders.order[separator]
    either = first <= 12 and second <= 12 and first != second
    # A date that the rule cannot read, in a column that follows no single rule, is read the other way round.
    if separator in orders.contradictory and not either and first != second:
        order = "month-first" if second > 12 else "day-first"
    month, day = (first, second) if order == "month-first" else (second, first)
    return _make(year, month, day, _LAYOUTS[separator, order], separator if either else "")


def _make(year: int, month: int, day: int, layout: str, separator: str = "") -> ParsedDate:
    try:
        return ParsedDate(date(year, month, day), layout, separator)
    except ValueError:
        return ParsedDate(problem=f"there is no such day, read as {layout}")


def age_in_years(born: date, reference: date) -> float:
    """Age at `reference` in years of 365.25 days, to one decimal; negative if born later.

    One decimal is finer than any clinical use needs and too coarse to give the date of birth away.
    """
    return round((reference - born).days / 365.25, 1)

"""What a reader of a cohort may have to be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Literal

DateOrder = Literal["auto", "month-first", "day-first"]

CANONICAL_COLUMNS = ("id", "label", "sex", "dob", "age", "lymphocyte_count", "split")
"""Columns that a patient table may give; only `id` must be there."""


@dataclass(frozen=True)
class ReadOptions:
    """How a cohort's table and folders are to be read; the defaults read the challenge's layout as it is.

    Attributes
    ----------
    table : the patient table, relative to the cohort or absolute. None: `clinical_annotation.csv` at the
        root, else the only table at the root, else no table (every patient unlabelled, images alone).
    columns : name in `CANONICAL_COLUMNS` → name in the table, for names that are not recognised.
    images : folder that holds one folder per patient, at any depth, relative to the cohort or absolute.
        None: the cohort itself.
    reference_date : the day at which ages are taken from dates of birth.
    date_order : how dates such as 3/4/1950 are read. "auto": by the other dates with the same separator
        where those can be read in one way only, else month first with "/", day first with "-" and ".".
    count_unit : unit of the table's lymphocyte counts, e.g. "10^9/L", "G/L", "10^3/µL", "cells/µL".
    inclusion_limit : count in 10⁹/L below which a patient is reported as no lymphocytosis.
    min_cells : a patient with fewer photographs is reported.
    sex_codes : spelling in the table → "female" or "male", for spellings that cannot be recognised (0, 1).
    """

    table: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    images: Path | None = None
    reference_date: date = date(2020, 1, 1)
    date_order: DateOrder = "auto"
    count_unit: str = "10^9/L"
    inclusion_limit: float = 4.0
    min_cells: int = 10
    sex_codes: Mapping[str, str] = field(default_factory=dict)

"""WBCAtt's three tables: eleven attributes of white cells of PBC (Tsutsui et al. 2023, arXiv:2306.13531).

A row describes a photograph, named in `path` as `PBC_dataset_normal_DIB/neutrophil/BNE_7323.jpg`.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lymphoscope.cohort.findings import counted
from lymphoscope.encoders.labelled_cells import ATTRIBUTES, TRAINING, VALIDATION
from lymphoscope.errors import InputError

TABLES = {
    "pbc_attr_v1_train.csv": TRAINING,
    "pbc_attr_v1_val.csv": VALIDATION,
    "pbc_attr_v1_test.csv": VALIDATION,
}
"""File names, and whether their cells are learned from or held out."""

VALUES = {
    "cell_size": ("big", "small"),
    "cell_shape": ("irregular", "round"),
    "nucleus_shape": (
        "irregular",
        "segmented-bilobed",
        "segmented-multilobed",
        "unsegmented-band",
        "unsegmented-indented",
        "unsegmented-round",
    ),
    "nuclear_cytoplasmic_ratio": ("high", "low"),
    "chromatin_density": ("densely", "loosely"),
    "cytoplasm_vacuole": ("no", "yes"),
    "cytoplasm_texture": ("clear", "frosted"),
    "cytoplasm_colour": ("blue", "light blue", "purple blue"),
    "granule_type": ("coarse", "nil", "round", "small"),
    "granule_colour": ("nil", "pink", "purple", "red"),
    "granularity": ("no", "yes"),
}
"""What each attribute may be, as the tables write it."""

_COLUMNS = (*ATTRIBUTES, "label", "path")
_SHOWN = 5


@dataclass(frozen=True)
class Description:
    """What the tables say of a cell.

    Attributes
    ----------
    part : whether it is learned from or held out.
    attributes : in the order of `ATTRIBUTES`; None where it is not told.
    """

    part: str
    attributes: tuple[str | None, ...]


@dataclass(frozen=True, eq=False)
class Descriptions:
    """What the tables say.

    Attributes
    ----------
    cells : by source, `neutrophil/BNE_7323.jpg`.
    disputed : sources of which the tables say two different things.
    notes : a sentence each on what was not used, or not as it is.
    """

    cells: Mapping[str, Description]
    disputed: frozenset[str]
    notes: tuple[str, ...]


def read_wbcatt(folders: Iterable[Path]) -> Descriptions:
    """Read the tables from the first of `folders` that holds any; nothing is said of any cell if none does.

    Raises
    ------
    InputError : a table is not CSV in UTF-8, or lacks a column.
    """
    folder = next((each for each in folders if any((each / name).is_file() for name in TABLES)), None)
    if folder is None:
        return Descriptions({}, frozenset(), ("No table of WBCAtt is here: only cell types are learned.",))
    found = [folder / name for name in TABLES if (folder / name).is_file()]
    missing = [name for name in TABLES if not (folder / name).is_file()]
    cells: dict[str, Description] = {}
    disputed: set[str] = set()
    repeated, unknown = 0, Counter[str]()
    for path in found:
        for source, label, told in _rows(path, unknown):
            said = Description(TABLES[path.name], told)
            repeated += source in cells
            if label != source.partition("/")[0] or cells.setdefault(source, said) != said:
                disputed.add(source)
    notes = [f"WBCAtt's table {name} is missing." for name in missing]
    notes += [f"{n:,} × {what}: this counts as not told." for what, n in unknown.items()]
    if repeated:
        notes.append(
            f"{counted(repeated, 'row')} of WBCAtt's tables describe a cell that an earlier row did."
        )
    return Descriptions(cells, frozenset(disputed), tuple(notes))


def listed(names: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    shown = [name if name.isprintable() else repr(name) for name in names[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else "")


def _rows(path: Path, unknown: Counter[str]) -> list[tuple[str, str, tuple[str | None, ...]]]:
    """Source, cell type and attributes of every row; values that do not exist are counted in `unknown`."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            rows = [] if missing else list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            "this table of WBCAtt cannot be read", file=path, found=str(error), allowed="a CSV table in UTF-8"
        ) from error
    if missing:
        raise InputError(
            "this is no table of WBCAtt: columns are missing",
            file=path,
            row=1,
            found=", ".join(missing),
            allowed=", ".join(_COLUMNS),
            remedy="Take the file as its authors publish it.",
        )
    told = [tuple(_value(row[name], name, path.name, unknown) for name in ATTRIBUTES) for row in rows]
    sources = ["/".join(PurePosixPath(row["path"] or "").parts[-2:]) for row in rows]
    labels = [(row["label"] or "").strip().lower() for row in rows]
    return list(zip(sources, labels, told, strict=True))


def _value(value: str | None, name: str, file: str, unknown: Counter[str]) -> str | None:
    value = (value or "").strip()
    if value in VALUES[name]:
        return value
    if value:
        unknown[f"{file}, column {name}: {value!r} is none of {', '.join(VALUES[name])}"] += 1
    return None

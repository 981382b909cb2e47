"""Labelled photographs of single cells: those to learn from, and those held out; read from two parquet files.

What is read from a folder of photographs (`pbc_folder`) shares its types and checks.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg

from lymphoscope.cells.masks import disc
from lymphoscope.cells.segmentation import segment
from lymphoscope.cohort.image_inspection import MAX_PIXELS
from lymphoscope.cohort.progress import Progress
from lymphoscope.errors import InputError
from lymphoscope.files import sha256_file, sha256_json

Image = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

CELL_TYPE = "cell_type"

ATTRIBUTES = (
    "cell_size",
    "cell_shape",
    "nucleus_shape",
    "nuclear_cytoplasmic_ratio",
    "chromatin_density",
    "cytoplasm_vacuole",
    "cytoplasm_texture",
    "cytoplasm_colour",
    "granule_type",
    "granule_colour",
    "granularity",
)
"""What WBCAtt says of a cell (Tsutsui et al. 2023, arXiv:2306.13531, table 1)."""

TRAINING, VALIDATION = "train", "val"
MISSING = -1

TOLD = (CELL_TYPE, *ATTRIBUTES)
"""All that may be told of a cell."""

_NEEDED = ("image", "source", *TOLD)

_MARGIN = 3
"""Pixels around a cell that count as the cell where its surroundings are exchanged."""


@dataclass(frozen=True)
class Task:
    """Something that is told of a cell, and the answers there are, in alphabetical order."""

    name: str
    classes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class LabelledCells:
    """Some cells.

    Attributes
    ----------
    images : uint8 RGB (n, S, S, 3), the centre of every photograph; whole ones are scaled to 224 first.
    masks : bool (n, S, S), true on the cell and a little around it; everywhere where none was found.
    targets : int64 (n, n_tasks), index into the classes of the task; -1 where it is not known.
    sources : what each photograph is called where it comes from.
    """

    images: Image
    masks: Masks
    targets: IntArray
    sources: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.sources)


@dataclass(frozen=True, eq=False)
class LabelledSplits:
    """What a folder of labelled cells holds.

    Attributes
    ----------
    tasks : those of which at least two answers occur among the training cells; the cell type is the first.
    left_out : of both parts together, the cells that another table names; None if no table was given.
    n_named : how many cells that table names; those that are in neither part cannot be left out.
    content : SHA-256 of what was read, the names of what was left out, and the side of the crops.
    notes : a sentence each on what was found there and not used, or not as it is.
    """

    tasks: tuple[Task, ...]
    training: LabelledCells
    validation: LabelledCells
    left_out: tuple[str, ...] | None
    n_named: int | None
    content: str
    notes: tuple[str, ...] = ()


def read_labelled_cells(
    folder: Path, *, size: int = 112, leave_out: Path | None = None, progress: Progress | None = None
) -> LabelledSplits:
    """Read train.parquet and val.parquet: a row per cell, rows counted from 1 in what is said of them.

    Columns: `image` a JPEG file of at least `size` pixels a side, `source` a name that no other cell has,
    `cell_type`, and the `ATTRIBUTES`, which may be null; other columns are not looked at.

    Parameters
    ----------
    size : side of the centre crop in pixels.
    leave_out : a CSV table with a column `source`, as the list of a cohort's photographs has: these cells
        are in neither part, so that the cohort stays unseen.

    Raises
    ------
    InputError : a file, column, value or photograph cannot be used; nothing would be left to learn from.
    """
    paths = {part: folder / f"{part}.parquet" for part in (TRAINING, VALIDATION)}
    tables = {part: _read_table(path) for part, path in paths.items()}
    _check_sources(tables, paths)
    named = None if leave_out is None else read_sources(leave_out)
    left_out, rows = _rows_to_keep(tables, named, leave_out)
    learned = tables[TRAINING].take(rows[TRAINING])
    tasks = tasks_of({name: learned[name].to_pylist() for name in TOLD}, paths[TRAINING])
    if progress:
        progress.start("reading cells", sum(map(len, rows.values())))
    parts = {
        part: _cells(tables[part], rows[part], tasks, size, path, progress) for part, path in paths.items()
    }
    if progress:
        progress.done()
    content = sha256_json([*map(sha256_file, paths.values()), left_out, size])
    n_named = None if named is None else len(named)
    return LabelledSplits(tasks, parts[TRAINING], parts[VALIDATION], left_out, n_named, content)


def read_sources(path: Path) -> frozenset[str]:
    """The column `source` of a CSV table.

    Raises
    ------
    InputError : no such file, not CSV, no such column, or nothing in it.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            header = list(reader.fieldnames or ())
            named = frozenset(row["source"] for row in reader if row.get("source"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            "this list of cells cannot be read", file=path, found=_said(error), allowed="a CSV table in UTF-8"
        ) from error
    if "source" not in header:
        raise InputError(
            "this list of cells has no column `source`",
            file=path,
            row=1,
            found=", ".join(header),
            remedy="Give a table that names cells as the column `source` of the labelled cells does.",
        )
    if not named:
        raise InputError("this list names no cell", file=path, column="source", found="no values")
    return named


def left_out_of(sources: Sequence[str], named: frozenset[str], leave_out: Path | None) -> tuple[str, ...]:
    """The labelled cells that the table `leave_out` names, in alphabetical order.

    Raises
    ------
    InputError : there is none, so that the table is one of other cells or writes their names differently.
    """
    left_out = tuple(sorted(source for source in sources if source in named))
    if not left_out:
        raise InputError(
            "none of these cells is among the labelled ones",
            file=leave_out,
            column="source",
            found=", ".join(sorted(named)[:3]),
            allowed=f"names as {', '.join(sources[:3])}",
            remedy="Without this list the result is the same.",
        )
    return left_out


def _read_table(path: Path) -> pa.Table:
    """The columns that are needed."""
    if not path.is_file():
        raise InputError(
            "a folder of labelled cells holds train.parquet and val.parquet; there is no such file",
            file=path,
            remedy="Give the folder that holds both.",
        )
    try:
        file = pq.ParquetFile(path)
        missing = [name for name in _NEEDED if name not in file.schema_arrow.names]
        table = None if missing else file.read(columns=list(_NEEDED))
    except (pa.ArrowException, OSError) as error:
        raise InputError("this cannot be read as a parquet file", file=path, found=_said(error)) from error
    if table is None:
        raise InputError(
            "these columns are missing",
            file=path,
            found=", ".join(missing),
            allowed=", ".join(_NEEDED),
            remedy="A column of an attribute that nobody has told may be null throughout.",
        )
    _check_columns(table, path)
    return table


def _check_columns(table: pa.Table, path: Path) -> None:
    """Refuse columns that hold something other than file contents and text."""
    kind = table.schema.field("image").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise InputError(
            "photographs are not in it as files",
            file=path,
            column="image",
            found=str(kind),
            allowed="binary: the content of a JPEG file",
        )
    for name in _NEEDED[1:]:
        for row, value in enumerate(table[name].to_pylist(), start=1):
            may_miss = name in ATTRIBUTES
            if value is None and may_miss:
                continue
            if not isinstance(value, str) or not value.strip() or not value.isprintable():
                raise InputError(
                    "this is no name",
                    file=path,
                    row=row,
                    column=name,
                    found="nothing" if value is None else value,
                    allowed="a line of text" + (", or null where it is not known" if may_miss else ""),
                )


def _check_sources(tables: dict[str, pa.Table], paths: dict[str, Path]) -> None:
    """Refuse a cell that is there twice: held out and learned from, or counted double."""
    seen: dict[str, str] = {}
    for part, table in tables.items():
        for row, source in enumerate(table["source"].to_pylist(), start=1):
            if source in seen:
                raise InputError(
                    f"this cell is in {paths[seen[source]].name} already",
                    file=paths[part],
                    row=row,
                    column="source",
                    found=source,
                    remedy="Keep it in one of the files, once.",
                )
            seen[source] = part


def _rows_to_keep(
    tables: dict[str, pa.Table], named: frozenset[str] | None, leave_out: Path | None
) -> tuple[tuple[str, ...] | None, dict[str, IntArray]]:
    """The cells that are left out, and per file the rows of the others."""
    sources = {part: table["source"].to_pylist() for part, table in tables.items()}
    if named is None:
        return None, {part: np.arange(len(each)) for part, each in sources.items()}
    left_out = left_out_of([source for each in sources.values() for source in each], named, leave_out)
    kept = {part: [i for i, s in enumerate(each) if s not in named] for part, each in sources.items()}
    return left_out, {part: np.array(rows, dtype=np.int64) for part, rows in kept.items()}


def tasks_of(told: Mapping[str, Sequence[str | None]], path: Path) -> tuple[Task, ...]:
    """What the training cells have at least two answers to.

    Parameters
    ----------
    told : of every training cell in turn, by the names in `TOLD`; None where it is not known.
    path : where the training cells are, for what is said of them.

    Raises
    ------
    InputError : they are of fewer than two types.
    """
    answers = {name: {*told[name]} - {None} for name in TOLD}
    if len(answers[CELL_TYPE]) < 2:
        raise InputError(
            "there is nothing to learn from",
            file=path,
            column=CELL_TYPE,
            found=f"{len(told[CELL_TYPE])} cells of {len(answers[CELL_TYPE])} types to train on",
            allowed="cells of at least 2 types",
        )
    return tuple(
        Task(name, tuple(sorted(filter(None, each)))) for name, each in answers.items() if len(each) > 1
    )


def _cells(
    table: pa.Table,
    rows: IntArray,
    tasks: Sequence[Task],
    size: int,
    path: Path,
    progress: Progress | None,
) -> LabelledCells:
    """These rows of a table, decoded."""
    if len(rows) == 0:
        raise InputError("there is no cell in this file, or all are left out", file=path, found=0)
    images = np.empty((len(rows), size, size, 3), dtype=np.uint8)
    masks = np.empty((len(rows), size, size), dtype=np.bool_)
    files = table["image"]
    for i, row in enumerate(rows.tolist()):
        photograph = _decode(files[row].as_py(), size, path, row + 1)
        images[i], masks[i] = centre(photograph, size), centre(cell_mask(photograph), size)
        if progress:
            progress.advance()
    targets = np.stack([_targets(table, rows, task, path) for task in tasks], axis=1)
    sources = table["source"].to_pylist()
    return LabelledCells(images, masks, targets, tuple(sources[row] for row in rows.tolist()))


def _decode(data: Any, size: int, path: Path, row: int) -> Image:
    """A JPEG file's picture, uint8 RGB (H, W, 3), both sides at least `size`."""
    try:
        height, width = simplejpeg.decode_jpeg_header(data)[:2]
        if height * width > MAX_PIXELS:
            raise ValueError(f"{width} x {height} pixels")
        image = np.asarray(simplejpeg.decode_jpeg(data, "RGB", strict=True), dtype=np.uint8)
    except (TypeError, ValueError) as error:
        raise InputError(
            "this photograph cannot be decoded",
            file=path,
            row=row,
            column="image",
            found="nothing" if data is None else _said(error),
            allowed="the content of a JPEG file",
        ) from error
    if min(height, width) < size:
        raise InputError(
            "this photograph is smaller than the part that is cut out of it",
            file=path,
            row=row,
            column="image",
            found=f"{width} x {height} pixels",
            allowed=f"at least {size} x {size}",
            remedy="Cut out a smaller part.",
        )
    return image


def centre(image: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """The centre of a picture or a mask, (size, size, ...)."""
    top, left = ((side - size) // 2 for side in image.shape[:2])
    return image[top : top + size, left : left + size]


def cell_mask(photograph: Image) -> Masks:
    """Where the cell is and a little around it, bool (H, W); everywhere if none is found."""
    found = segment(photograph)
    if not found.ok:
        return np.ones(photograph.shape[:2], dtype=np.bool_)
    grown = cv2.dilate(found.cell.astype(np.uint8), disc(_MARGIN))
    return np.asarray(grown, dtype=np.bool_)


def _targets(table: pa.Table, rows: IntArray, task: Task, path: Path) -> IntArray:
    """Indices into the task's classes, int64 (n,)."""
    index: dict[str | None, int] = {name: i for i, name in enumerate(task.classes)} | {None: MISSING}
    values = table[task.name].to_pylist()
    found = np.empty(len(rows), dtype=np.int64)
    for i, row in enumerate(rows.tolist()):
        if values[row] not in index:
            raise InputError(
                "no training cell has this value",
                file=path,
                row=row + 1,
                column=task.name,
                found=values[row],
                allowed=", ".join(task.classes),
                remedy="Correct it, or move some cells of this kind to the training file.",
            )
        found[i] = index[values[row]]
    return found


def _said(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:160] or type(error).__name__

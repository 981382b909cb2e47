"""Labelled cells from whichever kind of folder holds them."""

from __future__ import annotations

from pathlib import Path

from lymphoscope.cohort.progress import Progress
from lymphoscope.encoders.labelled_cells import TRAINING, VALIDATION, LabelledSplits, read_labelled_cells
from lymphoscope.encoders.pbc_folder import CELL_TYPES, find_pbc, read_pbc_folder
from lymphoscope.errors import InputError


def read_cells(
    folder: Path, *, size: int = 112, leave_out: Path | None = None, progress: Progress | None = None
) -> LabelledSplits:
    """Read train.parquet and val.parquet, or the folders of PBC's cell types, in `folder` or in one in it.

    WBCAtt's tables are looked for among the folders of cell types, in `folder`, and beside it.

    Parameters
    ----------
    size, leave_out : as `read_labelled_cells` takes them.

    Raises
    ------
    InputError : it is no such folder; or as `read_labelled_cells` and `read_pbc_folder`.
    """
    if not folder.is_dir() or any((folder / f"{part}.parquet").exists() for part in (TRAINING, VALIDATION)):
        return read_labelled_cells(folder, size=size, leave_out=leave_out, progress=progress)
    root = find_pbc(folder)
    if root is None:
        raise InputError(
            "no labelled cells are in this folder",
            file=folder,
            allowed=f"train.parquet and val.parquet, or folders of photographs: {', '.join(CELL_TYPES)}",
        )
    tables = tuple(dict.fromkeys((root, folder, folder.absolute().parent)))
    return read_pbc_folder(root, tables=tables, size=size, leave_out=leave_out, progress=progress)

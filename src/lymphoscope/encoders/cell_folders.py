"""Labelled cells from whichever kind of folder holds them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from lymphoscope.cohort.image_folders import IMAGE_SUFFIXES
from lymphoscope.cohort.image_frames import FRAME, to_frame
from lymphoscope.cohort.image_inspection import decode_payload, inspect_image
from lymphoscope.cohort.progress import Progress
from lymphoscope.encoders.labelled_cells import (
    TRAINING,
    VALIDATION,
    Image,
    LabelledSplits,
    centre,
    read_labelled_cells,
)
from lymphoscope.encoders.pbc_folder import CELL_TYPES, find_pbc, read_pbc_folder
from lymphoscope.errors import InputError
from lymphoscope.training.bounds import check_range


def read_photographs(folder: Path, size: int, scale: float = 1.0) -> Image:
    """The centre of every photograph below a folder, scaled to 224 pixels first, uint8 (n, size, size, 3).

    Parameters
    ----------
    scale : by which they are enlarged besides; where less than `size` pixels are left, borders are mirrored.

    Raises
    ------
    InputError : there is none, or one cannot be decoded; the scale leaves too little.
    """
    side = round(scale * FRAME)
    check_range("scale of photographs", side, max(2, size // 2), 4 * FRAME)
    missing = max(0, size - side)
    before, after = missing // 2, missing - missing // 2
    found = []
    for path in sorted(each for each in folder.rglob("*") if each.suffix.lower() in IMAGE_SUFFIXES):
        seen = inspect_image(path.read_bytes())
        if seen.reduced is None:
            raise InputError("this photograph cannot be decoded", file=path, found=str(seen.problem))
        scaled = cv2.resize(
            to_frame(decode_payload(seen.payload)), (side, side), interpolation=cv2.INTER_AREA
        )
        padded = cv2.copyMakeBorder(scaled, before, after, before, after, cv2.BORDER_REFLECT_101)
        found.append(centre(np.asarray(padded, dtype=np.uint8), size))
    if not found:
        raise InputError(
            "there are no photographs here", file=folder, allowed=", ".join(sorted(IMAGE_SUFFIXES))
        )
    return np.stack(found)


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

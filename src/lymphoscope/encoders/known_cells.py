"""The cells that an encoder has learned from: small enough to travel with it, and known again in a cohort.

Of each cell there are a perceptual hash and a thumbnail of the centre that the network saw: enough to tell
that a photograph shows the same cell, also saved again, brightened, scaled a little, mirrored or turned by
quarters.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save

from lymphoscope.cohort.bags import IntArray
from lymphoscope.cohort.cell_store import CellStore
from lymphoscope.cohort.cohort import Cohort
from lymphoscope.cohort.findings import Finding, Severity, counted
from lymphoscope.cohort.image_frames import REDUCED, centre_crop, luminance, perceptual_hashes, to_frame
from lymphoscope.cohort.kept_rows import KeptRows
from lymphoscope.cohort.near_duplicates import Hashes, match_alike
from lymphoscope.cohort.progress import Progress
from lymphoscope.encoders.labelled_cells import Image, centre

_SIDE = 10
"""Of a thumbnail, in pixels: 9,000 cells take 1 MB. See `near_duplicates.KNOWN_CORRELATION`."""

_HASH_BYTES = 8
_ROW = _HASH_BYTES + _SIDE * _SIDE
_VERSION = 1
"""Raised whenever hash or thumbnail of a photograph change."""

_PART = 2048
"""Cells that are looked at and written at a time."""


@dataclass(frozen=True)
class CellsLearnedFrom(Finding):
    """Photographs of this cohort show cells that the encoder was trained on, perhaps saved again or mirrored.

    An encoder tells cells that it has learned from apart more easily than others. Numbers of recipes that
    look at its embeddings or concepts, or whose own network begins with it, are then not those of patients
    nobody has seen. Where it is a few of thousands, they may be alike by chance: small round cells are.
    """

    code: ClassVar[str] = "LYM501"
    title: ClassVar[str] = "Cells were among those the encoder learned from"
    severity: ClassVar[Severity] = Severity.WARNING
    remedy: ClassVar[str] = (
        "Train an encoder that leaves these cells out (`lymphoscope encoder train CELLS -o ENCODER "
        "--leave-out LIST`) and name it: with `--encoder ENCODER`, or to a recipe that goes on training it "
        "with `--weights ENCODER` or the setting `encoder=ENCODER`. Or do without one (`--encoder none`)."
    )


@dataclass(frozen=True, eq=False)
class KnownCells:
    """Cells as they are known again.

    Attributes
    ----------
    hashes : uint64 (n,), perceptual hash of the centre; 0 for a blank one, which is never known again.
    thumbnails : uint8 (n, 10, 10), grey values of the centre.
    """

    hashes: Hashes
    thumbnails: Image

    def __len__(self) -> int:
        return len(self.hashes)

    def match(self, other: KnownCells) -> IntArray:
        """For each of the other cells the index of one of these that it shows, or -1; shape (n_other,)."""
        return match_alike(other.hashes, other.thumbnails, self.hashes, self.thumbnails)

    def as_bytes(self) -> bytes:
        """The content of a file that `read_known` reads."""
        return save({"hashes": self.hashes, "thumbnails": self.thumbnails})


def known_cells(centres: Image) -> KnownCells:
    """How cells are known again, from uint8 RGB (n, S, S, 3), the centres that a network sees."""
    reduced = np.empty((len(centres), REDUCED, REDUCED, 3), dtype=np.uint8)
    for i, each in enumerate(centres):
        reduced[i] = cv2.resize(each, (REDUCED, REDUCED), interpolation=cv2.INTER_AREA)
    grey = luminance(reduced)
    small = np.empty((len(grey), _SIDE, _SIDE), dtype=np.uint8)
    for i, shades in enumerate(grey):
        small[i] = cv2.resize(shades, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return KnownCells(perceptual_hashes(grey), small)


def read_known(path: Path) -> KnownCells:
    """What `KnownCells.as_bytes` wrote.

    Raises
    ------
    KeyError, ValueError : the file holds something else.
    """
    arrays = load_file(path)
    hashes, thumbnails = arrays["hashes"], arrays["thumbnails"]
    kinds = hashes.dtype == np.uint64 and thumbnails.dtype == np.uint8
    if not kinds or hashes.ndim != 1 or thumbnails.shape != (len(hashes), _SIDE, _SIDE):
        raise ValueError(f"hashes {hashes.shape}, thumbnails {thumbnails.shape}: no list of cells")
    return KnownCells(hashes, thumbnails)


def find_known(
    cohort: Cohort,
    store: CellStore,
    known: KnownCells,
    size: int,
    name: str,
    *,
    jobs: int = 2,
    progress: Progress | None = None,
) -> tuple[Finding, ...]:
    """The finding about cells of a cohort that are among those an encoder learned from; nothing without any.

    Parameters
    ----------
    known : the encoder's cells.
    size : side of the centre that it sees, in pixels.
    name : the encoder's.
    """
    seen = np.zeros(len(store), dtype=np.bool_)
    for cells in _cells_of(store, size, jobs, progress):
        seen |= known.match(cells) >= 0
    rows = np.flatnonzero(seen)
    if len(rows) == 0:
        return ()
    patients = np.unique(store.index.patient[rows]).tolist()
    message = (
        f"{len(rows)} of {counted(len(store), 'cell')}, of {counted(len(patients), 'patient')}, show cells "
        f"that the encoder {name} learned from, or look just like them."
    )
    ids = tuple(cohort.patients.ids[i] for i in patients)
    return (CellsLearnedFrom(message, ids, tuple(store.index.path[rows].tolist())),)


def _cells_of(
    store: CellStore, size: int, jobs: int, progress: Progress | None
) -> tuple[KnownCells, KnownCells]:
    """Every photograph by the centre of its frame, and by its own centre, in the store's order.

    They are kept beside the stores of this cache by the photograph's SHA-256, whatever the encoder.
    """
    kept = KeptRows(store.folder.parent / f"centre-hashes-{size}-v{_VERSION}", 2 * _ROW, np.uint8)
    digests = store.index.digest
    missing = kept.missing(digests)
    if progress is not None and len(missing):
        progress.start("looking at the centres of cells", len(missing))
    for start, stop in pairwise([*range(0, len(missing), _PART), len(missing)]):
        part = missing[start:stop]
        with ThreadPoolExecutor(max(1, jobs)) as workers:
            rows = list(workers.map(lambda i: _row(store.decode(i), size), part.tolist()))
        kept.add(digests[part], np.stack(rows))
        if progress is not None:
            progress.advance(len(part))
    if progress is not None and len(missing):
        progress.done()
    both = kept.look_up(digests).reshape(len(store), 2, _ROW)
    # A second look at the same centre would find the same: blank ones are passed over.
    both[(both[:, 0] == both[:, 1]).all(axis=1), 1] = 0
    return _unpacked(both[:, 0]), _unpacked(both[:, 1])


def _row(photograph: Image, size: int) -> npt.NDArray[np.uint8]:
    """Hash and thumbnail of the frame's centre, then of the photograph's own, uint8 (2 · 108,).

    They differ where a photograph is not of the frame's size and is scaled to it: one that was cut out of
    another shows the cell as large as that did, and is known by its own centre only.
    """
    framed = centre_crop(to_frame(photograph), size)
    own = centre(photograph, size) if min(photograph.shape[:2]) >= size else framed
    found = known_cells(np.stack([framed, own]))
    hashes = found.hashes.astype("<u8").view(np.uint8).reshape(2, _HASH_BYTES)
    return np.hstack([hashes, found.thumbnails.reshape(2, -1)]).ravel()


def _unpacked(rows: npt.NDArray[np.uint8]) -> KnownCells:
    """Cells from their packed hashes and thumbnails, uint8 (n, 108)."""
    hashes = np.ascontiguousarray(rows[:, :_HASH_BYTES]).view("<u8").ravel().astype(np.uint64)
    return KnownCells(hashes, rows[:, _HASH_BYTES:].reshape(-1, _SIDE, _SIDE))

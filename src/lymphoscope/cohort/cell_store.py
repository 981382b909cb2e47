"""The cell store: a cohort's photographs, read and looked at once, then at hand as arrays.

On disk, per cohort: one blob with the pictures (JPEG as it came, without metadata), an index, and per
wanted size one memory-mapped array of crops. All of it is a cache that can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.bags import Bags, IntArray
from lymphoscope.cohort.cell_blob import BlobReader, blob_path, locked
from lymphoscope.cohort.cell_ingest import current_table, source_files
from lymphoscope.cohort.cell_table import CellTable
from lymphoscope.cohort.cohort import Cohort
from lymphoscope.cohort.findings import Finding
from lymphoscope.cohort.image_findings import find_faults
from lymphoscope.cohort.image_frames import FRAME, Image, centre_crop, to_frame
from lymphoscope.cohort.image_inspection import ImageFormat, Note, decode_payload
from lymphoscope.cohort.progress import Progress
from lymphoscope.cohort.sealed_array import SUFFIX, open_array, remove_array, remove_if_damaged, write_array
from lymphoscope.errors import InputError, LymphoscopeError

_CROP_CHUNK = 64
_CROPS_VERSION = 1


@dataclass(frozen=True, eq=False)
class CellIndex:
    """One row per photograph that can be used, in the order of `cohort.images`.

    Attributes
    ----------
    path : object array of str, relative to the cohort.
    patient : int64, index into `cohort.patients`, non-decreasing.
    digest : uint8 (n_cells, 32), SHA-256 of the file.
    phash : uint64, perceptual hash; 0 for a blank picture.
    width, height : int64, pixels.
    n_bytes : int64, size of the file.
    format : str array: "JPEG", "PNG", "TIFF", "BMP", "GIF" or "WEBP".
    mode : str array, what the pixels were before they became 8-bit RGB: "RGB", "grey", "CMYK",
        "palette", "16-bit" or "16-bit grey".
    exif : bool; Exif, XMP, IPTC or text was in the file (and is not in the store).
    border_lab : float32 (n_cells, 3), mean CIE Lab colour of the outer ring of the frame.
    """

    path: npt.NDArray[np.object_]
    patient: IntArray
    digest: npt.NDArray[np.uint8]
    phash: npt.NDArray[np.uint64]
    width: IntArray
    height: IntArray
    n_bytes: IntArray
    format: npt.NDArray[np.str_]
    mode: npt.NDArray[np.str_]
    exif: npt.NDArray[np.bool_]
    border_lab: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.patient)

    def __getitem__(self, cells: IntArray) -> CellIndex:
        """The rows of some photographs, by their indices."""
        return CellIndex(**{each.name: getattr(self, each.name)[cells] for each in fields(self)})

    @property
    def sha256(self) -> npt.NDArray[np.str_]:
        """Hexadecimal SHA-256 of each file."""
        text = self.digest.tobytes().hex()
        return np.array([text[i : i + 64] for i in range(0, len(text), 64)], dtype="U64")


@dataclass(frozen=True, eq=False)
class CellStore:
    """Photographs of one cohort, at hand as arrays. Made by `open_store`; can be pickled.

    Attributes
    ----------
    folder : where the store is on disk.
    index : what is known about each photograph that can be used.
    findings : what is wrong or noteworthy about the photographs.
    fingerprint : hexadecimal hash of the cohort's content: clinical values, patients and photographs in
        their order. It does not depend on where the cohort lies or when it was written.
    """

    folder: Path
    index: CellIndex
    findings: tuple[Finding, ...]
    fingerprint: str
    _offset: IntArray = field(repr=False)
    _length: IntArray = field(repr=False)
    _crc32: npt.NDArray[np.uint32] = field(repr=False)
    _blob: BlobReader | None = field(repr=False)

    def __len__(self) -> int:
        return len(self.index)

    def only(self, cells: IntArray) -> CellStore:
        """The same photographs without all but `cells`, rising indices; findings and fingerprint stay.

        Offsets, crops and numbers are taken from the index, so that they agree.
        """
        if len(cells) and (np.diff(cells) <= 0).any():
            raise ValueError("cells: must rise, so that the cells of a patient stay together")
        return replace(
            self,
            index=self.index[cells],
            _offset=self._offset[cells],
            _length=self._length[cells],
            _crc32=self._crc32[cells],
        )

    def picture(self, i: int) -> bytes:
        """Photograph `i` as it is stored, compressed; `decode_payload` gives its pixels."""
        if self._blob is None:
            raise IndexError(f"photograph {i} of a store without photographs")
        payload = self._blob.read(int(self._offset[i]), int(self._length[i]))
        if zlib.crc32(payload) != self._crc32[i]:
            raise LymphoscopeError(
                f"{self._blob.path}: the copy of {self.index.path[i]} in the cache is damaged. "
                "`lymphoscope check COHORT --verify` mends the cache; or delete it, it is made anew."
            )
        return payload

    def decode(self, i: int) -> Image:
        """Photograph `i` at its own size, uint8 RGB (H, W, 3)."""
        return decode_payload(self.picture(i))

    def crop(self, i: int, size: int = 112) -> Image:
        """The centre `size` pixels of the frame of photograph `i`, uint8 (size, size, 3), for a few cells."""
        return centre_crop(to_frame(self.decode(i)), size)

    def crops(
        self, size: int = 112, *, jobs: int = 2, progress: Progress | None = None
    ) -> np.memmap[Any, Any]:
        """The centre `size` pixels of every photograph's frame, uint8 (n_cells, size, size, 3), on disk.

        The frame is the photograph at 224 × 224: another size is scaled, and of one that is not square
        the centre square is taken. Derived once, then memory-mapped read-only; `size=224` is the whole frame.
        """
        if not 1 <= size <= FRAME:
            raise ValueError(f"size: {size}; allowed: 1 to {FRAME}")
        target, shape = self._crops_path(size), (len(self), size, size, 3)
        crops = open_array(target, shape)
        if crops is not None:
            return crops
        with locked(self.folder):
            crops = open_array(target, shape)
            if crops is None:
                write_array(target, shape, self._cut(size, jobs, progress))
            for stale in set(self.folder.glob(f"crops-{size}-*{SUFFIX}")) - {target}:
                remove_array(stale)
        return np.load(target, mmap_mode="r", allow_pickle=False) if crops is None else crops

    @cached_property
    def _content_key(self) -> str:
        return hashlib.sha256(bytes([_CROPS_VERSION]) + self.index.digest.tobytes()).hexdigest()[:16]

    def _crops_path(self, size: int) -> Path:
        return self.folder / f"crops-{size}-{self._content_key}{SUFFIX}"

    def _cut(self, size: int, jobs: int, progress: Progress | None) -> Iterator[Image]:
        """Blocks of crops, in order; from the frames where these are on disk."""
        whole = self._crops_path(FRAME)
        frames = open_array(whole, (len(self), FRAME, FRAME, 3)) if size < FRAME else None
        if progress:
            progress.start(f"cutting crops of {size} pixels", len(self))
        for block in _in_order(lambda cells: self._crop_block(cells, size, frames), len(self), jobs):
            yield block
            if progress:
                progress.advance(len(block))
        if progress:
            progress.done()

    def _crop_block(self, cells: range, size: int, frames: npt.NDArray[np.uint8] | None) -> Image:
        block = np.empty((len(cells), size, size, 3), dtype=np.uint8)
        for row, i in enumerate(cells):
            block[row] = centre_crop(to_frame(self.decode(i)) if frames is None else frames[i], size)
        return block


def open_store(
    cohort: Cohort, cache: Path, *, verify: bool = False, jobs: int = 2, progress: Progress | None = None
) -> CellStore:
    """Read a cohort's photographs into a store below `cache`, or take up the store that is there.

    Files whose path, size and time are as they were are not read again; a renamed or moved one is read but
    not decoded again. With `verify` every file is read and every stored picture and crop is checked; what is
    damaged is made anew. The cohort is never written to.

    Raises
    ------
    InputError : `cache` lies inside the cohort's folder.
    LymphoscopeError : the store cannot be written; what was done until then is kept.
    """
    folder = store_folder(cohort.root, cache)
    files = source_files(cohort.root, cohort.images)
    table = current_table(files, folder, verify=verify, jobs=jobs, progress=progress)
    if verify:
        with locked(folder):
            remove_if_damaged(folder)
    row = table.find(files.paths)
    shown = np.flatnonzero(table.rows["length"][row] > 0) if len(row) else np.empty(0, dtype=np.int64)
    index = _index(cohort, table, row[shown], shown)
    return CellStore(
        folder=folder,
        index=index,
        findings=find_faults(cohort, table.rows[row], table.alike[row]),
        fingerprint=_fingerprint(cohort, index),
        _offset=table.rows["offset"][row[shown]],
        _length=table.rows["length"][row[shown]],
        _crc32=table.rows["crc32"][row[shown]],
        _blob=BlobReader(blob_path(folder, table.generation)) if len(shown) else None,
    )


def store_folder(root: Path, cache: Path) -> Path:
    """Where the store of the cohort at `root` is: a folder below `cache` named after the cohort's place."""
    place, home = root.resolve(), cache.resolve()
    if home.is_relative_to(place):
        raise InputError(
            "the cache lies inside the cohort, which is never written to",
            file=cache,
            allowed=f"a folder outside {root}",
            remedy="Choose another cache folder.",
        )
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", place.name).strip("._") or "cohort"
    return cache / f"{name[:40]}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:12]}"


def image_bags(cohort: Cohort, store: CellStore, size: int = 112) -> Bags:
    """Bags of all patients of the table whose cells are crops, uint8 (n_cells, size, size, 3)."""
    return _bags(cohort, store, store.crops(size), None)


def number_bags(
    cohort: Cohort, store: CellStore, values: npt.NDArray[np.float32], columns: Sequence[str]
) -> Bags:
    """Bags of all patients of the table whose cells are numbers, `values` of shape (n_cells, n_columns).

    A patient without a photograph that can be used gets an empty bag.
    """
    if values.shape != (len(store), len(columns)):
        raise ValueError(f"values: shape {values.shape}; allowed: ({len(store)}, {len(columns)})")
    return _bags(cohort, store, values, tuple(columns))


def _bags(cohort: Cohort, store: CellStore, cells: Any, columns: tuple[str, ...] | None) -> Bags:
    n = len(cohort.patients)
    offsets = np.searchsorted(store.index.patient, np.arange(n + 1))
    return Bags(cells, offsets, cohort.patients.clinical, cohort.patients.ids, columns)


def _index(cohort: Cohort, table: CellTable, row: IntArray, image: IntArray) -> CellIndex:
    rows = table.rows[row]
    path = np.empty(len(image), dtype=object)
    path[:] = [str(cohort.images[i]) for i in image.tolist()]
    names = np.array([kind.name for kind in ImageFormat])
    return CellIndex(
        path=path,
        patient=np.asarray(cohort.image_patient, dtype=np.int64)[image],
        digest=np.ascontiguousarray(rows["digest"]),
        phash=rows["phash"].copy(),
        width=rows["width"].astype(np.int64),
        height=rows["height"].astype(np.int64),
        n_bytes=rows["size"].copy(),
        format=names[rows["format"]],
        mode=_modes(rows["notes"]),
        exif=(rows["notes"] & Note.DESCRIBED) != 0,
        border_lab=rows["border_lab"].copy(),
    )


def _modes(notes: npt.NDArray[np.uint16]) -> npt.NDArray[np.str_]:
    grey, deep = (notes & Note.GREY) != 0, (notes & Note.SIXTEEN_BIT) != 0
    choices = [deep & grey, deep, grey, (notes & Note.CMYK) != 0, (notes & Note.PALETTE) != 0]
    return np.select(choices, ["16-bit grey", "16-bit", "grey", "CMYK", "palette"], default="RGB")


def _fingerprint(cohort: Cohort, index: CellIndex) -> str:
    patients = cohort.patients
    clinical = np.where(np.isnan(patients.clinical), np.nan, patients.clinical).astype("<f8")
    content = hashlib.sha256()
    for part in (*patients.ids, "", *patients.split, ""):
        content.update(part.encode("utf-8", "surrogateescape") + b"\0")
    for array in (patients.label.astype("<i1"), clinical, index.patient.astype("<i8"), index.digest):
        content.update(array.tobytes() + b"\0")
    return content.hexdigest()


def _in_order(work: Any, n: int, jobs: int) -> Iterator[Image]:
    """Results of `work` for consecutive blocks of 0 … n - 1, in order, a few ahead of the one waited for."""
    ahead: deque[Future[Image]] = deque()
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        for start in range(0, n, _CROP_CHUNK):
            ahead.append(pool.submit(work, range(start, min(start + _CROP_CHUNK, n))))
            if len(ahead) > jobs:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

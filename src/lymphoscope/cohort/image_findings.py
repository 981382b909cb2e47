"""From the cell table to findings: what is said about a cohort's photographs, each kind of fault once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.bags import IntArray
from lymphoscope.cohort.cell_table import Rows
from lymphoscope.cohort.cohort import UNLABELLED, Cohort
from lymphoscope.cohort.findings import Finding, counted
from lymphoscope.cohort.image_finding_kinds import (
    BlankImage,
    ConvertedPixels,
    DamagedImage,
    DescribedImage,
    DuplicateAcrossPatients,
    DuplicateAcrossSplits,
    DuplicateWithinPatient,
    EmptyImageFile,
    MisnamedFormat,
    NearDuplicateAcrossPatients,
    NotAnImage,
    NotSquare,
    PatientLeftWithoutCells,
    SeveralFrames,
    TooLargeImage,
    TruncatedImage,
    UnreadableImage,
    UnsupportedPixels,
    UnusualSize,
)
from lymphoscope.cohort.image_frames import FRAME
from lymphoscope.cohort.image_inspection import ImageFormat, Note, Problem

Flags = npt.NDArray[np.bool_]

_FAULTS: dict[Problem, tuple[type[Finding], str]] = {
    Problem.UNREADABLE: (UnreadableImage, "cannot be opened or read"),
    Problem.EMPTY: (EmptyImageFile, "without a single byte"),
    Problem.NOT_AN_IMAGE: (NotAnImage, "with the name of an image but other content"),
    Problem.TRUNCATED: (TruncatedImage, "ending before the picture does"),
    Problem.DAMAGED: (DamagedImage, "that cannot be decoded without guessing"),
    Problem.UNSUPPORTED: (UnsupportedPixels, "of a kind of pixels that is not supported"),
}

_CONVERSIONS = {
    Note.GREY: "grey",
    Note.CMYK: "CMYK",
    Note.SIXTEEN_BIT: "16-bit",
    Note.PALETTE: "palette",
    Note.TRANSPARENT: "transparent",
}

_SUFFIXES = {
    "jpg": ImageFormat.JPEG,
    "jpeg": ImageFormat.JPEG,
    "png": ImageFormat.PNG,
    "tif": ImageFormat.TIFF,
    "tiff": ImageFormat.TIFF,
    "bmp": ImageFormat.BMP,
    "gif": ImageFormat.GIF,
    "webp": ImageFormat.WEBP,
}


def find_faults(cohort: Cohort, rows: Rows, alike: npt.NDArray[np.int32]) -> tuple[Finding, ...]:
    """All findings about photographs, by code.

    Parameters
    ----------
    rows : rows of the cell table in the order of `cohort.images`.
    alike : number of the group of photographs that show the same cell, -1 for none, in the same order.
    """
    found = [
        *_unusable(cohort, rows),
        *_left_without_cells(cohort, rows),
        *_noted(cohort, rows),
        *_sizes(cohort, rows),
        *_duplicates(cohort, rows),
        *_near_duplicates(cohort, rows, alike),
    ]
    return tuple(sorted(found, key=lambda finding: finding.code))


def _about(cohort: Cohort, images: IntArray) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Ids of the patients concerned, in table order, and paths of the files."""
    patients = np.unique(np.asarray(cohort.image_patient)[images])
    ids = tuple(cohort.patients.ids[i] for i in patients.tolist())
    return ids, tuple(str(cohort.images[i]) for i in images.tolist())


def _finding(kind: type[Finding], cohort: Cohort, message: str, chosen: Flags) -> Iterator[Finding]:
    """The finding about the chosen photographs, if any; `{n}` in the message counts them, `{p}` patients."""
    images = np.flatnonzero(chosen)
    if len(images):
        patients, files = _about(cohort, images)
        counts = {"n": counted(len(files), "photograph"), "p": counted(len(patients), "patient")}
        yield kind(message.format(**counts), patients, files)


def _unusable(cohort: Cohort, rows: Rows) -> Iterator[Finding]:
    for problem, (kind, clause) in _FAULTS.items():
        yield from _finding(kind, cohort, f"{{n}} {clause}, left out.", rows["problem"] == problem)
    large = rows["problem"] == Problem.TOO_LARGE
    if large.any():
        pixels = rows["width"].astype(np.int64) * rows["height"]
        worst = int(np.argmax(np.where(large, pixels, -1)))
        size = f", up to {rows['width'][worst]} × {rows['height'][worst]} pixels" if pixels[worst] else ""
        yield from _finding(TooLargeImage, cohort, f"{{n}} too large to be decoded{size}, left out.", large)


def _left_without_cells(cohort: Cohort, rows: Rows) -> Iterator[Finding]:
    n = len(cohort.patients)
    owner = np.asarray(cohort.image_patient)
    had = np.bincount(owner, minlength=n)
    left = np.bincount(owner[rows["problem"] == Problem.NONE], minlength=n)
    empty = np.flatnonzero((had > 0) & (left == 0)).tolist()
    if empty:
        message = f"{counted(len(empty), 'patient')} with faulty photographs only."
        yield PatientLeftWithoutCells(message, tuple(cohort.patients.ids[i] for i in empty))


def _noted(cohort: Cohort, rows: Rows) -> Iterator[Finding]:
    notes = rows["notes"]
    blank, described = (notes & Note.BLANK) != 0, (notes & Note.DESCRIBED) != 0
    several = (notes & Note.ANIMATED) != 0
    yield from _finding(BlankImage, cohort, "{n} of one even colour, in {p}.", blank)
    yield from _finding(SeveralFrames, cohort, "{n} with several frames; the first is used.", several)
    text = "{n} with Exif, XMP, IPTC or text data, of {p}; none of it is kept."
    yield from _finding(DescribedImage, cohort, text, described)
    counts = {name: int(((notes & note) != 0).sum()) for note, name in _CONVERSIONS.items()}
    parts = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    converted = (notes & sum(_CONVERSIONS)) != 0
    yield from _finding(ConvertedPixels, cohort, f"{{n}} converted to 8-bit RGB ({parts}).", converted)
    named = np.array(
        [_SUFFIXES.get(str(path).rpartition(".")[2].lower(), 0) for path in cohort.images], dtype=np.int64
    )
    misnamed = (rows["format"] > 0) & (named > 0) & (named != rows["format"])
    yield from _finding(MisnamedFormat, cohort, "{n} of another format than the name says.", misnamed)


def _sizes(cohort: Cohort, rows: Rows) -> Iterator[Finding]:
    usable = rows["problem"] == Problem.NONE
    width, height = rows["width"], rows["height"]
    other = usable & ((width != FRAME) | (height != FRAME))
    if other.any():
        sizes = Counter(zip(width[other].tolist(), height[other].tolist(), strict=True))
        shown = ", ".join(f"{n} of {w} × {h}" for (w, h), n in sizes.most_common(3))
        more = f" and {counted(len(sizes) - 3, 'other size')}" if len(sizes) > 3 else ""
        message = f"{{n}} scaled to {FRAME} × {FRAME} pixels: {shown}{more}."
        yield from _finding(UnusualSize, cohort, message, other)
    oblong = usable & (width != height)
    yield from _finding(NotSquare, cohort, "{n} not square; the centre square is used.", oblong)


def _duplicates(cohort: Cohort, rows: Rows) -> Iterator[Finding]:
    """Each group of identical files is reported once, under the gravest kind that fits it."""
    group = _groups_of_files(rows)
    across, between = _spread(cohort, group, group >= 0)
    grave = {DuplicateAcrossSplits: between, DuplicateAcrossPatients: across & ~between}
    for kind, chosen in (*grave.items(), (DuplicateWithinPatient, (group >= 0) & ~across & ~between)):
        different = counted(len(np.unique(group[chosen])), "picture")
        yield from _finding(kind, cohort, f"{{n}} show {different}, file by file the same, in {{p}}.", chosen)


def _near_duplicates(cohort: Cohort, rows: Rows, alike: npt.NDArray[np.int32]) -> Iterator[Finding]:
    shown = (alike >= 0) & (rows["problem"] == Problem.NONE)
    several_files = _varies(alike, _digest(rows), shown)
    across, between = _spread(cohort, alike, shown & several_files)
    cells = counted(len(np.unique(alike[across])), "cell")
    split = len(np.unique(alike[between]))
    message = f"{{n}} show {cells} under {{p}} in different files"
    message += f"; {split} of them in training and in test, or labelled and unlabelled." if split else "."
    yield from _finding(NearDuplicateAcrossPatients, cohort, message, across)


def _digest(rows: Rows) -> npt.NDArray[np.bytes_]:
    return np.ascontiguousarray(rows["digest"]).view("S32").ravel()


def _groups_of_files(rows: Rows) -> IntArray:
    """Number of the group of identical files per photograph, -1 for one that stands alone."""
    usable = np.flatnonzero(rows["problem"] == Problem.NONE)
    group = np.full(len(rows), -1, dtype=np.int64)
    if len(usable):
        _, number, size = np.unique(_digest(rows)[usable], return_inverse=True, return_counts=True)
        group[usable] = np.where(size[number] > 1, number, -1)
    return group


def _spread(cohort: Cohort, group: npt.NDArray[np.integer], chosen: Flags) -> tuple[Flags, Flags]:
    """Photographs of groups that reach over patients; of groups that reach over training and test."""
    owner = np.asarray(cohort.image_patient)
    across = _varies(group, owner, chosen)
    split = np.array(cohort.patients.split, dtype=object)[owner] if len(owner) else np.empty(0, dtype=object)
    side = np.where(split == "train", 1, np.where(split == "test", 2, 0))
    labelled = (np.asarray(cohort.patients.label) != UNLABELLED)[owner]
    between = _varies(group, side, chosen & (side > 0)) | _varies(group, labelled, chosen)
    members = np.isin(group, np.unique(group[between])) & chosen
    return across, members


def _varies(group: npt.NDArray[np.integer], value: npt.NDArray[np.generic], chosen: Flags) -> Flags:
    """The chosen photographs of every group in which the chosen ones have more than one value."""
    images = np.flatnonzero(chosen)
    if len(images) == 0:
        return np.zeros(len(group), dtype=bool)
    _, code = np.unique(value[images], return_inverse=True)
    pairs = np.unique(np.stack([group[images], code]), axis=1)
    groups, kinds = np.unique(pairs[0], return_counts=True)
    return chosen & np.isin(group, groups[kinds > 1])

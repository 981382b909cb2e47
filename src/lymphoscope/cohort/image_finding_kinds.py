"""What can be wrong with a cohort's photographs (LYM201 to LYM299)."""

from __future__ import annotations

from dataclasses import dataclass

from lymphoscope.cohort.findings import Finding, Severity
from lymphoscope.cohort.image_inspection import MAX_FILE_BYTES, MAX_PIXELS

_BROKEN_REMEDY = "Copy the file again from its source, or remove it."


@dataclass(frozen=True)
class UnreadableImage(Finding):
    """A file cannot be opened or read: permissions, a dangling link, a failing disk, or no regular file."""

    code = "LYM201"
    title = "Photograph cannot be read"
    severity = Severity.ERROR
    remedy = "Allow reading the file, mend the link, or remove it."


@dataclass(frozen=True)
class EmptyImageFile(Finding):
    """A file holds no bytes."""

    code = "LYM202"
    title = "Photograph file is empty"
    severity = Severity.ERROR
    remedy = _BROKEN_REMEDY


@dataclass(frozen=True)
class NotAnImage(Finding):
    """A file has the name of an image and other content."""

    code = "LYM203"
    title = "File is no photograph"
    severity = Severity.ERROR
    remedy = "Remove the file or replace it by a JPEG, PNG, TIFF or BMP photograph."


@dataclass(frozen=True)
class TruncatedImage(Finding):
    """A file ends before its picture does. The part that could be shown is not used."""

    code = "LYM204"
    title = "Photograph is truncated"
    severity = Severity.ERROR
    remedy = _BROKEN_REMEDY


@dataclass(frozen=True)
class DamagedImage(Finding):
    """A file cannot be decoded without guessing. What a lenient viewer would show is not used."""

    code = "LYM205"
    title = "Photograph is damaged"
    severity = Severity.ERROR
    remedy = _BROKEN_REMEDY


@dataclass(frozen=True)
class TooLargeImage(Finding):
    """A file is very large or declares very many pixels (a decompression bomb). It was not decoded."""

    code = "LYM206"
    title = "Photograph is too large"
    severity = Severity.ERROR
    remedy = (
        f"Scale it down or remove it; allowed: {MAX_PIXELS / 1e6:.1f} million pixels and "
        f"{MAX_FILE_BYTES // 10**6} MB of file."
    )


@dataclass(frozen=True)
class UnsupportedPixels(Finding):
    """A file's pixels are of a kind whose brightness is not defined, such as 12-bit JPEG or 32-bit TIFF."""

    code = "LYM207"
    title = "Kind of pixels not supported"
    severity = Severity.ERROR
    remedy = "Export the photograph with 8 bits per colour."


@dataclass(frozen=True)
class PatientLeftWithoutCells(Finding):
    """All photographs of a patient are faulty. The patient is kept with the clinical values alone."""

    code = "LYM208"
    title = "No usable photograph of a patient"
    severity = Severity.WARNING
    remedy = "Mend the patient's photographs, see the other findings."


@dataclass(frozen=True)
class BlankImage(Finding):
    """A photograph shows one even colour, so no cell."""

    code = "LYM209"
    title = "Photograph is blank"
    severity = Severity.WARNING
    remedy = "Remove the photograph if there is no cell on it."


@dataclass(frozen=True)
class UnusualSize(Finding):
    """Photographs are not 224 × 224 pixels. The whole is scaled to that, so a pixel has another length."""

    code = "LYM210"
    title = "Photographs of another size"
    severity = Severity.WARNING
    remedy = "Export the photographs at 224 × 224 pixels, or make sure that all come at one scale."


@dataclass(frozen=True)
class NotSquare(Finding):
    """Photographs are not square. Their centre square is used, so what lies outside it is lost."""

    code = "LYM211"
    title = "Photographs are not square"
    severity = Severity.WARNING
    remedy = "Export square photographs with the cell in the centre."


@dataclass(frozen=True)
class ConvertedPixels(Finding):
    """Photographs were not 8-bit RGB (grey, CMYK, palette, 16-bit, transparent) and were converted to it.

    Sixteen bits are scaled from 0–65535 to 0–255 and transparent pixels laid on white. Colour measures of
    a photograph that was grey mean nothing.
    """

    code = "LYM212"
    title = "Photographs converted to 8-bit RGB"
    severity = Severity.INFO
    remedy = "Export all photographs as 8-bit RGB if the analyser can."


@dataclass(frozen=True)
class SeveralFrames(Finding):
    """A file holds several frames or pages. The first one is used."""

    code = "LYM213"
    title = "Photograph with several frames"
    severity = Severity.WARNING
    remedy = "Save each frame that shows a cell as a file of its own."


@dataclass(frozen=True)
class MisnamedFormat(Finding):
    """A file's name ends like one image format and its content is another, which is what was read."""

    code = "LYM214"
    title = "Name and format disagree"
    severity = Severity.INFO
    remedy = "Rename the file after its format; nothing depends on it."


@dataclass(frozen=True)
class DuplicateWithinPatient(Finding):
    """The same file stands more than once under one patient, so one cell counts several times."""

    code = "LYM220"
    title = "Same photograph twice in a patient"
    severity = Severity.WARNING
    remedy = "Keep one copy."


@dataclass(frozen=True)
class DuplicateAcrossPatients(Finding):
    """The same file stands under several patients: a cell has one owner, so at least one of them is wrong."""

    code = "LYM221"
    title = "Same photograph in several patients"
    severity = Severity.ERROR
    remedy = "Find out whose cell it is and remove it from the others; patients may be one person twice."


@dataclass(frozen=True)
class DuplicateAcrossSplits(Finding):
    """The same file stands under training and test patients, or under labelled and unlabelled ones.

    A model then sees in training what it is tested on, and the result is too good.
    """

    code = "LYM222"
    title = "Same photograph in training and test"
    severity = Severity.ERROR
    remedy = "Remove the photograph from one side; evaluate again whatever was evaluated with it."


@dataclass(frozen=True)
class NearDuplicateAcrossPatients(Finding):
    """Different files under different patients show the same cell: re-encoded, brightened, scaled, turned.

    Told by a perceptual hash and the correlation of thumbnails. Copies moved by more than about two pixels,
    cropped by more than about four, or turned by other angles than quarters are missed.
    """

    code = "LYM223"
    title = "Same cell in several patients"
    severity = Severity.WARNING
    remedy = "Look at the photographs; if they show one cell, treat them like the same photograph twice."


@dataclass(frozen=True)
class DescribedImage(Finding):
    """Files carry Exif, XMP, IPTC or text, which may name a person, a place or a time.

    Only its presence is noted: its content is neither read nor kept nor passed on.
    """

    code = "LYM230"
    title = "Photographs carry personal metadata"
    severity = Severity.WARNING
    remedy = "Strip the metadata before sharing the cohort; nothing of it is stored here."

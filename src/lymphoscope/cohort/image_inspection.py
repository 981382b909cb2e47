"""One look at one image file: what it is, whether it can be trusted, and the bytes worth keeping."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from enum import IntEnum, IntFlag

import cv2
import numpy as np
import PIL.Image
import simplejpeg
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from lymphoscope.cohort.image_frames import FRAME, REDUCED, Image, reduce_frame, to_frame
from lymphoscope.cohort.jpeg_segments import JpegHeader, read_jpeg_header

INSPECTION_VERSION = 2
"""Raised whenever the same file would be inspected to another result."""

MAX_PIXELS = 4096 * 4096
"""A photograph that declares more is refused from its header alone, undecoded."""

_LARGE_PIXELS = 2_000_000
# One large picture at a time, whatever the number of threads: decoding one takes up to 300 MB.
_one_large_picture = threading.Lock()

MAX_FILE_BYTES = 64_000_000
"""A larger file is refused unread: no photograph of one cell needs it."""

_PNG_END = b"IEND\xaeB`\x82"
"""Kind and check sum of the chunk that ends every PNG file."""


class Problem(IntEnum):
    """Why a file gives no picture."""

    NONE = 0
    UNREADABLE = 1
    EMPTY = 2
    NOT_AN_IMAGE = 3
    TRUNCATED = 4
    DAMAGED = 5
    TOO_LARGE = 6
    UNSUPPORTED = 7


class Note(IntFlag):
    """What is worth saying about a picture that can be used."""

    NONE = 0
    DESCRIBED = 1
    GREY = 2
    CMYK = 4
    SIXTEEN_BIT = 8
    PALETTE = 16
    TRANSPARENT = 32
    ANIMATED = 64
    BLANK = 128


class ImageFormat(IntEnum):
    """File formats, told by the first bytes of the content."""

    UNKNOWN = 0
    JPEG = 1
    PNG = 2
    TIFF = 3
    BMP = 4
    GIF = 5
    WEBP = 6


_READERS: dict[ImageFormat, Callable[[io.BytesIO], PIL.Image.Image]] = {
    ImageFormat.JPEG: JpegImageFile,
    ImageFormat.PNG: PngImageFile,
    ImageFormat.TIFF: TiffImageFile,
    ImageFormat.BMP: BmpImageFile,
    ImageFormat.GIF: GifImageFile,
    ImageFormat.WEBP: WebPImageFile,
}


@dataclass(frozen=True)
class Inspection:
    """What one look found.

    Attributes
    ----------
    width, height : pixels, as declared by the file; 0 where it does not say.
    reduced : the picture at an eighth of the frame, uint8 RGB (28, 28, 3), see `reduce_frame`; None with a
        problem.
    payload : the picture without metadata: the JPEG file's own compressed pixels, or, for everything that
        is not an 8-bit grey or colour JPEG, a PNG file of its 8-bit RGB pixels. Empty with a problem.
    """

    format: ImageFormat
    problem: Problem = Problem.NONE
    notes: Note = Note.NONE
    width: int = 0
    height: int = 0
    reduced: Image | None = None
    payload: bytes = b""


class _Refused(Exception):
    """This content gives no picture, for the reason named."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.name)
        self.problem = problem


@dataclass
class _Picture:
    """A picture that could be decoded, with what was noted on the way."""

    width: int
    height: int
    reduced: Image
    notes: Note
    payload: bytes


def inspect_image(data: bytes) -> Inspection:
    """Look at the bytes of one file. Never raises for what they hold: a fault is a `problem`."""
    if not data:
        return Inspection(ImageFormat.UNKNOWN, Problem.EMPTY)
    kind = _sniff(data)
    if kind is ImageFormat.UNKNOWN:
        return Inspection(kind, Problem.NOT_AN_IMAGE)
    header = read_jpeg_header(data) if kind is ImageFormat.JPEG else None
    declared = (0, 0) if header is None else (header.width, header.height)
    try:
        if header is None:
            declared = _declared_size(data, kind)
        _check_size(*declared)
        with _one_large_picture if declared[0] * declared[1] > _LARGE_PIXELS else nullcontext():
            picture = _decode_file(data, kind) if header is None else _decode_jpeg(data, header)
    except _Refused as refusal:
        return Inspection(kind, refusal.problem, width=declared[0], height=declared[1])
    return Inspection(
        kind,
        Problem.NONE,
        picture.notes,
        picture.width,
        picture.height,
        picture.reduced,
        picture.payload,
    )


def decode_payload(payload: bytes | memoryview) -> Image:
    """The picture of `Inspection.payload`, uint8 RGB (H, W, 3)."""
    if payload[:2] == b"\xff\xd8":
        return np.asarray(simplejpeg.decode_jpeg(payload, "RGB"), dtype=np.uint8)
    decoded = cv2.imdecode(np.frombuffer(payload, dtype=np.uint8), cv2.IMREAD_COLOR)
    if decoded is None:
        raise ValueError("a stored picture cannot be decoded")
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _sniff(data: bytes) -> ImageFormat:
    """Which format the content begins like."""
    if data.startswith(b"\xff\xd8\xff"):
        return ImageFormat.JPEG
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return ImageFormat.PNG
    if data.startswith((b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")):
        return ImageFormat.TIFF
    if data.startswith((b"GIF87a", b"GIF89a")):
        return ImageFormat.GIF
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return ImageFormat.WEBP
    # "BM" alone is too short to tell a bitmap from prose: its header's size is a small even number.
    if data.startswith(b"BM") and data[14:18] in (b"\x0c\0\0\0", b"\x28\0\0\0", b"\x6c\0\0\0", b"\x7c\0\0\0"):
        return ImageFormat.BMP
    return ImageFormat.UNKNOWN


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise _Refused(Problem.TOO_LARGE)


def _decode_jpeg(data: bytes, header: JpegHeader) -> _Picture:
    if not header.complete:
        raise _Refused(Problem.TRUNCATED)
    notes = Note.DESCRIBED if header.described else Note.NONE
    if header.precision != 8 or header.components not in (1, 3, 4):
        raise _Refused(Problem.UNSUPPORTED)
    if header.components == 4:
        picture = _decode_file(data, ImageFormat.JPEG)
        picture.notes |= notes
        return picture
    if header.components == 1:
        notes |= Note.GREY
    try:
        reduced = _reduced_jpeg(header)
    except ValueError as error:
        raise _Refused(Problem.DAMAGED) from error
    return _Picture(header.width, header.height, reduced, notes, header.payload)


def _reduced_jpeg(header: JpegHeader) -> Image:
    """The reduced frame of a JPEG picture; a ValueError where anything in it is damaged.

    A picture of the frame's size is decoded at an eighth: from the mean of each block, which the file holds,
    instead of its 64 pixels. The whole compressed picture is still read through, so no fault is missed.
    """
    if header.width == header.height == FRAME:
        small = simplejpeg.decode_jpeg(
            header.payload,
            "RGB",
            min_height=REDUCED,
            min_width=REDUCED,
            min_factor=FRAME / REDUCED,
            strict=True,
        )
        return np.asarray(small, dtype=np.uint8)
    return reduce_frame(to_frame(simplejpeg.decode_jpeg(header.payload, "RGB", strict=True)))


def _open(data: bytes, kind: ImageFormat) -> PIL.Image.Image:
    # Pillow's own opener refuses large pictures without saying how large, and warns instead at other sizes.
    return _READERS[kind](io.BytesIO(data))


def _declared_size(data: bytes, kind: ImageFormat) -> tuple[int, int]:
    """Width and height that the header declares; nothing is decoded."""
    if kind is ImageFormat.PNG and _PNG_END not in data:
        raise _Refused(Problem.TRUNCATED)
    try:
        with _open(data, kind) as image:
            return image.size
    except Exception as error:
        raise _Refused(_fault(error)) from error


def _decode_file(data: bytes, kind: ImageFormat) -> _Picture:
    """Decode with Pillow, first frame only, to 8-bit RGB."""
    try:
        with _open(data, kind) as image:
            notes = Note.ANIMATED if getattr(image, "n_frames", 1) > 1 else Note.NONE
            notes |= _described(image)
            image.seek(0)
            image.load()
            rgb, conversion = _to_rgb(image, data, kind)
    except _Refused:
        raise
    # Decoders of damaged files fail in many ways (struct, index, zlib, memory); each is the same to the user.
    except Exception as error:
        raise _Refused(_fault(error)) from error
    encoded = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    height, width = rgb.shape[:2]
    return _Picture(width, height, reduce_frame(to_frame(rgb)), notes | conversion, encoded.tobytes())


def _fault(error: Exception) -> Problem:
    return Problem.TRUNCATED if "truncated" in str(error).lower() else Problem.DAMAGED


def _to_rgb(image: PIL.Image.Image, data: bytes, kind: ImageFormat) -> tuple[Image, Note]:
    """8-bit RGB pixels and what had to be converted; transparent pixels are laid on white."""
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and kind is ImageFormat.PNG):
        # 65535 / 257 = 255: white stays white whatever part of the range the picture uses.
        grey = (np.asarray(image).astype(np.uint32) + 128) // 257
        return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8), Note.GREY | Note.SIXTEEN_BIT
    if mode in ("I", "F"):
        raise _Refused(Problem.UNSUPPORTED)
    notes = Note.SIXTEEN_BIT if _deep(image, data, kind) else Note.NONE
    if mode in ("1", "L", "LA", "La"):
        notes |= Note.GREY
    elif mode in ("P", "PA"):
        notes |= Note.PALETTE
    elif mode == "CMYK":
        notes |= Note.CMYK
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        overlay = image if mode == "RGBA" else image.convert("RGBA")
        on_white = PIL.Image.new("RGB", overlay.size, "white")
        on_white.paste(overlay, mask=overlay.getchannel("A"))
        return np.asarray(on_white), notes | Note.TRANSPARENT
    return np.asarray(image.convert("RGB")), notes


def _deep(image: PIL.Image.Image, data: bytes, kind: ImageFormat) -> bool:
    """Whether the file holds 16 bits per colour, of which Pillow keeps the upper eight."""
    if kind is ImageFormat.PNG:
        return data[24] == 16
    if kind is ImageFormat.TIFF:
        bits = getattr(image, "tag_v2", {}).get(258, 8)
        return max(bits if isinstance(bits, tuple) else (bits,)) > 8
    return False


# Description, date, artist, computer, XMP, copyright, IPTC, Photoshop's block, Exif, GPS.
_TIFF_PERSONAL = (270, 306, 315, 316, 700, 33432, 33723, 34377, 34665, 34853)


def _described(image: PIL.Image.Image) -> Note:
    """Whether the file carries data beside its pixels that may name a person, a place or a time."""
    if image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        found = any(tag in tags for tag in _TIFF_PERSONAL)
    else:
        text = getattr(image, "text", None)
        found = (
            bool(image.getexif()) or bool(text) or any(k in image.info for k in ("xmp", "XML:com.adobe.xmp"))
        )
    return Note.DESCRIBED if found else Note.NONE

"""The segments of a JPEG file: what its header declares, and the same picture without its metadata."""

from __future__ import annotations

from typing import NamedTuple

START_OF_IMAGE = b"\xff\xd8"
END_OF_IMAGE = b"\xff\xd9"

_START_OF_SCAN, _COMMENT = 0xDA, 0xFE
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# APP0 (JFIF) and APP14 (Adobe: which colour space the components are in) decide how pixels are decoded.
_PIXEL_APPS = frozenset({0xE0, 0xEE})
_DESCRIPTIVE_APPS = frozenset({0xE1, 0xED})  # Exif and XMP; IPTC
_MULTI_PICTURE = b"MPF\0"  # further pictures follow the first in the same file


class JpegHeader(NamedTuple):
    """What stands before the first scan of a JPEG file.

    Attributes
    ----------
    width, height : pixels; 0 where the file ends before it says so.
    components : colour components: 1 grey, 3 colour, 4 CMYK.
    precision : bits per component.
    described : an Exif, XMP or IPTC segment is there.
    complete : the compressed picture runs to its end marker.
    payload : the file without application data and comments, its compressed pixels byte for byte as they
        were; what follows the end marker is left out too.
    """

    width: int
    height: int
    components: int
    precision: int
    described: bool
    complete: bool
    payload: bytes


def read_jpeg_header(data: bytes) -> JpegHeader:
    """Walk the segments of `data`, which starts with the JPEG marker, up to the compressed picture.

    Segments: ITU-T T.81 (1992), annex B.
    """
    width = height = components = precision = 0
    described = several = False
    kept: list[bytes] = []
    at = kept_from = len(START_OF_IMAGE)
    end = len(data)
    while at + 4 <= end and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker in _STANDALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker == _START_OF_SCAN:
            stop = _end_of_picture(data, at, several=several)
            complete = stop >= 0
            kept.append(data[kept_from : stop + 2 if complete else end])
            untouched = len(kept) == 1 and len(kept[0]) + len(START_OF_IMAGE) == end
            payload = data if untouched else START_OF_IMAGE + b"".join(kept)
            return JpegHeader(width, height, components, precision, described, complete, payload)
        following = at + 2 + (data[at + 2] << 8 | data[at + 3])
        if marker in _FRAME_HEADERS and at + 10 <= end:
            precision, components = data[at + 4], data[at + 9]
            height, width = data[at + 5] << 8 | data[at + 6], data[at + 7] << 8 | data[at + 8]
        elif marker >= 0xE0 and (marker == _COMMENT or (marker <= 0xEF and marker not in _PIXEL_APPS)):
            described |= marker in _DESCRIPTIVE_APPS
            several |= data.startswith(_MULTI_PICTURE, at + 4)
            kept.append(data[kept_from:at])
            kept_from = following
        at = following
    return JpegHeader(width, height, components, precision, described, False, b"")


def _end_of_picture(data: bytes, scan: int, *, several: bool) -> int:
    """Where the end marker of the picture whose first scan begins at `scan` stands; -1 where there is none.

    Inside compressed data 0xFF is always stuffed, so the first end marker is the right one. Searching for
    it from the end is a hundred times faster and finds the same one where nothing follows the picture.
    """
    last = data.rfind(END_OF_IMAGE, scan)
    if last + len(END_OF_IMAGE) == len(data) and not several:
        return last
    return data.find(END_OF_IMAGE, scan)

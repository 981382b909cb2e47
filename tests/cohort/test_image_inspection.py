from __future__ import annotations

import struct
from collections.abc import Callable

import cv2
import numpy as np
import PIL.Image
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from photographs import encoded, jpeg, photograph, png_that_declares

from lymphoscope.cohort.image_frames import border_colours, luminance, reduce_frame, to_frame
from lymphoscope.cohort.image_inspection import (
    MAX_PIXELS,
    ImageFormat,
    Note,
    Problem,
    decode_payload,
    inspect_image,
)

# Pillow warns about damaged files, which is what these tests hand it.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

IMAGE = photograph(3)
PICTURE = PIL.Image.fromarray(IMAGE)
DEEP_GREY = PIL.Image.fromarray(IMAGE[..., 1].astype(np.uint16) * 257)
JPEG = jpeg(IMAGE)
FILES = {
    "JPEG": JPEG,
    "progressive": encoded(PICTURE, "JPEG", progressive=True),
    "CMYK": encoded(PICTURE.convert("CMYK"), "JPEG"),
    "PNG": encoded(PICTURE, "PNG"),
    "TIFF": encoded(PICTURE, "TIFF"),
    "TIFF deflated": encoded(PICTURE, "TIFF", compression="tiff_deflate"),
    "BMP": encoded(PICTURE, "BMP"),
    "GIF": encoded(PICTURE.quantize(256), "GIF"),
    "WEBP": encoded(PICTURE, "WEBP", lossless=True),
}


def declared(data: bytes, width: int, height: int) -> bytes:
    """A JPEG file whose header lies about the size."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def tiff_that_declares(width: int, height: int) -> bytes:
    data = FILES["TIFF"]
    for tag, value in ((256, width), (257, height)):
        at = max(data.find(struct.pack("<HHI", tag, kind, 1)) for kind in (3, 4))
        data = data[:at] + struct.pack("<HHII", tag, 4, 1, value) + data[at + 12 :]
    return data


def bmp_that_declares(width: int, height: int) -> bytes:
    return FILES["BMP"][:18] + struct.pack("<ii", width, height) + FILES["BMP"][26:]


@pytest.mark.parametrize("name", ["PNG", "TIFF", "TIFF deflated", "BMP", "WEBP"])
def test_lossless_formats_keep_their_pixels(name: str) -> None:
    found = inspect_image(FILES[name])
    assert (found.problem, found.notes) == (Problem.NONE, Note.NONE)
    assert found.format.name == name.split()[0]
    assert np.array_equal(decode_payload(found.payload), IMAGE)


def test_jpeg_is_kept_as_it_came() -> None:
    found = inspect_image(JPEG)
    assert (found.format, found.problem, found.notes) == (ImageFormat.JPEG, Problem.NONE, Note.NONE)
    assert (found.width, found.height) == (224, 224)
    assert np.array_equal(decode_payload(found.payload), simplejpeg.decode_jpeg(JPEG))


def test_progressive_jpeg_is_read() -> None:
    found = inspect_image(FILES["progressive"])
    assert found.problem is Problem.NONE
    assert np.abs(decode_payload(found.payload).astype(int) - IMAGE).mean() < 4


@pytest.mark.parametrize(
    ("data", "notes"),
    [
        (FILES["CMYK"], Note.CMYK),
        (encoded(PICTURE.convert("L"), "JPEG"), Note.GREY),
        (encoded(PICTURE.convert("L"), "PNG"), Note.GREY),
        (encoded(PICTURE.quantize(256), "PNG"), Note.PALETTE),
        (encoded(PICTURE.convert("RGBA"), "PNG"), Note.TRANSPARENT),
        (encoded(DEEP_GREY, "PNG"), Note.GREY | Note.SIXTEEN_BIT),
        (encoded(DEEP_GREY, "TIFF"), Note.GREY | Note.SIXTEEN_BIT),
        (cv2.imencode(".png", IMAGE[..., ::-1].astype(np.uint16) * 257)[1].tobytes(), Note.SIXTEEN_BIT),
        (cv2.imencode(".tiff", IMAGE[..., ::-1].astype(np.uint16) * 257)[1].tobytes(), Note.SIXTEEN_BIT),
    ],
)  # fmt: skip
def test_other_pixels_are_converted_and_noted(data: bytes, notes: Note) -> None:
    found = inspect_image(data)
    assert (found.problem, found.notes) == (Problem.NONE, notes)
    expected = np.repeat(IMAGE[..., 1:2], 3, axis=2) if notes == Note.GREY | Note.SIXTEEN_BIT else IMAGE
    if Note.GREY in notes and Note.SIXTEEN_BIT not in notes:
        expected = np.repeat(np.asarray(PICTURE.convert("L"))[..., None], 3, axis=2)
    assert np.abs(decode_payload(found.payload).astype(int) - expected).mean() < 12


def test_sixteen_bits_keep_white_white() -> None:
    levels = np.tile(np.array([0, 257, 32768, 65535], dtype=np.uint16), (224, 56))
    found = inspect_image(encoded(PIL.Image.fromarray(levels), "PNG"))
    assert decode_payload(found.payload)[0, :4, 0].tolist() == [0, 1, 128, 255]


def test_transparent_pixels_lie_on_white() -> None:
    clear = np.dstack([IMAGE, np.zeros((224, 224), dtype=np.uint8)])
    found = inspect_image(encoded(PIL.Image.fromarray(clear), "PNG"))
    assert decode_payload(found.payload).min() == 255


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_first_frame_of_an_animation_is_used(kind: str) -> None:
    others = [PIL.Image.fromarray(photograph(seed)) for seed in (4, 5)]
    options = {"lossless": True} if kind == "WEBP" else {}
    found = inspect_image(encoded(PICTURE, kind, save_all=True, append_images=others, **options))
    assert found.problem is Problem.NONE
    assert Note.ANIMATED in found.notes
    assert np.abs(decode_payload(found.payload).astype(int) - IMAGE).mean() < 12


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", Problem.EMPTY),
        (b"dear colleague, the cells are in the other folder\n", Problem.NOT_AN_IMAGE),
        (b"BMI and other measures of the patients, 40 in all", Problem.NOT_AN_IMAGE),
        (b"\xff\xd8\xff", Problem.TRUNCATED),
        (b"\x89PNG\r\n\x1a\n", Problem.TRUNCATED),
        (png_that_declares(60_000, 60_000), Problem.TOO_LARGE),
        (png_that_declares(4097, 4096), Problem.TOO_LARGE),
        (declared(JPEG, 60_000, 60_000), Problem.TOO_LARGE),
        (tiff_that_declares(60_000, 60_000), Problem.TOO_LARGE),
        (bmp_that_declares(60_000, 60_000), Problem.TOO_LARGE),
        (encoded(PIL.Image.fromarray(IMAGE[..., 0].astype(np.float32)), "TIFF"), Problem.UNSUPPORTED),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_named(data: bytes, problem: Problem) -> None:
    found = inspect_image(data)
    assert found.problem is problem
    assert found.payload == b""


@pytest.mark.parametrize("make", [png_that_declares, tiff_that_declares, bmp_that_declares])
def test_the_size_of_a_refused_picture_is_told(make: Callable[[int, int], bytes]) -> None:
    found = inspect_image(make(60_000, 60_000))
    assert (found.width, found.height) == (60_000, 60_000)
    assert found.width * found.height > MAX_PIXELS


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=15, deadline=None)
@given(part=st.floats(0, 0.97))
def test_a_file_cut_anywhere_gives_no_picture(name: str, part: float) -> None:
    data = FILES[name]
    found = inspect_image(data[: int(part * len(data))])
    assert found.problem is not Problem.NONE


@pytest.mark.parametrize("name", ["JPEG", "PNG", "BMP"])
@pytest.mark.parametrize("lost", [1, 2, 3, 20])
def test_even_the_last_bytes_are_missed(name: str, lost: int) -> None:
    found = inspect_image(FILES[name][:-lost])
    assert found.problem in (Problem.TRUNCATED, Problem.DAMAGED)


def test_a_hole_in_the_compressed_pixels_is_damage() -> None:
    middle = len(JPEG) // 2
    assert inspect_image(JPEG[:middle] + JPEG[middle + 600 :]).problem is Problem.DAMAGED


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(FILES)), at=st.floats(0, 1), junk=st.binary(min_size=1, max_size=40))
def test_damage_never_raises(name: str, at: float, junk: bytes) -> None:
    data = bytearray(FILES[name])
    start = int(at * (len(data) - 1))
    data[start : start + len(junk)] = junk
    found = inspect_image(bytes(data))
    assert (found.problem is Problem.NONE) == bool(found.payload)


def test_metadata_is_noted_and_not_kept() -> None:
    exif = PIL.Image.Exif()
    exif[315] = "Jane Doe"
    text = PIL.PngImagePlugin.PngInfo()
    text.add_text("Author", "Jane Doe")
    files = [
        encoded(PICTURE, "JPEG", exif=exif.tobytes()),
        encoded(PICTURE, "PNG", exif=exif.tobytes()),
        encoded(PICTURE, "PNG", pnginfo=text),
        encoded(PICTURE, "TIFF", tiffinfo={315: "Jane Doe"}),
        encoded(PICTURE, "WEBP", exif=exif.tobytes()),
    ]
    for data in files:
        found = inspect_image(data)
        assert b"Jane Doe" in data
        assert found.notes is Note.DESCRIBED
        assert b"Jane Doe" not in found.payload


def test_frame_of_another_size_shows_the_whole() -> None:
    large = cv2.resize(IMAGE, (448, 448), interpolation=cv2.INTER_CUBIC)
    assert np.abs(to_frame(large).astype(int) - IMAGE).mean() < 2
    wide = np.concatenate([np.zeros_like(IMAGE), IMAGE, np.zeros_like(IMAGE)], axis=1)
    assert np.array_equal(to_frame(wide), IMAGE)
    assert to_frame(IMAGE[:1, :1]).shape == (224, 224, 3)


def test_border_colour_is_lab_of_the_ring() -> None:
    image = np.full((224, 224, 3), 255, dtype=np.uint8)
    image[8:-8, 8:-8] = 0
    assert border_colours(reduce_frame(image)[None])[0].tolist() == pytest.approx([100, 0, 0], abs=0.5)
    red = np.zeros_like(image)
    red[..., 0] = 255
    # CIE Lab of sRGB red under D65.
    assert border_colours(reduce_frame(red)[None])[0].tolist() == pytest.approx([53.2, 80.1, 67.2], abs=1)


def test_an_eighth_decoded_from_a_jpeg_is_the_frame_reduced() -> None:
    found = inspect_image(JPEG)
    whole = reduce_frame(to_frame(decode_payload(found.payload)))
    assert found.reduced is not None
    small, large = luminance(found.reduced[None]).astype(int), luminance(whole[None]).astype(int)
    assert np.abs(small - large).max() <= 3
    assert np.abs(border_colours(found.reduced[None]) - border_colours(whole[None])).max() < 1

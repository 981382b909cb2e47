from __future__ import annotations

import io

import numpy as np
import PIL.Image
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from photographs import encoded, jpeg, photograph

from lymphoscope.cohort.jpeg_segments import read_jpeg_header

PLAIN = jpeg(photograph(0))


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content


def with_segments(*segments: bytes) -> bytes:
    return PLAIN[:2] + b"".join(segments) + PLAIN[2:]


def test_header_says_size_components_and_precision() -> None:
    header = read_jpeg_header(jpeg(photograph(0)[:100, :60]))
    assert (header.width, header.height, header.components, header.precision) == (60, 100, 3, 8)
    assert header.complete
    assert not header.described


def test_metadata_and_comments_are_cut_out_and_pixels_stay() -> None:
    data = with_segments(
        segment(0xE1, b"Exif\0\0Jane Doe"),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0Jane Doe"),
        segment(0xED, b"Photoshop 3.0\0Jane Doe"),
        segment(0xFE, b"Jane Doe"),
        segment(0xE2, b"ICC_PROFILE\0Jane Doe"),
    )
    header = read_jpeg_header(data + b"appended by Jane Doe")
    assert header.described
    assert b"Jane Doe" not in header.payload
    assert np.array_equal(simplejpeg.decode_jpeg(header.payload), simplejpeg.decode_jpeg(PLAIN))


def test_a_comment_alone_is_no_description() -> None:
    header = read_jpeg_header(with_segments(segment(0xFE, b"Intel(R) JPEG Library")))
    assert not header.described
    assert header.payload == read_jpeg_header(PLAIN).payload


def test_second_picture_of_one_file_is_cut_off_with_its_metadata() -> None:
    second = with_segments(segment(0xE1, b"Exif\0\0Jane Doe"))
    header = read_jpeg_header(with_segments(segment(0xE2, b"MPF\0")) + second)
    assert b"Jane Doe" not in header.payload
    assert np.array_equal(simplejpeg.decode_jpeg(header.payload), simplejpeg.decode_jpeg(PLAIN))


def test_colour_transform_of_adobe_files_is_kept() -> None:
    image = PIL.Image.fromarray(photograph(1))
    data = encoded(image, "JPEG", keep_rgb=True, quality=95)
    payload = read_jpeg_header(data).payload
    assert np.array_equal(simplejpeg.decode_jpeg(payload), np.asarray(PIL.Image.open(io.BytesIO(data))))


@given(cut=st.integers(0, len(PLAIN) - 1))
def test_every_cut_is_seen(cut: int) -> None:
    assert not read_jpeg_header(PLAIN[: max(2, cut)]).complete


@given(junk=st.binary(max_size=200))
def test_any_bytes_end(junk: bytes) -> None:
    header = read_jpeg_header(b"\xff\xd8" + junk)
    assert header.width >= 0

"""Small photographs and cohorts made on the spot, for the tests of the cell store."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import simplejpeg

from lymphoscope.cohort.cohort import Cohort, Patients


def photograph(seed: int, side: int = 224) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A dark blob among random soft shapes on a pale ground, uint8 RGB; another seed, another picture."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 45, (12, 12, 3)).astype(np.float32)
    ground = 200 + cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    rows, columns = np.mgrid[:side, :side] / side - 0.5
    ground -= 90 * np.exp(-((rows**2 + columns**2) / 0.02))[..., None]
    return np.clip(ground, 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray[Any, Any], quality: int = 90) -> bytes:
    """The image as a baseline colour JPEG."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=quality)


def encoded(image: PIL.Image.Image, kind: str, **options: Any) -> bytes:
    """The image as Pillow writes it."""
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()


def png_that_declares(width: int, height: int) -> bytes:
    """A small PNG file whose header claims that many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


def make_cohort(
    root: Path,
    files: Mapping[str, Sequence[bytes]],
    *,
    label: Sequence[int] | None = None,
    split: Sequence[str] | None = None,
    suffix: str = ".jpg",
) -> Cohort:
    """Write each patient's files into a folder of the patient's name; the cohort as if it had been read."""
    images: list[Path] = []
    owner: list[int] = []
    for i, (patient, contents) in enumerate(files.items()):
        (root / patient).mkdir(parents=True, exist_ok=True)
        for k, content in enumerate(contents):
            path = Path(patient) / f"{k:06d}{suffix}"
            (root / path).write_bytes(content)
            images.append(path)
            owner.append(i)
    n = len(files)
    patients = Patients(
        ids=tuple(files),
        label=np.array([1] * n if label is None else label, dtype=np.int8),
        clinical=np.tile([70.0, 1.0, 8.5], (n, 1)),
        split=tuple([""] * n if split is None else split),
        date_layout=("",) * n,
    )
    return Cohort(root, patients, tuple(images), np.array(owner, dtype=np.int64), (), date(2020, 1, 1))

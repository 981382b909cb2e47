"""The 224-pixel frame every photograph is brought to, and the small measures taken from it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.bags import IntArray

Image = npt.NDArray[np.uint8]

FRAME = 224
"""Side of the frame in pixels: the size of the analyser's photographs."""

REDUCED = 28
"""Side of the frame at an eighth, where a JPEG file holds one number per block and colour."""

_HASH_SIDE = 8
# A cosine amplitude below this many grey levels at all 63 frequencies is a picture of nothing.
_BLANK_AMPLITUDE = 0.25


def to_frame(image: Image) -> Image:
    """The centre square of `image` (H, W, 3), scaled to the frame; as it is where it has that size."""
    height, width = image.shape[:2]
    if height == width == FRAME:
        return image
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    if side == FRAME:
        return np.ascontiguousarray(square)
    # Averaging over areas avoids aliasing when shrinking; it is no interpolation when enlarging.
    method = cv2.INTER_AREA if side > FRAME else cv2.INTER_CUBIC
    return _as_image(cv2.resize(square, (FRAME, FRAME), interpolation=method))


def centre_crop(frame: Image, size: int) -> Image:
    """The centre `size` × `size` pixels of a frame."""
    start = (FRAME - size) // 2
    return frame[start : start + size, start : start + size]


def reduce_frame(frame: Image) -> Image:
    """Mean colour of each 8 × 8 block of a frame (224, 224, 3), uint8 (28, 28, 3)."""
    # Three halvings take the vectorised path of the area filter; one reduction by eight does not.
    for side in (FRAME // 2, FRAME // 4, REDUCED):
        frame = _as_image(cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA))
    return frame


def luminance(reduced: Image) -> Image:
    """Grey values of reduced frames (n, 28, 28, 3), uint8 (n, 28, 28): the thumbnails that are compared."""
    # Pictures on top of each other are one tall picture: one call instead of many.
    tall = reduced.reshape(-1, REDUCED, 3)
    return _as_image(cv2.cvtColor(tall, cv2.COLOR_RGB2GRAY)).reshape(-1, REDUCED, REDUCED)


def perceptual_hashes(thumbnails: Image) -> npt.NDArray[np.uint64]:
    """64-bit perceptual hash of each thumbnail: signs of its 63 lowest cosine frequencies but the constant.

    Bit 63 - (8 u + v) is set where the type-II cosine transform is positive at vertical frequency `u` and
    horizontal frequency `v` (Zauner 2010, "Implementation and benchmarking of perceptual image hash
    functions", section 3.1, with signs instead of a median, so that mirroring only inverts or swaps bits
    and brightness and contrast change none). 0 for a picture of nothing.

    Parameters
    ----------
    thumbnails : uint8, shape (n, 28, 28).
    """
    basis = _cosines()
    coefficients = (basis @ thumbnails.astype(np.float32) @ basis.T).reshape(-1, _HASH_SIDE**2)
    coefficients[:, 0] = 0.0
    blank = np.abs(coefficients).max(axis=1) < _BLANK_AMPLITUDE
    octets = np.packbits(coefficients > 0, axis=1)
    return np.where(blank, 0, np.ascontiguousarray(octets).view(">u8").ravel()).astype(np.uint64)


def border_colours(reduced: Image) -> npt.NDArray[np.float32]:
    """Mean CIE Lab colour (L 0–100, a, b) of the outer 8 pixels of each frame, shape (n, 3).

    Parameters
    ----------
    reduced : frames at an eighth, (n, 28, 28, 3): the ring is one pixel wide there.
    """
    rings = _as_image(reduced.reshape(len(reduced), -1, 3).take(_ring_pixels(), axis=1))
    lab = np.asarray(cv2.cvtColor(rings, cv2.COLOR_RGB2LAB)).mean(axis=1, dtype=np.float32)
    # Eight-bit Lab: L scaled to 255, a and b moved by 128.
    return lab * np.array([100 / 255, 1, 1], dtype=np.float32) - np.array([0, 128, 128], dtype=np.float32)


@lru_cache(maxsize=1)
def _cosines() -> npt.NDArray[np.float32]:
    """Cosine basis of the lowest frequencies, scaled so that a coefficient is an amplitude in grey levels."""
    positions = np.arange(REDUCED) + 0.5
    frequencies = np.arange(_HASH_SIDE)[:, None]
    basis = np.cos(np.pi * frequencies * positions / REDUCED) * 2 / REDUCED
    return np.ascontiguousarray(basis, dtype=np.float32)


@lru_cache(maxsize=1)
def _ring_pixels() -> IntArray:
    """Flat indices of the outer ring of a reduced frame."""
    ring = np.ones((REDUCED, REDUCED), dtype=bool)
    ring[1:-1, 1:-1] = False
    return np.flatnonzero(ring)


def _as_image(array: Any) -> Image:
    return np.asarray(array, dtype=np.uint8)

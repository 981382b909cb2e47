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

THUMBNAIL = 28
BORDER = 8
"""Width in pixels of the outer ring of the frame whose colour stands for the background."""

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


def thumbnails(frames: Image) -> Image:
    """Mean luminance of each 8 × 8 block of each frame, (n, 224, 224, 3), uint8 (n, 28, 28)."""
    n = len(frames)
    # Frames on top of each other are one tall picture: blocks never cross from one to the next.
    grey = cv2.cvtColor(frames.reshape(n * FRAME, FRAME, 3), cv2.COLOR_RGB2GRAY)
    # Three halvings take the vectorised path of the area filter; one reduction by eight does not.
    for side in (FRAME // 2, FRAME // 4, THUMBNAIL):
        grey = cv2.resize(grey, (side, n * side), interpolation=cv2.INTER_AREA)
    return _as_image(grey).reshape(n, THUMBNAIL, THUMBNAIL)


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


def border_pixels(frames: Image) -> Image:
    """Every fourth pixel of the outer ring of each frame, (n, 224, 224, 3), shape (n, n_pixels, 3)."""
    return _as_image(frames.reshape(len(frames), -1, 3).take(_ring_pixels(), axis=1))


def border_colours(rings: Image) -> npt.NDArray[np.float32]:
    """Mean CIE Lab colour (L 0–100, a, b) of each of the rings, (n, n_pixels, 3), shape (n, 3)."""
    lab = np.asarray(cv2.cvtColor(rings, cv2.COLOR_RGB2LAB)).mean(axis=1, dtype=np.float32)
    # Eight-bit Lab: L scaled to 255, a and b moved by 128.
    return lab * np.array([100 / 255, 1, 1], dtype=np.float32) - np.array([0, 128, 128], dtype=np.float32)


@lru_cache(maxsize=1)
def _cosines() -> npt.NDArray[np.float32]:
    """Cosine basis of the lowest frequencies, scaled so that a coefficient is an amplitude in grey levels."""
    positions = np.arange(THUMBNAIL) + 0.5
    frequencies = np.arange(_HASH_SIDE)[:, None]
    basis = np.cos(np.pi * frequencies * positions / THUMBNAIL) * 2 / THUMBNAIL
    return np.ascontiguousarray(basis, dtype=np.float32)


@lru_cache(maxsize=1)
def _ring_pixels() -> IntArray:
    """Flat indices of the sampled pixels of the outer ring."""
    ring = np.ones((FRAME, FRAME), dtype=bool)
    ring[BORDER:-BORDER, BORDER:-BORDER] = False
    sampled = np.zeros_like(ring)
    sampled[1::4, 1::4] = True
    return np.flatnonzero(ring & sampled)


def _as_image(array: Any) -> Image:
    return np.asarray(array, dtype=np.uint8)

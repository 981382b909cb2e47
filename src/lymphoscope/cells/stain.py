"""Stain: the colour of the empty background, optical density against it, and white-balanced colour.

Absorbing stain follows the Beer–Lambert law, so its amount is linear in the optical density
OD = −log₁₀(I / I₀), I₀ being the light that reaches the camera where there is nothing (Ruifrok & Johnston,
Anal Quant Cytol Histol 2001;23:291–299). Taking I₀ from the photograph itself makes what follows
indifferent to a yellow, purple or grey background.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

RgbImage = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Plane = npt.NDArray[np.float32]

_BRIGHT_QUANTILE = 0.98
_BRIGHT_BAND = 0.93
_LOG_LEVEL = np.log10(np.maximum(np.arange(256, dtype=np.float32), 1.0))
NUCLEAR_STAIN = np.array([[1.0, 0.7, 0.0]], dtype=np.float32)
_LEVELS = np.arange(256, dtype=np.float32)[:, None]


def background_colour(image: RgbImage) -> Plane:
    """Median RGB of the empty background, shape (3,), 1 to 255.

    The background is what is nearly as bright in green as the brightest 2 % of the photograph; green is
    the channel that both nuclei and red cells darken. A photograph without any background gives the
    colour of its palest part.
    """
    green = image[..., 1]
    cumulative = np.cumsum(np.bincount(green.ravel(), minlength=256))
    bright = float(np.searchsorted(cumulative, _BRIGHT_QUANTILE * cumulative[-1]))
    pixels = image[green >= _BRIGHT_BAND * bright]
    levels = [np.cumsum(np.bincount(channel, minlength=256)) for channel in pixels.T]
    median = [max(int(np.searchsorted(level, len(pixels) / 2)), 1) for level in levels]
    return np.array(median, dtype=np.float32)


def optical_density(image: RgbImage, white: Plane) -> Plane:
    """Optical density per channel against the background colour `white`, shape (H, W, 3).

    0 is the background, 1 a tenth of its light; brighter than the background is slightly negative.
    """
    return np.asarray(cv2.LUT(image, density_table(white)[None]), dtype=np.float32)


def channel_density(image: RgbImage, white: Plane, channel: int) -> Plane:
    """Optical density of one channel (0 red, 1 green, 2 blue), shape (H, W)."""
    table = np.ascontiguousarray(density_table(white)[:, channel])
    return np.asarray(cv2.LUT(cv2.extractChannel(image, channel), table), dtype=np.float32)


def density_table(white: Plane) -> Plane:
    """Optical density of the 256 levels of each channel, shape (256, 3)."""
    return np.log10(white) - _LOG_LEVEL[:, None]


def nuclear_density(od: Plane) -> Plane:
    """How much nuclear stain a pixel holds: OD red + 0.7 × OD green, shape (H, W).

    Nuclei darken red and green; red cells hardly darken red, and blue says little about nuclei, as
    haemoglobin absorbs there too.
    """
    return np.asarray(cv2.transform(od, NUCLEAR_STAIN))


def white_balanced_lab(image: RgbImage, white: Plane) -> Plane:
    """CIE L*a*b* after scaling each channel so that the background is white, shape (H, W, 3).

    L* from 0 to 100; a* (green to red) and b* (blue to yellow) around 0.
    """
    balanced = cv2.LUT(image, np.minimum(_LEVELS / white, 1.0)[None])
    return np.asarray(cv2.cvtColor(balanced, cv2.COLOR_RGB2Lab))

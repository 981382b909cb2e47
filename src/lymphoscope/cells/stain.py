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
    light = np.maximum(np.arange(256, dtype=np.float32), 1.0)[:, None] / white[None]
    table = -np.log10(light)
    return np.asarray(cv2.LUT(image, np.ascontiguousarray(table[None]).astype(np.float32)), dtype=np.float32)


def nuclear_density(od: Plane) -> Plane:
    """How much nuclear stain a pixel holds: OD red + 0.7 × OD green, shape (H, W).

    Nuclei darken red and green; red cells hardly darken red, and blue says little about nuclei, as
    haemoglobin absorbs there too.
    """
    return np.asarray(cv2.transform(od, np.array([[1.0, 0.7, 0.0]], dtype=np.float32)))


def white_balanced_lab(image: RgbImage, white: Plane) -> Plane:
    """CIE L*a*b* after scaling each channel so that the background is white, shape (H, W, 3).

    L* from 0 to 100; a* (green to red) and b* (blue to yellow) around 0.
    """
    scaled = np.minimum(np.arange(256, dtype=np.float32)[:, None] / white[None], 1.0)
    balanced = cv2.LUT(image, np.ascontiguousarray(scaled[None]).astype(np.float32))
    return np.asarray(cv2.cvtColor(balanced, cv2.COLOR_RGB2Lab))

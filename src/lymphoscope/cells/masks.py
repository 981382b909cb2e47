"""Small measures and changes of boolean masks that several steps share."""

from __future__ import annotations

import functools

import cv2
import numpy as np
import numpy.typing as npt

from lymphoscope.cells.stain import Mask, Plane

_CENTRE_SPREAD = 0.2


def distance_to(mask: Mask) -> Plane:
    """Distance of every pixel from the nearest one of `mask`, in pixels."""
    return np.asarray(cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, 3), dtype=np.float32)


def distance_inside(mask: Mask) -> Plane:
    """Distance of every pixel of `mask` from the nearest one outside, in pixels; 0 outside."""
    return np.asarray(cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, 3), dtype=np.float32)


def border(mask: Mask) -> npt.NDArray[np.int32]:
    """Pixels (x, y) of the outer outlines of a non-empty mask, shape (n_points, 1, 2)."""
    found, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(np.concatenate(found), dtype=np.int32)


def hull_area(points: npt.NDArray[np.int32]) -> float:
    """Area of the convex hull of the pixels at `points` (x, y), in square pixels.

    The polygon runs through pixel centres; the hull of the pixels' squares is half a pixel larger all round.
    """
    hull = cv2.convexHull(points)
    return cv2.contourArea(hull) + 0.5 * cv2.arcLength(hull, True) + 1.0


@functools.lru_cache(maxsize=4)
def central_weight(height: int, width: int) -> npt.NDArray[np.float64]:
    """Weight of every pixel, row by row: a Gaussian around the middle of the photograph."""
    spread = _CENTRE_SPREAD * min(height, width)
    x = np.exp(-0.5 * ((np.arange(width) - (width - 1) / 2) / spread) ** 2)
    y = np.exp(-0.5 * ((np.arange(height) - (height - 1) / 2) / spread) ** 2)
    return np.outer(y, x).ravel()


def fill_holes(mask: Mask, largest: float) -> Mask:
    """`mask` with its holes of at most `largest` pixels filled."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats((~mask).view(np.uint8), connectivity=4)
    if count < 2:
        return mask
    height, width = mask.shape
    left, top = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP]
    right, bottom = left + stats[:, cv2.CC_STAT_WIDTH], top + stats[:, cv2.CC_STAT_HEIGHT]
    hole = (left > 0) & (top > 0) & (right < width) & (bottom < height)
    hole &= stats[:, cv2.CC_STAT_AREA] <= largest
    hole[0] = False
    filled: Mask = mask | hole[parts]
    return filled


def fill_all_holes(mask: Mask) -> Mask:
    """`mask` with every hole filled, whatever its size."""
    found, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    filled = np.zeros(mask.shape, dtype=np.uint8)
    cv2.drawContours(filled, found, -1, 1, cv2.FILLED)
    return filled.view(np.bool_)


def main_part(mask: Mask, weight: npt.NDArray[np.float64]) -> Mask:
    """The connected part of `mask` with the largest sum of `weight`, one number per pixel row by row."""
    count, parts = cv2.connectedComponents(mask.view(np.uint8), connectivity=4)
    if count <= 2:
        return mask
    sums = np.bincount(parts.ravel(), weight, minlength=count)
    part: Mask = parts == 1 + sums[1:].argmax()
    return part


def disc(radius: float) -> npt.NDArray[np.uint8]:
    """Structuring element: a disc of at least one pixel's radius."""
    reach = max(1, round(radius))
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)))

"""Nucleus and whole cell of the one white cell in the middle of a photograph.

The coarse work is done on a frame of about 112 pixels: nuclear stain is thresholded, the central nucleus
and its lobes are chosen, the colours around it are compared with the colours far from it, and the best
star-shaped outline is the cell. Edges are then placed at full resolution. No weights are involved.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lymphoscope.cells.cell_outline import CellOutline, outline_cell, place_edge
from lymphoscope.cells.masks import border, central_weight, disc, fill_holes, hull_area, main_part
from lymphoscope.cells.nucleus import central_nucleus, nuclear_threshold
from lymphoscope.cells.nucleus_edge import refine_nucleus
from lymphoscope.cells.stain import (
    Mask,
    Plane,
    RgbImage,
    background_colour,
    nuclear_density,
    optical_density,
)

_COARSE = 112
_LEAST_CONTRAST = 0.1
_LEAST_AREA = 0.004
_LARGEST_AREA = 0.9
_LEAST_SOLIDITY = 0.4


@dataclass(frozen=True, eq=False)
class Frame:
    """The whole photograph reduced to about 112 pixels on its shorter side.

    Attributes
    ----------
    od : float32 (h, w, 3), optical density against the background.
    cell, others : bool (h, w), the central cell and the nuclei of other cells.
    """

    od: Plane
    cell: Mask
    others: Mask


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Masks of one cell.

    Attributes
    ----------
    nucleus, cell : bool (H, W); the nucleus lies inside the cell. Both empty where `ok` is False.
    ok : whether a cell was found.
    reason : why not; "" where `ok`.
    white : float32 (3,), RGB of the empty background.
    frame : the whole photograph at about 112 pixels, for what surrounds the cell.
    """

    nucleus: Mask
    cell: Mask
    ok: bool
    reason: str
    white: Plane
    frame: Frame


def segment_kmeans(image: RgbImage) -> Mask:
    """Stained region by k-means (k = 2) on HSV saturation and a morphological clean-up, bool (H, W).

    The published recipe: area closing, dilation, opening, convex hull; here of the part nearest the middle.
    K-means runs to its fixed point on the 256 saturation levels, starting from the extremes, so the same
    image always gives the same mask.
    """
    saturation = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[..., 1]
    counts = np.bincount(saturation.ravel(), minlength=256).astype(np.float64)
    levels = np.arange(256)
    present = levels[counts > 0]
    low, high = float(present[0]), float(present[-1])
    if low == high:
        return np.zeros(saturation.shape, dtype=np.bool_)
    cut = -1.0
    while cut != (low + high) / 2:
        cut = (low + high) / 2
        above = levels > cut
        low = float(np.average(levels[~above], weights=counts[~above]))
        high = float(np.average(levels[above], weights=counts[above]))
    scale = min(image.shape[:2]) / 224
    mask = fill_holes(saturation > cut, 0.02 * saturation.size).astype(np.uint8)
    grown = cv2.dilate(mask, disc(scale))
    opened = cv2.morphologyEx(grown, cv2.MORPH_OPEN, disc(4 * scale))
    if not opened.any():
        return opened.astype(np.bool_)
    middle = main_part(opened.astype(np.bool_), central_weight(*opened.shape))
    hull = np.zeros(opened.shape, dtype=np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(cv2.findNonZero(middle.view(np.uint8))), 1)
    return hull.astype(np.bool_)


def segment(image: RgbImage) -> Segmentation:
    """Nucleus and whole cell of the central white cell of `image`, uint8 RGB (H, W, 3)."""
    height, width = image.shape[:2]
    shrink = max(1.0, min(height, width) / _COARSE)
    size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
    smaller = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if shrink > 1.0 else image
    coarse = np.asarray(cv2.GaussianBlur(smaller, (0, 0), 0.6), dtype=np.uint8)
    white = background_colour(coarse[::2, ::2])
    od = optical_density(coarse, white)
    density = nuclear_density(od)
    nuclear: Mask = density > nuclear_threshold(density)
    nucleus = central_nucleus(nuclear, od[..., 1])
    reason = _unusable(density, nucleus)
    if nucleus is None or reason:
        return _not_found(image, white, Frame(od, np.zeros_like(nuclear), nuclear), reason)
    others: Mask = nuclear & ~nucleus
    outline = outline_cell(coarse, white, od, nucleus, others)
    near_nucleus, near_cell, view = _at_full_resolution(image, white, nucleus, outline, shrink)
    frame = Frame(od, outline.cell, others & ~outline.cell)
    if not near_nucleus.any():
        return _not_found(image, white, frame, "no nucleus")
    fine_nucleus, fine_cell = np.zeros((2, height, width), dtype=np.bool_)
    fine_nucleus[view], fine_cell[view] = near_nucleus, near_cell | near_nucleus
    return Segmentation(fine_nucleus, fine_cell, True, "", white, frame)


def _not_found(image: RgbImage, white: Plane, frame: Frame, reason: str) -> Segmentation:
    nothing = np.zeros(image.shape[:2], dtype=np.bool_)
    return Segmentation(nothing, nothing, False, reason, white, frame)


def _unusable(density: Plane, nucleus: Mask | None) -> str:
    """Why this cannot be the nucleus of a cell; "" where it can."""
    if nucleus is None:
        return "no nucleus"
    area = np.count_nonzero(nucleus)
    if area < _LEAST_AREA * nucleus.size:
        return "no nucleus of sufficient size"
    if area > _LARGEST_AREA * nucleus.size:
        return "nucleus fills the photograph"
    contrast = float(density[nucleus].mean() - density[~nucleus].mean())
    if contrast < _LEAST_CONTRAST:
        return "too little contrast"
    if area < _LEAST_SOLIDITY * hull_area(border(nucleus)):
        return "no compact nucleus"
    return ""


def _at_full_resolution(
    image: RgbImage, white: Plane, nucleus: Mask, outline: CellOutline, shrink: float
) -> tuple[Mask, Mask, tuple[slice, slice]]:
    """Nucleus and cell with edges placed on the photograph's own pixels, and which part of it they are."""
    size = image.shape[:2]
    view = _window(outline.cell, size, margin=6)
    crop = np.ascontiguousarray(image[view])
    blurred = np.asarray(cv2.GaussianBlur(crop, (0, 0), 0.5 * shrink), dtype=np.uint8)
    cell = place_edge(blurred, white, _enlarged(outline.cell, size, view), outline)
    enlarged = _enlarged(nucleus, size, view)
    cell = main_part(cell | enlarged, enlarged.ravel().astype(np.float64))
    return refine_nucleus(crop, white, enlarged & cell, cell), cell, view


def _window(coarse: Mask, size: tuple[int, int], margin: int) -> tuple[slice, slice]:
    """Rows and columns of the full frame of `size` that hold the coarse mask and a margin around it."""
    x, y, w, h = cv2.boundingRect(coarse.astype(np.uint8))
    down, right = size[0] / coarse.shape[0], size[1] / coarse.shape[1]
    rows = slice(max(0, int(y * down) - margin), min(size[0], int((y + h) * down) + 1 + margin))
    return rows, slice(max(0, int(x * right) - margin), min(size[1], int((x + w) * right) + 1 + margin))


def _enlarged(coarse: Mask, size: tuple[int, int], view: tuple[slice, slice]) -> Mask:
    """The part `view` of the coarse mask enlarged to the full frame of `size`."""
    down, right = size[0] / coarse.shape[0], size[1] / coarse.shape[1]
    rows, columns = view
    # Pixel i of the frame lies at (i + ½) / scale − ½ of the coarse mask.
    to_coarse = np.array(
        [
            [1 / right, 0.0, (columns.start + 0.5) / right - 0.5],
            [0.0, 1 / down, (rows.start + 0.5) / down - 0.5],
        ]
    )
    level = cv2.warpAffine(
        coarse.view(np.uint8) * np.uint8(255),
        to_coarse,
        (columns.stop - columns.start, rows.stop - rows.start),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    larger: Mask = level > 127
    return larger

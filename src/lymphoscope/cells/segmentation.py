"""Nucleus and whole cell of the one white cell in the middle of a photograph.

The coarse work is done on a frame of about 112 pixels: nuclear stain is thresholded, the central nucleus
and its lobes are chosen, the colours around it are compared with the colours far from it, and the best
star-shaped outline is the cell. Edges are then placed at full resolution. No weights are involved.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lymphoscope.cells.colour_model import colour_codes, log_likelihood_ratio
from lymphoscope.cells.contour import star_contour
from lymphoscope.cells.nucleus import (
    central_nucleus,
    disc,
    fill_holes,
    nuclear_threshold,
    refine_nucleus,
)
from lymphoscope.cells.stain import (
    Mask,
    Plane,
    RgbImage,
    background_colour,
    nuclear_density,
    optical_density,
)

_COARSE = 112
_LEAST_CONTRAST = 0.15
_LEAST_AREA = 0.004
_LARGEST_AREA = 0.9
_LEAST_SOLIDITY = 0.4


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Masks of one cell.

    Attributes
    ----------
    nucleus, cell : bool (H, W); the nucleus lies inside the cell. Both empty where `ok` is False.
    ok : whether a cell was found.
    reason : why not; "" where `ok`.
    white : float32 (3,), RGB of the empty background.
    others : bool (H, W), nuclei of other cells.
    """

    nucleus: Mask
    cell: Mask
    ok: bool
    reason: str
    white: Plane
    others: Mask


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
    return _hull_of_middle_part(opened.astype(np.bool_))


def _hull_of_middle_part(mask: Mask) -> Mask:
    """Filled convex hull of the connected part with most weight near the middle."""
    count, parts = cv2.connectedComponents(mask.astype(np.uint8))
    hull = np.zeros(mask.shape, dtype=np.uint8)
    if count < 2:
        return hull.astype(np.bool_)
    height, width = mask.shape
    y = np.exp(-0.5 * ((np.arange(height) - (height - 1) / 2) / (0.2 * height)) ** 2)
    x = np.exp(-0.5 * ((np.arange(width) - (width - 1) / 2) / (0.2 * width)) ** 2)
    weight = np.bincount(parts.ravel(), np.outer(y, x).ravel(), minlength=count)
    weight[0] = 0.0
    points = cv2.findNonZero((parts == weight.argmax()).astype(np.uint8))
    cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
    return hull.astype(np.bool_)


def segment(image: RgbImage) -> Segmentation:
    """Nucleus and whole cell of the central white cell of `image`, uint8 RGB (H, W, 3)."""
    height, width = image.shape[:2]
    shrink = max(1.0, min(height, width) / _COARSE)
    size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
    smaller = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if shrink > 1.0 else image
    coarse = np.asarray(cv2.GaussianBlur(smaller, (0, 0), 0.6), dtype=np.uint8)
    white = background_colour(coarse)
    od = optical_density(coarse, white)
    density = nuclear_density(od)
    nuclear: Mask = density > nuclear_threshold(density)
    nucleus = central_nucleus(nuclear)
    reason = _unusable(density, nucleus)
    if nucleus is None or reason:
        return _not_found(image, white, reason)
    others: Mask = nuclear & ~nucleus
    cell = _outline_cell(coarse, white, od, nucleus, others)
    return _at_full_resolution(image, white, nucleus, cell, others)


def _not_found(image: RgbImage, white: Plane, reason: str) -> Segmentation:
    nothing = np.zeros(image.shape[:2], dtype=np.bool_)
    return Segmentation(nothing, nothing, False, reason, white, nothing)


def _unusable(density: Plane, nucleus: Mask | None) -> str:
    """Why this cannot be the nucleus of a cell; "" where it can."""
    if nucleus is None:
        return "no nucleus"
    area = np.count_nonzero(nucleus)
    if area < _LEAST_AREA * nucleus.size:
        return "no nucleus of sufficient size"
    if area > _LARGEST_AREA * nucleus.size:
        return "nucleus fills the photograph"
    contrast = float(np.median(density[nucleus]) - np.median(density[~nucleus]))
    if contrast < _LEAST_CONTRAST:
        return "too little contrast"
    hull = cv2.convexHull(cv2.findNonZero(nucleus.astype(np.uint8)))
    if area < _LEAST_SOLIDITY * max(cv2.contourArea(hull), 1.0):
        return "no compact nucleus"
    return ""


def _outline_cell(coarse: RgbImage, white: Plane, od: Plane, nucleus: Mask, others: Mask) -> Mask:
    """Outline of the cell around `nucleus`, the stained pixels `others` being nuclei of other cells."""
    codes = colour_codes(coarse, white)
    edge = _edge_strength(od)
    area = np.count_nonzero(nucleus)
    radius = float(np.sqrt(area / np.pi))
    distance = cv2.distanceTransform((~nucleus).astype(np.uint8), cv2.DIST_L2, 3)
    distance_to_others = (
        cv2.distanceTransform((~others).astype(np.uint8), cv2.DIST_L2, 3)
        if others.any()
        else np.full(nucleus.shape, 1e3, dtype=np.float32)
    )
    edge[distance < max(1.0, 0.06 * radius)] = 0.0
    sharp = edge[(distance > 0) & (distance < 1.5 * radius)]
    edge = np.minimum(edge / max(float(np.quantile(sharp, 0.95)) if sharp.size else 1.0, 1e-6), 1.0)
    moments = cv2.moments(nucleus.astype(np.uint8), binaryImage=True)
    centre = (moments["m10"] / moments["m00"], moments["m01"] / moments["m00"])
    ys, xs = np.nonzero(nucleus)
    farthest = float(np.hypot(xs - centre[0], ys - centre[1]).max())
    reach = min(max(2.6 * radius, 1.5 * farthest), 0.8 * min(nucleus.shape))
    inside: Mask = (distance > 0) & (distance < 0.7 * radius) & (distance_to_others > 0.5 * radius)
    outside: Mask = (distance > 1.3 * radius) & (distance_to_others > 0.8 * radius)
    bias = 0.3
    cell = nucleus
    for _ in range(2):
        if np.count_nonzero(outside) < 0.05 * nucleus.size:
            outside = distance > 0.8 * radius
        region = log_likelihood_ratio(codes, inside, outside) - np.float32(bias)
        region[distance_to_others <= 1.0] = -1.0
        region[nucleus] = 3.0
        polygon = star_contour(
            region,
            edge,
            centre,
            reach,
            region_weight=0.1 * reach / 44,
            edge_weight=2.0,
            jump_price=0.6,
        )
        filled = np.zeros(nucleus.shape, dtype=np.uint8)
        cv2.fillPoly(filled, [np.round(polygon * 8).astype(np.int32)], 1, shift=3)
        cell = filled.astype(np.bool_) | nucleus
        inside = cell & ~nucleus
        if np.count_nonzero(inside) < 30:
            break
        outside = ~cell & (distance_to_others > 0.5 * radius)
        bias = 0.2
    return cell


def _edge_strength(od: Plane) -> Plane:
    """Size of the colour gradient, shape (H, W)."""
    dx = cv2.Scharr(od, cv2.CV_32F, 1, 0)
    dy = cv2.Scharr(od, cv2.CV_32F, 0, 1)
    squared = cv2.transform(cv2.add(cv2.multiply(dx, dx), cv2.multiply(dy, dy)), np.ones((1, 3), np.float32))
    return np.asarray(cv2.sqrt(squared))


def _at_full_resolution(
    image: RgbImage, white: Plane, nucleus: Mask, cell: Mask, others: Mask
) -> Segmentation:
    """Masks of the photograph's own size, the nucleus's edge placed on its pixels."""
    height, width = image.shape[:2]

    def enlarged(mask: Mask) -> Mask:
        grown = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
        larger: Mask = grown > 0.5
        return larger

    fine_cell = enlarged(cell)
    density = nuclear_density(optical_density(image, white))
    fine_nucleus = refine_nucleus(density, enlarged(nucleus), fine_cell)
    if not fine_nucleus.any():
        return _not_found(image, white, "no nucleus")
    fine_cell = fine_cell | fine_nucleus
    return Segmentation(fine_nucleus, fine_cell, True, "", white, enlarged(others) & ~fine_cell)

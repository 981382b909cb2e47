"""The outline of the cell around its nucleus: colours near and far, the best star contour, the fine edge."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lymphoscope.cells.colour_model import CodeTable, code_table, colour_codes, log_likelihood_ratio
from lymphoscope.cells.contour import star_contour
from lymphoscope.cells.masks import border, distance_inside, distance_to, fill_all_holes
from lymphoscope.cells.stain import Mask, Plane, RgbImage, channel_density

# What a colour must have over an even chance to count as inside, in the first and the second round.
_FIRST_BIAS = 0.9
_BIAS = 0.2
_EMPTY_OD = 0.02
_EMPTY_SCORE = -0.5

_REGION_WEIGHT = 0.05
_EDGE_WEIGHT = 2.0
_JUMP_PRICE = 0.6
_NUCLEAR_EDGE = 0.5

# The band within which the edge is moved, and the blur there, in units of the cell's radius.
_BAND = 0.08
_EDGE_BLUR = 0.05
_STIFFNESS = 1.5


@dataclass(frozen=True, eq=False)
class CellOutline:
    """The cell on the coarse frame, and what was learned about its colours.

    Attributes
    ----------
    cell : bool (h, w) of the coarse frame.
    score : float32 (8000,), how much each colour bin speaks for the cell.
    table : what colour bin each level of each channel belongs to, see `code_table`.
    """

    cell: Mask
    score: Plane
    table: CodeTable


def outline_cell(coarse: RgbImage, white: Plane, od: Plane, nucleus: Mask, others: Mask) -> CellOutline:
    """The cell around `nucleus`, the stained pixels `others` being nuclei of other cells.

    Colours near the nucleus are compared with colours far from it, the star contour is found, and both are
    done once more with the colours inside and outside that contour.
    """
    table = code_table(white)
    codes = colour_codes(coarse, table)
    radius = float(np.sqrt(np.count_nonzero(nucleus) / np.pi))
    distance = distance_to(nucleus)
    clear = distance_to(others) if others.any() else np.full(nucleus.shape, 1e3, dtype=np.float32)
    edge = _outer_edges(od, distance, radius)
    centre, reach = _centre_and_reach(nucleus, radius)
    ceiling = np.where(np.abs(od[..., 1]) < _EMPTY_OD, np.float32(_EMPTY_SCORE), np.float32(np.inf))
    inside: Mask = (distance > 0) & (distance < 0.7 * radius) & (clear > 0.5 * radius)
    outside: Mask = (distance > 1.3 * radius) & (clear > 0.8 * radius)
    bias = _FIRST_BIAS
    cell, score = nucleus, np.zeros(0, dtype=np.float32)
    for _ in range(2):
        if np.count_nonzero(outside) < 0.05 * nucleus.size:
            outside = distance > 0.8 * radius
        score = log_likelihood_ratio(codes[inside], codes[::2][outside[::2]]) - np.float32(bias)
        region = score[codes]
        np.minimum(region, ceiling, out=region)
        region[clear <= 1.0] = -1.0
        region[nucleus] = 3.0
        cell = _star(region, edge, centre, reach, radius) | nucleus
        inside = cell & ~nucleus
        if np.count_nonzero(inside) < 30:
            break
        outside = ~cell & (clear > 0.5 * radius)
        bias = _BIAS
    return CellOutline(cell, score, table)


def _star(region: Plane, edge: Plane, centre: tuple[float, float], reach: float, radius: float) -> Mask:
    polygon = star_contour(
        region,
        edge,
        centre,
        reach,
        region_weight=_REGION_WEIGHT * reach / radius,
        edge_weight=_EDGE_WEIGHT,
        jump_price=_JUMP_PRICE,
    )
    filled = np.zeros(region.shape, dtype=np.uint8)
    cv2.fillPoly(filled, [np.round(polygon * 8).astype(np.int32)], 1, shift=3)
    return filled.view(np.bool_)


def _centre_and_reach(nucleus: Mask, radius: float) -> tuple[tuple[float, float], float]:
    """Centroid (x, y) of the nucleus, and how far from it the cell's edge is looked for."""
    moments = cv2.moments(nucleus.view(np.uint8), binaryImage=True)
    centre = (moments["m10"] / moments["m00"], moments["m01"] / moments["m00"])
    points = border(nucleus).reshape(-1, 2) - centre
    farthest = float(np.sqrt(np.square(points).sum(axis=1).max()))
    return centre, min(max(2.6 * radius, 1.5 * farthest), 0.8 * min(nucleus.shape))


def _outer_edges(od: Plane, distance: Plane, radius: float) -> Plane:
    """Size of the gradient of OD green, 0 to 1, the nucleus's own edge left out; shape (h, w)."""
    green = np.ascontiguousarray(od[..., 1])
    edge = cv2.magnitude(cv2.Scharr(green, cv2.CV_32F, 1, 0), cv2.Scharr(green, cv2.CV_32F, 0, 1))
    at_nucleus: Mask = distance < max(1.0, 0.06 * radius)
    sharp = edge[~at_nucleus & (distance < 1.5 * radius)]
    strong = float(np.partition(sharp, int(0.95 * len(sharp)))[int(0.95 * len(sharp))]) if sharp.size else 1.0
    edge = np.minimum(edge / max(strong, 1e-6), 1.0)
    edge[at_nucleus] = _NUCLEAR_EDGE
    return edge


def place_edge(image: RgbImage, white: Plane, cell: Mask, outline: CellOutline) -> Mask:
    """`cell` with its edge moved, within a narrow band, to where the colours of `image` change."""
    radius = float(np.sqrt(np.count_nonzero(cell) / np.pi))
    blur = max(1.0, _EDGE_BLUR * radius)
    score = cv2.GaussianBlur(outline.score[colour_codes(image, outline.table)], (0, 0), blur)
    green = cv2.GaussianBlur(channel_density(image, white, 1), (0, 0), 0.5 * blur)
    inward = distance_inside(cell)
    outward = distance_to(cell)
    signed = np.where(cell, 0.5 - inward, outward - 0.5)
    band = max(2.0, _BAND * radius)
    rim: Mask = (signed < 0) & (signed > -2 * band)
    greens = green[rim]
    middle = len(greens) // 2
    pale = min(max(0.5 * float(np.partition(greens, middle)[middle]), 0.015), 0.1) if middle else 0.015
    kept: Mask = (score > _STIFFNESS * signed / band) & (green > pale)
    moved: Mask = (signed < -band) | ((signed < band) & kept)
    smooth: Mask = cv2.GaussianBlur(moved.astype(np.float32), (0, 0), max(0.7, 0.015 * radius)) > 0.5
    return fill_all_holes(smooth)

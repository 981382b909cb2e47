"""Placing the nucleus's edge: which colours of a cell are nucleus and which are cytoplasm."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from lymphoscope.cells.masks import disc, distance_inside, distance_to, fill_holes
from lymphoscope.cells.stain import Mask, Plane, RgbImage, optical_density

# The edge lies this far of the way from cytoplasm to nucleus in colour.
_EDGE_LEVEL = 0.38
_ROUNDS = 2

# In units of the nucleus's radius or area.
_EDGE_BLUR = 0.06
_OPENING = 0.08
_LARGEST_HOLE = 0.05
_SMALLEST_LOBE = 0.06
_LEAST_CYTOPLASM = 0.05
_USUAL_CYTOPLASM = 0.3

# When the second look is taken, and when it is believed.
_MOSTLY_NUCLEUS = 0.7
_EDGE_DEPTH = 0.15
_ENOUGH_PIXELS = 40
_CLEAR_SPLIT = 0.72
_CLEAR_GAP = 0.15
_SQUARE = np.ones((3, 3), dtype=np.uint8)


def refine_nucleus(image: RgbImage, white: Plane, nucleus: Mask, cell: Mask) -> Mask:
    """The nucleus with its edge about half way in colour between cytoplasm and nucleus, inside `cell`.

    The image is blurred by a little of the nucleus's radius, so that the outline follows the nucleus and not
    its chromatin. Where there is next to no cytoplasm to compare with, three tenths of the nucleus's own
    stain stand for it.
    """
    area = np.count_nonzero(nucleus)
    radius = float(np.sqrt(area / np.pi))
    blurred = cv2.GaussianBlur(image, (0, 0), max(0.5, _EDGE_BLUR * radius))
    smooth = optical_density(np.asarray(blurred, dtype=np.uint8), white)
    dark, pale = _first_guess(smooth, nucleus, cell, radius)
    inner = cv2.erode(cell.view(np.uint8), _SQUARE, iterations=2).view(np.bool_)
    colours = smooth[inner if np.count_nonzero(inner) > 0.5 * np.count_nonzero(cell) else cell]
    split = _split_colours(colours, dark, pale)
    if split.share > _MOSTLY_NUCLEUS:
        split = _second_look(smooth, cell, radius) or split
    inside: Mask = (cv2.transform(smooth, split.axis[None]) > split.level) & cell
    opened = cv2.morphologyEx(inside.view(np.uint8), cv2.MORPH_OPEN, disc(_OPENING * radius))
    count, parts, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    kept = stats[:, cv2.CC_STAT_AREA] > _SMALLEST_LOBE * area
    kept[0] = False
    refined: Mask = kept[parts]
    return fill_holes(refined, _LARGEST_HOLE * area) if count > 1 and kept.any() else nucleus & cell


def _first_guess(smooth: Plane, nucleus: Mask, cell: Mask, radius: float) -> tuple[Plane, Plane]:
    """Mean colour of nucleus and cytoplasm as far as they are known."""
    dark = _mean_colour(smooth, nucleus)
    around: Mask = cell & (distance_to(nucleus) > max(1.5, 0.08 * radius))
    enough = np.count_nonzero(around) > _LEAST_CYTOPLASM * np.count_nonzero(nucleus)
    return dark, _mean_colour(smooth, around) if enough else np.float32(_USUAL_CYTOPLASM) * dark


def _mean_colour(colours: Plane, mask: Mask) -> Plane:
    return np.array(cv2.mean(colours, mask.view(np.uint8))[:3], dtype=np.float32)


def _second_look(smooth: Plane, cell: Mask, radius: float) -> _Split | None:
    """A split of the cell's colours that starts from their denser and their paler half, if it is clear.

    It finds the nucleus in deep blue cytoplasm, which is nearly as dark. What lies near the cell's edge is
    left out, since its colours are mixed with the background's.
    """
    depth = distance_inside(cell)
    colours = smooth[depth > max(2.5, _EDGE_DEPTH * radius)]
    if len(colours) < _ENOUGH_PIXELS:
        return None
    green = np.ascontiguousarray(colours[:, 1])
    dark, pale = _means(colours, green > green.mean())
    split = _split_colours(colours, dark, pale)
    apart = float(np.linalg.norm(split.axis)) > _CLEAR_GAP * float(np.linalg.norm(dark))
    return split if apart and _separation(split, colours) > _CLEAR_SPLIT else None


class _Split(NamedTuple):
    """A plane in colour space: nucleus where colour · `axis` > `level`; `share` of the colours lie there."""

    axis: Plane
    level: float
    share: float


def _split_colours(colours: Plane, dark: Plane, pale: Plane) -> _Split:
    """Nucleus and cytoplasm among the `colours` (n, 3) of a cell, by 2-means from two first guesses."""
    axis, level = _boundary(dark, pale)
    share = 1.0
    for _ in range(_ROUNDS):
        above = colours @ axis > level
        share = np.count_nonzero(above) / len(above)
        if not 0.1 < share < 0.9:
            break
        axis, level = _boundary(*_means(colours, above))
    return _Split(axis, level, share)


def _boundary(dark: Plane, pale: Plane) -> tuple[Plane, float]:
    """Direction from cytoplasm to nucleus in colour, and how far along it the edge lies."""
    axis = dark - pale
    return axis, float(pale @ axis + _EDGE_LEVEL * (axis @ axis))


def _means(colours: Plane, above: Mask) -> tuple[Plane, Plane]:
    """Mean colour of those `above` and of the others; a side without any takes the mean of all."""
    weight = above.astype(np.float32)
    upper, whole, number = weight @ colours, np.ones_like(weight) @ colours, np.float32(len(weight))
    count = weight.sum()
    if count in (0, number):
        return whole / number, whole / number
    return upper / count, (whole - upper) / (number - count)


def _separation(split: _Split, colours: Plane) -> float:
    """Variance between the two sides over the whole, along the axis.

    It is 0.64 for a single normal distribution cut in half, and 1 for two points.
    """
    along = colours @ split.axis
    gap = float(split.axis @ split.axis)
    return split.share * (1 - split.share) * gap**2 / max(float(along.var()), 1e-12)

"""Finding the nucleus of the cell in the middle: threshold, lobes and neighbours, half-maximum edge."""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from lymphoscope.cells.stain import Mask, Plane

_LEVELS = 64
_NOT_ORDERED = np.tril_indices(_LEVELS - 1)
_DENSITY_RANGE = 2.0
_CENTRE_SPREAD = 0.2
_MOST_PIECES = 6
_SMALLEST_LOBE = 0.04
_WORTH_OF_AREA = 0.25
_PRICE_OF_BACKGROUND = 3.0
_EMPTY_OD = 0.04
_LEAST_SHARE = 0.3
_LOBE_GAP = 0.8
_LEAST_BRIDGE_OD = 0.03
_EDGE_LEVEL = 0.42
_ROUNDS = 2
_EDGE_BLUR = 0.06
_OPENING = 0.08
_LARGEST_HOLE = 0.05
_LEAST_CYTOPLASM = 0.05
_USUAL_CYTOPLASM = 0.3
_MOSTLY_NUCLEUS = 0.7
_CLEAR_SPLIT = 0.72
_CLEAR_GAP = 0.15
_EDGE_DEPTH = 0.15
_ENOUGH_PIXELS = 40
_SQUARE = np.ones((3, 3), dtype=np.uint8)
_LEAST_TO_CUT = 0.002
_CONVEX = 0.93
_CORE_DEPTHS = (0.5, 0.65, 0.8)


def nuclear_threshold(density: Plane) -> float:
    """Density above which a pixel is nuclear: the upper of two thresholds that best split the photograph.

    Otsu's criterion for three classes (background; red cells and cytoplasm; nuclei), IEEE Trans Syst Man
    Cybern 1979;9:62–66.
    """
    code = cv2.convertScaleAbs(np.clip(density, 0.0, _DENSITY_RANGE), alpha=(_LEVELS - 1) / _DENSITY_RANGE)
    weight = np.bincount(code.ravel(), minlength=_LEVELS).astype(np.float64)
    mass = np.concatenate([[0.0], np.cumsum(weight)])
    moment = np.concatenate([[0.0], np.cumsum(weight * np.arange(_LEVELS))])
    share = mass[None, :] - mass[:, None]
    squared = (moment[None, :] - moment[:, None]) ** 2 / np.where(share > 0, share, np.inf)
    # squared[i, j] belongs to the class of levels i to j - 1; the lower threshold lies below the upper.
    between = squared[0, 1:-1, None] + squared[1:-1, 1:-1] + squared[None, 1:-1, -1]
    between[_NOT_ORDERED] = -1.0
    upper = int(np.unravel_index(between.argmax(), between.shape)[1]) + 1
    # Codes are rounded, so a class begins half a level below its first code.
    return (upper - 0.5) * _DENSITY_RANGE / (_LEVELS - 1)


def central_nucleus(nuclear: Mask, green: Plane) -> Mask | None:
    """The nucleus of the central cell, all its lobes, out of everything nuclear; None where there is none.

    Pieces that touch are first cut apart at their waists. Of all sets of nearby pieces, the one is taken that
    is best centred for the area it covers: the lobes of one nucleus surround the middle of the photograph,
    a neighbour's nucleus pulls away from it. Pieces with background between them, by the OD `green`, do not
    belong together.
    """
    pieces, count = _cut_at_waists(nuclear)
    if count == 0:
        return None
    flat = pieces.ravel()
    area = np.bincount(flat, minlength=count + 1)[1:]
    closeness = np.bincount(flat, _closeness(*nuclear.shape), minlength=count + 1)[1:]
    order = np.argsort(-closeness, kind="stable")[:_MOST_PIECES]
    near = [int(i) for i in order if area[i] > _SMALLEST_LOBE * area[order[0]]]
    masks: list[Mask] = [pieces == i + 1 for i in near]
    if len(masks) == 1:
        return masks[0]
    nucleus: Mask = np.logical_or.reduce([masks[i] for i in _best_set(masks, area[near], green)])
    return nucleus


@functools.lru_cache(maxsize=4)
def _closeness(height: int, width: int) -> npt.NDArray[np.float64]:
    """Weight of every pixel, row by row: a Gaussian around the middle of the photograph."""
    spread = _CENTRE_SPREAD * min(height, width)
    x = np.exp(-0.5 * ((np.arange(width) - (width - 1) / 2) / spread) ** 2)
    y = np.exp(-0.5 * ((np.arange(height) - (height - 1) / 2) / spread) ** 2)
    return np.outer(y, x).ravel()


def _best_set(masks: list[Mask], area: npt.NDArray[np.int64], green: Plane) -> tuple[int, ...]:
    """Which pieces together make the nucleus.

    Of the sets that hang together the cheapest: its box lies near the middle for the area it covers, and its
    convex hull holds little background, as the lobes of one nucleus have cytoplasm between them.
    """
    height, width = masks[0].shape
    gaps = _gaps(masks, green)
    # A vacuole is as pale as the background, but cytoplasm surrounds it.
    empty = (~fill_holes(green > _EMPTY_OD, 0.3 * float(area.max()))).view(np.uint8)
    points = [cv2.findNonZero(mask.view(np.uint8)) for mask in masks]
    best: tuple[int, ...] = (int(area.argmax()),)
    least = np.inf
    for size in range(1, len(masks) + 1):
        for chosen in itertools.combinations(range(len(masks)), size):
            covered = float(area[list(chosen)].sum())
            if covered < _LEAST_SHARE * area.max():
                continue
            if not _hangs_together(gaps, chosen, _LOBE_GAP * np.sqrt(covered / np.pi)):
                continue
            together = np.concatenate([points[i] for i in chosen])
            x, y, w, h = cv2.boundingRect(together)
            away = np.hypot(x + (w - width) / 2, y + (h - height) / 2) / min(height, width)
            cost = away - _WORTH_OF_AREA * covered / float(area.sum())
            if size > 1:
                cost += _PRICE_OF_BACKGROUND * _empty_share(together, empty)
            if cost < least:
                least, best = cost, chosen
    return best


def _empty_share(points: npt.NDArray[np.int32], empty: npt.NDArray[np.uint8]) -> float:
    """Share of the convex hull of `points` where `empty` is 1."""
    hull = np.zeros_like(empty)
    cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
    return float(np.count_nonzero(hull & empty) / np.count_nonzero(hull))


def _gaps(masks: list[Mask], green: Plane) -> npt.NDArray[np.float64]:
    """Shortest distances between the masks in pixels, (n_masks, n_masks); infinite across background."""
    distances = [_distance_to(mask) for mask in masks]
    gaps = np.zeros((len(masks), len(masks)))
    for i, j in itertools.combinations(range(len(masks)), 2):
        from_j = np.where(masks[j], distances[i], np.inf)
        from_i = np.where(masks[i], distances[j], np.inf)
        start, stop = (np.unravel_index(d.argmin(), d.shape) for d in (from_i, from_j))
        rows, columns = (np.linspace(a, b, 9).round().astype(int) for a, b in zip(start, stop, strict=True))
        stained = green[rows, columns].min() > _LEAST_BRIDGE_OD
        gaps[i, j] = gaps[j, i] = from_j.min() if stained else np.inf
    return gaps


def _hangs_together(gaps: npt.NDArray[np.float64], chosen: tuple[int, ...], widest: float) -> bool:
    """Whether the chosen pieces form one chain with no gap wider than `widest`."""
    reached, waiting = {chosen[0]}, set(chosen[1:])
    while waiting:
        step = {i for i in waiting if min(gaps[i, j] for j in reached) <= widest}
        if not step:
            return False
        reached |= step
        waiting -= step
    return True


def _cut_at_waists(nuclear: Mask) -> tuple[npt.NDArray[np.int32], int]:
    """Pieces of the mask, numbered from 1: its connected parts, each cut where it is clearly narrowest."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(nuclear.view(np.uint8), connectivity=4)
    pieces = np.asarray(parts, dtype=np.int32)
    total = count - 1
    for part in range(1, count):
        left, top, width, height, area = (int(value) for value in stats[part])
        if area < _LEAST_TO_CUT * nuclear.size:
            continue
        window = (slice(top, top + height), slice(left, left + width))
        own: Mask = pieces[window] == part
        bordered = cv2.copyMakeBorder(own.view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        if _is_convex(own, area):
            continue
        cores = _separate_cores(np.asarray(cv2.distanceTransform(bordered, cv2.DIST_L2, 3), dtype=np.float32))
        if cores:
            nearest = np.argmin([_distance_to(core) for core in cores], axis=0)[1:-1, 1:-1]
            pieces[window][own] = np.where(nearest > 0, total + nearest, part)[own]
            total += len(cores) - 1
    return pieces, total


def _is_convex(mask: Mask, area: int) -> bool:
    """Whether a mask of `area` pixels nearly fills its convex hull, so that it can have no waist."""
    hull = cv2.convexHull(cv2.findNonZero(mask.view(np.uint8)))
    return area > _CONVEX * (cv2.contourArea(hull) + 0.5 * cv2.arcLength(hull, True) + 1.0)


def _distance_to(mask: Mask) -> Plane:
    """Distance of every pixel from the nearest one of `mask`, in pixels."""
    return np.asarray(cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, 3), dtype=np.float32)


def count_lobes(nucleus: Mask) -> int:
    """Number of parts of a nucleus, separate or joined by a waist; at least 1 where it is not empty."""
    return _cut_at_waists(nucleus)[1]


def _separate_cores(depth: Plane) -> list[Mask]:
    """Parts that lie deep inside and fall apart when the shallow rim is taken off; none where one stays."""
    deepest = float(depth.max())
    for share in _CORE_DEPTHS:
        count, cores = cv2.connectedComponents((depth > share * deepest).astype(np.uint8), connectivity=8)
        if count > 2:
            return [cores == i for i in range(1, count)]
    return []


def refine_nucleus(od: Plane, nucleus: Mask, cell: Mask) -> Mask:
    """The nucleus with its edge about half way in colour between cytoplasm and nucleus, inside `cell`.

    `od` (H, W, 3) is blurred by a little of the nucleus's radius, so that the outline follows the nucleus and
    not its chromatin. Where there is next to no cytoplasm to compare with, three tenths of the nucleus's own
    stain stand for it.
    """
    area = np.count_nonzero(nucleus)
    radius = float(np.sqrt(area / np.pi))
    smooth = np.asarray(cv2.GaussianBlur(od, (0, 0), max(0.5, _EDGE_BLUR * radius)), dtype=np.float32)
    inner = cv2.erode(cell.view(np.uint8), _SQUARE, iterations=2).view(np.bool_)
    colours = smooth[inner if np.count_nonzero(inner) > 0.5 * np.count_nonzero(cell) else cell]
    around: Mask = cell & (_distance_to(nucleus) > max(1.5, 0.08 * radius))
    dark = smooth[nucleus].mean(axis=0)
    pale = (
        smooth[around].mean(axis=0)
        if np.count_nonzero(around) > _LEAST_CYTOPLASM * area
        else _USUAL_CYTOPLASM * dark
    )
    split = _split_colours(colours, dark, pale)
    if split.share > _MOSTLY_NUCLEUS:
        split = _second_look(smooth, cell, radius) or split
    inside: Mask = (smooth @ split.axis > split.level) & cell
    opened = cv2.morphologyEx(inside.view(np.uint8), cv2.MORPH_OPEN, disc(_OPENING * radius))
    count, parts, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    kept = stats[:, cv2.CC_STAT_AREA] > 0.06 * area
    kept[0] = False
    refined: Mask = kept[parts]
    return fill_holes(refined, _LARGEST_HOLE * area) if count > 1 and kept.any() else nucleus & cell


def _second_look(smooth: Plane, cell: Mask, radius: float) -> _Split | None:
    """A split of the cell's colours that starts from the densest and palest half, if it is a clear one.

    It finds the nucleus in deep blue cytoplasm, which is nearly as dark. What lies near the cell's edge is
    left out, since its colours are mixed with the background's.
    """
    depth = cv2.distanceTransform(cell.view(np.uint8), cv2.DIST_L2, 3)
    colours = smooth[depth > max(2.5, _EDGE_DEPTH * radius)]
    if len(colours) < _ENOUGH_PIXELS:
        return None
    upper = colours[:, 1] > np.median(colours[:, 1])
    if upper.all() or not upper.any():
        return None
    dark = colours[upper].mean(axis=0)
    split = _split_colours(colours, dark, colours[~upper].mean(axis=0))
    apart = float(np.linalg.norm(split.axis)) > _CLEAR_GAP * float(np.linalg.norm(dark))
    return split if apart and split.separation > _CLEAR_SPLIT else None


class _Split(NamedTuple):
    """A plane in colour space: nucleus where colour · `axis` > `level`; `share` of the colours lie there.

    `separation` is the variance between the two sides over the whole, along the axis: 0.64 for a single
    normal distribution cut in half, 1 for two points.
    """

    axis: Plane
    level: float
    share: float
    separation: float


def _split_colours(colours: Plane, dark: Plane, pale: Plane) -> _Split:
    """Nucleus and cytoplasm among the `colours` (n, 3) of a cell, by 2-means from two first guesses."""
    axis = dark - pale
    along = colours @ axis
    level = float(pale @ axis + _EDGE_LEVEL * (axis @ axis))
    share = 1.0
    for _ in range(_ROUNDS):
        above = along > level
        share = np.count_nonzero(above) / len(along)
        if not 0.1 < share < 0.9:
            break
        dark, pale = colours[above].mean(axis=0), colours[~above].mean(axis=0)
        axis = dark - pale
        along = colours @ axis
        level = float(pale @ axis + _EDGE_LEVEL * (axis @ axis))
    gap = float(axis @ axis)
    separation = share * (1 - share) * gap**2 / max(float(along.var()), 1e-12)
    return _Split(axis, level, share, separation)


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


def disc(radius: float) -> npt.NDArray[np.uint8]:
    """Structuring element: a disc of at least one pixel's radius."""
    reach = max(1, round(radius))
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)))

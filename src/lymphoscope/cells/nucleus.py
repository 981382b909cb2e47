"""Finding the nucleus of the cell in the middle: threshold, lobes, neighbours."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import numpy.typing as npt

from lymphoscope.cells.masks import border, central_weight, distance_to, fill_holes, hull_area
from lymphoscope.cells.stain import Mask, Plane

_LEVELS = 64
_NOT_ORDERED = np.tril_indices(_LEVELS - 1)
_DENSITY_RANGE = 2.0

# Areas are shares of the largest or nearest piece, gaps are radii of the whole, distances from the middle are
# shares of the photograph's shorter side.
_MOST_PIECES = 6
_SMALLEST_LOBE = 0.04
_LEAST_SHARE = 0.3
_LOBE_GAP = 0.8
_LEAST_BRIDGE_OD = 0.03
_WORTH_OF_AREA = 0.25
_PRICE_OF_BACKGROUND = 3.0
_EMPTY_OD = 0.04
_LARGEST_VACUOLE = 0.3

# A part smaller than this share of the photograph, or filling more than this share of its hull, has no waist.
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

    Pieces that touch are first cut apart at their waists; then the best set of nearby ones is taken. `green`,
    the OD of that channel, says what is background.
    """
    pieces, count = _cut_at_waists(nuclear)
    if count == 0:
        return None
    flat = pieces.ravel()
    area = np.bincount(flat, minlength=count + 1)[1:]
    closeness = np.bincount(flat, central_weight(*nuclear.shape), minlength=count + 1)[1:]
    order = np.argsort(-closeness, kind="stable")[:_MOST_PIECES]
    near = [int(i) for i in order if area[i] > _SMALLEST_LOBE * area[order[0]]]
    masks: list[Mask] = [pieces == i + 1 for i in near]
    if len(masks) == 1:
        return masks[0]
    nucleus: Mask = np.logical_or.reduce([masks[i] for i in _best_set(masks, area[near], green)])
    return nucleus


def _best_set(masks: list[Mask], area: npt.NDArray[np.int64], green: Plane) -> tuple[int, ...]:
    """Which pieces together make the nucleus.

    Of the sets that hang together the cheapest: its box lies near the middle for the area it covers, and its
    convex hull holds little background, as the lobes of one nucleus have cytoplasm between them.
    """
    height, width = masks[0].shape
    gaps = _gaps(masks, green)
    # A vacuole is as pale as the background, but cytoplasm surrounds it.
    empty = (~fill_holes(green > _EMPTY_OD, _LARGEST_VACUOLE * float(area.max()))).view(np.uint8)
    points = [border(mask) for mask in masks]
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
    distances = [distance_to(mask) for mask in masks]
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
        if area > _CONVEX * hull_area(border(own)):
            continue
        cores = _separate_cores(np.asarray(cv2.distanceTransform(bordered, cv2.DIST_L2, 3), dtype=np.float32))
        if cores:
            nearest = np.argmin([distance_to(core) for core in cores], axis=0)[1:-1, 1:-1]
            pieces[window][own] = np.where(nearest > 0, total + nearest, part)[own]
            total += len(cores) - 1
    return pieces, total


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

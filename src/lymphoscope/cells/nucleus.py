"""Finding the nucleus of the cell in the middle: threshold, lobes and neighbours, half-maximum edge."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import numpy.typing as npt

from lymphoscope.cells.stain import Mask, Plane

_LEVELS = 64
_DENSITY_RANGE = 2.0
_CENTRE_SPREAD = 0.2
_MOST_PIECES = 6
_SMALLEST_LOBE = 0.04
_WORTH_OF_AREA = 0.12
_LOBE_GAP = 0.8
_CORE_DEPTHS = (0.5, 0.65, 0.8)


def nuclear_threshold(density: Plane) -> float:
    """Density above which a pixel is nuclear: the upper of two thresholds that best split the photograph.

    Otsu's criterion for three classes (background; red cells and cytoplasm; nuclei), IEEE Trans Syst Man
    Cybern 1979;9:62–66.
    """
    code = np.clip(density * (_LEVELS / _DENSITY_RANGE), 0, _LEVELS - 1).astype(np.uint8)
    weight = np.bincount(code.ravel(), minlength=_LEVELS).astype(np.float64)
    mass = np.concatenate([[0.0], np.cumsum(weight)])
    moment = np.concatenate([[0.0], np.cumsum(weight * np.arange(_LEVELS))])
    share = mass[None, :] - mass[:, None]
    squared = (moment[None, :] - moment[:, None]) ** 2 / np.where(share > 0, share, np.inf)
    # squared[i, j] belongs to the class of levels i to j - 1; the lower threshold lies below the upper.
    between = squared[0, 1:-1, None] + squared[1:-1, 1:-1] + squared[None, 1:-1, -1]
    between[np.tril_indices(len(between))] = -1.0
    upper = int(np.unravel_index(between.argmax(), between.shape)[1]) + 1
    return upper * _DENSITY_RANGE / _LEVELS


def central_nucleus(nuclear: Mask) -> Mask | None:
    """The nucleus of the central cell, all its lobes, out of everything nuclear; None where there is none.

    Pieces that touch are first cut apart at their waists. Of all sets of nearby pieces, the one is taken that
    is best centred for the area it covers: the lobes of one nucleus surround the middle of the photograph,
    a neighbour's nucleus pulls away from it.
    """
    pieces, count = _cut_at_waists(nuclear)
    if count == 0:
        return None
    height, width = nuclear.shape
    spread = _CENTRE_SPREAD * min(height, width)
    x = np.exp(-0.5 * ((np.arange(width) - (width - 1) / 2) / spread) ** 2)
    y = np.exp(-0.5 * ((np.arange(height) - (height - 1) / 2) / spread) ** 2)
    closeness = np.bincount(pieces.ravel(), np.outer(y, x).ravel(), minlength=count + 1)[1:]
    area = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-closeness, kind="stable")[:_MOST_PIECES]
    near = [int(i) + 1 for i in order if area[i] > _SMALLEST_LOBE * area[order[0]]]
    masks = [pieces == i for i in near]
    best, least = masks[:1], np.inf
    gaps = _gaps(masks) if len(masks) > 1 else np.zeros((1, 1))
    total = sum(float(area[i - 1]) for i in near)
    boxes = np.array([cv2.boundingRect(mask.astype(np.uint8)) for mask in masks], dtype=np.float64)
    for size in range(1, len(masks) + 1):
        for chosen in itertools.combinations(range(len(masks)), size):
            covered = sum(float(area[near[i] - 1]) for i in chosen)
            if not _hangs_together(gaps, chosen, _LOBE_GAP * np.sqrt(covered / np.pi)):
                continue
            corner = boxes[list(chosen), :2].min(axis=0)
            far_corner = (boxes[list(chosen), :2] + boxes[list(chosen), 2:]).max(axis=0)
            away = np.hypot(*((corner + far_corner) / 2 - (width / 2, height / 2))) / min(height, width)
            cost = away - _WORTH_OF_AREA * covered / total
            if cost < least:
                least, best = cost, [masks[i] for i in chosen]
    nucleus: Mask = np.logical_or.reduce(best)
    return nucleus


def _gaps(masks: list[Mask]) -> npt.NDArray[np.float64]:
    """Shortest distance between every two masks, in pixels, shape (n_masks, n_masks)."""
    distances = [cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3) for mask in masks]
    return np.array([[distance[mask].min() for mask in masks] for distance in distances], dtype=np.float64)


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
    count, parts, stats, _ = cv2.connectedComponentsWithStats(nuclear.astype(np.uint8), connectivity=4)
    pieces = parts.astype(np.int32)
    total = count - 1
    smallest = 0.002 * nuclear.size
    for part in range(1, count):
        if stats[part, cv2.CC_STAT_AREA] < smallest:
            continue
        x, y, width, height = stats[part, :4]
        window = (slice(y, y + height), slice(x, x + width))
        own = np.pad(parts[window] == part, 1).astype(np.uint8)
        depth = np.asarray(cv2.distanceTransform(own, cv2.DIST_L2, 3), dtype=np.float32)
        cores = _separate_cores(depth)
        if cores is None:
            continue
        nearest = np.argmin(
            [cv2.distanceTransform((~c).astype(np.uint8), cv2.DIST_L2, 3) for c in cores], axis=0
        )
        label = np.where(nearest > 0, total + nearest, part)[1:-1, 1:-1]
        here = parts[window] == part
        pieces[window][here] = label[here]
        total += len(cores) - 1
    return pieces, total


def count_lobes(nucleus: Mask) -> int:
    """Number of parts of a nucleus, separate or joined by a waist; at least 1 where it is not empty."""
    return _cut_at_waists(np.pad(nucleus, 1))[1]


def _separate_cores(depth: Plane) -> list[Mask] | None:
    """Parts that lie deep inside and fall apart when the shallow rim is taken off; None where one stays."""
    deepest = float(depth.max())
    for share in _CORE_DEPTHS:
        count, cores = cv2.connectedComponents((depth > share * deepest).astype(np.uint8), connectivity=8)
        if count > 2:
            return [cores == i for i in range(1, count)]
    return None


def refine_nucleus(density: Plane, nucleus: Mask, cell: Mask) -> Mask:
    """The nucleus with its edge at half height between cytoplasm and nucleus, inside `cell`.

    Density is blurred by about a twelfth of the nucleus's radius, so that the outline follows the nucleus and
    not its chromatin. Where there is next to no cytoplasm to compare with, what surrounds the cell is used.
    """
    area = np.count_nonzero(nucleus)
    radius = np.sqrt(area / np.pi)
    distance = cv2.distanceTransform((~nucleus).astype(np.uint8), cv2.DIST_L2, 3)
    around: Mask = cell & (distance > max(1.5, 0.08 * radius))
    if np.count_nonzero(around) < 0.05 * area:
        return nucleus & cell
    smooth = cv2.GaussianBlur(density, (0, 0), max(0.5, 0.06 * radius))
    level = 0.5 * (np.median(smooth[around]) + np.median(smooth[nucleus]))
    dark = ((smooth > level) & cell).astype(np.uint8)
    dark = cv2.morphologyEx(dark, cv2.MORPH_OPEN, disc(0.08 * radius))
    count, parts, stats, _ = cv2.connectedComponentsWithStats(dark, connectivity=4)
    kept = stats[:, cv2.CC_STAT_AREA] > 0.06 * area
    kept[0] = False
    refined: Mask = kept[parts]
    return fill_holes(refined, 0.05 * area) if count > 1 and kept.any() else nucleus


def fill_holes(mask: Mask, largest: float) -> Mask:
    """`mask` with its holes of at most `largest` pixels filled."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
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

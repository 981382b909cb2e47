"""What is measured on one cell: `measure(image)` gives the numbers named in `MORPHOLOGY_COLUMNS`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from lymphoscope.cells.columns import (
    BACKGROUND_COLUMNS,
    CELL_COLUMNS,
    COLUMNS,
    MORPHOLOGY_COLUMNS,
    MORPHOLOGY_VERSION,
    RINGS,
)
from lymphoscope.cells.masks import distance_inside, distance_to
from lymphoscope.cells.nucleus import count_lobes
from lymphoscope.cells.part import Part
from lymphoscope.cells.segmentation import Segmentation, segment
from lymphoscope.cells.shape import clefts, crofton_perimeter, irregularity
from lymphoscope.cells.stain import Mask, Plane, RgbImage
from lymphoscope.cells.surroundings import Numbers, background_numbers, neighbour_numbers

__all__ = [
    "BACKGROUND_COLUMNS",
    "CELL_COLUMNS",
    "COLUMNS",
    "MORPHOLOGY_COLUMNS",
    "MORPHOLOGY_VERSION",
    "measure",
    "to_micrometres",
]

_MARGIN = 6
_NUCLEUS_MARGIN = 3
_SQUARE = np.ones((3, 3), dtype=np.uint8)
_CLUMP = 0.10
_GRANULE_OD = 0.06
_ENTROPY_STEP_OD = 0.05
_LEAST_PIXELS = 10
_ENOUGH_PIXELS = 40
_RIM_PX = 2.0


def measure(image: RgbImage) -> Plane:
    """All numbers of the central cell of `image`, uint8 RGB (H, W, 3); float32 (n_columns,).

    `segmented` is 1 or 0; where it is 0, every other number is NaN.
    """
    found = segment(image)
    row = np.full(len(MORPHOLOGY_COLUMNS), np.nan, dtype=np.float32)
    row[0] = found.ok
    if found.ok:
        numbers = _measure_cell(image, found)
        row[1:] = [numbers[name] for name in MORPHOLOGY_COLUMNS[1:]]
    return row


def to_micrometres(
    values: npt.NDArray[np.floating], columns: Sequence[str], um_per_px: float
) -> tuple[Plane, tuple[str, ...]]:
    """`values` (n_cells, n_columns) with lengths in µm and areas in µm², and the names that go with them.

    `um_per_px` is the scale in micrometres per pixel. Columns without a length in their unit keep value and
    name; the scales that texture is measured at stay in pixels.
    """
    if not (np.isfinite(um_per_px) and um_per_px > 0):
        raise ValueError(f"um_per_px: {um_per_px}; allowed: a positive number of micrometres per pixel")
    by_name = {column.name: column for column in COLUMNS}
    chosen = [by_name[name] for name in columns]
    factor = np.array([um_per_px**column.length_power for column in chosen], dtype=np.float64)
    names = tuple(column.name_in_micrometres for column in chosen)
    return (np.asarray(values) * factor).astype(np.float32), names


def _measure_cell(image: RgbImage, found: Segmentation) -> Numbers:
    radius = float(np.sqrt(np.count_nonzero(found.nucleus) / np.pi))
    cell = Part.around(found.cell, image, found.white, max(_MARGIN, int(np.ceil(RINGS[-1][2] * radius))))
    nucleus = cell.narrowed(found.nucleus[cell.view], _NUCLEUS_MARGIN)
    from_edge = _distance_from_edge(found.nucleus[cell.view])
    numbers: Numbers = {}
    numbers |= _nucleus_shape(nucleus)
    numbers |= _nucleus_colour_and_chromatin(nucleus)
    numbers |= _cell_shape(cell)
    numbers |= _cytoplasm(cell, found.nucleus[cell.view], from_edge)
    numbers |= _profile(cell, from_edge, radius)
    numbers |= neighbour_numbers(found.frame)
    numbers |= background_numbers(found)
    numbers["cell_nucleus_ratio"] = numbers["nucleus_area_px"] / numbers["cell_area_px"]
    apart = np.subtract(nucleus.centre, cell.centre)
    numbers["nucleus_offset"] = float(np.hypot(*apart) / np.sqrt(numbers["cell_area_px"] / np.pi))
    return numbers


def _distance_from_edge(mask: Mask) -> Plane:
    """Distance of every pixel's centre from the edge of `mask`, negative inside, in pixels."""
    mask = np.ascontiguousarray(mask)
    # Of the two, the one on the other side is 0; a pixel's centre lies half a pixel from its edge.
    return distance_to(mask) - distance_inside(mask) + np.where(mask, np.float32(0.5), np.float32(-0.5))


def _mean_gradient(plane: Plane, points: npt.NDArray[np.int32]) -> float:
    """Mean size of the gradient of `plane` at `points` (x, y), per pixel."""
    dx = cv2.Sobel(plane, cv2.CV_32F, 1, 0, scale=1 / 8)
    dy = cv2.Sobel(plane, cv2.CV_32F, 0, 1, scale=1 / 8)
    return float(np.hypot(dx[points[:, 1], points[:, 0]], dy[points[:, 1], points[:, 0]]).mean())


def _nucleus_shape(nucleus: Part) -> Numbers:
    deepest, count = clefts(nucleus.outlines[0])
    points = np.concatenate(nucleus.outlines)
    # A nucleus in one piece without an indentation has no waist to look for.
    lobes = count_lobes(nucleus.mask) if len(nucleus.outlines) > 1 or count else 1
    return {
        "nucleus_area_px": nucleus.shape.area,
        "nucleus_roundness": nucleus.shape.roundness,
        "nucleus_solidity": nucleus.shape.solidity,
        "nucleus_eccentricity": nucleus.shape.eccentricity,
        "nucleus_irregularity": irregularity(points, nucleus.shape.centre),
        "nucleus_cleft_depth": deepest,
        "nucleus_cleft_count": float(count),
        "nucleus_lobe_count": float(lobes),
        "nucleus_edge_sharpness_od": _mean_gradient(nucleus.density, points),
    }


def _nucleus_colour_and_chromatin(nucleus: Part) -> Numbers:
    lab = nucleus.lab(nucleus.mask)
    lightness, green_red, blue_yellow, _ = cv2.mean(lab[None])
    density = nucleus.density[nucleus.mask]
    colour: Numbers = {
        "nucleus_lab_l": lightness,
        "nucleus_lab_a": green_red,
        "nucleus_lab_b": blue_yellow,
        "nucleus_density_od": float(density.mean()),
        "nucleus_integrated_density_od_px": float(density.sum()),
    }
    return colour | _chromatin(nucleus, lab)


def _cell_shape(cell: Part) -> Numbers:
    shape, points = cell.shape, cell.outlines[0]
    green = np.ascontiguousarray(cell.od[..., 1])
    reach = 0.12 * np.sqrt(shape.area / np.pi)
    smooth: Mask = cv2.GaussianBlur(cell.mask.astype(np.float32), (0, 0), reach) > 0.5
    height, width = cell.mask.shape
    left, top, right, bottom = cell.on_frame
    cut = (left & (points[:, 0] == 0)) | (right & (points[:, 0] == width - 1))
    cut |= (top & (points[:, 1] == 0)) | (bottom & (points[:, 1] == height - 1))
    fine = cv2.subtract(green, cv2.GaussianBlur(green, (0, 0), 1.0))
    (_, ((fine_spread,),)), (_, ((spread,),)) = cv2.meanStdDev(fine), cv2.meanStdDev(green)
    return {
        "cell_area_px": shape.area,
        "cell_roundness": shape.roundness,
        "cell_solidity": shape.solidity,
        "cell_eccentricity": shape.eccentricity,
        "cell_edge_hairiness": shape.perimeter / max(crofton_perimeter(smooth), 1.0) - 1.0,
        "cell_edge_sharpness_od": _mean_gradient(green, points),
        "cell_focus": float(fine_spread / max(spread, 1e-6)),
        "cell_on_frame_fraction": float(cut.mean()),
    }


def _texture(
    plane: Plane, mask: Mask, at: npt.NDArray[np.int64], mean: float, scales: Sequence[float]
) -> list[Plane]:
    """Bands of detail of `plane` inside `mask`, between 0 and the first of `scales`, then each to the next.

    `at` are the flat indices of the mask's pixels. Outside the mask the plane is set to `mean`, its mean
    inside, so that the mask's edge is no detail.
    """
    filled = np.where(mask, plane, np.float32(mean))
    levels = [filled, *(cv2.GaussianBlur(filled, (0, 0), scale) for scale in scales)]
    inside = [level.ravel()[at] for level in levels]
    return [fine - coarse for fine, coarse in itertools.pairwise(inside)]


def _root_mean_square(values: Plane) -> float:
    return float(np.sqrt(np.dot(values, values) / len(values)))


def _chromatin(nucleus: Part, lab: Plane) -> Numbers:
    """Texture of the nucleus without its outermost pixels; `lab` is the colour of all of its pixels."""
    bordered = cv2.copyMakeBorder(nucleus.mask.view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    depth = cv2.distanceTransform(bordered, cv2.DIST_L2, 3)[1:-1, 1:-1]
    core: Mask = depth > _RIM_PX
    if np.count_nonzero(core) < _LEAST_PIXELS:
        core = nucleus.mask
    at = np.flatnonzero(core)
    density, inward = nucleus.density.ravel()[at], np.ascontiguousarray(depth).ravel()[at]
    mean, spread = float(density.mean()), float(density.std())
    one, two, four = _texture(nucleus.density, core, at, mean, (1.0, 2.0, 4.0))
    relative = (one + two + four) / max(mean, 1e-6)
    counts = np.bincount(np.clip(density * (1 / _ENTROPY_STEP_OD), 0, 99).astype(np.int64))
    share = counts[counts > 0] / len(density)
    third = len(inward) // 3
    outer = inward <= np.partition(inward, third)[third]
    rim = float(density[outer].mean() - density[~outer].mean()) if not outer.all() else 0.0
    spreads = cv2.meanStdDev(np.ascontiguousarray(lab[core[nucleus.mask]])[None])[1].ravel()
    return {
        "chromatin_contrast_od": spread,
        "chromatin_contrast_ratio": spread / max(mean, 1e-6),
        "chromatin_granularity_1px_od": _root_mean_square(one),
        "chromatin_granularity_2px_od": _root_mean_square(two),
        "chromatin_granularity_4px_od": _root_mean_square(four),
        "chromatin_clump_fraction": np.count_nonzero(relative > _CLUMP) / len(density),
        "chromatin_pale_fraction": np.count_nonzero(relative < -_CLUMP) / len(density),
        "chromatin_entropy_bits": float(-(share * np.log2(share)).sum()),
        "chromatin_rim_od": rim,
        "chromatin_colour_spread_lab": float(np.hypot(spreads[1], spreads[2])),
    }


def _inner_cytoplasm(cell: Mask, cytoplasm: Mask, from_edge: Plane) -> Mask:
    """The cytoplasm that is neither blurred into the nucleus nor into the background, as far as there is any.

    A cell with next to no cytoplasm is described by the pixels just outside its nucleus.
    """
    eroded = cv2.erode(cell.view(np.uint8), _SQUARE).view(np.bool_)
    inner: Mask = cytoplasm & eroded & (from_edge > 1.5)
    around: Mask = (from_edge > 0) & (from_edge < 2)
    for mask, enough in ((inner, _ENOUGH_PIXELS), (cytoplasm, _LEAST_PIXELS), (around, 1)):
        if np.count_nonzero(mask) >= enough:
            return mask
    return cell


def _cytoplasm(cell: Part, nucleus: Mask, from_edge: Plane) -> Numbers:
    whole: Mask = cell.mask & ~nucleus
    area = np.count_nonzero(whole)
    mask = _inner_cytoplasm(cell.mask, whole, from_edge)
    lightness, green_red, blue_yellow, _ = cv2.mean(cell.lab(mask)[None])
    density = float(cell.density[mask].mean())
    one, two, three = _texture(cell.density, mask, np.flatnonzero(mask), density, (1.0, 2.0, 3.0))
    detail = one + two + three
    red, _, blue, _ = cv2.mean(cell.od, mask.view(np.uint8))
    return {
        "cytoplasm_area_px": float(area),
        "cytoplasm_widest_px": float(from_edge[whole].max() + 0.5) if area else 0.0,
        "cytoplasm_lab_l": lightness,
        "cytoplasm_lab_a": green_red,
        "cytoplasm_lab_b": blue_yellow,
        "cytoplasm_density_od": density,
        "cytoplasm_blueness_od": red - blue,
        "cytoplasm_granularity_1px_od": _root_mean_square(one),
        "cytoplasm_granularity_2px_od": _root_mean_square(two),
        "cytoplasm_granule_fraction": np.count_nonzero(detail > _GRANULE_OD) / len(detail),
        "cytoplasm_vacuole_fraction": np.count_nonzero(detail < -_GRANULE_OD) / len(detail),
    }


def _profile(cell: Part, from_edge: Plane, radius: float) -> Numbers:
    """Mean stain and blueness in rings around the nucleus; an empty ring takes its inner neighbour's."""
    edges = np.array([RINGS[0][1], *(ring[2] for ring in RINGS)]) * radius
    at = np.flatnonzero((from_edge > edges[0]) & (from_edge <= edges[-1]))
    ring = np.searchsorted(edges, from_edge.ravel()[at])
    counts = np.bincount(ring, minlength=len(edges))
    density = np.bincount(ring, cell.density.ravel()[at], minlength=len(edges))
    bluer = cell.od[..., 0] - cell.od[..., 2]
    blueness = np.bincount(ring, bluer.ravel()[at], minlength=len(edges))
    numbers: Numbers = {}
    last = (0.0, 0.0)
    for i, (name, *_) in enumerate(RINGS, start=1):
        if counts[i]:
            last = (float(density[i] / counts[i]), float(blueness[i] / counts[i]))
        numbers[f"profile_{name}_density_od"], numbers[f"profile_{name}_blueness_od"] = last
    return numbers

"""What is measured on one cell: `measure(image)` gives the numbers named in `MORPHOLOGY_COLUMNS`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

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
from lymphoscope.cells.nucleus import count_lobes
from lymphoscope.cells.segmentation import Segmentation, segment
from lymphoscope.cells.shape import clefts, irregularity, outlines_of, shape_of
from lymphoscope.cells.stain import (
    Mask,
    Plane,
    RgbImage,
    nuclear_density,
    optical_density,
    white_balanced_lab,
)

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
_STAINED_OD = 0.06
_CLUMP = 0.10
_GRANULE_OD = 0.06
_ENTROPY_STEP_OD = 0.05

Numbers = dict[str, float]


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


def to_micrometres(values: npt.NDArray[np.floating], columns: Sequence[str], um_per_px: float) -> Plane:
    """`values` (n_cells, n_columns) with lengths and areas in µm and µm², `um_per_px` being the scale.

    The columns keep their names and order; those without a length in their unit are unchanged.
    """
    if not (np.isfinite(um_per_px) and um_per_px > 0):
        raise ValueError(f"um_per_px: {um_per_px}; allowed: a positive number of micrometres per pixel")
    power = {column.name: column.micrometre_power for column in COLUMNS}
    factor = np.array([um_per_px ** power[name] for name in columns], dtype=np.float64)
    return (np.asarray(values) * factor).astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Window:
    """The part of a photograph around the cell, with everything that several measures need."""

    nucleus: Mask
    cell: Mask
    cytoplasm: Mask
    od: Plane
    density: Plane
    blueness: Plane
    lab: Plane
    from_edge: Plane
    on_frame: tuple[bool, bool, bool, bool]


def _measure_cell(image: RgbImage, found: Segmentation) -> Numbers:
    window = _window(image, found)
    nucleus_outlines = outlines_of(window.nucleus)
    numbers: Numbers = {}
    numbers |= _nucleus_shape(window, nucleus_outlines)
    numbers |= _cell_shape(window)
    numbers |= _chromatin(window)
    numbers |= _cytoplasm(window)
    numbers |= _profile(window, numbers["nucleus_area_px"])
    numbers |= _surroundings(image, found)
    return numbers


def _window(image: RgbImage, found: Segmentation) -> _Window:
    height, width = found.cell.shape
    radius = np.sqrt(np.count_nonzero(found.nucleus) / np.pi)
    margin = max(_MARGIN, int(np.ceil(RINGS[-1][2] * radius)))
    x, y, w, h = cv2.boundingRect(found.cell.view(np.uint8))
    top, bottom = max(0, y - margin), min(height, y + h + margin)
    left, right = max(0, x - margin), min(width, x + w + margin)
    view = (slice(top, bottom), slice(left, right))
    nucleus, cell = found.nucleus[view], found.cell[view]
    part = np.ascontiguousarray(image[view])
    od = optical_density(part, found.white)
    inside = cv2.distanceTransform(nucleus.astype(np.uint8), cv2.DIST_L2, 3)
    outside = cv2.distanceTransform((~nucleus).astype(np.uint8), cv2.DIST_L2, 3)
    from_edge = np.where(nucleus, 0.5 - inside, outside - 0.5)
    cytoplasm: Mask = cell & ~nucleus
    return _Window(
        nucleus=nucleus,
        cell=cell,
        # A cell with next to no cytoplasm is described by the pixels just outside its nucleus.
        cytoplasm=cytoplasm if np.count_nonzero(cytoplasm) >= 10 else (from_edge > 0) & (from_edge < 2),
        od=od,
        density=nuclear_density(od),
        blueness=np.subtract(od[..., 0], od[..., 2]),
        lab=white_balanced_lab(part, found.white),
        from_edge=from_edge,
        on_frame=(top == 0, bottom == height, left == 0, right == width),
    )


def _nucleus_shape(window: _Window, outlines: list[npt.NDArray[np.int32]]) -> Numbers:
    shape = shape_of(window.nucleus, outlines)
    cell_moments = cv2.moments(window.cell.astype(np.uint8), binaryImage=True)
    cell_area = cell_moments["m00"]
    offset = np.hypot(
        shape.centre[0] - cell_moments["m10"] / cell_area, shape.centre[1] - cell_moments["m01"] / cell_area
    )
    deepest, count = clefts(outlines[0])
    lab = window.lab[window.nucleus].mean(axis=0)
    density = window.density[window.nucleus]
    dx = cv2.Sobel(window.density, cv2.CV_32F, 1, 0, scale=1 / 8)
    dy = cv2.Sobel(window.density, cv2.CV_32F, 0, 1, scale=1 / 8)
    points = np.concatenate(outlines)
    gradient = np.hypot(dx[points[:, 1], points[:, 0]], dy[points[:, 1], points[:, 0]])
    return {
        "nucleus_area_px": shape.area,
        "nucleus_roundness": shape.roundness,
        "nucleus_solidity": shape.solidity,
        "nucleus_eccentricity": shape.eccentricity,
        "nucleus_irregularity": irregularity(points, shape.centre),
        "nucleus_cleft_depth": deepest,
        "nucleus_cleft_count": float(count),
        "nucleus_lobe_count": float(count_lobes(window.nucleus)),
        "nucleus_offset": float(offset / np.sqrt(cell_area / np.pi)),
        "nucleus_lab_l": float(lab[0]),
        "nucleus_lab_a": float(lab[1]),
        "nucleus_lab_b": float(lab[2]),
        "nucleus_density_od": float(density.mean()),
        "nucleus_integrated_density_od_px": float(density.sum()),
        "nucleus_edge_sharpness_od": float(gradient.mean()),
    }


def _cell_shape(window: _Window) -> Numbers:
    outlines = outlines_of(window.cell)
    shape = shape_of(window.cell, outlines)
    reach = max(1, round(0.12 * np.sqrt(shape.area / np.pi)))
    smooth = cv2.GaussianBlur(window.cell.astype(np.float32), (0, 0), reach) > 0.5
    smooth_perimeter = shape_of(smooth, outlines).perimeter if smooth.any() else shape.perimeter
    points = outlines[0]
    green = np.ascontiguousarray(window.od[..., 1])
    dx = cv2.Sobel(green, cv2.CV_32F, 1, 0, scale=1 / 8)
    dy = cv2.Sobel(green, cv2.CV_32F, 0, 1, scale=1 / 8)
    gradient = np.hypot(dx[points[:, 1], points[:, 0]], dy[points[:, 1], points[:, 0]])
    height, width = window.cell.shape
    top, bottom, left, right = window.on_frame
    cut = (top & (points[:, 1] == 0)) | (bottom & (points[:, 1] == height - 1))
    cut |= (left & (points[:, 0] == 0)) | (right & (points[:, 0] == width - 1))
    fine = green - cv2.GaussianBlur(green, (0, 0), 1.0)
    return {
        "cell_area_px": shape.area,
        "cell_nucleus_ratio": np.count_nonzero(window.nucleus) / shape.area,
        "cell_roundness": shape.roundness,
        "cell_solidity": shape.solidity,
        "cell_eccentricity": shape.eccentricity,
        "cell_edge_hairiness": shape.perimeter / smooth_perimeter - 1.0,
        "cell_edge_sharpness_od": float(gradient.mean()),
        "cell_focus": float(fine.std() / max(float(green.std()), 1e-6)),
        "cell_on_frame_fraction": float(cut.mean()),
    }


def _texture(plane: Plane, mask: Mask, scales: Sequence[float]) -> list[Plane]:
    """Bands of detail of `plane` inside `mask`, between 0 and the first of `scales`, then each to the next.

    Outside the mask the plane is set to its mean inside, so that the mask's edge is no detail.
    """
    filled = np.where(mask, plane, plane[mask].mean(dtype=np.float64)).astype(np.float32)
    levels = [filled, *(cv2.GaussianBlur(filled, (0, 0), scale) for scale in scales)]
    return [(fine - coarse)[mask] for fine, coarse in itertools.pairwise(levels)]


def _chromatin(window: _Window) -> Numbers:
    core: Mask = window.from_edge < -1.5
    if np.count_nonzero(core) < 10:
        core = window.nucleus
    density = window.density[core]
    mean, spread = float(density.mean()), float(density.std())
    one, two, four = _texture(window.density, core, (1.0, 2.0, 4.0))
    relative = (one + two + four) / max(mean, 1e-6)
    counts = np.bincount(np.clip(density / _ENTROPY_STEP_OD, 0, 99).astype(np.int64))
    share = counts[counts > 0] / len(density)
    depth = window.from_edge[core]
    outer = depth > np.quantile(depth, 2 / 3)
    rim = density[outer].mean() - density[~outer].mean() if outer.any() and not outer.all() else 0.0
    colour = window.lab[core][:, 1:]
    return {
        "chromatin_contrast_od": spread,
        "chromatin_contrast_ratio": spread / max(mean, 1e-6),
        "chromatin_granularity_1px_od": float(np.sqrt(np.mean(one**2))),
        "chromatin_granularity_2px_od": float(np.sqrt(np.mean(two**2))),
        "chromatin_granularity_4px_od": float(np.sqrt(np.mean(four**2))),
        "chromatin_clump_fraction": float(np.mean(relative > _CLUMP)),
        "chromatin_pale_fraction": float(np.mean(relative < -_CLUMP)),
        "chromatin_entropy_bits": float(-(share * np.log2(share)).sum()),
        "chromatin_rim_od": float(rim),
        "chromatin_colour_spread_lab": float(np.sqrt(colour.var(axis=0).sum())),
    }


def _cytoplasm(window: _Window) -> Numbers:
    mask = window.cytoplasm
    lab = window.lab[mask].mean(axis=0)
    one, two, three = _texture(window.density, mask, (1.0, 2.0, 3.0))
    detail = one + two + three
    return {
        "cytoplasm_area_px": float(np.count_nonzero(window.cell & ~window.nucleus)),
        "cytoplasm_widest_px": float(max(window.from_edge[mask].max() + 0.5, 0.0)),
        "cytoplasm_lab_l": float(lab[0]),
        "cytoplasm_lab_a": float(lab[1]),
        "cytoplasm_lab_b": float(lab[2]),
        "cytoplasm_density_od": float(window.density[mask].mean()),
        "cytoplasm_blueness_od": float(window.blueness[mask].mean()),
        "cytoplasm_granularity_1px_od": float(np.sqrt(np.mean(one**2))),
        "cytoplasm_granularity_2px_od": float(np.sqrt(np.mean(two**2))),
        "cytoplasm_granule_fraction": float(np.mean(detail > _GRANULE_OD)),
        "cytoplasm_vacuole_fraction": float(np.mean(detail < -_GRANULE_OD)),
    }


def _profile(window: _Window, nucleus_area: float) -> Numbers:
    """Mean stain and blueness in rings around the nucleus; an empty ring takes its inner neighbour's."""
    edges = np.array([RINGS[0][1], *(ring[2] for ring in RINGS)]) * np.sqrt(nucleus_area / np.pi)
    ring = np.searchsorted(edges, window.from_edge.ravel(), side="right")
    size = len(edges) + 1
    counts = np.bincount(ring, minlength=size)
    density = np.bincount(ring, window.density.ravel(), minlength=size)
    blueness = np.bincount(ring, window.blueness.ravel(), minlength=size)
    numbers: Numbers = {}
    last = (float(window.density[window.nucleus].mean()), float(window.blueness[window.nucleus].mean()))
    for i, (name, *_) in enumerate(RINGS, start=1):
        if counts[i]:
            last = (float(density[i] / counts[i]), float(blueness[i] / counts[i]))
        numbers[f"profile_{name}_density_od"], numbers[f"profile_{name}_blueness_od"] = last
    return numbers


def _surroundings(image: RgbImage, found: Segmentation) -> Numbers:
    """Neighbours, red cells and background, measured on every second pixel of the whole photograph."""
    sparse = np.ascontiguousarray(image[::2, ::2])
    cell, others = found.cell[::2, ::2], found.others[::2, ::2]
    od = optical_density(sparse, found.white)
    green = od[..., 1]
    stained = green > _STAINED_OD
    red_cells: Mask = stained & ~cell & ~others
    empty: Mask = ~stained & ~cell
    count, _, stats, _ = cv2.connectedComponentsWithStats(others.astype(np.uint8), connectivity=8)
    nuclei = np.count_nonzero(stats[1:, cv2.CC_STAT_AREA] > 0.15 * np.count_nonzero(found.nucleus) / 4)
    rim = cv2.dilate(cell.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.bool_) & ~cell
    lab = cv2.cvtColor((found.white / 255).reshape(1, 1, 3).astype(np.float32), cv2.COLOR_RGB2Lab).ravel()
    red = np.median(od[red_cells], axis=0) if np.count_nonzero(red_cells) > 20 else np.zeros(3)
    blank = green[empty]
    return {
        "neighbours_nucleus_count": float(nuclei if count > 1 else 0),
        "neighbours_nucleus_fraction": float(others.mean()),
        "neighbours_red_cell_fraction": float(red_cells.mean()),
        "neighbours_contact_fraction": float(stained[rim].mean()) if rim.any() else 0.0,
        "background_lab_l": float(lab[0]),
        "background_lab_a": float(lab[1]),
        "background_lab_b": float(lab[2]),
        "background_noise_od": float(blank.std()) if blank.size else 0.0,
        "background_unevenness_od": _unevenness(green, empty),
        "background_red_cell_red_od": float(red[0]),
        "background_red_cell_green_od": float(red[1]),
        "background_red_cell_blue_od": float(red[2]),
    }


def _unevenness(green: Plane, empty: Mask) -> float:
    """Range of the mean background OD between the four quarters that have enough background."""
    height, width = green.shape
    quarters = [
        green[rows, columns][empty[rows, columns]]
        for rows in (slice(0, height // 2), slice(height // 2, height))
        for columns in (slice(0, width // 2), slice(width // 2, width))
    ]
    means = [float(quarter.mean()) for quarter in quarters if quarter.size > 20]
    return max(means) - min(means) if means else 0.0

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
from lymphoscope.cells.nucleus import count_lobes
from lymphoscope.cells.segmentation import Frame, Segmentation, segment
from lymphoscope.cells.shape import clefts, crofton_perimeter, irregularity, outlines_of, shape_of
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
_LEAST_PIXELS = 10
_ENOUGH_PIXELS = 40
_RIM_PX = 2.0
_LEAST_NUCLEUS = 0.1

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


def _measure_cell(image: RgbImage, found: Segmentation) -> Numbers:
    x, y, width, height = cv2.boundingRect(found.nucleus.view(np.uint8))
    nucleus = _Part(image, found.nucleus, found.white, (x, y, width, height), margin=3)
    radius = np.sqrt(np.count_nonzero(nucleus.mask) / np.pi)
    box = cv2.boundingRect(found.cell.view(np.uint8))
    cell = _Part(
        image, found.cell, found.white, box, margin=max(_MARGIN, int(np.ceil(RINGS[-1][2] * radius)))
    )
    from_edge = _distance_from_edge(found.nucleus[cell.view])
    numbers: Numbers = {}
    numbers |= _nucleus_shape(nucleus)
    numbers |= _nucleus_colour_and_chromatin(nucleus)
    numbers |= _cell_shape(cell)
    numbers |= _cytoplasm(cell, found.nucleus[cell.view], from_edge)
    numbers |= _profile(cell, from_edge, radius)
    numbers |= _surroundings(found.frame)
    numbers |= _background(found)
    numbers["cell_nucleus_ratio"] = numbers["nucleus_area_px"] / numbers["cell_area_px"]
    apart = np.subtract(nucleus.centre_in_image, cell.centre_in_image)
    numbers["nucleus_offset"] = float(np.hypot(*apart) / np.sqrt(numbers["cell_area_px"] / np.pi))
    return numbers


class _Part:
    """A part of the photograph around a mask, with its stain and the mask's outlines and shape."""

    def __init__(self, image: RgbImage, mask: Mask, white: Plane, box: Sequence[int], margin: int) -> None:
        height, width = mask.shape
        x, y, w, h = box
        top, bottom = max(0, y - margin), min(height, y + h + margin)
        left, right = max(0, x - margin), min(width, x + w + margin)
        self.view = (slice(top, bottom), slice(left, right))
        self.on_frame = (left == 0, top == 0, right == width, bottom == height)
        self.white = white
        self.mask: Mask = np.ascontiguousarray(mask[self.view])
        self.image: RgbImage = np.ascontiguousarray(image[self.view])
        self.od = optical_density(self.image, white)
        self.density = nuclear_density(self.od)
        self.outlines = outlines_of(self.mask)
        self.shape = shape_of(self.mask, self.outlines)
        self.centre_in_image = (left + self.shape.centre[0], top + self.shape.centre[1])

    def lab(self, mask: Mask) -> Plane:
        """White-balanced L*a*b* of the pixels of `mask`, shape (n, 3)."""
        return white_balanced_lab(self.image[mask][None], self.white)[0]


def _distance_from_edge(mask: Mask) -> Plane:
    """Distance of every pixel's centre from the edge of `mask`, negative inside, in pixels."""
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    outside = cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, 3)
    # Of the two, the one on the other side is 0.
    return np.asarray(outside - inside - np.where(mask, -0.5, 0.5).astype(np.float32))


def _mean_gradient(plane: Plane, points: npt.NDArray[np.int32]) -> float:
    """Mean size of the gradient of `plane` at `points` (x, y), per pixel."""
    dx = cv2.Sobel(plane, cv2.CV_32F, 1, 0, scale=1 / 8)
    dy = cv2.Sobel(plane, cv2.CV_32F, 0, 1, scale=1 / 8)
    return float(np.hypot(dx[points[:, 1], points[:, 0]], dy[points[:, 1], points[:, 0]]).mean())


def _nucleus_shape(nucleus: _Part) -> Numbers:
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


def _nucleus_colour_and_chromatin(nucleus: _Part) -> Numbers:
    lab = nucleus.lab(nucleus.mask)
    lightness, green_red, blue_yellow = lab.mean(axis=0)
    density = nucleus.density[nucleus.mask]
    colour: Numbers = {
        "nucleus_lab_l": float(lightness),
        "nucleus_lab_a": float(green_red),
        "nucleus_lab_b": float(blue_yellow),
        "nucleus_density_od": float(density.mean()),
        "nucleus_integrated_density_od_px": float(density.sum()),
    }
    return colour | _chromatin(nucleus, lab[:, 1:])


def _cell_shape(cell: _Part) -> Numbers:
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


def _texture(plane: Plane, mask: Mask, mean: float, scales: Sequence[float]) -> list[Plane]:
    """Bands of detail of `plane` inside `mask`, between 0 and the first of `scales`, then each to the next.

    Outside the mask the plane is set to `mean`, its mean inside, so that the mask's edge is no detail.
    """
    filled = np.where(mask, plane, np.float32(mean))
    levels = [filled, *(cv2.GaussianBlur(filled, (0, 0), scale) for scale in scales)]
    inside = [level[mask] for level in levels]
    return [fine - coarse for fine, coarse in itertools.pairwise(inside)]


def _root_mean_square(values: Plane) -> float:
    return float(np.sqrt(np.dot(values, values) / len(values)))


def _chromatin(nucleus: _Part, colour: Plane) -> Numbers:
    """Texture of the nucleus without its outermost pixels; `colour` is a* and b* of all of its pixels."""
    bordered = cv2.copyMakeBorder(nucleus.mask.view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    depth = cv2.distanceTransform(bordered, cv2.DIST_L2, 3)[1:-1, 1:-1]
    core: Mask = depth > _RIM_PX
    if np.count_nonzero(core) < _LEAST_PIXELS:
        core = nucleus.mask
    density, inward = nucleus.density[core], depth[core]
    mean, spread = float(density.mean()), float(density.std())
    one, two, four = _texture(nucleus.density, core, mean, (1.0, 2.0, 4.0))
    relative = (one + two + four) / max(mean, 1e-6)
    counts = np.bincount(np.clip(density * (1 / _ENTROPY_STEP_OD), 0, 99).astype(np.int64))
    share = counts[counts > 0] / len(density)
    third = len(inward) // 3
    outer = inward <= np.partition(inward, third)[third]
    rim = float(density[outer].mean() - density[~outer].mean()) if not outer.all() else 0.0
    core_colour = colour[core[nucleus.mask]]
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
        "chromatin_colour_spread_lab": float(np.sqrt(core_colour.var(axis=0).sum())),
    }


def _inner_cytoplasm(cell: Mask, cytoplasm: Mask, from_edge: Plane) -> Mask:
    """The cytoplasm that is neither blurred into the nucleus nor into the background, as far as there is any.

    A cell with next to no cytoplasm is described by the pixels just outside its nucleus.
    """
    eroded = cv2.erode(cell.view(np.uint8), np.ones((3, 3), np.uint8)).view(np.bool_)
    inner: Mask = cytoplasm & eroded & (from_edge > 1.5)
    around: Mask = (from_edge > 0) & (from_edge < 2)
    for mask, enough in ((inner, _ENOUGH_PIXELS), (cytoplasm, _LEAST_PIXELS), (around, 1)):
        if np.count_nonzero(mask) >= enough:
            return mask
    return cell


def _cytoplasm(cell: _Part, nucleus: Mask, from_edge: Plane) -> Numbers:
    whole: Mask = cell.mask & ~nucleus
    area = np.count_nonzero(whole)
    mask = _inner_cytoplasm(cell.mask, whole, from_edge)
    lightness, green_red, blue_yellow = cell.lab(mask).mean(axis=0)
    density = float(cell.density[mask].mean())
    one, two, three = _texture(cell.density, mask, density, (1.0, 2.0, 3.0))
    detail = one + two + three
    red, _, blue = cell.od[mask].mean(axis=0)
    return {
        "cytoplasm_area_px": float(area),
        "cytoplasm_widest_px": float(from_edge[whole].max() + 0.5) if area else 0.0,
        "cytoplasm_lab_l": float(lightness),
        "cytoplasm_lab_a": float(green_red),
        "cytoplasm_lab_b": float(blue_yellow),
        "cytoplasm_density_od": density,
        "cytoplasm_blueness_od": float(red - blue),
        "cytoplasm_granularity_1px_od": _root_mean_square(one),
        "cytoplasm_granularity_2px_od": _root_mean_square(two),
        "cytoplasm_granule_fraction": np.count_nonzero(detail > _GRANULE_OD) / len(detail),
        "cytoplasm_vacuole_fraction": np.count_nonzero(detail < -_GRANULE_OD) / len(detail),
    }


def _profile(cell: _Part, from_edge: Plane, radius: float) -> Numbers:
    """Mean stain and blueness in rings around the nucleus; an empty ring takes its inner neighbour's."""
    edges = np.array([RINGS[0][1], *(ring[2] for ring in RINGS)]) * radius
    near: Mask = (from_edge > edges[0]) & (from_edge <= edges[-1])
    ring = np.searchsorted(edges, from_edge[near])
    counts = np.bincount(ring, minlength=len(edges))
    density = np.bincount(ring, cell.density[near], minlength=len(edges))
    blueness = np.bincount(ring, (cell.od[..., 0] - cell.od[..., 2])[near], minlength=len(edges))
    numbers: Numbers = {}
    last = (0.0, 0.0)
    for i, (name, *_) in enumerate(RINGS, start=1):
        if counts[i]:
            last = (float(density[i] / counts[i]), float(blueness[i] / counts[i]))
        numbers[f"profile_{name}_density_od"], numbers[f"profile_{name}_blueness_od"] = last
    return numbers


def _surroundings(frame: Frame) -> Numbers:
    """Other nuclei, red cells and what touches the cell, on the reduced photograph."""
    stained: Mask = frame.od[..., 1] > _STAINED_OD
    count, _, stats, _ = cv2.connectedComponentsWithStats(frame.others.view(np.uint8), connectivity=8)
    least = _LEAST_NUCLEUS * np.count_nonzero(frame.cell)
    nuclei = np.count_nonzero(stats[1:, cv2.CC_STAT_AREA] > least) if count > 1 else 0
    grown = cv2.dilate(frame.cell.view(np.uint8), np.ones((3, 3), np.uint8))
    rim: Mask = cv2.dilate(grown, np.ones((3, 3), np.uint8)).view(np.bool_) & ~grown.view(np.bool_)
    return {
        "neighbours_nucleus_count": float(nuclei),
        "neighbours_nucleus_fraction": float(frame.others.mean()),
        "neighbours_red_cell_fraction": float((stained & ~grown.view(np.bool_) & ~frame.others).mean()),
        "neighbours_contact_fraction": float(stained[rim].mean()) if rim.any() else 0.0,
    }


def _background(found: Segmentation) -> Numbers:
    """Colour, noise and evenness of the background, and the stain of red cells: the controls."""
    frame = found.frame
    green = frame.od[..., 1]
    stained: Mask = green > _STAINED_OD
    free: Mask = ~(frame.cell | frame.others)
    red_cells: Mask = stained & free
    empty: Mask = free & ~stained
    lab = cv2.cvtColor((found.white / 255).reshape(1, 1, 3).astype(np.float32), cv2.COLOR_RGB2Lab).ravel()
    red = frame.od[red_cells].mean(axis=0) if np.count_nonzero(red_cells) > 20 else np.zeros(3)
    blank = green[empty]
    return {
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
    means = []
    for rows in (slice(0, height // 2), slice(height // 2, height)):
        for columns in (slice(0, width // 2), slice(width // 2, width)):
            blank = green[rows, columns][empty[rows, columns]]
            if blank.size > 20:
                means.append(float(blank.mean()))
    return max(means) - min(means) if means else 0.0

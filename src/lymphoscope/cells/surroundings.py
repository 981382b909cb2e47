"""What is measured outside the cell: neighbours and red cells, background and stain."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import numpy.typing as npt

from lymphoscope.cells.segmentation import Frame, Segmentation
from lymphoscope.cells.stain import Mask, Plane

_STAINED_OD = 0.06
_LEAST_NUCLEUS = 0.1
_ENOUGH_PIXELS = 20
_SQUARE = np.ones((3, 3), dtype=np.uint8)

Numbers = dict[str, float]


def neighbour_numbers(frame: Frame) -> Numbers:
    """Other nuclei, red cells and what touches the cell, on the reduced photograph."""
    stained: Mask = frame.od[..., 1] > _STAINED_OD
    grown = cv2.dilate(frame.cell.view(np.uint8), _SQUARE)
    outside = ~grown.view(np.bool_)
    rim: Mask = cv2.dilate(grown, _SQUARE).view(np.bool_) & outside
    others = np.count_nonzero(frame.others)
    return {
        "neighbours_nucleus_count": float(_count_nuclei(frame) if others else 0),
        "neighbours_nucleus_fraction": others / stained.size,
        "neighbours_red_cell_fraction": np.count_nonzero(stained & outside & ~frame.others) / stained.size,
        "neighbours_contact_fraction": np.count_nonzero(stained & rim) / max(int(np.count_nonzero(rim)), 1),
    }


def _count_nuclei(frame: Frame) -> int:
    """Number of other nuclei that are not tiny beside the cell: platelets do not count."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(frame.others.view(np.uint8), connectivity=8)
    return int(np.count_nonzero(stats[1:, cv2.CC_STAT_AREA] > _LEAST_NUCLEUS * np.count_nonzero(frame.cell)))


def background_numbers(found: Segmentation) -> Numbers:
    """Colour, noise and evenness of the background, and the stain of red cells: the controls."""
    frame = found.frame
    green = np.ascontiguousarray(frame.od[..., 1])
    stained: Mask = green > _STAINED_OD
    free: Mask = ~(frame.cell | frame.others)
    red_cells = (stained & free).view(np.uint8)
    empty = (free & ~stained).view(np.uint8)
    lab = cv2.cvtColor((found.white / 255).reshape(1, 1, 3), cv2.COLOR_RGB2Lab).ravel()
    red = cv2.mean(frame.od, red_cells) if np.count_nonzero(red_cells) > _ENOUGH_PIXELS else (0.0, 0.0, 0.0)
    return {
        "background_lab_l": float(lab[0]),
        "background_lab_a": float(lab[1]),
        "background_lab_b": float(lab[2]),
        "background_noise_od": float(cv2.meanStdDev(green, mask=empty)[1][0, 0]),
        "background_unevenness_od": _unevenness(green, empty),
        "background_red_cell_red_od": red[0],
        "background_red_cell_green_od": red[1],
        "background_red_cell_blue_od": red[2],
    }


def _unevenness(green: Plane, empty: npt.NDArray[np.uint8]) -> float:
    """Range of the mean background OD between the four quarters that have enough background."""
    height, width = green.shape
    halves = (
        (slice(0, height // 2), slice(height // 2, height)),
        (slice(0, width // 2), slice(width // 2, width)),
    )
    quarters = [(green[quarter], empty[quarter]) for quarter in itertools.product(*halves)]
    means = [
        float(cv2.mean(plane, where)[0])
        for plane, where in quarters
        if np.count_nonzero(where) > _ENOUGH_PIXELS
    ]
    return max(means) - min(means) if means else 0.0

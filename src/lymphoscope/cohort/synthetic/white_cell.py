"""One white cell as maps of dye concentration: nucleus, cytoplasm, granules."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.synthetic.population import TRAITS
from lymphoscope.cohort.synthetic.textures import FRAME, Map, blurred, crop, noise_field

PATCH = 168
"""Side of the square that a white cell is painted in, px."""

_POINTS = 160
_THETA = np.linspace(0, 2 * np.pi, _POINTS, endpoint=False)
_CIRCLE = np.column_stack([np.cos(_THETA), np.sin(_THETA)])
LARGEST_CELL_RADIUS = 60.0


@dataclass(frozen=True, eq=False)
class WhiteCell:
    """Concentrations over a (PATCH, PATCH) square centred on the cell.

    Attributes
    ----------
    nucleus, cytoplasm, granules : 1 is a typical amount.
    body : 0 to 1, how much of the pixel the cell covers.
    radius : of the disc with the cell's area, px.
    """

    nucleus: Map
    cytoplasm: Map
    granules: Map
    body: Map
    radius: float


def white_cell(traits: npt.NDArray[np.float32], rng: np.random.Generator) -> WhiteCell:
    """Paint a lymphocyte with these latent traits (order of `TRAITS`)."""
    trait = dict(zip(TRAITS, traits.tolist(), strict=True))
    nucleus_radius = trait["nucleus_radius_px"]
    cell_radius = min(nucleus_radius / np.sqrt(trait["nucleus_share"]), LARGEST_CELL_RADIUS)
    axis = rng.uniform(0, np.pi)
    nucleus_outline = _outline(nucleus_radius, trait["elongation"], axis, trait["irregularity"], rng)
    nucleus_outline *= _cleft(trait["cleft"], rng)[:, None]
    body_outline = _outline(cell_radius, 0.7 * trait["elongation"], axis, 0.035, rng)
    towards = rng.uniform(0, 2 * np.pi)
    away = trait["nucleus_offset"] * max(cell_radius - nucleus_radius, 0.0)
    shift = away * np.array([np.cos(towards), np.sin(towards)])
    # The cell, not the nucleus, is what the analyser centres.
    nucleus_mask = _fill([nucleus_outline + shift])
    body_mask = _body(body_outline, cell_radius, trait["hair"], rng)
    body_mask = np.maximum(body_mask, nucleus_mask)
    nucleus = _nucleus(nucleus_mask, trait, shift, rng)
    cytoplasm = _cytoplasm(body_mask, nucleus_mask, trait, shift, rng)
    granules = _granules(body_mask, nucleus_mask, trait["granules"], rng)
    return WhiteCell(nucleus, cytoplasm, granules, body_mask, float(cell_radius))


def _outline(
    radius: float, elongation: float, axis: float, irregularity: float, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Points of a closed, uneven ellipse about the origin, shape (_POINTS, 2), its area that of `radius`."""
    orders = np.arange(3, 9)
    amplitudes = irregularity * rng.standard_normal(len(orders)) * (3 / orders) ** 0.8
    phases = rng.uniform(0, 2 * np.pi, len(orders))
    wobble = (amplitudes[:, None] * np.cos(orders[:, None] * _THETA + phases[:, None])).sum(axis=0)
    stretch = np.sqrt(1 + elongation)
    unit = _CIRCLE * (1 + wobble)[:, None] * [stretch, 1 / stretch]
    c, s = np.cos(axis), np.sin(axis)
    return radius * unit @ np.array([[c, s], [-s, c]])


def _cleft(depth: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Factor on the nucleus's radius by angle: a notch of this depth, narrow or wide."""
    centre, width = rng.uniform(0, 2 * np.pi), rng.uniform(0.10, 0.38)
    angle = np.angle(np.exp(1j * (_THETA - centre)))
    return 1 - 0.85 * depth * np.exp(-((angle / width) ** 2))


def _fill(outlines: list[npt.NDArray[np.float64]]) -> Map:
    """Coverage of filled polygons about the patch's middle, 0 to 1."""
    mask = np.zeros((PATCH, PATCH), dtype=np.uint8)
    points = [np.round((outline + PATCH / 2) * 16).astype(np.int32) for outline in outlines]
    for polygon in points:
        cv2.fillPoly(mask, [polygon], 255, cv2.LINE_AA, 4)
    return np.asarray(mask * np.float32(1 / 255), dtype=np.float32)


def _body(outline: npt.NDArray[np.float64], radius: float, hair: float, rng: np.random.Generator) -> Map:
    """Coverage of the whole cell: a slightly ragged outline, blebs, and hairs or villi."""
    ragged = 1 + (0.012 + 0.03 * hair) * rng.standard_normal(_POINTS)
    shapes = [outline * ragged[:, None]]
    for _ in range(int(rng.poisson(0.8))):
        at = outline[int(rng.integers(_POINTS))]
        shapes.append(at * 1.01 + rng.uniform(1.5, 4.0) * _CIRCLE)
    count = int(rng.poisson(46 * max(hair - 0.08, 0.0)))
    for k in rng.integers(0, _POINTS, count):
        root, direction = outline[k], outline[k] / max(float(np.hypot(*outline[k])), 1e-6)
        side = np.array([-direction[1], direction[0]])
        length, width = rng.gamma(6, radius * 0.03), rng.uniform(0.8, 2.2)
        bend = side * rng.normal(0, 2.0)
        tip = root + direction * length + bend
        middle = root + direction * length * 0.55 + 0.25 * bend
        inner = root - 2 * direction
        left, right = inner - side * width, middle + side * width
        shapes.append(np.array([left, middle - 0.6 * side * width, tip, right]))
    return blurred(_fill(shapes), 0.6 + 0.5 * hair)


def _nucleus(
    mask: Map, trait: dict[str, float], shift: npt.NDArray[np.float64], rng: np.random.Generator
) -> Map:
    clumps, fine = crop(noise_field(5.0, 1.7), PATCH, rng), crop(noise_field(1.6, 0.5), PATCH, rng)
    clumping = trait["clumping"]
    # Clumped chromatin: dark blocks with pale seams; fine chromatin: an even, sandy texture.
    blocks = np.tanh(1.6 * clumps)
    texture = (0.04 + 0.20 * clumping) * blocks + (0.085 + 0.03 * clumping) * fine
    inside = cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
    rim = 0.10 * np.exp(-((inside - 1.5) ** 2) / 6)
    dome = 0.16 * np.minimum(inside / (trait["nucleus_radius_px"] * 0.6), 1) - 0.08
    density = (0.42 + 0.92 * trait["nucleus_density"]) * (1 + texture + rim + dome)
    density = np.maximum(density, 0.12)
    if trait["nucleolus"] > 0.12:
        density *= 1 - _nucleoli(trait, shift, rng)
    soft = blurred(mask, 0.7)
    return np.asarray(soft * density, dtype=np.float32)


def _nucleoli(trait: dict[str, float], shift: npt.NDArray[np.float64], rng: np.random.Generator) -> Map:
    shapes = []
    for _ in range(int(rng.integers(1, 3))):
        distance, angle = rng.uniform(0, 0.5) * trait["nucleus_radius_px"], rng.uniform(0, 2 * np.pi)
        centre = shift + distance * np.array([np.cos(angle), np.sin(angle)])
        shapes.append(centre + rng.uniform(3.0, 5.5) * _CIRCLE)
    spots = blurred(_fill(shapes), 1.2)
    return np.asarray(min(0.75 * trait["nucleolus"], 0.5) * spots, dtype=np.float32)


def _cytoplasm(
    body: Map, nucleus: Map, trait: dict[str, float], shift: npt.NDArray[np.float64], rng: np.random.Generator
) -> Map:
    mottle, cloud = crop(noise_field(2.2, 0.7), PATCH, rng), crop(noise_field(9.0), PATCH, rng)
    amount = 0.45 + 1.75 * trait["basophilia"]
    inside = cv2.distanceTransform((body > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
    edge = np.exp(-inside / 5) * (0.12 + 0.35 * trait["basophilia"])
    field = amount * (1 + 0.16 * mottle + 0.13 * cloud + edge)
    if trait["basophilia"] > 0.5:
        # The pale Golgi zone of a busy cell, on the side away from the nucleus.
        hof = -shift * 0.35
        y, x = np.ogrid[:PATCH, :PATCH]
        distance = ((x - PATCH / 2 - hof[0]) ** 2 + (y - PATCH / 2 - hof[1]) ** 2).astype(np.float32)
        field *= 1 - 0.45 * (trait["basophilia"] - 0.3) * np.exp(-distance / (2 * 9.0**2))
    n = int(rng.poisson(9 * max(trait["vacuoles"] - 0.03, 0)))
    if n:
        field *= 1 - 0.75 * _spots(body * (1 - nucleus), n, (1.6, 3.8), 0.8, rng)
    return np.asarray(np.maximum(field, 0.05) * body * (1 - 0.75 * nucleus), dtype=np.float32)


def _granules(body: Map, nucleus: Map, granules: float, rng: np.random.Generator) -> Map:
    n = int(rng.poisson(26 * max(granules - 0.04, 0)))
    if n == 0:
        return np.zeros((PATCH, PATCH), dtype=np.float32)
    return _spots(body * (1 - nucleus), n, (0.9, 1.7), 0.5, rng)


def _spots(where: Map, n: int, radius: tuple[float, float], blur: float, rng: np.random.Generator) -> Map:
    """`n` round spots whose centres lie where `where` is above a half; fewer if there is no room."""
    rows, columns = np.nonzero(where > 0.5)
    if len(rows) == 0:
        return np.zeros((PATCH, PATCH), dtype=np.float32)
    picked = rng.integers(0, len(rows), n)
    centres = np.column_stack([columns[picked], rows[picked]]) - PATCH / 2
    shapes = [c + r * _CIRCLE for c, r in zip(centres, rng.uniform(*radius, n), strict=True)]
    return blurred(_fill(shapes), blur)


def place(canvas: Map, patch: Map, x: float, y: float) -> None:
    """Add `patch` to `canvas` (FRAME, FRAME) with its middle at (x, y); what lies outside is cut off."""
    left, top = round(x) - PATCH // 2, round(y) - PATCH // 2
    rows = slice(max(top, 0), min(top + PATCH, FRAME))
    columns = slice(max(left, 0), min(left + PATCH, FRAME))
    if rows.start < rows.stop and columns.start < columns.stop:
        canvas[rows, columns] += patch[
            rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
        ]

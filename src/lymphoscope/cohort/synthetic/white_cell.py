"""One white cell as maps of dye concentration: nucleus, cytoplasm, granules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.synthetic.population import TRAITS
from lymphoscope.cohort.synthetic.textures import FRAME, Map, blurred, crop, noise_field, seam_field

PATCH = 176
"""Side of the square that a white cell is painted in, px."""

DYES: Final = ("nucleus", "cytoplasm", "basophilia", "granules")
LARGEST_CELL_RADIUS = 60.0

_POINTS = 160
_THETA = np.linspace(0, 2 * np.pi, _POINTS, endpoint=False)
_CIRCLE = np.column_stack([np.cos(_THETA), np.sin(_THETA)])
_ORDERS = np.arange(3, 13)
_HARMONICS = _ORDERS[:, None] * _THETA

Points = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class WhiteCell:
    """A cell in a (PATCH, PATCH) square centred on it.

    Attributes
    ----------
    dyes : (len(DYES), PATCH, PATCH), concentrations; 1 is a typical amount.
    body : 0 to 1, how much of the pixel the cell covers.
    radius : of the disc with the cell's area, px.
    """

    dyes: Map
    body: Map
    radius: float


def white_cell(traits: npt.NDArray[np.float32], rng: np.random.Generator) -> WhiteCell:
    """Paint a lymphocyte with these latent traits (order of `TRAITS`)."""
    trait = dict(zip(TRAITS, traits.tolist(), strict=True))
    if trait["smudge"] > 0.5:
        return _smudge(trait, rng)
    nucleus_radius = trait["nucleus_radius_px"]
    cell_radius = min(nucleus_radius / np.sqrt(trait["nucleus_share"]), LARGEST_CELL_RADIUS)
    axis, towards = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    outline = _outline(nucleus_radius, trait["elongation"], axis, trait["irregularity"], rng)
    outline *= _cleft(trait["cleft"], rng)[:, None]
    # The cell, not the nucleus, is what the analyser centres.
    away = trait["nucleus_offset"] * max(cell_radius - nucleus_radius, 0.0)
    shift = away * np.array([np.cos(towards), np.sin(towards)])
    nucleus = _fill([outline + shift])
    around = _outline(cell_radius, 0.7 * trait["elongation"], axis, 0.035, rng)
    body = np.maximum(_body(around, cell_radius, trait["hair"], rng), nucleus)
    dyes = np.zeros((len(DYES), PATCH, PATCH), dtype=np.float32)
    dyes[0] = _nucleus(nucleus, trait, shift, rng)
    field = _cytoplasm(body, nucleus, trait, shift, rng)
    blue = float(np.clip((trait["basophilia"] - 0.35) / 0.5, 0.0, 1.2))
    dyes[1] = field * np.float32(0.95 + 1.2 * (trait["basophilia"] - 0.45) * (1 - 0.6 * min(blue, 1.0)))
    dyes[2] = field * np.float32(blue)
    # Eosin shimmers through pale chromatin, so that a nucleus is not of one hue.
    dyes[3] = nucleus * np.maximum(0.10 + 0.22 * crop(noise_field(2.4, 0.6), PATCH, rng), 0)
    if trait["granules"] > 0.05:
        dyes[3] += _granules(body, nucleus, trait["granules"], rng)
    return WhiteCell(dyes, body, float(cell_radius))


def _outline(
    radius: float, elongation: float, axis: float, irregularity: float, rng: np.random.Generator
) -> Points:
    """Points of a closed, uneven ellipse about the origin, shape (_POINTS, 2), its area that of `radius`."""
    amplitudes = irregularity * rng.standard_normal(len(_ORDERS)) * (3 / _ORDERS) ** 1.15
    phases = rng.uniform(0, 2 * np.pi, len(_ORDERS))
    wobble = amplitudes @ np.cos(_HARMONICS + phases[:, None])
    stretch = np.sqrt(1 + elongation)
    unit = _CIRCLE * (1 + wobble)[:, None] * [stretch, 1 / stretch]
    c, s = np.cos(axis), np.sin(axis)
    return np.asarray(radius * unit @ np.array([[c, s], [-s, c]]), dtype=np.float64)


def _cleft(depth: float, rng: np.random.Generator) -> Points:
    """Factor on the nucleus's radius by angle: a notch of this depth, narrow or wide."""
    centre, width = rng.uniform(0, 2 * np.pi), rng.uniform(0.10, 0.38)
    angle = np.angle(np.exp(1j * (_THETA - centre)))
    return np.asarray(1 - 0.85 * depth * np.exp(-((angle / width) ** 2)), dtype=np.float64)


def _fill(outlines: list[Points]) -> Map:
    """Coverage of filled polygons about the patch's middle, 0 to 1."""
    mask = np.zeros((PATCH, PATCH), dtype=np.uint8)
    for outline in outlines:
        points = np.round((outline + PATCH / 2) * 16).astype(np.int32)
        cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, 4)
    return np.asarray(mask * np.float32(1 / 255), dtype=np.float32)


def _body(outline: Points, radius: float, hair: float, rng: np.random.Generator) -> Map:
    """Coverage of the whole cell: a slightly ragged outline, blebs, and hairs or villi."""
    ragged = 1 + (0.012 + 0.03 * hair) * rng.standard_normal(_POINTS)
    shapes = [outline * ragged[:, None]]
    # Blebs and frays cluster on one side, where the cell was drawn out by the smear.
    drawn_out = int(rng.integers(_POINTS))
    for _ in range(int(rng.poisson(1.6))):
        at = outline[(drawn_out + round(rng.normal(0, 14))) % _POINTS]
        shapes.append(at * rng.uniform(0.98, 1.06) + rng.uniform(1.2, 3.6) * _CIRCLE)
    roots = rng.integers(0, _POINTS, int(rng.poisson(46 * max(hair - 0.08, 0.0))))
    shapes += [_hair(outline[k], radius, rng) for k in roots]
    return blurred(_fill(shapes), 0.45 + 0.4 * hair)


def _hair(root: Points, radius: float, rng: np.random.Generator) -> Points:
    """A tapering, bent filament that grows outwards from `root`, as a polygon."""
    direction = root / max(float(np.hypot(*root)), 1e-6)
    side = np.array([-direction[1], direction[0]])
    length, width = rng.gamma(6, radius * 0.03), rng.uniform(0.8, 2.2)
    bend = side * rng.normal(0, 2.0)
    tip, middle = root + direction * length + bend, root + direction * length * 0.55 + 0.25 * bend
    inner = root - 2 * direction
    left, right = inner - side * width, middle + 0.6 * side * width
    return np.array([left, middle - 0.6 * side * width, tip, right, inner + side * width])


def _depth(mask: Map) -> Map:
    """Distance of each pixel from the edge of a mask, px."""
    inside = cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
    return np.asarray(inside, dtype=np.float32)


def _nucleus(mask: Map, trait: dict[str, float], shift: Points, rng: np.random.Generator) -> Map:
    clumping = trait["clumping"]
    # Fine chromatin is sandy; clumped chromatin is dark blocks with pale seams, the soccer ball of CLL.
    texture = (0.105 - 0.02 * clumping) * crop(noise_field(1.5, 0.45), PATCH, rng)
    texture += (0.08 + 0.09 * clumping) * crop(noise_field(4.0, 1.4), PATCH, rng)
    texture -= 0.62 * max(clumping - 0.3, 0.0) * (crop(seam_field(), PATCH, rng) - np.float32(0.3))
    rim = 0.30 * np.exp(_depth(mask) * np.float32(-1 / 4.5))
    density = (0.44 + 0.72 * trait["nucleus_density"]) * (0.93 + texture + rim)
    density = np.maximum(density, 0.2)
    if trait["nucleolus"] > 0.12:
        density *= 1 - _nucleoli(trait, shift, rng)
    return np.asarray(blurred(mask, 0.45) * density, dtype=np.float32)


def _nucleoli(trait: dict[str, float], shift: Points, rng: np.random.Generator) -> Map:
    shapes = []
    for _ in range(int(rng.integers(1, 3))):
        distance, angle = rng.uniform(0, 0.5) * trait["nucleus_radius_px"], rng.uniform(0, 2 * np.pi)
        centre = shift + distance * np.array([np.cos(angle), np.sin(angle)])
        shapes.append(centre + rng.uniform(3.0, 5.5) * _CIRCLE)
    spots = blurred(_fill(shapes), 1.2)
    return np.asarray(min(0.75 * trait["nucleolus"], 0.5) * spots, dtype=np.float32)


def _cytoplasm(
    body: Map, nucleus: Map, trait: dict[str, float], shift: Points, rng: np.random.Generator
) -> Map:
    """Relative concentration of whatever stains the cytoplasm, about 1."""
    basophilia = trait["basophilia"]
    field = 1 + 0.15 * crop(noise_field(1.6, 0.5), PATCH, rng) + 0.12 * crop(noise_field(9.0), PATCH, rng)
    field += (0.10 + 0.45 * basophilia) * np.exp(_depth(body) * np.float32(-1 / 4))
    if basophilia > 0.5:
        # The pale Golgi zone of a busy cell, on the side away from the nucleus.
        x0, y0 = PATCH / 2 - 0.35 * shift
        y, x = np.ogrid[:PATCH, :PATCH]
        squared = ((x - x0) ** 2 + (y - y0) ** 2).astype(np.float32)
        field *= 1 - (basophilia - 0.35) * np.exp(squared * np.float32(-1 / (2 * 8.0**2)))
    n = int(rng.poisson(9 * max(trait["vacuoles"] - 0.03, 0)))
    if n:
        field *= 1 - 0.75 * _spots(body * (1 - nucleus), n, (1.6, 3.8), 0.8, rng)
    return np.asarray(np.maximum(field, 0.05) * body * (1 - 0.8 * nucleus), dtype=np.float32)


def _granules(body: Map, nucleus: Map, granules: float, rng: np.random.Generator) -> Map:
    n = int(rng.poisson(26 * granules))
    return 0.8 * _spots(body * (1 - nucleus), n, (0.8, 1.5), 0.6, rng)


def _spots(where: Map, n: int, radius: tuple[float, float], blur: float, rng: np.random.Generator) -> Map:
    """`n` round spots whose centres lie where `where` is above a half; none if there is no room."""
    rows, columns = np.nonzero(where > 0.5)
    if len(rows) == 0 or n == 0:
        return np.zeros((PATCH, PATCH), dtype=np.float32)
    picked = rng.integers(0, len(rows), n)
    centres = np.column_stack([columns[picked], rows[picked]]) - PATCH / 2
    shapes = [c + r * _CIRCLE for c, r in zip(centres, rng.uniform(*radius, n), strict=True)]
    return blurred(_fill(shapes), blur)


def _smudge(trait: dict[str, float], rng: np.random.Generator) -> WhiteCell:
    """A crushed cell: a pale, streaky, frayed nucleus and no cytoplasm."""
    radius, axis = trait["nucleus_radius_px"], rng.uniform(0, np.pi)
    shape = _fill([_outline(0.95 * radius, 2.5 * trait["elongation"], axis, 0.09, rng)])
    streaks = _streaks(axis, rng)
    frayed = blurred(shape, 7.0) + 0.06 * streaks
    mask = blurred(np.clip(2.6 * (frayed - 0.28), 0, 1).astype(np.float32), 1.2)
    dyes = np.zeros((len(DYES), PATCH, PATCH), dtype=np.float32)
    dyes[0] = mask * np.maximum(0.27 + 0.035 * streaks, 0.08)
    dyes[3] = mask * np.maximum(0.20 + 0.02 * streaks, 0.0)
    return WhiteCell(dyes, mask, float(radius))


def _streaks(axis: float, rng: np.random.Generator) -> Map:
    """Noise drawn out along `axis`, (PATCH, PATCH), of about unit variance."""
    middle = PATCH / 2
    c, s = np.cos(axis), np.sin(axis)
    turn = np.array([[c, -s], [s, c]]) @ np.diag([2.2, 1.0])
    warp = np.column_stack([turn, middle - turn @ [middle, middle]])
    noise = np.ascontiguousarray(crop(noise_field(4.0, 1.2), PATCH, rng))
    drawn = cv2.warpAffine(noise, warp, (PATCH, PATCH), borderMode=cv2.BORDER_REFLECT)
    return np.asarray(drawn, dtype=np.float32)


def place(canvas: Map, patch: Map, x: float, y: float) -> None:
    """Add `patch` (…, PATCH, PATCH) to `canvas` (…, FRAME, FRAME), its middle at (x, y), cut at the frame."""
    left, top = round(x) - PATCH // 2, round(y) - PATCH // 2
    rows = slice(max(top, 0), min(top + PATCH, FRAME))
    columns = slice(max(left, 0), min(left + PATCH, FRAME))
    if rows.start < rows.stop and columns.start < columns.stop:
        canvas[..., rows, columns] += patch[
            ..., rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
        ]

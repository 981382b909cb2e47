"""From latent traits to a photograph: dye concentrations, light absorbed, camera.

A pixel is the background light times exp(−Σ concentration × absorption) per colour channel (Beer–Lambert),
so that overlapping cells darken each other as they do under a microscope.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from lymphoscope.cohort.synthetic.look import LOOK
from lymphoscope.cohort.synthetic.population import ordinary_traits
from lymphoscope.cohort.synthetic.red_cells import platelet_map, red_cell_map
from lymphoscope.cohort.synthetic.textures import FRAME, Map, blurred, crop, noise_field
from lymphoscope.cohort.synthetic.white_cell import place, white_cell

Photograph = npt.NDArray[np.uint8]

JPEG_QUALITY = 95
NEIGHBOUR_SHARE = 0.07
BORDER_WIDTH, BORDER_LEVEL = 3, 60

_BACKGROUND = np.array([254.0, 231.0, 206.0])
# Absorption per unit of concentration in red, green and blue.
_ABSORPTION = np.array(
    [
        [0.205, 0.315, 0.215],  # red cells
        [1.22, 1.72, 0.50],  # nucleus
        [0.56, 0.46, 0.10],  # cytoplasm
        [0.50, 1.20, 0.42],  # granules and platelets
    ]
)


@dataclass(frozen=True, eq=False)
class Scene:
    """A patient's stain and camera, made from its latent look.

    Attributes
    ----------
    background : float (3,), RGB of empty glass, 0 to 255.
    absorption : float (4, 3), per unit concentration; rows as in `_ABSORPTION`.
    blur : standard deviation of the focus blur, px.
    red_cell_blur : additional blur of the red cells, px.
    density, pallor : see `red_cells.red_cell_map`.
    border : whether a dark frame is painted.
    """

    background: npt.NDArray[np.float64]
    absorption: npt.NDArray[np.float64]
    blur: float
    red_cell_blur: float
    density: float
    pallor: float
    border: bool

    @classmethod
    def from_look(cls, look: npt.NDArray[np.float64], border: bool) -> Scene:
        """Turn standard-normal latents (order of `LOOK`) into a stain and a camera."""
        value = dict(zip(LOOK, look.tolist(), strict=True))
        warmth, exposure = value["background_warmth"], value["exposure"]
        background = _BACKGROUND + exposure * np.array([0.8, 2.6, 3.0]) + warmth * np.array([0.2, -2.2, -4.5])
        absorption = _ABSORPTION * np.exp(0.06 * value["stain_strength"])
        blueness = value["stain_blueness"]
        absorption[1:3] *= np.exp(blueness * np.array([0.035, -0.01, -0.06]))
        absorption[0] *= np.exp(value["red_cell_greyness"] * np.array([0.07, -0.02, -0.13]))
        return cls(
            background=np.minimum(background, 255.0),
            absorption=absorption,
            blur=float(np.clip(0.62 + 0.12 * value["defocus"], 0.35, 1.3)),
            red_cell_blur=float(np.clip(0.5 + 0.5 * value["defocus"], 0.0, 2.5)),
            density=float(np.clip(0.45 + 0.16 * value["red_cell_density"], 0.05, 1.0)),
            pallor=float(np.clip(0.6 + 0.2 * value["red_cell_pallor"], 0.0, 0.95)),
            border=border,
        )


def paint(traits: npt.NDArray[np.float32], scene: Scene, rng: np.random.Generator) -> Photograph:
    """One photograph, uint8 (FRAME, FRAME, 3) RGB, of a cell with these latent traits."""
    cells = [(FRAME / 2 + rng.normal(0, 1.5), FRAME / 2 + rng.normal(0, 1.5), white_cell(traits, rng))]
    if rng.random() < NEIGHBOUR_SHARE:
        angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(88, 120)
        position = FRAME / 2 + distance * np.array([np.cos(angle), np.sin(angle)])
        cells.append((*position.tolist(), white_cell(ordinary_traits(rng), rng)))
    keep_free = tuple((x, y, cell.radius) for x, y, cell in cells)

    red = red_cell_map(scene.density + 0.12 * rng.standard_normal(), scene.pallor, keep_free, rng)
    red = blurred(red, scene.red_cell_blur + 0.3 * rng.random())
    dyes = np.zeros((4, FRAME, FRAME), dtype=np.float32)
    dyes[0] = red
    body = np.zeros((FRAME, FRAME), dtype=np.float32)
    for x, y, cell in cells:
        place(dyes[1], cell.nucleus, x, y)
        place(dyes[2], cell.cytoplasm, x, y)
        place(dyes[3], cell.granules, x, y)
        place(body, cell.body, x, y)
    dyes[0] *= 1 - 0.9 * np.minimum(body, 1)
    platelets = platelet_map(keep_free, rng)
    if platelets is not None:
        dyes[3] += platelets
    return _photograph(dyes, scene, rng)


def _photograph(dyes: Map, scene: Scene, rng: np.random.Generator) -> Photograph:
    absorbed = cv2.transform(dyes.transpose(1, 2, 0), (-scene.absorption.T).astype(np.float32))
    light = np.asarray(cv2.exp(absorbed), dtype=np.float32)
    light *= (scene.background * _illumination_level(rng)).astype(np.float32)
    light *= crop_illumination(rng)
    light = blurred(light, scene.blur)
    grain = noise_field(0.6)
    for channel in range(3):
        light[..., channel] += np.float32(1.3) * crop(grain, FRAME, rng)
    image = np.clip(light, 0, 255).astype(np.uint8)
    if scene.border:
        for edge in (image[:BORDER_WIDTH], image[-BORDER_WIDTH:]):
            edge[:] = BORDER_LEVEL
        image[:, :BORDER_WIDTH] = image[:, -BORDER_WIDTH:] = BORDER_LEVEL
    return image


def _illumination_level(rng: np.random.Generator) -> float:
    return float(1 + 0.006 * rng.standard_normal())


@cache
def _slopes() -> tuple[Map, Map]:
    axis = np.linspace(-1, 1, FRAME, dtype=np.float32)
    return np.broadcast_to(axis, (FRAME, FRAME)), np.broadcast_to(axis[:, None], (FRAME, FRAME))


def crop_illumination(rng: np.random.Generator) -> Map:
    """Uneven light over the frame, (FRAME, FRAME, 1), about 1."""
    across, down = _slopes()
    a, b = 0.008 * rng.standard_normal(2)
    return np.asarray(1 + np.float32(a) * across + np.float32(b) * down, dtype=np.float32)[..., None]


def encode(photograph: Photograph) -> bytes:
    """Baseline JPEG bytes of a photograph, about 18 kB."""
    return bytes(
        simplejpeg.encode_jpeg(
            np.ascontiguousarray(photograph), quality=JPEG_QUALITY, colorspace="RGB", colorsubsampling="420"
        )
    )

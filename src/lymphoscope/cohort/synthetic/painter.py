"""From latent traits to a photograph: dye concentrations, light absorbed, camera.

A pixel is the background light times exp(−Σ concentration × absorption) per colour channel (Beer–Lambert),
so that overlapping cells darken each other as they do under a microscope.
"""

from __future__ import annotations

from dataclasses import dataclass

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

JPEG_QUALITY = 96
NEIGHBOUR_SHARE = 0.07
BORDER_WIDTH, BORDER_LEVEL = 3, 150

_BACKGROUND = np.array([254.0, 230.5, 203.0])
# Absorption per unit of concentration in red, green and blue; red cells, then `white_cell.DYES`.
_ABSORPTION = np.array(
    [
        [0.205, 0.315, 0.200],  # red cells: eosin
        [1.16, 1.76, 0.440],  # nucleus: azure B and eosin on chromatin
        [0.42, 0.47, 0.125],  # cytoplasm
        [0.42, 0.37, 0.070],  # basophilia: azure B on RNA
        [0.50, 1.20, 0.420],  # granules and platelets
    ]
)
_SHARPENING = 0.5


@dataclass(frozen=True, eq=False)
class Scene:
    """A patient's stain and camera, made from its latent look.

    Attributes
    ----------
    background : float (3,), RGB of empty glass, 0 to 255.
    absorption : float (5, 3), per unit concentration; rows as in `_ABSORPTION`.
    blur : standard deviation of the focus blur, px.
    red_cell_blur : additional blur of the red cells, px.
    density, pallor : see `red_cells.red_cell_map`.
    border : whether a grey frame is painted.
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
        background = _BACKGROUND + exposure * np.array([0.6, 1.6, 1.9]) + warmth * np.array([0.2, -1.3, -2.8])
        absorption = _ABSORPTION * np.exp(0.06 * value["stain_strength"])
        blueness = value["stain_blueness"]
        absorption[1:4] *= np.exp(blueness * np.array([0.035, -0.01, -0.06]))
        absorption[0] *= np.exp(value["red_cell_greyness"] * np.array([0.07, -0.02, -0.13]))
        return cls(
            background=np.minimum(background, 255.0),
            absorption=absorption,
            blur=float(np.clip(0.45 + 0.07 * value["defocus"], 0.3, 1.2)),
            red_cell_blur=float(np.clip(0.4 + 0.4 * value["defocus"], 0.0, 2.5)),
            density=float(np.clip(0.62 + 0.16 * value["red_cell_density"], 0.05, 1.0)),
            pallor=float(np.clip(0.70 + 0.22 * value["red_cell_pallor"], 0.0, 1.0)),
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

    dyes = np.zeros((len(_ABSORPTION), FRAME, FRAME), dtype=np.float32)
    red = red_cell_map(scene.density + 0.12 * rng.standard_normal(), scene.pallor, keep_free, rng)
    dyes[0] = blurred(red, scene.red_cell_blur + 0.3 * rng.random())
    body = np.zeros((FRAME, FRAME), dtype=np.float32)
    for x, y, cell in cells:
        place(dyes[1:], cell.dyes, x, y)
        place(body, cell.body, x, y)
    dyes[0] *= 1 - 0.9 * np.minimum(body, 1)
    platelets = platelet_map(keep_free, rng)
    if platelets is not None:
        dyes[1] += 0.3 * platelets
        dyes[-1] += 0.8 * platelets
    return _photograph(dyes, scene, rng)


def _photograph(dyes: Map, scene: Scene, rng: np.random.Generator) -> Photograph:
    """What the camera makes of light that passed these dyes: uneven light, focus, sharpening, noise."""
    absorbed = -scene.absorption.T.astype(np.float32) @ dyes.reshape(len(dyes), -1)
    absorbed = absorbed.reshape(3, FRAME, FRAME)
    absorbed += _unevenness(rng)
    light = np.asarray(cv2.exp(absorbed.reshape(3 * FRAME, FRAME)), dtype=np.float32)
    grain = crop(noise_field(0.55), FRAME, rng), crop(noise_field(0.55), FRAME, rng)
    level = scene.background * (1 + 0.006 * rng.standard_normal())
    channels = []
    for k, plane in enumerate(light.reshape(3, FRAME, FRAME)):
        soft = blurred(plane, scene.blur)
        soft += np.float32(_SHARPENING) * (soft - blurred(soft, 1.0))
        noise = np.float32(1.0) * grain[0] + np.float32(0.5 * (k - 1)) * grain[1]
        channels.append(cv2.convertScaleAbs(np.maximum(soft * np.float32(level[k]) + noise, 0)))
    image = np.asarray(cv2.merge(channels), dtype=np.uint8)
    if scene.border:
        image[:BORDER_WIDTH] = image[-BORDER_WIDTH:] = BORDER_LEVEL
        image[:, :BORDER_WIDTH] = image[:, -BORDER_WIDTH:] = BORDER_LEVEL
    return image


def _unevenness(rng: np.random.Generator) -> Map:
    """Absorption of a slightly slanted illumination, (FRAME, FRAME), about 0."""
    a, b = 0.008 * rng.standard_normal(2).astype(np.float32)
    return np.asarray(a * _AXIS + b * _AXIS[:, None], dtype=np.float32)


_AXIS = np.linspace(-1, 1, FRAME, dtype=np.float32)


def encode(photograph: Photograph) -> bytes:
    """Baseline JPEG bytes of a photograph, about 18 kB."""
    return bytes(
        simplejpeg.encode_jpeg(
            np.ascontiguousarray(photograph), quality=JPEG_QUALITY, colorspace="RGB", colorsubsampling="420"
        )
    )

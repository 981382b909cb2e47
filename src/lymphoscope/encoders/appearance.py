"""What laboratories, cameras and files do to a photograph of a cell, done to whole batches at random.

An encoder that has seen one laboratory's photographs knows its background: in the data that it is trained on,
what lies around a cell tells the cell's type a little. So what lies around is exchanged for a part of the
training photographs; and sharpness and compression change, as they do between microscopes and analysers.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from lymphoscope.encoders.labelled_cells import Image, Masks
from lymphoscope.training.bounds import check_range

_QUALITIES = (30, 90)
"""Of JPEG files, worst and best."""

_BLUR = 1.2
"""Largest standard deviation of a blur in pixels: finer chromatin is lost beyond it."""


@dataclass(frozen=True)
class Appearance:
    """Shares of the photographs that are changed, each 0 to 1.

    Attributes
    ----------
    background : what is not the cell becomes even, or what is around another cell of the batch.
    blur : out of focus by up to 1.2 pixels.
    compression : written as a JPEG file of quality 30 to 90, and read again.
    """

    background: float = 0.0
    blur: float = 0.0
    compression: float = 0.0

    def __post_init__(self) -> None:
        for name in ("background", "blur", "compression"):
            check_range(f"appearance.{name}", getattr(self, name), 0, 1)

    def change(self, images: Image, masks: Masks, rng: np.random.Generator) -> Image:
        """The photographs of a batch, some of them changed.

        Parameters
        ----------
        images : uint8 RGB (n, S, S, 3); left as they are.
        masks : bool (n, S, S), true on the cell and what must not be painted over.
        """
        changed = images.copy()
        chosen = rng.random((3, len(images))) < np.array([[self.background], [self.blur], [self.compression]])
        for i in np.flatnonzero(chosen[0]).tolist():
            changed[i] = np.where(masks[i][..., None], images[i], _surroundings(images, masks, rng))
        for i in np.flatnonzero(chosen[1]).tolist():
            changed[i] = cv2.GaussianBlur(changed[i], (0, 0), rng.uniform(0.3, _BLUR))
        for i in np.flatnonzero(chosen[2]).tolist():
            changed[i] = _recompressed(changed[i], int(rng.integers(*_QUALITIES, endpoint=True)))
        return changed


def _surroundings(images: Image, masks: Masks, rng: np.random.Generator) -> Image:
    """What lies around some cell of the batch: its mean colour, or its photograph moved by half a side."""
    other = int(rng.integers(len(images)))
    if rng.random() < 0.5:
        return np.roll(images[other], images.shape[1] // 2, axis=(0, 1))
    around = images[other][~masks[other]]
    colour = around.mean(axis=0) if len(around) else np.full(3, 255.0)
    return np.broadcast_to(np.round(colour).astype(np.uint8), images.shape[1:])


def _recompressed(image: npt.NDArray[np.uint8], quality: int) -> Image:
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=quality, colorspace="RGB")
    return np.asarray(simplejpeg.decode_jpeg(data, "RGB"), dtype=np.uint8)

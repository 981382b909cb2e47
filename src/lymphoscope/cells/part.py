"""A part of a photograph around a mask, with what several measures need of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from lymphoscope.cells.shape import Shape, outlines_of, shape_of
from lymphoscope.cells.stain import (
    Mask,
    Plane,
    RgbImage,
    nuclear_density,
    optical_density,
    white_balanced_lab,
)


@dataclass(frozen=True, eq=False)
class Part:
    """A part of the photograph around a mask, with its stain and the mask's outlines and shape.

    Attributes
    ----------
    view : rows and columns of the photograph.
    on_frame : whether the left, top, right and bottom edge of the part are edges of the photograph.
    """

    view: tuple[slice, slice]
    on_frame: tuple[bool, bool, bool, bool]
    white: Plane
    mask: Mask
    image: RgbImage
    od: Plane
    density: Plane

    @classmethod
    def around(cls, mask: Mask, image: RgbImage, white: Plane, margin: int) -> Part:
        """The part of `image` that holds `mask` (of the same size) and a margin of pixels."""
        view = _box(mask, margin)
        rows, columns = view
        height, width = mask.shape
        part = np.ascontiguousarray(image[view])
        od = optical_density(part, white)
        return cls(
            view=view,
            on_frame=(columns.start == 0, rows.start == 0, columns.stop == width, rows.stop == height),
            white=white,
            mask=np.ascontiguousarray(mask[view]),
            image=part,
            od=od,
            density=nuclear_density(od),
        )

    def narrowed(self, mask: Mask, margin: int) -> Part:
        """The part of this part that holds `mask` (of this part's size) and a margin of pixels."""
        mask = np.ascontiguousarray(mask)
        inner = _box(mask, margin)
        rows, columns = (
            slice(outer.start + part.start, outer.start + part.stop)
            for outer, part in zip(self.view, inner, strict=True)
        )
        return Part(
            view=(rows, columns),
            on_frame=self.on_frame,
            white=self.white,
            mask=np.ascontiguousarray(mask[inner]),
            image=np.ascontiguousarray(self.image[inner]),
            od=np.ascontiguousarray(self.od[inner]),
            density=np.ascontiguousarray(self.density[inner]),
        )

    @cached_property
    def outlines(self) -> list[npt.NDArray[np.int32]]:
        """Outer outlines of the mask, the largest part's first."""
        return outlines_of(self.mask)

    @cached_property
    def shape(self) -> Shape:
        """Shape of the mask."""
        return shape_of(self.mask, self.outlines)

    @property
    def centre(self) -> tuple[float, float]:
        """Centroid (x, y) of the mask in the photograph."""
        rows, columns = self.view
        return columns.start + self.shape.centre[0], rows.start + self.shape.centre[1]

    def lab(self, mask: Mask) -> Plane:
        """White-balanced L*a*b* of the pixels of `mask`, shape (n, 3)."""
        return white_balanced_lab(self.image.reshape(-1, 3)[np.flatnonzero(mask)][None], self.white)[0]


def _box(mask: Mask, margin: int) -> tuple[slice, slice]:
    """Rows and columns that hold `mask` and a margin, as far as there are any."""
    height, width = mask.shape
    x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
    return (
        slice(max(0, y - margin), min(height, y + h + margin)),
        slice(max(0, x - margin), min(width, x + w + margin)),
    )

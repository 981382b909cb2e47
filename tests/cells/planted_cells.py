"""Drawn photographs of cells whose every measure is known."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]

CREAM, YELLOW, LILAC = (250, 228, 202), (255, 255, 180), (235, 205, 225)
NUCLEUS_OD = (0.50, 0.75, 0.18)
CYTOPLASM_OD = (0.16, 0.18, 0.05)
RED_CELL_OD = (0.08, 0.15, 0.10)


@dataclass(frozen=True)
class PlantedCell:
    """One photograph: a nucleus in a cell among red cells on an even background.

    Stain is given as optical density, so that the background's colour can change under it. Positions are
    pixels from the middle of the photograph (x, y); `soften` is the σ of the optics' blur.
    """

    size: int = 224
    background: tuple[int, int, int] = CREAM
    nucleus_axes: tuple[float, float] = (27.0, 27.0)
    nucleus_at: tuple[float, float] = (0.0, 0.0)
    cell_radius: float = 38.0
    nucleus_od: tuple[float, float, float] = NUCLEUS_OD
    cytoplasm_od: tuple[float, float, float] = CYTOPLASM_OD
    red_cells: tuple[tuple[float, float], ...] = ((-70.0, -70.0), (75.0, 60.0), (-75.0, 65.0))
    soften: float = 0.8

    def stain(self) -> npt.NDArray[np.float32]:
        """Optical density before blur and background, shape (size, size, 3)."""
        od = np.zeros((self.size, self.size, 3), dtype=np.float32)
        for x, y in self.red_cells:
            self._ellipse(od, (x, y), (22, 22), RED_CELL_OD)
        self._ellipse(od, (0, 0), (self.cell_radius, self.cell_radius), self.cytoplasm_od)
        self._ellipse(od, self.nucleus_at, self.nucleus_axes, self.nucleus_od)
        return od

    def _ellipse(
        self,
        od: npt.NDArray[np.float32],
        at: tuple[float, float],
        axes: tuple[float, float],
        value: tuple[float, float, float],
    ) -> None:
        y, x = np.mgrid[: self.size, : self.size] - (self.size - 1) / 2
        od[((x - at[0]) / axes[0]) ** 2 + ((y - at[1]) / axes[1]) ** 2 <= 1] = value

    def photograph(
        self, od: npt.NDArray[np.float32] | None = None, noise: float = 1.0, seed: int = 0
    ) -> Image:
        """The photograph of `od` (by default the planted stain), with camera noise of `noise` grey levels."""
        stain = self.stain() if od is None else od
        if self.soften:
            stain = cv2.GaussianBlur(stain, (0, 0), self.soften)
        light = np.array(self.background) * 10.0**-stain
        light += np.random.default_rng(seed).normal(0, noise, light.shape) if noise else 0.0
        return np.clip(np.round(light), 0, 255).astype(np.uint8)


def dice(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    """Dice coefficient of two masks."""
    return float(2 * np.count_nonzero(a & b) / max(np.count_nonzero(a) + np.count_nonzero(b), 1))


def disc(size: int, radius: float, at: tuple[float, float] = (0.0, 0.0)) -> npt.NDArray[np.bool_]:
    """Mask of a disc, `at` in pixels from the middle (x, y)."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    mask: npt.NDArray[np.bool_] = (x - at[0]) ** 2 + (y - at[1]) ** 2 <= radius**2
    return mask

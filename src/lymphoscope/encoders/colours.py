"""The colours of another laboratory's photographs brought to those that an encoder has learned from.

One linear map of optical densities for all photographs of a laboratory: that which takes mean and covariance
of their pixels to the encoder's and changes pixels the least (the linear Monge-Kantorovich map, Pitié &
Kokaram 2007, doi:10.1049/cp:20070055). What differs between the cells of a laboratory stays, and so does what
differs between its patients. What the laboratory's cells are shows in their colours too, so the photographs
should be of white cells as they come; of nothing but platelets the map would be wrong.

It is a first layer of the network, so that whatever is built on the encoder, hashed of it or exported from it
has the colours in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lymphoscope.training.augmentation import Normalisation

Floats = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]

_CELLS, _STEP = 2000, 4
"""Photographs that are measured, evenly spread, and every how manieth pixel of a row or column of them."""

_LEAST_SPREAD = 1e-3
"""Standard deviation that is added in every direction, so that grey photographs have a map too."""


@dataclass(frozen=True, eq=False)
class Colours:
    """Optical densities, −ln(level / 255) of red, green and blue, over the pixels of some photographs.

    Attributes
    ----------
    mean : (3,).
    covariance : (3, 3).
    """

    mean: Floats
    covariance: Floats

    @classmethod
    def of(cls, images: Image) -> Self:
        """Those of photographs, uint8 (n, S, S, 3), n at least 1."""
        shown = images[:: math.ceil(len(images) / _CELLS), ::_STEP, ::_STEP].reshape(-1, 3)
        density = -np.log(np.maximum(shown, 1) / 255.0)
        return cls(density.mean(axis=0), np.cov(density.T, bias=True))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"mean": self.mean.tolist(), "covariance": self.covariance.tolist()}

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Self:
        """What `as_dict` gave."""
        return cls(np.array(said["mean"], dtype=np.float64), np.array(said["covariance"], dtype=np.float64))

    def map_to(self, wanted: Colours) -> Floats:
        """The map [T | t], (3, 4), under which densities d become T·d + t and have the wanted colours."""
        own, theirs = (each.covariance + _LEAST_SPREAD**2 * np.eye(3) for each in (self, wanted))
        root = _root(own)
        inverse = np.linalg.inv(root)
        turn = inverse @ _root(root @ theirs @ root) @ inverse
        return np.column_stack([turn, wanted.mean - turn @ self.mean])

    def distance(self, other: Colours) -> float:
        """How far pixels move under `map_to`, root mean squared, in spreads of the other's pixels."""
        change = self.map_to(other)
        turn, shift = change[:, :3] - np.eye(3), change[:, 3]
        squared = np.trace(turn @ self.covariance @ turn.T) + ((turn @ self.mean + shift) ** 2).sum()
        return float(np.sqrt(squared / max(np.trace(other.covariance), _LEAST_SPREAD**2)))


class ColourMap(nn.Module):
    """Normalised photographs to normalised photographs of the mapped colours; nothing in it is trained.

    Parameters
    ----------
    change : [T | t], (3, 4), of `Colours.map_to`.
    normalisation : of the photographs.
    """

    change: Tensor
    light: Tensor

    def __init__(self, change: Floats, normalisation: Normalisation) -> None:
        super().__init__()
        self.register_buffer("change", torch.tensor(np.asarray(change), dtype=torch.float32))
        light = torch.tensor([normalisation.mean, normalisation.deviation], dtype=torch.float32)
        self.register_buffer("light", light)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, S, S) → the same shape."""
        mean, deviation = self.light[:, :, None, None]
        density = -torch.log((images.float() * deviation + mean).clamp_min(1 / 255))
        mixed = torch.einsum("ij,njhw->nihw", self.change[:, :3], density) + self.change[:, 3, None, None]
        return cast("Tensor", (torch.exp(-mixed).clamp_max(1.0) - mean) / deviation)


def _root(matrix: Floats) -> Floats:
    """The symmetric square root of a symmetric matrix that is not negative."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)

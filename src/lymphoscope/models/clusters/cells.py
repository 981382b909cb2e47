"""Photographs that clusters are learned from, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lymphoscope.cohort.bags import IntArray
from lymphoscope.models.networks.base import N_CLINICAL, CellNetwork
from lymphoscope.training.augmentation import IMAGENET, Augmentation, augment, prepare

_AT_ONCE = 256
"""Photographs looked at together where nothing is learned."""


@dataclass(frozen=True, eq=False)
class Cells:
    """Some of many photographs, in an order of their own.

    Attributes
    ----------
    images : uint8 (n_images, S, S, 3), on the CPU or the device.
    rows : int64 (n_cells,), the images that are used.
    device : where networks work.
    """

    images: Tensor
    rows: IntArray
    device: torch.device

    def __len__(self) -> int:
        return len(self.rows)

    def some(self, places: IntArray) -> Cells:
        """Those at `places`, (n,), in that order."""
        return replace(self, rows=self.rows[places])

    def plain(self, places: IntArray) -> Tensor:
        """Normalised, unchanged, float32 (n, 3, S, S)."""
        return prepare(self._bytes(places), IMAGENET)

    def changed(self, places: IntArray, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
        """Normalised and changed at random, float32 (n, 3, S, S)."""
        return augment(self._bytes(places), augmentation, IMAGENET, generator)

    def _bytes(self, places: IntArray) -> Tensor:
        rows = torch.from_numpy(self.rows[places]).to(self.images.device)
        return self.images[rows].to(self.device, non_blocking=True)


def features(network: CellNetwork, images: Tensor) -> Tensor:
    """What the backbone sees in photographs, (n, n_features); clinical values have no say in clusters."""
    return network.features(images, images.new_zeros((len(images), N_CLINICAL)))


def all_features(network: CellNetwork, cells: Cells) -> Tensor:
    """`features` of all cells, at least one, unchanged, in `eval()`; (n_cells, n_features)."""
    network.eval().to(cells.device)  # outside the inference, or a network that was moved could not learn
    with torch.inference_mode():
        return torch.cat([features(network, cells.plain(part)) for part in _parts(len(cells))])


def random_batches(n: int, batch_size: int, rng: np.random.Generator) -> Iterator[IntArray]:
    """Each of `n` cells once, in batches of about `batch_size`, two or more in each where there are two.

    Equal ones, as batch normalisation needs no crumbs, and none of a single cell.
    """
    yield from np.array_split(rng.permutation(n), max(1, min(round(n / batch_size), n // 2)))


def colours(seed: int, epoch: int) -> torch.Generator:
    """The source of chance of an epoch's augmentations; of the CPU, so that devices agree."""
    drawn = int(np.random.SeedSequence([seed, epoch, 1]).generate_state(1)[0])
    return torch.Generator().manual_seed(drawn)


def order(seed: int, epoch: int) -> np.random.Generator:
    """The source of chance of an epoch's batches."""
    return np.random.default_rng([seed, epoch])


def _parts(n: int) -> Iterator[IntArray]:
    for start in range(0, n, _AT_ONCE):
        yield np.arange(start, min(start + _AT_ONCE, n))

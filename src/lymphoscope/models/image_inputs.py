"""Bags of photographs as tensors, patients in an order of their own, and who of them is held out."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lymphoscope.cohort.bags import Bags, IntArray
from lymphoscope.cohort.splits import stratified_holdout
from lymphoscope.errors import InputError
from lymphoscope.models.networks.base import CellNetwork


def pixels(bags: Bags, size: int) -> Tensor:
    """The centre `size` pixels of every cell, uint8 (n_cells, size, size, 3), sharing memory where it can.

    Raises
    ------
    InputError : the cells are no photographs, or smaller ones.
    """
    shape = np.shape(bags.cells)
    if len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2] or bags.cells.dtype != np.uint8:
        raise InputError(
            "this model takes photographs of cells",
            found=f"cells of shape {shape} and type {bags.cells.dtype}",
            allowed="uint8 cells of shape (n_cells, side, side, 3)",
            remedy="Make the bags with lymphoscope.cohort.cell_store.image_bags.",
        )
    if shape[1] < size:
        raise InputError(
            "the photographs are smaller than this model's",
            found=f"{shape[1]} pixels",
            allowed=f"{size} pixels or more",
            remedy="Make larger crops, or create the model with a smaller image_size.",
        )
    start = (shape[1] - size) // 2
    with warnings.catch_warnings():  # a read-only array is as good as any: nothing here writes to it
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        whole = torch.from_numpy(np.asarray(bags.cells))
    return whole[:, start : start + size, start : start + size]


def canonical_order(bags: Bags, y: IntArray) -> IntArray:
    """Patients ordered by what they are, so that neither their ids nor the table's order matter, (n,)."""
    sums = np.array([int(np.sum(bags.cells[a:b], dtype=np.int64)) for a, b in _spans(bags)], dtype=np.int64)
    keys = (*np.nan_to_num(bags.clinical, nan=-1.0).T, sums, bags.counts, y)
    return np.lexsort(keys).astype(np.int64)


def inner_split(y: IntArray, share: float, seed: int) -> tuple[IntArray, IntArray]:
    """Indices of patients to train on and of patients held out; nobody where a class has fewer than four."""
    everybody = np.arange(len(y))
    if min(int(y.sum()), int((1 - y).sum())) < 4:
        return everybody, everybody[:0]
    n = min(max(round(share * len(y)), 2), len(y) - 2)
    split = stratified_holdout(y, n, seed)[0]
    return split.train, split.test


def joined(first: Bags, second: Bags) -> Bags:
    """Patients of both, whose ids may be the same."""
    return Bags(
        cells=np.concatenate([first.cells, second.cells]),
        offsets=np.concatenate([first.offsets, first.offsets[-1] + second.offsets[1:]]),
        clinical=np.concatenate([first.clinical, second.clinical]),
        patient_ids=tuple(str(i) for i in range(len(first) + len(second))),
    )


def _spans(bags: Bags) -> npt.NDArray[np.int64]:
    return np.stack([bags.offsets[:-1], bags.offsets[1:]], axis=1)


class HeadAlone(nn.Module):
    """A network whose features were computed beforehand."""

    def __init__(self, network: CellNetwork) -> None:
        super().__init__()
        self.network = network

    def features(self, features: Tensor, clinical: Tensor) -> Tensor:
        """They are there already."""
        return features

    def head(self, features: Tensor, clinical: Tensor) -> Tensor:
        """The network's."""
        return self.network.head(features, clinical)

    def forward(self, features: Tensor, clinical: Tensor) -> Tensor:
        """The head of every cell's features."""
        return self.head(features, clinical)

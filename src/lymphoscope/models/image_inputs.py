"""Bags of photographs as tensors, patients in an order of their own, and who of them is held out."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from lymphoscope.cohort.bags import Bags, IntArray
from lymphoscope.cohort.splits import repeated_stratified, stratified_holdout
from lymphoscope.errors import InputError
from lymphoscope.models.networks.base import CellNetwork, Criterion
from lymphoscope.training.augmentation import Augmentation, prepare
from lymphoscope.training.machine import same_bits
from lymphoscope.training.packing import Packing
from lymphoscope.training.prediction import CellData, predict_features
from lymphoscope.training.settings import TrainingSettings

AUGMENTATIONS = {
    "none": Augmentation(),
    "flips": Augmentation(flips=True, quarter_turns=True),
    "all": Augmentation(
        flips=True,
        quarter_turns=True,
        rotation=180.0,
        shift=0.05,
        scale=0.05,
        brightness=0.05,
        contrast=0.1,
        stain=0.05,
        sharp=0.5,
    ),
}
"""The size of a cell is a sign of disease, so it changes little; more brightness or stain gives pictures as
from no laboratory."""

_AT_ONCE = 32

_SHOWN_FIRST, _SHOWN_AT_MOST = 4, 1024
"""Cells of a patient, and of all, that a network is shown before all else."""


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


def shrunk(images: Tensor, factor: int) -> Tensor:
    """Squares of `factor` × `factor` pixels averaged into one, uint8 (n, S, S, 3) → (n, S // factor, …, 3).

    A few at a time, and not at all where the factor is 1; what is left over at the border is dropped.
    """
    if factor == 1:
        return images
    n, side = len(images), images.shape[1] // factor
    small = torch.empty((n, side, side, 3), dtype=torch.uint8)
    for start in range(0, n, _AT_ONCE):
        some = images[start : start + _AT_ONCE].permute(0, 3, 1, 2).float()
        small[start : start + _AT_ONCE] = avg_pool2d(some, factor).round().permute(0, 2, 3, 1).byte()
    return small


EVEN_MEAN, EVEN_DEVIATION = 153.0, 40.8
"""Of every channel of an evened photograph, of 255 levels; black is 3.75 deviations below."""


def evened(images: Tensor, *, painted: bool = False) -> Tensor:
    """Photographs whose channels all have the same mean and deviation, uint8 (n, S, S, 3).

    What is the same all over a photograph, such as light, warmth and the strength of the stain, is gone; what
    differs within it stays. A channel without any spread becomes the mean; what would be beyond black or
    white is cut.

    Parameters
    ----------
    painted : black pixels are paint, which stays as it is and counts for nothing, so that what is left does
        not depend on how much was painted over.
    """
    side, even = images.shape[1], torch.empty(images.shape, dtype=torch.uint8)
    for start in range(0, len(images), _AT_ONCE):
        # A line at a time: torch is slow on operands that repeat every three values.
        lines = images[start : start + _AT_ONCE].reshape(-1, side, 3 * side).float()
        total, squares = (each.sum(1).view(-1, side, 3).double().sum(1) for each in (lines, lines.square()))
        shown = images[start : start + _AT_ONCE].any(3, keepdim=True) if painted else None
        count = side**2 if shown is None else shown.sum((1, 2)).clamp_min(1)  # paint adds nothing to the sums
        mean = total / count
        deviation = (squares / count - mean.square()).clamp_min(0).sqrt().clamp_min(1.0)
        slope = EVEN_DEVIATION / deviation
        offset = EVEN_MEAN - mean * slope
        slope, offset = (each.float().repeat(1, side).unsqueeze(1) for each in (slope, offset))
        lines = torch.addcmul(offset, lines, slope).round_().clamp_(0, 255)
        even[start : start + _AT_ONCE] = lines.view(-1, side, side, 3).to(torch.uint8)
        if shown is not None:
            even[start : start + _AT_ONCE] *= shown
    return even


def canonical_order(bags: Bags, y: IntArray) -> IntArray:
    """Patients ordered by what they are, so that neither their ids nor the table's order matter, (n,)."""
    kind = np.int64 if bags.cells.dtype == np.uint8 else np.float64
    sums = np.array([np.nansum(bags.cells[a:b], dtype=kind) for a, b in _spans(bags)])
    keys = (*np.nan_to_num(bags.clinical, nan=-1.0).T, sums, bags.counts, y)
    return np.lexsort(keys).astype(np.int64)


def inner_splits(y: IntArray, members: int, share: float, seed: int) -> list[tuple[IntArray, IntArray]]:
    """For each of `members` networks, indices of patients to train on and of patients held out.

    One network holds out `share` of them; several a fold each, and there are fewer networks where a class has
    fewer patients. Nobody is held out where a class has fewer than four, or two where there are folds.
    """
    everybody, rarer = np.arange(len(y)), min(int(y.sum()), int((1 - y).sum()))
    if (folds := min(members, rarer)) > 1:
        splits = repeated_stratified(y, folds=folds, repeats=1, seed=seed)
    elif rarer < 4:
        return [(everybody, everybody[:0])]
    else:
        splits = stratified_holdout(y, min(max(round(share * len(y)), 2), len(y) - 2), seed)
    return [(split.train, split.test) for split in splits]


def joined(first: Bags, second: Bags) -> Bags:
    """Patients of both, whose ids may be the same and whose cells have the same columns."""
    return Bags(
        cells=np.concatenate([first.cells, second.cells]),
        offsets=np.concatenate([first.offsets, first.offsets[-1] + second.offsets[1:]]),
        clinical=np.concatenate([first.clinical, second.clinical]),
        patient_ids=tuple(str(i) for i in range(len(first) + len(second))),
        columns=first.columns,
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

    def bags(self, features: Tensor, packing: Packing, clinical: Tensor) -> Tensor:
        """The network's."""
        return self.network.bags(features, packing, clinical)

    def bag_loss(
        self, features: Tensor, packing: Packing, clinical: Tensor, labels: Tensor, criterion: Criterion
    ) -> tuple[Tensor, Tensor]:
        """The network's."""
        return self.network.bag_loss(features, packing, clinical, labels, criterion)

    def shares(self, features: Tensor, packing: Packing, clinical: Tensor) -> dict[str, Tensor]:
        """The network's."""
        return self.network.shares(features, packing, clinical)

    def before_training(self, clinical: Tensor, labels: Tensor, criterion: Criterion) -> None:
        """The network's."""
        self.network.before_training(clinical, labels, criterion)

    def rates(self) -> dict[str, float]:
        """The network's."""
        return {f"network.{name}": share for name, share in self.network.rates().items()}

    def forward(self, features: Tensor, clinical: Tensor) -> Tensor:
        """The head of every cell's features."""
        return self.head(features, clinical)


def some_cells(
    data: CellData, patients: IntArray, settings: TrainingSettings, device: torch.device
) -> Tensor:
    """A few cells of every patient, evenly spread over its own, normalised, (n, 3, S, S).

    Of many patients not all, so that memory is bounded.
    """
    rows, _ = data.rows_of(patients, _SHOWN_FIRST)
    kept = np.linspace(0, len(rows) - 1, min(len(rows), _SHOWN_AT_MOST)).astype(np.int64)
    return prepare(data.at(rows[kept], device), settings.normalisation)


def seen_once(
    network: CellNetwork, data: CellData, settings: TrainingSettings, device: torch.device
) -> CellData:
    """Features in place of images: they are frozen, so they are computed once and not augmented."""
    rows, owner = data.rows_of(np.arange(len(data.counts)))
    network.eval().to(device)
    with same_bits(device):
        seen = predict_features(network, data, rows, owner, replace(settings, unit="patient"), device=device)
    return replace(data, cells=seen.cpu())

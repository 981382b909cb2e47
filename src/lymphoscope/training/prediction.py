"""What a network says of cells and of patients; and how cells become a patient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lymphoscope.training.augmentation import orientations, prepare
from lymphoscope.training.settings import Pooling, TrainingSettings

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CellData:
    """The cells of patients as a network takes them.

    Attributes
    ----------
    cells : uint8 images (n_cells, S, S, 3), on the CPU or the device; or float32 features (n_cells, d).
    starts, counts : int64 (n_patients,): patient `i` owns `counts[i]` cells from row `starts[i]` on.
    clinical : float32 (n_patients, 3), scaled, 0 where missing.
    """

    cells: Tensor
    starts: IntArray
    counts: IntArray
    clinical: Tensor

    def at(self, rows: IntArray, device: torch.device) -> Tensor:
        """The cells of these rows, on the device."""
        return self.cells[torch.from_numpy(rows).to(self.cells.device)].to(device, non_blocking=True)

    def rows_of(self, patients: IntArray, most: int | None = None) -> tuple[IntArray, IntArray]:
        """Rows of the cells of `patients`, at most `most` of each, evenly spread; and whose each is."""
        rows = [np.empty(0, dtype=np.int64)]
        for start, count in zip(self.starts[patients], self.counts[patients], strict=True):
            kept = count if most is None else min(count, most)
            rows.append(start + np.arange(kept) * count // max(kept, 1))
        return np.concatenate(rows), np.repeat(patients, [len(each) for each in rows[1:]])


@torch.inference_mode()
def predict_logits(
    network: Any,
    data: CellData,
    rows: IntArray,
    patient_of_row: IntArray,
    settings: TrainingSettings,
    *,
    device: torch.device,
    versions: int = 1,
    batch_size: int = 128,
) -> npt.NDArray[np.float64]:
    """Logits of cells `rows`, or of their patients where the unit is the patient, (n_examples, 2).

    Patients come in the order in which they first stand in `patient_of_row`, whose equal values must be
    neighbours. `versions` turned or mirrored copies of each image are averaged.
    """
    logits = predict_features(
        network, data, rows, patient_of_row, settings, device=device, versions=versions, batch_size=batch_size
    )
    if settings.unit == "patient":
        logits = patient_logits(network, logits, data.clinical, patient_of_row)
    result: npt.NDArray[np.float64] = logits.double().cpu().numpy()
    return result


@torch.inference_mode()
def patient_logits(network: Any, features: Tensor, clinical: Tensor, patient_of_row: IntArray) -> Tensor:
    """Logits of patients from the features of their cells, (n_patients, 2), in the order of `predict_logits`.

    `clinical` holds those of all patients, (n, 3).
    """
    starts = np.diff(patient_of_row, prepend=-1) != 0
    owner = torch.from_numpy(np.cumsum(starts) - 1).to(features.device)
    patients = torch.from_numpy(patient_of_row[starts])
    pooled = segment_average(features, owner, len(patients))
    logits: Tensor = network.head(pooled, clinical[patients].to(features.device))
    return logits


@torch.inference_mode()
def predict_features(
    network: Any,
    data: CellData,
    rows: IntArray,
    patient_of_row: IntArray,
    settings: TrainingSettings,
    *,
    device: torch.device,
    versions: int = 1,
    batch_size: int = 128,
) -> Tensor:
    """What a batch of cells gives: features where the unit is the patient, logits where it is the cell."""
    out: list[Tensor] = []
    for start in range(0, len(rows), batch_size):
        part = slice(start, start + batch_size)
        cells = data.at(rows[part], device)
        clinical = data.clinical[torch.from_numpy(patient_of_row[part])].to(device)
        given = [
            (network.features if settings.unit == "patient" else network)(images, clinical)
            for images in _versions(cells, settings, versions)
        ]
        out.append(torch.stack(given).mean(0))
    return torch.cat(out)


def _versions(cells: Tensor, settings: TrainingSettings, versions: int) -> Iterator[Tensor]:
    if cells.dtype != torch.uint8:
        yield cells
        return
    for turned in orientations(cells, versions):  # type: ignore[arg-type]
        yield prepare(turned, settings.normalisation)


def pool(margin: npt.NDArray[np.float64], counts: IntArray, pooling: Pooling) -> npt.NDArray[np.float64]:
    """Log-odds of each patient from those of its cells, (n_patients,); 0 for a patient without cells.

    A vote is smoothed by half a cell on either side, so that a unanimous one stays finite.
    """
    n = np.maximum(counts, 1)
    ends = np.cumsum(counts)

    def total(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        sums = np.concatenate([[0.0], np.cumsum(values)])
        return sums[ends] - sums[ends - counts]

    if pooling == "logit":
        return total(margin) / n
    if pooling == "vote":
        share = (total((margin >= 0).astype(np.float64)) + 0.5) / (counts + 1)
    else:
        share = np.clip(total(1 / (1 + np.exp(-np.clip(margin, -40, 40)))) / n, 1e-7, 1 - 1e-7)
    return np.where(counts > 0, np.log(share / (1 - share)), 0.0)


def segment_average(features: Tensor, owner: Tensor, n: int) -> Tensor:
    """Mean of the rows that belong to each of `n` owners, (n, n_features); summed in single precision."""
    sums = features.new_zeros((n, features.shape[1]), dtype=torch.float32)
    sums = sums.index_add(0, owner, features.float())
    counts = torch.bincount(owner, minlength=n).clamp_min(1)
    return sums / counts[:, None]


@torch.inference_mode()
def left_out(network: Any, features: Tensor, clinical: Tensor, owner: IntArray) -> npt.NDArray[np.float64]:
    """How much the log-odds of each cell's patient fall without it, (n_cells,).

    The only cell of a patient is compared with a head that sees average features of nobody: zero.
    """
    owners = torch.from_numpy(owner).to(features.device)
    counts = torch.bincount(owners, minlength=len(clinical)).to(features.dtype)
    sums = features.new_zeros((len(clinical), features.shape[1])).index_add(0, owners, features)
    rest = (sums[owners] - features) / (counts[owners, None] - 1).clamp_min(1)
    whole = network.head(sums / counts.clamp_min(1)[:, None], clinical)[owners]
    without = network.head(rest, clinical[owners])
    fall = (whole - without)[:, 1] - (whole - without)[:, 0]
    return np.asarray(fall.double().cpu().numpy())

"""What a network says of cells and of patients; and how cells become a patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lymphoscope.cohort.bags import spread_rows
from lymphoscope.training.augmentation import orientations, prepare
from lymphoscope.training.frozen import Remembered, remembers
from lymphoscope.training.packing import Packing, segment_sum
from lymphoscope.training.settings import Pooling, TrainingSettings

IntArray = npt.NDArray[np.int64]

_NUMBERS_AT_ONCE = 1 << 23
"""Features of cells that bags without one of their cells may take together."""


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
        counts = self.counts[patients]
        kept = counts if most is None else np.minimum(counts, most)
        return spread_rows(self.starts[patients], counts, most), np.repeat(patients, kept)


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
    packing, patients = packed(patient_of_row)
    own = clinical[torch.from_numpy(patients)].to(features.device)
    logits: Tensor = network.bags(features, packing.to(features.device), own)
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
    photographs = data.cells.dtype == torch.uint8
    known = (
        Remembered(network, settings.normalisation, device) if photographs and remembers(network) else None
    )

    def given_by(images: Tensor, clinical: Tensor) -> Tensor:
        if known is not None:
            features = known.features(images)
            return features if settings.unit == "patient" else network.head(features, clinical)
        if photographs:
            images = prepare(images, settings.normalisation)
        return network.features(images, clinical) if settings.unit == "patient" else network(images, clinical)

    for start in range(0, len(rows), batch_size):
        part = slice(start, start + batch_size)
        cells = data.at(rows[part], device)
        clinical = data.clinical[torch.from_numpy(patient_of_row[part])].to(device)
        turned = orientations(cells, versions) if photographs else [cells]  # type: ignore[arg-type]
        given = [given_by(each, clinical) for each in turned]
        more_places = settings.unit == "patient" and getattr(network, "by_place", False)
        out.append(torch.cat(given, dim=1) if more_places else torch.stack(given).mean(0))
    return torch.cat(out)


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


@torch.inference_mode()
def patient_shares(
    network: Any, features: Tensor, clinical: Tensor, patient_of_row: IntArray
) -> dict[str, npt.NDArray[np.float64]]:
    """How much of each patient's decision came from where, (n_patients,) by name, as `patient_logits`."""
    packing, patients = packed(patient_of_row)
    own = clinical[torch.from_numpy(patients)].to(features.device)
    shares = network.shares(features, packing.to(features.device), own)
    return {name: share.double().cpu().numpy() for name, share in shares.items()}


def packed(patient_of_row: IntArray) -> tuple[Packing, IntArray]:
    """The bags that rows belong to, whose equal numbers are neighbours; and the number of each bag."""
    first = np.flatnonzero(np.diff(patient_of_row, prepend=-1))
    counts = np.diff(first, append=len(patient_of_row))
    return Packing(torch.from_numpy(counts)), patient_of_row[first]


@torch.inference_mode()
def left_out(
    network: Any, features: Tensor, clinical: Tensor, patient_of_row: IntArray
) -> npt.NDArray[np.float64]:
    """How much the log-odds of each cell's patient fall without it, (n_cells,).

    The only cell of a patient is compared with one whose features are all zero.

    Parameters
    ----------
    features : (n_cells, n_features).
    clinical : of all patients, (n, 3).
    patient_of_row : as in `predict_logits`.
    """
    packing, patients = packed(patient_of_row)
    packing = packing.to(features.device)
    own = clinical[torch.from_numpy(patients)].to(features.device)
    whole = network.bags(features, packing, own)[packing.owner]
    if network.averages:
        sums, counts = segment_sum(features, packing), packing.counts.to(features.dtype)
        rest = (sums[packing.owner] - features) / (counts[packing.owner, None] - 1).clamp_min(1)
        without = network.head(rest, own[packing.owner])
    else:
        parts = zip(torch.split(features, packing.counts.tolist()), own, strict=True)
        without = torch.cat([_without_each(network, cells, values) for cells, values in parts])
    fall = (whole - without)[:, 1] - (whole - without)[:, 0]
    return np.asarray(fall.double().cpu().numpy())


def _without_each(network: Any, cells: Tensor, clinical: Tensor) -> Tensor:
    """Logits of one patient without each of its cells in turn, (n_cells, 2)."""
    n, device = len(cells), cells.device
    if n == 1:
        packing = Packing(torch.ones(1, dtype=torch.int64, device=device))
        return torch.as_tensor(network.bags(torch.zeros_like(cells), packing, clinical[None]))
    others = torch.arange(n, device=device).expand(n, n)[~torch.eye(n, dtype=torch.bool, device=device)]
    logits = []
    for part in torch.split(others.view(n, n - 1), max(1, _NUMBERS_AT_ONCE // cells.numel())):
        packing = Packing(torch.full((len(part),), n - 1, device=device))
        logits.append(network.bags(cells[part.flatten()], packing, clinical.expand(len(part), -1)))
    return torch.cat(logits)

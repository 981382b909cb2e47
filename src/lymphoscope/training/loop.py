"""One loop for every network: batches of cells, or of whole patients, epoch after epoch.

Nothing depends on anything but the settings, the data and the seed: the random numbers of an epoch follow
from the seed and the epoch's number, so that a training that was killed and resumed ends with the same bits.
"""

from __future__ import annotations

import ctypes
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lymphoscope.training import balancing
from lymphoscope.training.augmentation import augment
from lymphoscope.training.checkpoints import Weights, load_checkpoint, save_checkpoint
from lymphoscope.training.curves import Epoch, Measured
from lymphoscope.training.losses import loss as loss_of
from lymphoscope.training.prediction import CellData, pool, predict_logits, segment_average
from lymphoscope.training.schedules import learning_rate_at, make_optimiser
from lymphoscope.training.settings import Pooling, Precision, TrainingSettings

IntArray = npt.NDArray[np.int64]
Watch = Callable[[Epoch], None]

CELLS, COLOURS, MASKS, DROPOUT = 1, 2, 3, 4
"""Streams of random numbers within an epoch."""

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""Of mallopt(3)."""

_VALIDATION_CELLS = 64
"""Most cells of a validation patient that are looked at per epoch, spread evenly over those it has."""


@dataclass(frozen=True, eq=False)
class _Batch:
    """Some examples.

    Attributes
    ----------
    rows : which cells, (n_cells,).
    owner : which of `patients` each belongs to, (n_cells,).
    patients : indices, (n_patients,).
    """

    rows: IntArray
    owner: IntArray
    patients: IntArray


def train(
    network: nn.Module,
    data: CellData,
    y: IntArray,
    patients: IntArray,
    held_out: IntArray,
    settings: TrainingSettings,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    key: str = "",
    watch: Watch | None = None,
) -> tuple[list[Epoch], list[Weights]]:
    """Train `network` in place on `patients`: the epochs, and the weights that were kept.

    Those are of the selected epoch, or with `settings.snapshots` of the end of every cycle. The network is
    left with the last of them.

    Parameters
    ----------
    y : label, 0 or 1, of every patient of `data`.
    patients, held_out : who is trained on, and who tells how each epoch does (may be empty).
    checkpoint : file that training is kept in after every epoch, and taken up from if `key` is its own.
    watch : told of every finished epoch.
    """
    keep_memory()
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = make_optimiser(
        trained,
        kind=settings.optimiser,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    history: list[Epoch] = []
    kept: list[Weights] = []
    resumed = load_checkpoint(checkpoint, key, network, optimiser) if checkpoint else None
    if resumed:
        history, kept = resumed
    while len(history) < settings.epochs and not _out_of_patience(history, settings):
        number = len(history) + 1
        rate = _learning_rate(number, settings)
        for group in optimiser.param_groups:
            group["lr"] = rate
        began, cut = time.perf_counter(), _prior_log_odds(y[patients], settings)
        training, images = _train_epoch(network, optimiser, data, y, patients, settings, number, device)
        seconds = time.perf_counter() - began
        validation = _validate(network, data, y, held_out, settings, device, cut) if len(held_out) else None
        history.append(Epoch(number, rate, training, validation, images, seconds))
        keeps = settings.select == "best" or settings.snapshots > 1
        if keeps and number in kept_epochs(history, settings):
            weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
            kept = [*(kept if settings.snapshots > 1 else ()), weights]
        if checkpoint:
            save_checkpoint(checkpoint, key, network, optimiser, history, kept)
        if watch:
            watch(history[-1])
    if kept:
        network.load_state_dict(kept[-1])
    network.eval()
    chosen = kept_epochs(history, settings)
    return [replace(epoch, kept=epoch.number in chosen) for epoch in history], kept or [network.state_dict()]


@cache
def keep_memory() -> None:
    """Have the C library keep what it is given back instead of asking for it anew in every step.

    Its default returns large blocks to the system at once; fetching them again, page by page, took a quarter
    of a training step of a small network. Systems without glibc are left alone.
    """
    if sys.platform != "linux" or not hasattr(library := ctypes.CDLL(None), "mallopt"):
        return
    for option, value in ((_MMAP_THRESHOLD, 1 << 30), (_TRIM_THRESHOLD, (1 << 31) - 1), (_TOP_PAD, 64 << 20)):
        library.mallopt(option, value)


def fastest_precision(device: torch.device) -> Precision:
    """bfloat16 where the device multiplies it in hardware."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    known = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # no public name for it yet
    return "bfloat16" if known is not None and known() else "float32"


def kept_epochs(history: list[Epoch], settings: TrainingSettings) -> list[int]:
    """Numbers of the epochs whose weights are kept, by what is known so far."""
    if settings.snapshots == 1:
        return [selected_epoch(history, settings)]
    return [end for _, end in _cycles(settings) if end <= len(history)]


def _cycles(settings: TrainingSettings) -> list[tuple[int, int]]:
    """Of each cycle of the learning rate, the epochs before it, and its last one."""
    ends = [round(i * settings.epochs / settings.snapshots) for i in range(settings.snapshots + 1)]
    return [(start, end) for start, end in pairwise(ends) if end > start]


def _learning_rate(number: int, settings: TrainingSettings) -> float:
    if settings.snapshots > 1:
        start, end = next(cycle for cycle in _cycles(settings) if number <= cycle[1])
        return learning_rate_at(number - 1 - start, end - start, settings.learning_rate, kind="cosine")
    return learning_rate_at(
        number - 1,
        settings.epochs,
        settings.learning_rate,
        kind=settings.schedule,
        decay=settings.decay,
        warmup_epochs=min(settings.warmup_epochs, settings.epochs - 1),
    )


def selected_epoch(history: list[Epoch], settings: TrainingSettings) -> int:
    """Number of the best epoch so far, the first of equals; or of the last."""
    if settings.select == "last" or history[-1].validation is None:
        return len(history)
    measured = [epoch.validation for epoch in history if epoch.validation is not None]
    if settings.select_by == "loss":
        values = [-each.loss for each in measured]
    else:
        values = [each.balanced_accuracy for each in measured]
    return int(np.argmax(np.nan_to_num(values, nan=-np.inf))) + 1


def _out_of_patience(history: list[Epoch], settings: TrainingSettings) -> bool:
    if settings.patience is None or settings.snapshots > 1 or not history:
        return False
    return len(history) - selected_epoch(history, settings) >= settings.patience


def _train_epoch(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    data: CellData,
    y: IntArray,
    patients: IntArray,
    settings: TrainingSettings,
    number: int,
    device: torch.device,
) -> tuple[Measured, int]:
    """One pass over the patients; how it went, and how many images it took."""
    rng = {stream: np.random.default_rng([settings.seed, number, stream]) for stream in (CELLS, MASKS)}
    colours = torch.Generator().manual_seed(_torch_seed(settings.seed, number, COLOURS))
    weights = _class_weights(y[patients], settings)
    tally, cut = _Tally(), _prior_log_odds(y[patients], settings)
    network.train()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(_torch_seed(settings.seed, number, DROPOUT))
        for batch in _batches(data, y, patients, settings, rng[CELLS]):
            images = data.cells[torch.from_numpy(batch.rows)].to(device, non_blocking=True)
            if images.dtype == torch.uint8:
                images = augment(images, settings.augmentation, settings.normalisation, colours)
            clinical = data.clinical[torch.from_numpy(batch.patients)]
            clinical = _masked(clinical, settings.clinical_masking, rng[MASKS]).to(device)
            labels = torch.from_numpy(y[batch.patients]).to(device)
            with _autocast(settings, device):
                logits = _logits(network, images, clinical, batch, settings.unit == "patient")
            loss = loss_of(
                logits.float(),
                labels,
                kind=settings.loss,
                weights=weights,
                label_smoothing=settings.label_smoothing,
                focal_gamma=settings.focal_gamma,
            )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            if settings.clip_norm is not None:
                nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
            optimiser.step()
            tally.add(batch, logits.detach(), loss.detach())
    return tally.measured(y, settings.pooling, cut), tally.images


def _batches(
    data: CellData, y: IntArray, patients: IntArray, settings: TrainingSettings, rng: np.random.Generator
) -> Iterator[_Batch]:
    """The examples of one epoch, in random order."""
    shown = patients[data.counts[patients] > 0]
    counts = data.counts[shown]
    offsets = np.concatenate([[0], np.cumsum(counts)])

    def rows_of(cells: IntArray, owner: IntArray) -> IntArray:
        return np.asarray(data.starts[shown][owner] + cells - offsets[owner])

    if settings.unit == "cell":
        cells = balancing.epoch_cells(
            counts,
            y[shown],
            balance=settings.balance,
            by=settings.balance_by,
            cells_per_patient=settings.cells_per_patient,
            rng=rng,
        )
        for part in balancing.batches(cells, settings.batch_size):
            owner = np.searchsorted(offsets, part, side="right") - 1
            yield _Batch(rows_of(part, owner), np.arange(len(part)), shown[owner])
        return
    order = balancing.epoch_patients(y[shown], balance=settings.balance, rng=rng)
    for batch in balancing.patient_batches(
        counts,
        order,
        batch_size=settings.batch_size,
        cells_per_patient=settings.cells_per_patient,
        rng=rng,
    ):
        place = np.repeat(np.arange(len(batch.patients)), np.diff(batch.offsets))
        yield _Batch(rows_of(batch.cells, batch.patients[place]), place, shown[batch.patients])


def balanced_counts(
    data: CellData, y: IntArray, patients: IntArray, settings: TrainingSettings
) -> balancing.BalanceCounts | None:
    """What balancing does to the first epoch on `patients`; None where nothing is balanced."""
    if settings.balance == "none":
        return None
    return balancing.balance_counts(
        data.counts[patients],
        y[patients],
        balance=settings.balance,
        by="patient" if settings.unit == "patient" else settings.balance_by,
        cells_per_patient=settings.cells_per_patient,
        rng=np.random.default_rng([settings.seed, 1, CELLS]),
    )


def _logits(network: Any, images: Tensor, clinical: Tensor, batch: _Batch, by_patient: bool) -> Tensor:
    """Logits of the examples, (n_examples, 2): each cell, or each patient with its cells averaged."""
    if not by_patient:
        logits: Tensor = network(images, clinical)
        return logits
    owner = torch.from_numpy(batch.owner).to(images.device)
    features = network.features(images, clinical[owner])
    pooled: Tensor = network.head(segment_average(features, owner, len(batch.patients)), clinical)
    return pooled


def _autocast(settings: TrainingSettings, device: torch.device) -> AbstractContextManager[Any]:
    if settings.precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def _class_weights(y: IntArray, settings: TrainingSettings) -> tuple[float, float]:
    balance = settings.balance if len(np.unique(y)) > 1 else "none"
    return balancing.class_weights(y, balance=balance, positive_weight=settings.positive_weight)


def _as_weights(y: IntArray, settings: TrainingSettings) -> tuple[float, float]:
    """What both classes of patients `y` weigh in training, by the loss and by how often they are drawn."""
    reactive, malignant = _class_weights(y, settings)
    if settings.balance in ("none", "class-weights") or len(np.unique(y)) < 2:
        return reactive, malignant
    even = balancing.class_weights(y, balance="class-weights")
    return reactive * even[0], malignant * even[1]


def _prior_log_odds(y: IntArray, settings: TrainingSettings) -> float:
    """What a network says of everybody that has learned no more than how often it was shown each class.

    Where the epoch is chosen by balanced accuracy, as in the reports, it is theirs: even odds.
    """
    if settings.select_by == "balanced-accuracy" or len(np.unique(y)) < 2:
        return 0.0
    reactive, malignant = _as_weights(y, settings)
    return math.log(malignant * (y == 1).sum() / (reactive * (y == 0).sum()))


def _masked(clinical: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Clinical values, some hidden: in `share` of the examples each with probability 0.5."""
    if not share:
        return clinical
    concerned = rng.random(len(clinical)) < share
    hidden = concerned[:, None] & (rng.random(tuple(clinical.shape)) < 0.5)
    return clinical.masked_fill(torch.from_numpy(hidden), 0.0)


def _torch_seed(*parts: int) -> int:
    return int(np.random.SeedSequence(list(parts)).generate_state(1)[0])


class _Tally:
    """What the network said of the patients while it was trained on them."""

    def __init__(self) -> None:
        self.images = 0
        self._loss = self._examples = 0.0
        self._logits: list[Tensor] = []
        self._patients: list[IntArray] = []

    def add(self, batch: _Batch, logits: Tensor, loss: Tensor) -> None:
        self.images += len(batch.rows)
        self._examples += len(batch.patients)
        self._loss += float(loss) * len(batch.patients)
        self._logits.append(logits)
        self._patients.append(batch.patients)

    def measured(self, y: IntArray, pooling: Pooling, cut: float) -> Measured:
        logits = torch.cat(self._logits).float().cpu().numpy().astype(np.float64)
        patients = np.concatenate(self._patients)
        order = np.argsort(patients, kind="stable")
        seen, counts = np.unique(patients, return_counts=True)
        score = pool(logits[order, 1] - logits[order, 0], counts, pooling)
        return Measured.of(self._loss / max(self._examples, 1), y[seen], score, cut)


def _validate(
    network: nn.Module,
    data: CellData,
    y: IntArray,
    patients: IntArray,
    settings: TrainingSettings,
    device: torch.device,
    cut: float,
) -> Measured:
    """Loss and decisions on patients that are not trained on."""
    network.eval()
    shown = patients[data.counts[patients] > 0]
    most = min(_VALIDATION_CELLS, 2 * (settings.cells_per_patient or _VALIDATION_CELLS))
    rows, owner = data.rows_of(shown, most)
    with _autocast(settings, device):
        logits = predict_logits(network, data, rows, owner, settings, device=device)
    weights = _as_weights(y[shown], settings)
    by_patient = settings.unit == "patient"
    examples = y[shown] if by_patient else y[owner]
    loss = loss_of(
        torch.from_numpy(logits),
        torch.from_numpy(examples),
        kind=settings.loss,
        weights=weights,
        label_smoothing=settings.label_smoothing,
        focal_gamma=settings.focal_gamma,
    )
    margin = logits[:, 1] - logits[:, 0]
    counts = np.minimum(data.counts[shown], most)
    score = margin if by_patient else pool(margin, counts, settings.pooling)
    return Measured.of(float(loss), y[shown], score, cut)

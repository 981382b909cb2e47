"""One loop for every network: batches of cells, or of whole patients, epoch after epoch.

Nothing depends on anything but the settings, the data and the seed: the random numbers of an epoch follow
from the seed and the epoch's number, so that a training that was killed and resumed ends with the same bits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lymphoscope.errors import InputError
from lymphoscope.training import balancing
from lymphoscope.training.augmentation import augment
from lymphoscope.training.checkpoints import load_checkpoint, save_checkpoint
from lymphoscope.training.choice import kept_epochs, learning_rate, out_of_patience
from lymphoscope.training.curves import Epoch
from lymphoscope.training.learner import Learner, Weights, changing, take_weights
from lymphoscope.training.machine import autocast, beside, keep_memory, same_bits
from lymphoscope.training.measuring import (
    Tally,
    class_weights,
    counted_labels,
    prior_log_odds,
    training_loss,
    validate,
)
from lymphoscope.training.packing import Packing
from lymphoscope.training.prediction import CellData
from lymphoscope.training.settings import TrainingSettings, Unit

IntArray = npt.NDArray[np.int64]
Watch = Callable[[Epoch], None]

CELLS, COLOURS, MASKS, DROPOUT = 1, 2, 3, 4
"""Streams of random numbers within an epoch."""


@dataclass(frozen=True, eq=False)
class _Batch:
    """Some examples.

    Attributes
    ----------
    rows : which cells, (n_cells,).
    patients : whose they are, (n_examples,).
    counts : cells of each example, (n_examples,); those of an example are neighbours.
    """

    rows: IntArray
    patients: IntArray
    counts: IntArray


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
    data = beside(data, device)
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    learner = Learner(network, settings)
    history: list[Epoch] = []
    kept: list[Weights] = []
    resumed = load_checkpoint(checkpoint, key, learner) if checkpoint else None
    if resumed:
        history, kept = resumed
    else:
        with same_bits(device):
            _before_training(learner, data, y, patients, settings, device)
    while len(history) < settings.epochs and not out_of_patience(history, settings):
        number = len(history) + 1
        with same_bits(device):
            history.append(_epoch(learner, data, y, patients, held_out, settings, number, device))
        keeps = settings.select == "best" or settings.snapshots > 1
        if keeps and number in kept_epochs(history, settings):
            kept = [*(kept if settings.snapshots > 1 else ()), learner.weights()]
        if checkpoint:
            save_checkpoint(checkpoint, key, learner, history, kept)
        if watch:
            watch(history[-1])
    take_weights(network, kept[-1] if kept else learner.weights())
    network.eval()
    chosen = kept_epochs(history, settings)
    return [replace(epoch, kept=epoch.number in chosen) for epoch in history], kept or [changing(network)]


def _before_training(
    learner: Learner,
    data: CellData,
    y: IntArray,
    patients: IntArray,
    settings: TrainingSettings,
    device: torch.device,
) -> None:
    """Let the network look at the clinical values of those it will be trained on."""
    criterion = partial(training_loss, weights=_weights(data, y, patients, settings), settings=settings)
    known = torch.from_numpy(patients)
    learner.begin(data.clinical[known].to(device), torch.from_numpy(y[patients]).to(device), criterion)


def _epoch(
    learner: Learner,
    data: CellData,
    y: IntArray,
    patients: IntArray,
    held_out: IntArray,
    settings: TrainingSettings,
    number: int,
    device: torch.device,
) -> Epoch:
    """Train for one epoch and see how it went."""
    rate = learning_rate(number, settings)
    cut = prior_log_odds(y, patients, data.counts, settings)
    learner.set_rate(rate)
    began = time.perf_counter()
    tally = _train_epoch(learner, data, y, patients, settings, number, device)
    training = tally.measured(y, settings.pooling, cut)
    seconds = time.perf_counter() - began
    validation = None
    if data.counts[held_out].any():
        validation = validate(learner.judged, data, y, held_out, settings, device, cut)
    for measured in (training, validation):
        if measured is not None and not math.isfinite(measured.loss):
            raise InputError(
                "the training has diverged: the loss is no finite number any more",
                found=f"epoch {number}, learning rate {rate:g}",
                allowed="a rate at which the loss falls",
                remedy="Lower learning_rate in the recipe's settings, or bound the gradient with clip_norm.",
            )
    return Epoch(number, rate, training, validation, tally.images, seconds)


def _weights(
    data: CellData, y: IntArray, patients: IntArray, settings: TrainingSettings
) -> tuple[float, float]:
    """Of the classes in the loss of `patients`."""
    return class_weights(counted_labels(y, patients, data.counts, settings), settings)


def _train_epoch(
    learner: Learner,
    data: CellData,
    y: IntArray,
    patients: IntArray,
    settings: TrainingSettings,
    number: int,
    device: torch.device,
) -> Tally:
    """One pass over the patients."""
    rng = {stream: np.random.default_rng([settings.seed, number, stream]) for stream in (CELLS, MASKS)}
    colours = torch.Generator().manual_seed(_torch_seed(settings.seed, number, COLOURS))
    criterion = partial(training_loss, weights=_weights(data, y, patients, settings), settings=settings)
    tally, network = Tally(), learner.network.train()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(_torch_seed(settings.seed, number, DROPOUT))
        for batch in _batches(data, y, patients, settings, rng[CELLS]):
            images = data.at(batch.rows, device)
            if images.dtype == torch.uint8:
                images = augment(images, settings.augmentation, settings.normalisation, colours)
            clinical = data.clinical[torch.from_numpy(batch.patients)]
            clinical = masked(clinical, settings.clinical_masking, rng[MASKS]).to(device)
            labels = torch.from_numpy(y[batch.patients]).to(device)
            try:
                with autocast(settings, device):
                    logits, loss = _forward(
                        network, images, clinical, labels, batch, criterion, settings.unit
                    )
            except ValueError as error:  # torch's, of batch normalisation
                if len(batch.rows) > 1 or isinstance(error, InputError):
                    raise
                raise InputError(
                    "this network cannot normalise a batch of one cell",
                    found=f"batch_size={settings.batch_size}, cells_per_patient={settings.cells_per_patient}",
                    allowed="at least two cells in every batch",
                    remedy="Set a larger batch_size or cells_per_patient in the recipe's settings.",
                ) from error
            learner.step(loss)
            tally.add(len(batch.rows), batch.patients, logits, loss)
    return tally


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
            yield _Batch(rows_of(part, owner), shown[owner], np.ones_like(part))
        return
    order = balancing.epoch_patients(y[shown], balance=settings.balance, rng=rng)
    for batch in balancing.patient_batches(
        counts,
        order,
        batch_size=settings.batch_size,
        cells_per_patient=settings.cells_per_patient,
        rng=rng,
    ):
        counts_ = np.diff(batch.offsets)
        rows = rows_of(batch.cells, np.repeat(batch.patients, counts_))
        yield _Batch(rows, shown[batch.patients], counts_)


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


def _forward(
    network: Any,
    images: Tensor,
    clinical: Tensor,
    labels: Tensor,
    batch: _Batch,
    criterion: Callable[[Tensor, Tensor], Tensor],
    unit: Unit,
) -> tuple[Tensor, Tensor]:
    """Logits of the examples, (n_examples, 2), cells or patients; and what is minimised."""
    if unit == "cell":
        logits = network(images, clinical)
        return logits, criterion(logits, labels)
    packing = Packing(torch.from_numpy(batch.counts)).to(images.device)
    features = network.features(images, clinical[packing.owner])
    logits, loss = network.bag_loss(features, packing, clinical, labels, criterion)
    return logits, loss


def masked(clinical: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Clinical values, some hidden: in `share` of the examples each with probability 0.5."""
    if not share:
        return clinical
    concerned = rng.random(len(clinical)) < share
    hidden = concerned[:, None] & (rng.random(tuple(clinical.shape)) < 0.5)
    return clinical.masked_fill(torch.from_numpy(hidden), 0.0)


def _torch_seed(*parts: int) -> int:
    return int(np.random.SeedSequence(list(parts)).generate_state(1)[0])

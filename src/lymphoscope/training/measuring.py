"""How an epoch went, on the patients trained on and on those held out."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lymphoscope.training import balancing
from lymphoscope.training.curves import Measured
from lymphoscope.training.losses import loss as loss_of
from lymphoscope.training.machine import autocast
from lymphoscope.training.prediction import CellData, pool, predict_logits
from lymphoscope.training.settings import Pooling, TrainingSettings

IntArray = npt.NDArray[np.int64]

_FAR, _NEAR = 20.0, 1e-7
"""Log-odds that no share of classes goes beyond, and that make no difference."""

_VALIDATION_CELLS = 64
"""Most cells of a validation patient that are looked at per epoch, spread evenly over those it has."""


def training_loss(
    logits: Tensor, labels: Tensor, weights: tuple[float, float], settings: TrainingSettings
) -> Tensor:
    """What is minimised, of logits (n, 2) and labels (n,)."""
    return loss_of(
        logits.float() if logits.dtype == torch.bfloat16 else logits,
        labels,
        kind=settings.loss,
        weights=weights,
        label_smoothing=settings.label_smoothing,
        focal_gamma=settings.focal_gamma,
    )


def counted_labels(y: IntArray, patients: IntArray, counts: IntArray, settings: TrainingSettings) -> IntArray:
    """Labels of what balancing counts: of `patients` with cells, or of the cells that each gives an epoch.

    `y` and `counts`, labels and numbers of cells, are those of all patients, (n,).
    """
    if settings.balance_by == "patient":
        return y[patients[counts[patients] > 0]]
    return shown_labels(y, patients, counts, settings)


def shown_labels(y: IntArray, patients: IntArray, counts: IntArray, settings: TrainingSettings) -> IntArray:
    """Labels of what an epoch shows the network: of `patients` who have cells, or of those cells."""
    if settings.unit == "patient":
        return y[patients[counts[patients] > 0]]
    most = settings.cells_per_patient
    given = counts[patients] if most is None else np.minimum(counts[patients], most)
    return np.repeat(y[patients], given)


def class_weights(y: IntArray, settings: TrainingSettings) -> tuple[float, float]:
    """Weights of the classes in the loss, from the labels of what is `counted_labels`; even without both."""
    balance = settings.balance if len(np.unique(y)) > 1 else "none"
    return balancing.class_weights(y, balance=balance, positive_weight=settings.positive_weight)


def class_shares(y: IntArray, settings: TrainingSettings) -> tuple[float, float]:
    """What both classes weigh in training, by the loss and by how often they are drawn.

    `y` is as `counted_labels` gives it.
    """
    reactive, malignant = class_weights(y, settings)
    if settings.balance in ("none", "class-weights") or len(np.unique(y)) < 2:
        return reactive, malignant
    even = balancing.class_weights(y, balance="class-weights")
    return reactive * even[0], malignant * even[1]


def prior_log_odds(y: IntArray, patients: IntArray, counts: IntArray, settings: TrainingSettings) -> float:
    """What a network says of everybody that has learned no more than how often it was shown each class.

    It is where the loss is least, with its weights, its smoothing and its focus. Arguments are as for
    `counted_labels`.
    """
    shown = shown_labels(y, patients, counts, settings)
    if len(np.unique(shown)) < 2:
        return 0.0
    counted = counted_labels(y, patients, counts, settings)
    weights, shares = class_weights(counted, settings), class_shares(counted, settings)
    drawn = [shares[c] / weights[c] * float((shown == c).sum()) for c in (0, 1)]
    other = settings.label_smoothing / 2
    reactive, malignant = (weights[c] * ((1 - other) * drawn[c] + other * drawn[1 - c]) for c in (0, 1))
    return _least_loss(reactive, malignant, settings.focal_gamma if settings.loss == "focal" else 0.0)


def _least_loss(reactive: float, malignant: float, gamma: float) -> float:
    """The log-odds z, said of everybody, at which the loss of classes of these weights is least.

    That is Σ_c w_c (1 - p_c)^γ (-log p_c) with p_malignant = 1 / (1 + e^-z); without γ at the weights' own
    log-odds.
    """
    if gamma == 0:
        return math.log(malignant / reactive)

    def loss(z: float) -> float:
        unlike = np.logaddexp(0.0, z), np.logaddexp(0.0, -z)  # -log p of the reactive and the malignant class
        reactive_part = reactive * np.exp(-gamma * unlike[1]) * unlike[0]
        return float(reactive_part + malignant * np.exp(-gamma * unlike[0]) * unlike[1])

    low, high = -_FAR, _FAR
    while high - low > _NEAR:  # falls, then rises: the third beyond the worse of two places is cut off
        third = (high - low) / 3
        if loss(low + third) < loss(high - third):
            high -= third
        else:
            low += third
    return (low + high) / 2


class Tally:
    """What the network said of the patients while it was trained on them."""

    def __init__(self) -> None:
        self.images = 0
        self._losses: list[Tensor] = []
        self._logits: list[Tensor] = []
        self._patients: list[IntArray] = []

    def add(self, images: int, patients: IntArray, logits: Tensor, loss: Tensor) -> None:
        """One batch; numbers stay where they are, so that no device is waited for."""
        self.images += images
        self._losses.append(loss.detach())
        self._logits.append(logits.detach())
        self._patients.append(patients)

    def measured(self, y: IntArray, pooling: Pooling, cut: float) -> Measured:
        """Over all batches; the mean loss over examples."""
        examples = [len(each) for each in self._patients]
        losses = torch.stack(self._losses).double().cpu().numpy()
        logits = torch.cat(self._logits).float().cpu().numpy().astype(np.float64)
        patients = np.concatenate(self._patients)
        order = np.argsort(patients, kind="stable")
        seen, counts = np.unique(patients, return_counts=True)
        score = pool(logits[order, 1] - logits[order, 0], counts, pooling)
        return Measured.of(float(np.average(losses, weights=examples)), y[seen], score, cut)


def validate(
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
    with autocast(settings, device):
        logits = predict_logits(network, data, rows, owner, settings, device=device)
    weights = class_shares(counted_labels(y, shown, data.counts, settings), settings)
    by_patient = settings.unit == "patient"
    examples = y[shown] if by_patient else y[owner]
    loss = training_loss(torch.from_numpy(logits), torch.from_numpy(examples), weights, settings)
    margin = logits[:, 1] - logits[:, 0]
    counts = np.minimum(data.counts[shown], most)
    score = margin if by_patient else pool(margin, counts, settings.pooling)
    return Measured.of(float(loss), y[shown], score, cut)

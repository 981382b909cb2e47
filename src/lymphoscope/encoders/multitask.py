"""Heads for several things that are told of a cell, on one embedding; their loss, and how well they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lymphoscope.cohort.bags import FloatArray
from lymphoscope.encoders.architectures import Embedder
from lymphoscope.encoders.labelled_cells import MISSING, Image, IntArray, LabelledCells, Task
from lymphoscope.stats.intervals import RATE_PSEUDO_WEIGHT, Interval, percentile_interval, wilson
from lymphoscope.training.augmentation import Normalisation, prepare

_AT_ONCE = 128
"""Photographs looked at in one pass when nothing is learned."""


class MultitaskNetwork(nn.Module):
    """An embedder with a linear head per task.

    Attributes
    ----------
    embedder : photographs to embeddings.
    heads : by the name of the task, embeddings to logits.
    """

    def __init__(self, embedder: Embedder, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.embedder = embedder
        self.heads = nn.ModuleDict(
            {task.name: nn.Linear(embedder.width, len(task.classes)) for task in tasks}
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Logits (n, n_classes) of every task, from normalised photographs, (n, 3, S, S)."""
        embeddings = self.embedder(images)
        return [head(embeddings) for head in self.heads.values()]


def class_weights(targets: IntArray, tasks: Sequence[Task]) -> list[Tensor]:
    """What a cell of each class weighs in the loss, float32 (n_classes,) per task.

    The inverse square root of the class's frequency, half way between counting cells and counting classes;
    scaled so that classes weigh 1 on average.

    Parameters
    ----------
    targets : of the training cells, (n, n_tasks); every class of every task occurs.
    """
    weights = []
    for column, task in zip(targets.T, tasks, strict=True):
        each = np.bincount(column[column != MISSING], minlength=len(task.classes)) ** -0.5
        weights.append(torch.from_numpy(each / each.mean()).float())
    return weights


def masked_loss(logits: Sequence[Tensor], targets: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Mean over tasks of the weighted mean cross-entropy over the cells of which the answer is known.

    With y_it the answer of cell i to task t, K_t the cells of which it is known, and w the class weights,

        loss = mean_{t: K_t not empty}  Σ_{i in K_t} w_t(y_it) (-log p_it)  /  Σ_{i in K_t} w_t(y_it)

    so that a missing answer moves nothing. 0 where nothing at all is known.

    Parameters
    ----------
    logits : (n, n_classes) per task.
    targets : (n, n_tasks) integers, -1 for missing.
    weights : (n_classes,) per task.
    """
    losses, known = [], []
    for each, target, weight in zip(logits, targets.unbind(1), weights, strict=True):
        total = cross_entropy(each.float(), target, weight, ignore_index=MISSING, reduction="sum")
        share = (weight[target.clamp_min(0)] * (target != MISSING)).sum()
        losses.append(total / share.clamp_min(torch.finfo(share.dtype).tiny))
        known.append(share > 0)
    return torch.stack(losses).sum() / torch.stack(known).sum().clamp_min(1)


@torch.inference_mode()
def task_logits(
    network: MultitaskNetwork, images: Image, normalisation: Normalisation, device: torch.device
) -> list[FloatArray]:
    """Logits of every task, float64 (n, n_classes) each; in single precision."""
    network.eval()
    found = []
    for start in range(0, len(images), _AT_ONCE):
        batch = torch.from_numpy(images[start : start + _AT_ONCE]).to(device)
        found.append([each.cpu() for each in network(prepare(batch, normalisation))])
    return [torch.cat(each).double().numpy() for each in zip(*found, strict=True)]


@dataclass(frozen=True)
class TaskScore:
    """How well a task is told of cells that were held out.

    Attributes
    ----------
    n : cells of which the answer is known.
    accuracy, low, high : share told correctly, and Wilson's 95 % interval.
    macro_f1 : mean over the classes among these cells of 2 TP / (2 TP + FP + FN).
    macro_f1_low, macro_f1_high : its 95 % interval, from a bootstrap of these cells.
    majority : accuracy of always giving the answer that is most frequent among the training cells.
    majority_macro_f1 : its macro F1.
    confusion : cells by true class (rows) and told class (columns).
    """

    name: str
    n: int
    accuracy: float
    low: float
    high: float
    macro_f1: float
    macro_f1_low: float
    macro_f1_high: float
    majority: float
    majority_macro_f1: float
    confusion: tuple[tuple[int, ...], ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "cells": self.n,
            "accuracy": self.accuracy,
            "accuracy_interval": [self.low, self.high],
            "macro_f1": self.macro_f1,
            "macro_f1_interval": [self.macro_f1_low, self.macro_f1_high],
            "majority_accuracy": self.majority,
            "majority_macro_f1": self.majority_macro_f1,
            "confusion": self.confusion,
        }


def task_scores(
    logits: Sequence[FloatArray], cells: LabelledCells, training_targets: IntArray, tasks: Sequence[Task]
) -> list[TaskScore]:
    """Of every task that is known of at least one of `cells`."""
    told = np.stack([each.argmax(axis=1) for each in logits], axis=1)
    scores = []
    for i, task in enumerate(tasks):
        known = cells.targets[:, i] != MISSING
        if known.any():
            answers = training_targets[:, i]
            usual = int(np.bincount(answers[answers != MISSING]).argmax())
            scores.append(_score(task, told[known, i], cells.targets[known, i], usual))
    return scores


def _score(task: Task, told: IntArray, true: IntArray, usual: int) -> TaskScore:
    confusion = _confusion(true, told, len(task.classes))
    always = _confusion(true, np.full_like(true, usual), len(task.classes))
    interval, f1 = wilson(int(np.trace(confusion)), len(true)), macro_f1_interval(confusion)
    return TaskScore(
        name=task.name,
        n=len(true),
        accuracy=interval.estimate,
        low=interval.low,
        high=interval.high,
        macro_f1=f1.estimate,
        macro_f1_low=f1.low,
        macro_f1_high=f1.high,
        majority=float(np.trace(always)) / len(true),
        majority_macro_f1=float(_macro_f1(always)),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )


def _confusion(true: IntArray, told: IntArray, n_classes: int) -> IntArray:
    """Cells by true and told class, int64 (n_classes, n_classes)."""
    return np.bincount(true * n_classes + told, minlength=n_classes**2).reshape(n_classes, n_classes)


def macro_f1_interval(confusion: IntArray, *, replicates: int = 2000, seed: int = 0) -> Interval:
    """Macro F1 and its 95 % interval, from a Bayesian bootstrap of the cells of a confusion matrix.

    As in `stats.intervals`, every class gets two pseudo-cells of a third, one told correctly and one not (as
    any of the other classes), so that a matrix without mistakes has an interval of positive width too.

    Parameters
    ----------
    confusion : cells by true and told class, (n_classes, n_classes).
    """
    n_classes, occurs = len(confusion), confusion.sum(axis=1) > 0
    pseudo = np.full(confusion.shape, RATE_PSEUDO_WEIGHT / max(n_classes - 1, 1))
    np.fill_diagonal(pseudo, RATE_PSEUDO_WEIGHT)
    weights = np.random.default_rng(seed).standard_gamma(
        confusion + pseudo * occurs[:, None], size=(replicates, *confusion.shape)
    )
    return percentile_interval(float(_macro_f1(confusion)), _macro_f1(weights))


def _macro_f1(confusion: IntArray | FloatArray) -> FloatArray:
    """Mean over the classes that occur among the true ones; of every matrix (…, n_classes, n_classes)."""
    right, occurs = np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(axis=-1)
    f1 = 2 * right / np.maximum(occurs + confusion.sum(axis=-2), np.finfo(np.float64).tiny)
    return np.asarray((f1 * (occurs > 0)).sum(axis=-1) / (occurs > 0).sum(axis=-1))

"""An encoder goes on learning from cells of which nothing is told, the same to the bit if it is resumed.

Two views of a cell are to be alike and views of different cells apart (SimCLR, Chen et al. 2020,
arXiv:2002.05709), while an anchor holds every embedding near what the encoder said before: a cohort is small,
and what was learned from labelled cells would be lost to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from lymphoscope.cohort.progress import Progress
from lymphoscope.encoders.architectures import Embedder
from lymphoscope.encoders.labelled_cells import Image
from lymphoscope.encoders.steps import EncoderTraining, ShownSteps, torch_seed, train_epochs
from lymphoscope.encoders.supervised import AUGMENTATION
from lymphoscope.training.augmentation import Normalisation, augment, prepare
from lymphoscope.training.balancing import batches
from lymphoscope.training.bounds import check_range
from lymphoscope.training.contrastive import nt_xent
from lymphoscope.training.learner import Learner
from lymphoscope.training.machine import autocast, keep_memory

VIEWS = AUGMENTATION
"""What the encoder was taught to overlook when its cells had labels: light, stain, turning and place."""

_AT_ONCE = 128
_ORDER, _COLOURS = 1, 2
"""Streams of random numbers within an epoch."""


@dataclass(frozen=True)
class AdaptSettings(EncoderTraining):
    """Going on without labels, each cell of a step in two views; see `EncoderTraining`.

    Attributes
    ----------
    anchor : weight of the distance from what the encoder said before; 0 lets it go where it will.
    temperature : of the comparison of views.
    projection : width of the space in which views are compared.
    """

    warm_up: ClassVar[int] = 1
    smallest_batch: ClassVar[int] = 2

    epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 1e-4
    weight_decay: float = 0.0  # the anchor holds the weights
    average: float = 0.99
    anchor: float = 1.0
    temperature: float = 0.1
    projection: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("anchor", self.anchor, 0, math.inf, open_high=True)
        check_range("temperature", self.temperature, 0, math.inf, open_low=True, open_high=True)


class _Compared(nn.Module):
    """An embedder and the projection in which views are compared, which is thrown away."""

    def __init__(self, embedder: Embedder, projection: int) -> None:
        super().__init__()
        width = embedder.width
        self.embedder = embedder
        self.projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projection))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings and projections, (n, width) and (n, projection)."""
        seen = self.embedder(images)
        return seen, self.projection(seen)


def embeddings_of(
    embedder: nn.Module, images: Image, normalisation: Normalisation, device: torch.device
) -> Tensor:
    """Embeddings of photographs as they are, uint8 (n, S, S, 3) → float32 (n, width), on the CPU."""
    embedder.eval().to(device)  # outside the inference, or an embedder that was moved could not learn
    with torch.inference_mode():
        found = [
            embedder(prepare(torch.from_numpy(np.array(images[i : i + _AT_ONCE])).to(device), normalisation))
            for i in range(0, max(len(images), 1), _AT_ONCE)
        ]
        return torch.cat(found).float().cpu()


def anchor_distance(embeddings: Tensor, before: Tensor, spread: Tensor) -> Tensor:
    """Mean of |z − z₀|² / σ², a scalar: 2 is the distance of two cells drawn at random.

    Parameters
    ----------
    embeddings, before : z and z₀, (n, width).
    spread : σ², the variances of z₀ over all cells, summed over its numbers.
    """
    return (embeddings.float() - before).square().sum(dim=1).mean() / spread


def adapt_network(
    embedder: Embedder,
    images: Image,
    normalisation: Normalisation,
    settings: AdaptSettings,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    key: str = "",
    progress: Progress | None = None,
) -> list[float]:
    """Train `embedder` in place on photographs alone, uint8 (n, S, S, 3); the mean loss of every epoch.

    Parameters
    ----------
    checkpoint : file that the training is kept in after every epoch, and taken up from if `key` is its own.

    Raises
    ------
    LymphoscopeError : the loss is no number any more.
    """
    keep_memory()
    before = embeddings_of(embedder, images, normalisation, device)
    spread = before.var(dim=0, correction=0).sum().clamp_min(torch.finfo(before.dtype).tiny)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = _Compared(embedder.requires_grad_(True), settings.projection)
    learner = Learner(network.to(device), settings.engine)
    anchor = before.to(device), spread.to(device)
    losses = train_epochs(
        learner,
        settings,
        lambda epoch, shown: _epoch(learner, images, anchor, normalisation, settings, epoch, device, shown),
        what="adapting",
        steps=len(batches(np.arange(len(images)), settings.batch_size)),
        device=device,
        checkpoint=checkpoint,
        key=key,
        progress=progress,
    )
    network.load_state_dict(learner.judged.state_dict())
    embedder.eval().requires_grad_(False)
    return losses


def _epoch(
    learner: Learner,
    images: Image,
    anchor: tuple[Tensor, Tensor],
    normalisation: Normalisation,
    settings: AdaptSettings,
    epoch: int,
    device: torch.device,
    shown: ShownSteps,
) -> float:
    """One pass over the cells; the mean loss."""
    order = np.random.default_rng([settings.seed, epoch, _ORDER]).permutation(len(images)).astype(np.int64)
    colours = torch.Generator().manual_seed(torch_seed(settings.seed, epoch, _COLOURS))
    network, total, (before, spread) = learner.network.train(), 0.0, anchor
    for rows in batches(order, settings.batch_size):
        batch = torch.from_numpy(images[rows]).to(device)
        views = augment(torch.cat([batch, batch]), VIEWS, normalisation, colours)
        known = before[torch.from_numpy(rows).to(device)].repeat(2, 1)
        with autocast(settings.engine, device):
            seen, compared = network(views)
        first, second = compared.chunk(2)
        loss = nt_xent(first, second, settings.temperature)
        if settings.anchor:
            loss = loss + settings.anchor * anchor_distance(seen, known, spread)
        learner.step(loss)
        total += loss.item() * len(rows)
        shown.step(epoch, len(rows), loss.item())
    return total / len(images)

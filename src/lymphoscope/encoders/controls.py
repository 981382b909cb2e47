"""What an encoder must not have learned: the background, the stain, the laboratory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lymphoscope.cohort.bags import FloatArray
from lymphoscope.encoders.colours import ColourMap, Colours
from lymphoscope.encoders.labelled_cells import Image, LabelledCells
from lymphoscope.encoders.multitask import MultitaskNetwork, task_logits
from lymphoscope.training.augmentation import Augmentation, Normalisation, augment, prepare

STAINS = 10
_STAINS_OF = 256
"""Cells that are stained anew."""

STAIN = Augmentation(brightness=0.05, contrast=0.1, stain=0.2)

_ALIKE = 512
"""Cells that the encoder's own spread is taken from, evenly drawn: they may be sorted by their types."""


def background_control(
    network: MultitaskNetwork, cells: LabelledCells, normalisation: Normalisation, device: torch.device
) -> dict[str, Any]:
    """How often the first task is told of cells that are painted over with the colour around them.

    Cells that could not be found are left out. `majority` is the share of the most frequent answer.
    """
    shown = np.flatnonzero((cells.targets[:, 0] >= 0) & ~cells.masks.all(axis=(1, 2)))
    if len(shown) == 0:
        return {"cells": 0}
    painted = np.stack([_painted_over(cells.images[i], cells.masks[i]) for i in shown])
    truth = cells.targets[shown, 0]
    told = task_logits(network, painted, normalisation, device)[0].argmax(axis=1)
    recalls = [float((told[truth == each] == each).mean()) for each in np.unique(truth)]
    return {
        "cells": len(shown),
        "accuracy": float((told == truth).mean()),
        "majority": float(np.bincount(truth).max() / len(truth)),
        "mean_recall": float(np.mean(recalls)),
        "chance_recall": 1 / len(recalls),
    }


def stain_control(
    network: MultitaskNetwork,
    cells: LabelledCells,
    normalisation: Normalisation,
    device: torch.device,
    seed: int,
) -> dict[str, Any]:
    """How alike the embeddings of one cell in ten stains are, beside those of different cells.

    Cosines are of embeddings less the mean embedding: without it, any two of them look alike.
    """
    images = torch.from_numpy(cells.images[:: max(1, len(cells) // _STAINS_OF)][:_STAINS_OF]).to(device)
    chance = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        plain = _embedded(network, prepare(images, normalisation))
        stained = [_embedded(network, augment(images, STAIN, normalisation, chance)) for _ in range(STAINS)]
    centre = plain.mean(axis=0)
    own = np.concatenate([_cosines(plain - centre, each - centre) for each in stained])
    others = _cosines(plain - centre, np.roll(plain, 1, axis=0) - centre)
    return {
        "cells": len(images),
        "stains": STAINS,
        "cosine_median": float(np.median(own)),
        "cosine_5_percent": float(np.quantile(own, 0.05)),
        "cosine_of_different_cells": float(np.median(others)),
    }


def foreign_control(
    network: MultitaskNetwork,
    cells: LabelledCells,
    foreign: Image,
    learned: Colours,
    classes: tuple[str, ...],
    normalisation: Normalisation,
    device: torch.device,
) -> dict[str, Any]:
    """Whether cells of another laboratory lie as far apart as the encoder's own, or all in one corner.

    Both as they are and, under `matched`, with their colours brought to those that the encoder has learned
    from; `distance` is how far that moves pixels (`Colours.distance`).

    Parameters
    ----------
    foreign : uint8 (n, S, S, 3), whose types nobody has told.
    learned : of the cells that the encoder has learned from.
    classes : of the first task.
    """
    theirs, head = Colours.of(foreign), next(iter(network.heads.values()))
    spread = np.linspace(0, len(cells) - 1, min(len(cells), _ALIKE)).round().astype(np.int64)
    own, seen = (
        prepare(torch.from_numpy(each).to(device), normalisation) for each in (cells.images[spread], foreign)
    )
    matched = ColourMap(theirs.map_to(learned), normalisation).to(device)

    def found(photographs: torch.Tensor) -> dict[str, Any]:
        embeddings = _embedded(network, photographs)
        told = head(torch.from_numpy(embeddings).float().to(device)).argmax(dim=1)
        return {
            "spread_over_own": _spread(embeddings) / own_spread,
            "told": {name: int((told == i).sum()) for i, name in enumerate(classes)},
        }

    with torch.inference_mode():
        own_spread = _spread(_embedded(network, own))
        return {
            "cells": len(foreign),
            "distance": theirs.distance(learned),
            **found(seen),
            "matched": found(matched(seen)),
        }


def _painted_over(image: Image, mask: Image) -> Image:
    around = image[~mask]
    return np.where(mask[..., None], around.mean(axis=0).round().astype(np.uint8), image)


def _embedded(network: MultitaskNetwork, images: torch.Tensor) -> FloatArray:
    network.eval()
    found = [network.embedder(part) for part in torch.split(images, 64)]
    return np.asarray(torch.cat(found).double().cpu().numpy())


def _cosines(a: FloatArray, b: FloatArray) -> FloatArray:
    length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / np.maximum(length, 1e-12))


def _spread(embeddings: FloatArray) -> float:
    """Root mean squared distance from the centre."""
    return float(np.sqrt(((embeddings - embeddings.mean(axis=0)) ** 2).sum(axis=1).mean()))

"""A trained encoder as a folder: weights, heads, the list of the cells it has seen, and a card.

The card holds nothing of the time or the place of the training, so that the same seed gives the same bytes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata as packages
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from lymphoscope.cohort.progress import Progress
from lymphoscope.encoders.architectures import Architecture
from lymphoscope.encoders.cell_folders import read_cells
from lymphoscope.encoders.labelled_cells import MISSING, LabelledCells, LabelledSplits, Task
from lymphoscope.encoders.multitask import MultitaskNetwork, TaskScore, predict_classes, task_scores
from lymphoscope.encoders.supervised import AUGMENTATION, NORMALISATION, SupervisedSettings, train_supervised
from lymphoscope.errors import InputError
from lymphoscope.files import atomic_directory, sha256_file, sha256_json, write_bytes, write_json, write_text

CARD, HEADS, WEIGHTS, SOURCES = "card.json", "heads.safetensors", "model.safetensors", "sources.txt"

_CARD_VERSION = 1
_PACKAGES = ("lymphoscope", "torch", "transformers", "numpy", "safetensors")
"""Those that the weights depend on."""


@dataclass(frozen=True)
class TrainedEncoder:
    """What a training has brought.

    Attributes
    ----------
    folder : where it is.
    training, validation : numbers of cells.
    left_out : how many of the labelled cells were left out of both; None if no list was given.
    named : how many that list named.
    scores : on the validation cells, per task; the cell type comes first.
    notes : a sentence each on what was found among the cells and not used, or not as it is.
    """

    folder: Path
    training: int
    validation: int
    left_out: int | None
    named: int | None
    scores: tuple[TaskScore, ...]
    notes: tuple[str, ...]


def train_encoder(
    cells: Path,
    out: Path,
    architecture: Architecture,
    settings: SupervisedSettings,
    *,
    leave_out: Path | None = None,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> TrainedEncoder:
    """Train an encoder on the labelled cells of a folder and write it as the new folder `out`.

    No epoch is chosen and nothing is tuned on the validation cells: they tell how well it does, once. While
    it is trained, the state after the last epoch is kept beside `out`, and the same call goes on from there.

    Parameters
    ----------
    leave_out : table whose column `source` names cells that must be seen neither for learning nor measuring.
    device : the processor, unless told otherwise.

    Raises
    ------
    InputError : `out` exists; no such architecture; or as `read_cells`.
    """
    _require_new(out)
    device = device or torch.device("cpu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        embedder = architecture.build()  # before anything is read: it may lack a package
        splits = read_cells(cells, size=architecture.image_size, leave_out=leave_out, progress=progress)
        network = MultitaskNetwork(embedder, splits.tasks)
    checkpoint = out.with_name(f"{out.name}.unfinished.safetensors")
    losses = train_supervised(
        network,
        splits.training,
        splits.tasks,
        settings,
        device=device,
        checkpoint=checkpoint,
        key=_key(splits, architecture, settings, device),
        progress=progress,
    )
    told = predict_classes(network, splits.validation.images, NORMALISATION, device)
    scores = task_scores(told, splits.validation, splits.training.targets, splits.tasks)
    card = _card(splits, architecture, settings, network, losses, scores)
    _write(out, network.cpu(), splits.training, card)
    checkpoint.unlink(missing_ok=True)
    left_out = None if splits.left_out is None else len(splits.left_out)
    return TrainedEncoder(
        out,
        len(splits.training),
        len(splits.validation),
        left_out,
        splits.n_named,
        tuple(scores),
        splits.notes,
    )


def _require_new(out: Path) -> None:
    if os.path.lexists(out):
        raise InputError("an encoder is written to a new folder; this exists already", file=out)


def _key(
    splits: LabelledSplits, architecture: Architecture, settings: SupervisedSettings, device: torch.device
) -> str:
    """Changes with everything that the weights depend on."""
    parts = [splits.content, architecture.as_dict(), settings.as_dict(), asdict(AUGMENTATION)]
    return sha256_json([*parts, asdict(NORMALISATION), device.type, _versions()])


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = packages.version(name)
        except packages.PackageNotFoundError:  # not needed by every architecture
            continue
    return found


def _card(
    splits: LabelledSplits,
    architecture: Architecture,
    settings: SupervisedSettings,
    network: MultitaskNetwork,
    losses: Sequence[float],
    scores: Sequence[TaskScore],
) -> dict[str, Any]:
    """What is known of the encoder, but for the hashes of its files."""
    return {
        "card_version": _CARD_VERSION,
        "architecture": architecture.as_dict()
        | {
            "embedding": network.embedder.embedding,
            "width": network.embedder.width,
            "tensors_sha256": network.embedder.sha256(),
            "parameters": sum(each.numel() for each in network.embedder.parameters()),
        },
        "preprocessing": {"image_size": architecture.image_size, "normalisation": asdict(NORMALISATION)},
        "training": settings.as_dict() | {"augmentation": asdict(AUGMENTATION), "losses": list(losses)},
        "tasks": {task.name: list(task.classes) for task in splits.tasks},
        "cells": {
            "training": _counts(splits.training, splits.tasks),
            "validation": _counts(splits.validation, splits.tasks),
            "left_out": None if splits.left_out is None else list(splits.left_out),
            "notes": list(splits.notes),
            "sha256": splits.content,
        },
        "validation": {score.name: score.as_dict() for score in scores},
        "versions": _versions(),
        "limits": "It knows the kinds of cells named under `tasks` as the laboratory of its cells showed "
        "them, and nothing of patients. Research use only.",
    }


def _counts(cells: LabelledCells, tasks: Sequence[Task]) -> dict[str, Any]:
    """How many cells there are, and of how many each task is known."""
    known = (cells.targets != MISSING).sum(axis=0).tolist()
    return {"cells": len(cells), "known": {task.name: n for task, n in zip(tasks, known, strict=True)}}


def _write(out: Path, network: MultitaskNetwork, training: LabelledCells, card: dict[str, Any]) -> None:
    with atomic_directory(out) as folder:
        own = folder / "embedder"
        network.embedder.save(own)
        for path in own.iterdir():  # safetensors makes its files private, so they are written anew
            write_bytes(folder / path.name, path.read_bytes())
        shutil.rmtree(own)
        heads = {name: value.detach().contiguous() for name, value in network.heads.state_dict().items()}
        write_bytes(folder / HEADS, save(heads))
        write_text(folder / SOURCES, "".join(f"{source}\n" for source in sorted(training.sources)))
        files = sorted(path.name for path in folder.iterdir())
        write_json(folder / CARD, card | {"sha256": {name: sha256_file(folder / name) for name in files}})

"""A trained encoder as a folder: weights, heads, the cells it has seen and how they are known again, a card.

The card holds nothing of the time or the place of the training, so that the same seed gives the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata as packages
from pathlib import Path
from typing import Any

import torch

from lymphoscope.cohort.progress import Progress
from lymphoscope.encoders.architectures import Architecture
from lymphoscope.encoders.cell_folders import read_cells, read_photographs
from lymphoscope.encoders.colours import Colours
from lymphoscope.encoders.controls import background_control, foreign_control, stain_control
from lymphoscope.encoders.kept import CELLS, COLOURS, SOURCES, write_encoder
from lymphoscope.encoders.known_cells import known_cells
from lymphoscope.encoders.labelled_cells import MISSING, Image, LabelledCells, LabelledSplits, Task
from lymphoscope.encoders.multitask import MultitaskNetwork, TaskScore, task_logits, task_scores
from lymphoscope.encoders.supervised import (
    APPEARANCE,
    AUGMENTATION,
    NORMALISATION,
    SupervisedSettings,
    train_supervised,
)
from lymphoscope.encoders.temperature import TaskCalibration, calibrate
from lymphoscope.errors import InputError
from lymphoscope.files import sha256_json

_CARD_VERSION = 2
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
    foreign: Path | None = None,
    foreign_scale: float = 1.0,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> TrainedEncoder:
    """Train an encoder on the labelled cells of a folder and write it as the new folder `out`.

    No epoch is chosen and nothing is tuned on the validation cells: they tell how well it does, once. While
    it is trained, the state after the last epoch is kept beside `out`, and the same call goes on from there.

    Parameters
    ----------
    leave_out : table whose column `source` names cells that must be seen neither for learning nor measuring.
    foreign : folder of photographs of another laboratory's cells; they are only looked at.
    foreign_scale : by which these are enlarged to have the scale of the labelled ones.
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
    foreign_cells = (
        None if foreign is None else read_photographs(foreign, architecture.image_size, foreign_scale)
    )
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
    network.embedder.finish()
    measured = _measure(network, splits, device, foreign_cells, foreign_scale, settings.seed)
    card = _card(splits, architecture, settings, network, losses, measured)
    network.cpu()
    write_encoder(out, network.embedder, network.heads.state_dict(), card, _seen(splits.training))
    checkpoint.unlink(missing_ok=True)
    left_out = None if splits.left_out is None else len(splits.left_out)
    return TrainedEncoder(
        out,
        len(splits.training),
        len(splits.validation),
        left_out,
        splits.n_named,
        measured.scores,
        splits.notes,
    )


@dataclass(frozen=True)
class _Measured:
    """What was measured on the validation cells, by task and control; colours on the others."""

    scores: tuple[TaskScore, ...]
    calibrations: tuple[TaskCalibration, ...]
    controls: dict[str, Any]
    colours: Colours


def _measure(
    network: MultitaskNetwork,
    splits: LabelledSplits,
    device: torch.device,
    foreign: Image | None,
    foreign_scale: float,
    seed: int,
) -> _Measured:
    cells, tasks, colours = splits.validation, splits.tasks, Colours.of(splits.training.images)
    logits = task_logits(network, cells.images, NORMALISATION, device)
    controls = {
        "background": background_control(network, cells, NORMALISATION, device),
        "stain": stain_control(network, cells, NORMALISATION, device, seed),
    }
    if foreign is not None:
        controls["foreign"] = {"scale": foreign_scale} | foreign_control(
            network, cells, foreign, colours, tasks[0].classes, NORMALISATION, device
        )
    return _Measured(
        tuple(task_scores(logits, cells, splits.training.targets, tasks)),
        tuple(calibrate(each, target) for each, target in zip(logits, cells.targets.T, strict=True)),
        controls,
        colours,
    )


def _require_new(out: Path) -> None:
    if os.path.lexists(out):
        raise InputError("an encoder is written to a new folder; this exists already", file=out)


def _key(
    splits: LabelledSplits, architecture: Architecture, settings: SupervisedSettings, device: torch.device
) -> str:
    """Changes with everything that the weights depend on."""
    parts = [splits.content, architecture.as_dict(), settings.as_dict(), asdict(AUGMENTATION)]
    return sha256_json([*parts, asdict(APPEARANCE), asdict(NORMALISATION), device.type, versions()])


def versions() -> dict[str, str]:
    """Of the packages that weights depend on, those that are installed."""
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
    measured: _Measured,
) -> dict[str, Any]:
    """What is known of the encoder, but for the hashes of its files."""
    names, calibrations = [task.name for task in splits.tasks], measured.calibrations
    return {
        "card_version": _CARD_VERSION,
        "architecture": architecture.as_dict()
        | {
            "embedding": network.embedder.embedding,
            "width": network.embedder.width,
            "tensors_sha256": network.embedder.sha256(),
            "parameters": sum(each.numel() for each in network.embedder.parameters()),
        },
        "preprocessing": {
            "image_size": architecture.image_size,
            "normalisation": asdict(NORMALISATION),
            COLOURS: measured.colours.as_dict(),
        },
        "training": settings.as_dict()
        | {"augmentation": asdict(AUGMENTATION), "appearance": asdict(APPEARANCE), "losses": list(losses)},
        "tasks": {task.name: list(task.classes) for task in splits.tasks},
        "cells": {
            "training": _counts(splits.training, splits.tasks),
            "validation": _counts(splits.validation, splits.tasks),
            "left_out": None if splits.left_out is None else list(splits.left_out),
            "notes": list(splits.notes),
            "sha256": splits.content,
        },
        "temperatures": dict(zip(names, (each.temperature for each in calibrations), strict=True)),
        "validation": {score.name: score.as_dict() for score in measured.scores},
        "calibration": {name: each.as_dict() for name, each in zip(names, calibrations, strict=True)},
        "controls": measured.controls,
        "versions": versions(),
        "limits": "It knows the kinds of cells named under `tasks` as the laboratory of its cells showed "
        "them, and nothing of patients. Research use only.",
    }


def _counts(cells: LabelledCells, tasks: Sequence[Task]) -> dict[str, Any]:
    """How many cells there are, and of how many each task is known."""
    known = (cells.targets != MISSING).sum(axis=0).tolist()
    return {"cells": len(cells), "known": {task.name: n for task, n in zip(tasks, known, strict=True)}}


def _seen(training: LabelledCells) -> dict[str, bytes]:
    """The cells that were learned from by name, and in the same order how they are known again."""
    order = sorted(range(len(training)), key=training.sources.__getitem__)
    names = "".join(f"{training.sources[i]}\n" for i in order)
    return {SOURCES: names.encode(), CELLS: known_cells(training.images[order]).as_bytes()}

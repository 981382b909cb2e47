"""An encoder adapted to a cohort's cells, as a folder of its own with a card that says where it comes from.

Labels are never looked at. Yet an encoder that has seen the cells of patients who are scored makes their
scores transductive: the folder lists the photographs, so that whoever uses it is told.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

from lymphoscope.cohort.bags import IntArray
from lymphoscope.cohort.cell_store import CellStore
from lymphoscope.cohort.findings import counted
from lymphoscope.cohort.progress import Progress
from lymphoscope.encoders.architectures import Embedder
from lymphoscope.encoders.encoder import Encoder, read_encoder
from lymphoscope.encoders.kept import (
    ADAPTED_ON,
    CELLS,
    DIGITS,
    HEADS,
    SHIPPED,
    SOURCES,
    encoder_folder,
    read_adapted_on,
    read_embedder,
    write_encoder,
)
from lymphoscope.encoders.labelled_cells import Image
from lymphoscope.encoders.self_supervised import VIEWS, AdaptSettings, adapt_network, embeddings_of
from lymphoscope.encoders.trained import versions
from lymphoscope.errors import InputError
from lymphoscope.files import sha256_json

_LIMITS = (
    "Adapted to other cells since: what stands here under validation, calibration, temperatures and controls "
    "was measured before."
)


@dataclass(frozen=True)
class AdaptedEncoder:
    """What an adaptation has brought.

    Attributes
    ----------
    folder : where it is.
    cells, patients : that it was adapted on.
    moved : how far embeddings went, a share of the spread between cells (`anchor_distance`).
    same_answer : by task, the share of these cells of which the heads say what they said before.
    """

    folder: Path
    cells: int
    patients: int
    moved: float
    same_answer: dict[str, float]


def adapt_encoder(
    source: str | Path,
    store: CellStore,
    out: Path,
    settings: AdaptSettings,
    *,
    cells: IntArray | None = None,
    device: torch.device | None = None,
    jobs: int = 2,
    progress: Progress | None = None,
) -> AdaptedEncoder:
    """Train an encoder on with the photographs of a store and write it as the new folder `out`.

    Heads, temperatures, the list of the cells that it first learned from, and all that the card says of that
    training are kept. While it is trained, the state after the last epoch is kept beside `out`, and the same
    call goes on from there.

    Parameters
    ----------
    source : "pbc-small", or a folder that `train_encoder` or this function wrote.
    cells : which of the store's, ascending; all of them if not given.
    device : the processor, unless told otherwise.

    Raises
    ------
    InputError : `out` exists; no such encoder; fewer than two cells.
    """
    if os.path.lexists(out):
        raise InputError("an encoder is written to a new folder; this exists already", file=out)
    folder, device = folder_with_card(source), device or torch.device("cpu")
    chosen = np.arange(len(store)) if cells is None else cells
    if len(chosen) < 2:
        raise InputError(
            "an encoder cannot be adapted to so few cells",
            found=counted(len(chosen), "cell"),
            allowed="2 or more",
        )
    before = read_encoder(folder, name=folder.name)
    embedder, card = read_embedder(folder)
    crops = store.crops(before.image_size, jobs=jobs, progress=progress)
    images: Image = crops if cells is None else crops[chosen]
    checkpoint = out.with_name(f"{out.name}.unfinished.safetensors")
    digests = store.index.sha256[chosen]
    losses = adapt_network(
        embedder,
        images,
        before.normalisation,
        settings,
        device=device,
        checkpoint=checkpoint,
        key=_key(before, digests, settings, device),
        progress=progress,
    )
    embedder.cpu().finish()
    moved, same = _compared(before, embedder, images, device)
    patients = len(np.unique(store.index.patient[chosen]))
    step = {
        "from": before.as_dict(),
        "cohort": store.fingerprint,
        "cells": len(chosen),
        "patients": patients,
        "settings": settings.as_dict() | {"views": asdict(VIEWS), "losses": losses},
        "moved": moved,
        "same_answer": same,
        "versions": versions(),
    }
    write_adapted(out, folder, embedder.cpu(), _card(card, embedder, step), digests)
    checkpoint.unlink(missing_ok=True)
    return AdaptedEncoder(out, len(chosen), patients, moved, same)


def seen_in_adaptation(encoder: Encoder | None, digests: npt.NDArray[np.str_]) -> npt.NDArray[np.bool_]:
    """Which photographs, by their hexadecimal SHA-256, an encoder was adapted on, (n,)."""
    if encoder is None or not encoder.adapted_on:
        return np.zeros(len(digests), dtype=bool)
    return np.array([digest[:DIGITS] in encoder.adapted_on for digest in digests.tolist()], dtype=bool)


def folder_with_card(source: str | Path) -> Path:
    """The folder of an encoder that can be adapted; `InputError` for anything else."""
    folder = encoder_folder(source)
    if folder is None:
        raise InputError(
            "only an encoder with a card can be adapted",
            file=source,
            found="no card.json",
            allowed=f"{SHIPPED}, or a folder that `lymphoscope encoder train` wrote",
        )
    return folder


def _key(
    before: Encoder, digests: npt.NDArray[np.str_], settings: AdaptSettings, device: torch.device
) -> str:
    """Changes with everything that the weights depend on."""
    cells = sha256_json(digests.tolist())
    return sha256_json([before.sha256, cells, settings.as_dict(), asdict(VIEWS), device.type, versions()])


def _compared(
    before: Encoder, embedder: Embedder, images: Image, device: torch.device
) -> tuple[float, dict[str, float]]:
    """How far embeddings went, and by task the share of cells of which the heads say the same."""
    first, then = (
        embeddings_of(each, images, before.normalisation, device) for each in (before.network, embedder)
    )
    spread = first.var(dim=0, correction=0).sum()
    moved = (then - first).square().sum(dim=1).mean() / spread.clamp_min(torch.finfo(spread.dtype).tiny)
    same = {}
    for task, head in zip(before.tasks, before.heads.values() if before.heads else (), strict=True):
        told = [head(rows).argmax(dim=1) for rows in (first, then)]
        same[task.name] = float((told[0] == told[1]).double().mean())
    return float(moved), same


def _card(card: Mapping[str, Any], embedder: Embedder, step: dict[str, Any]) -> dict[str, Any]:
    """The card of the first training, what has been done since, and what is no longer true of it."""
    limits = str(card.get("limits", ""))
    return {
        **card,
        "architecture": card["architecture"] | {"tensors_sha256": embedder.sha256()},
        "adapted": [*card.get("adapted", ()), step],
        "limits": limits if _LIMITS in limits else f"{limits} {_LIMITS}".strip(),
    }


def write_adapted(
    out: Path, folder: Path, embedder: Embedder, card: Mapping[str, Any], digests: npt.NDArray[np.str_]
) -> None:
    """Write an encoder that has seen further photographs, by their SHA-256, since it was that in `folder`."""
    seen = read_adapted_on(folder) | {digest[:DIGITS] for digest in digests.tolist()}
    learned_from = [name for name in (SOURCES, CELLS) if (folder / name).is_file()]
    lists = {name: (folder / name).read_bytes() for name in learned_from}
    lists[ADAPTED_ON] = "".join(f"{digest}\n" for digest in sorted(seen)).encode()
    write_encoder(out, embedder, load_file(folder / HEADS), card, lists)

"""An encoder's folder: its card, which is checked against the other files, and the network in it.

Labelled cells are no business of this module, so that it imports where only a network is wanted.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from lymphoscope.encoders.architectures import Architecture, Embedder
from lymphoscope.encoders.colours import ColourMap
from lymphoscope.errors import InputError
from lymphoscope.files import atomic_directory, sha256_file, write_bytes, write_json
from lymphoscope.training.augmentation import Normalisation

CARD, HEADS, WEIGHTS, SOURCES = "card.json", "heads.safetensors", "model.safetensors", "sources.txt"

CELLS = "cells.safetensors"
"""How the cells of `SOURCES` are known again, in the same order."""

ADAPTED_ON = "adapted_on.txt"
"""File of an adapted encoder: the first `DIGITS` of the SHA-256 of each photograph that it was adapted to."""

DIGITS = 16

COLOURS = "colours"
"""Under `preprocessing` in a card: the `Colours` of the photographs that the encoder has learned from."""

COLOUR_MAP = "colour_map"
"""Under `preprocessing` in the card of a matched encoder: [T | t] of `Colours.map_to`."""

SHIPPED = "pbc-small"
"""The encoder that comes with this package."""

_SHIPPED_AT = Path(__file__).parent / "shipped"
_ARCHITECTURE = ("kind", "hidden", "layers", "image_size")


def encoder_folder(source: str | Path) -> Path | None:
    """The folder with a card that a name or a place means; None where that is something else."""
    if str(source) == SHIPPED:
        return _SHIPPED_AT / SHIPPED
    return Path(source) if (Path(source) / CARD).is_file() else None


def checked_card(folder: Path) -> dict[str, Any]:
    """The card of an encoder, once every file that it names has the hash that it says.

    Raises
    ------
    InputError : a file is missing, cannot be read, or has another hash.
    """
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        hashes = dict(card["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise not_an_encoder(folder / CARD, str(error)) from error
    for name, expected in hashes.items():
        path = folder / name
        found = sha256_file(path) if path.is_file() else "no such file"
        if found != expected:
            raise InputError(
                "this encoder is not what its card says, and is not used",
                file=path,
                found=f"SHA-256 {found[:16]}",
                allowed=f"{str(expected)[:16]}…",
                remedy="Get it anew from where it came from, or train it again.",
            )
    return dict(card)


def card_architecture(card: Mapping[str, Any]) -> Architecture:
    """Which network a card describes; `KeyError` or `TypeError` for one that describes none."""
    return Architecture(**{each: card["architecture"][each] for each in _ARCHITECTURE})


def card_normalisation(card: Mapping[str, Any]) -> Normalisation:
    """How photographs are normalised for it; errors as those of `card_architecture`."""
    said = card["preprocessing"]["normalisation"]
    return Normalisation(*(tuple(said[each]) for each in ("mean", "deviation")))


def read_embedder(folder: Path) -> tuple[Embedder, dict[str, Any]]:
    """The network in a folder, in evaluation mode, and its card; the heads are left where they are.

    Raises
    ------
    InputError : as `checked_card`, or the card and the weights do not describe one network.
    """
    card = checked_card(folder)
    try:
        with torch.random.fork_rng(devices=[]):  # building draws weights that loading then replaces
            embedder = card_architecture(card).build()
        embedder.load(folder)
        put_colours(embedder, card)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise not_an_encoder(folder / CARD, f"{type(error).__name__}: {error}") from error
    return embedder.eval(), card


def put_colours(embedder: Embedder, card: Mapping[str, Any]) -> None:
    """Give an embedder the map of colours that its card holds, if it holds one.

    Raises
    ------
    ValueError : there is one, and it is no map, or this kind of network takes none.
    """
    said = card["preprocessing"].get(COLOUR_MAP)
    if said is None:
        return
    change = np.array(said, dtype=np.float64)
    if change.shape != (3, 4) or not np.isfinite(change).all() or not hasattr(embedder, "colours"):
        raise ValueError(f"{COLOUR_MAP} is no map of colours for this network")
    embedder.colours = ColourMap(change, card_normalisation(card))


def read_adapted_on(folder: Path) -> frozenset[str]:
    """What `ADAPTED_ON` lists; nothing of an encoder that was not adapted."""
    path = folder / ADAPTED_ON
    return frozenset(path.read_text("utf-8").split()) if path.is_file() else frozenset()


def write_encoder(
    out: Path,
    embedder: Embedder,
    heads: Mapping[str, Tensor],
    card: Mapping[str, Any],
    lists: Mapping[str, bytes],
) -> None:
    """Write a finished network as the new folder `out`.

    Parameters
    ----------
    heads : tensors of the heads by name.
    card : but for the hashes of the other files, which are added to it.
    lists : content of further files by name, such as the cells that it has seen.
    """
    with atomic_directory(out) as folder:
        own = folder / "embedder"
        embedder.save(own)
        for path in own.iterdir():  # safetensors makes its files private, so they are written anew
            write_bytes(folder / path.name, path.read_bytes())
        shutil.rmtree(own)
        write_bytes(
            folder / HEADS, save({name: value.detach().contiguous() for name, value in heads.items()})
        )
        for name, content in lists.items():
            write_bytes(folder / name, content)
        files = sorted(path.name for path in folder.iterdir())
        write_json(folder / CARD, {**card, "sha256": {name: sha256_file(folder / name) for name in files}})


def not_an_encoder(path: Path, said: str) -> InputError:
    """The error for a folder that is something else."""
    return InputError(
        "this is no encoder that can be read",
        file=path,
        found=said.partition("\n")[0][:160],
        remedy="Give a folder that `lymphoscope encoder train` wrote.",
    )

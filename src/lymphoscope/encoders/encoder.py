"""An encoder ready for use: photographs of cells to embeddings, and to the concepts that it can name.

Where it comes from makes no difference afterwards: shipped with this package, trained by `lymphoscope encoder
train`, a DINOv2 or DinoBloom, or a module of your own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lymphoscope.cells.columns import CONCEPT_PREFIX, EMBEDDING_PREFIX
from lymphoscope.encoders.dinov2 import is_model_name, load_dinov2
from lymphoscope.encoders.kept import (
    CARD,
    CELLS,
    HEADS,
    SHIPPED,
    card_architecture,
    card_normalisation,
    encoder_folder,
    not_an_encoder,
    read_adapted_on,
    read_embedder,
)
from lymphoscope.encoders.known_cells import KnownCells, read_known
from lymphoscope.encoders.labelled_cells import TOLD, Image, Task
from lymphoscope.encoders.multitask import MultitaskNetwork
from lymphoscope.errors import InputError
from lymphoscope.files import sha256_json
from lymphoscope.training.augmentation import IMAGENET, Normalisation, prepare
from lymphoscope.training.weights import tensors_sha256

_AT_ONCE = 64
_DINO_IMAGE_SIZE = 224

Numbers = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Encoder:
    """Photographs to numbers; nothing in it changes when it looks.

    Attributes
    ----------
    name : for people.
    network : normalised photographs, float (n, 3, S, S), to embeddings, (n, width); it and `heads` are put
        into evaluation mode.
    width : length of an embedding.
    image_size : S, side in pixels of the centre of a photograph's 224-pixel frame.
    normalisation : of the photographs.
    heads : embeddings to the logits of each task; none where the encoder names no concepts.
    tasks : what it can tell, in the order of `heads`.
    temperatures : by which the logits of each task are divided before they are probabilities.
    card : what is known of it; empty where it came without.
    known : the cells that it has learned from; None where it does not say.
    adapted_on : photographs that it was adapted on without their labels; see `kept.ADAPTED_ON`.
    """

    name: str
    network: nn.Module
    width: int
    image_size: int
    normalisation: Normalisation = IMAGENET
    heads: nn.ModuleDict | None = None
    tasks: tuple[Task, ...] = ()
    temperatures: tuple[float, ...] = ()
    card: Mapping[str, Any] | None = None
    known: KnownCells | None = None
    adapted_on: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        # A module of somebody's own comes as it was made: in training mode, where it would learn by looking.
        self.network.eval()
        if self.heads is not None:
            self.heads.eval()

    @cached_property
    def sha256(self) -> str:
        """Of everything that an embedding or a concept depends on: weights and preprocessing.

        The code of a module is not covered: embeddings that were kept know nothing of a change in it.
        """
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        if self.heads is not None:
            tensors |= {f"heads.{name}": value for name, value in self.heads.state_dict().items()}
        said = [self.image_size, self.normalisation.mean, self.normalisation.deviation, self.temperatures]
        return sha256_json([tensors_sha256(tensors), said])

    def as_dict(self) -> dict[str, str]:
        """Its name and hash, for what is built on it."""
        return {"name": self.name, "sha256": self.sha256}

    @property
    def embedding_columns(self) -> tuple[str, ...]:
        """Names of the numbers of an embedding."""
        return tuple(f"{EMBEDDING_PREFIX}{i:03d}" for i in range(self.width))

    @property
    def concept_columns(self) -> tuple[str, ...]:
        """Names of the concepts: the task and each of its answers."""
        return tuple(f"{CONCEPT_PREFIX}{task.name}={told}" for task in self.tasks for told in task.classes)

    @torch.inference_mode()
    def embed(self, images: Image) -> Numbers:
        """Embeddings, float32 (n, width), of photographs, uint8 RGB (n, S, S, 3)."""
        found = [self._embed(images[start : start + _AT_ONCE]) for start in range(0, len(images), _AT_ONCE)]
        return np.concatenate(found) if found else np.empty((0, self.width), dtype=np.float32)

    def _embed(self, images: Image) -> Numbers:
        # Sums over a single photograph run in another order than those over several, which shows in the last
        # bit; and what is said of a cell must not depend on its company.
        shown = images if len(images) > 1 else np.repeat(images, 2, axis=0)
        found = self.network(prepare(torch.from_numpy(shown), self.normalisation))
        return np.asarray(found[: len(images)].float().numpy())

    @torch.inference_mode()
    def concepts(self, embeddings: Numbers) -> Numbers:
        """Probability of every answer to every task, float32 (n, n_concepts); of each task they sum to 1."""
        if self.heads is None:
            return np.empty((len(embeddings), 0), dtype=np.float32)
        rows = torch.from_numpy(np.asarray(embeddings, dtype=np.float32))
        told: list[Tensor] = [
            torch.softmax(head(rows) / temperature, dim=1)
            for head, temperature in zip(self.heads.values(), self.temperatures, strict=True)
        ]
        return np.asarray(torch.cat(told, dim=1).numpy())


def create_encoder(source: str | Path) -> Encoder:
    """The encoder of a name or a place.

    Parameters
    ----------
    source : "pbc-small", which is shipped; a folder that `lymphoscope encoder train` wrote; a folder or a
        file of DINOv2 or DinoBloom weights; or the name OWNER/MODEL of a DINOv2 in Hugging Face's cache.

    Raises
    ------
    InputError : there is no such encoder, or a file does not have the hash that its card says.
    """
    path = Path(source)
    if (folder := encoder_folder(source)) is not None:
        return read_encoder(folder, name=folder.name)
    if not path.exists() and not is_model_name(str(source)):
        raise _not_there(source, "`lymphoscope encoder train` makes one from labelled cells.")
    if path.is_dir() and not (path / "config.json").is_file():
        raise InputError(
            "this folder holds no encoder",
            file=path,
            found=f"neither {CARD} nor config.json",
            allowed=f"a folder that `lymphoscope encoder train` wrote, with {CARD}; or a DINOv2 as "
            "transformers saves it, with config.json",
        )
    try:
        transformer = load_dinov2(source)
    except InputError as error:
        if path.exists():
            raise
        raise _not_there(source, f"If it is meant as OWNER/MODEL: {error}") from error
    width = 2 * int(transformer.config.hidden_size)  # type: ignore[union-attr, arg-type]
    return Encoder(path.stem, _ClassAndPatches(transformer), width, _DINO_IMAGE_SIZE)


def _not_there(source: str | Path, remedy: str) -> InputError:
    return InputError(
        "there is no encoder of this name and nothing at this place",
        found=str(source),
        allowed=f"{SHIPPED}, a folder or file of weights, or OWNER/MODEL in Hugging Face's cache",
        remedy=remedy,
    )


def read_encoder(folder: Path, *, name: str) -> Encoder:
    """The encoder in a folder that `train_encoder` wrote.

    Raises
    ------
    InputError : a file is missing, cannot be read, or has another hash than the card says.
    """
    embedder, card = read_embedder(folder)
    try:
        told = card["tasks"]  # JSON has them in alphabetical order
        tasks = tuple(Task(task, tuple(told[task])) for task in sorted(told, key=TOLD.index))
        with torch.random.fork_rng(devices=[]):  # building draws weights that loading then replaces
            network = MultitaskNetwork(embedder, tasks)
        network.heads.load_state_dict(load_file(folder / HEADS))
        temperatures = tuple(float(card["temperatures"][task.name]) for task in tasks)
        image_size, normalisation = card_architecture(card).image_size, card_normalisation(card)
        known = read_known(folder / CELLS) if CELLS in card["sha256"] else None
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise not_an_encoder(folder / CARD, f"{type(error).__name__}: {error}") from error
    network.eval().requires_grad_(False)
    return Encoder(
        name,
        network.embedder,
        network.embedder.width,
        image_size,
        normalisation,
        network.heads,
        tasks,
        temperatures,
        card,
        known,
        read_adapted_on(folder),
    )


class _ClassAndPatches(nn.Module):
    """Class token and mean of the patches' tokens of a DINOv2, (n, 2 · hidden)."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer.eval().requires_grad_(False)
        registers = getattr(transformer.config, "num_register_tokens", 0)
        self._before_patches = 1 + int(registers)

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.transformer(images).last_hidden_state
        return torch.cat([tokens[:, 0], tokens[:, self._before_patches :].mean(dim=1)], dim=1)

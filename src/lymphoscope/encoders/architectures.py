"""Networks that an encoder can be: photographs in, embeddings out, and how each is written down."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lymphoscope.encoders.convolutional import (
    WEIGHTS,
    Body,
    ConvNextBody,
    ResidualBody,
    half_precision,
    write_half_precision,
)
from lymphoscope.encoders.dinov2 import load_dinov2, random_dinov2, save_dinov2
from lymphoscope.encoders.published import VitShape
from lymphoscope.training.bounds import check_choice
from lymphoscope.training.weights import tensors_sha256

DEFAULT_SIZES = {"residual": (192, 2), "convnext": (192, 3), "vit": (128, 4)}
"""Width and depth of each kind: about the same cost a photograph."""


@dataclass(frozen=True)
class Architecture:
    """Which network, and how large.

    Attributes
    ----------
    kind : one of `ARCHITECTURES`.
    hidden : width of the network.
    layers : its depth; of a network in stages, blocks in each.
    image_size : side of the photographs in pixels.
    """

    kind: str = "residual"
    hidden: int = 192
    layers: int = 2
    image_size: int = 112

    def build(self) -> Embedder:
        """The network with fresh weights, drawn from torch's global generator.

        Raises
        ------
        InputError : no such kind or size, or a package that it needs is missing.
        """
        check_choice("architecture", self.kind, ARCHITECTURES)
        return ARCHITECTURES[self.kind](self)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


class Embedder(nn.Module, ABC):
    """Normalised photographs, float (n, 3, S, S), to embeddings, (n, width).

    Attributes
    ----------
    width : length of an embedding.
    embedding : in words, what an embedding is.
    """

    width: int
    embedding: str

    def finish(self) -> None:
        """Bring a trained network into the form in which it is kept; it then says what a loaded one says."""

    @abstractmethod
    def sha256(self) -> str:
        """Of the tensors, as models that are built on them name it."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the weights, as model.safetensors, and what rebuilds the network as the new `folder`."""

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Take up what `save` wrote of a network of the same architecture.

        Raises
        ------
        InputError, RuntimeError : these are not its weights.
        """


class ConvolutionalEmbedder(Embedder):
    """A convolutional network, the last map averaged over the photograph; kept in 16 bits a number.

    Attributes
    ----------
    colours : what photographs pass first: a `ColourMap` where the encoder was matched to a laboratory, whose
        card holds it; otherwise it changes nothing.
    """

    embedding = "last map, averaged over the photograph"

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.colours: nn.Module = nn.Identity()
        self.body = body
        self.width = body.width

    def forward(self, images: Tensor) -> Tensor:
        # In 16 bits a mean over the map would lose what tells embeddings apart.
        return cast("Tensor", self.body(self.colours(images)).float().mean(dim=(2, 3)))

    def finish(self) -> None:
        """Fold the normalisations, and round the weights to what is kept of them."""
        self.body.fold()
        rounded = half_precision(self.body.state_dict())
        self.body.load_state_dict({name: value.float() for name, value in rounded.items()})

    def sha256(self) -> str:
        """Of the tensors as they are kept, and of the map of colours if there is one."""
        return tensors_sha256(
            half_precision(self.body.state_dict()) | self.colours.state_dict(prefix="colours.")
        )

    def save(self, folder: Path) -> None:
        """One file; the architecture rebuilds the rest."""
        folder.mkdir()
        write_half_precision(self.body, folder / WEIGHTS)

    def load(self, folder: Path) -> None:
        """Fold, then take up the weights."""
        self.body.fold()
        self.body.load_state_dict({n: value.float() for n, value in load_file(folder / WEIGHTS).items()})


class VitEmbedder(Embedder):
    """A DINOv2 with registers: the class token and, behind it, the mean of the patches' tokens.

    Both are trained, since a model on top may read either; a linear probe of DINOv2 may take either (Oquab et
    al. 2023, arXiv:2304.07193).
    """

    embedding = "class token and mean of the patches' tokens after the last normalisation"

    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.transformer = random_dinov2(shape)
        # Fused attention is made for long sequences: with fewer than a hundred tokens its backward pass is
        # what a step waits for, and on a processor a step takes half as long again.
        self.transformer.set_attn_implementation("eager")  # type: ignore[operator]
        self.width = 2 * shape.hidden
        self._before_patches = 1 + shape.registers

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.transformer(images).last_hidden_state  # (n, 1 + registers + patches, hidden)
        return torch.cat([tokens[:, 0], tokens[:, self._before_patches :].mean(dim=1)], dim=1)

    def sha256(self) -> str:
        """That of a transformer that is loaded from what `save` wrote."""
        return tensors_sha256(self.transformer.state_dict())

    def save(self, folder: Path) -> None:
        """As `load_dinov2` takes it."""
        save_dinov2(self.transformer, folder)

    def load(self, folder: Path) -> None:
        """What `save` wrote, through the reader of every transformer."""
        self.transformer.load_state_dict(load_dinov2(folder).state_dict())


def _vit(architecture: Architecture) -> Embedder:
    return VitEmbedder(
        VitShape(hidden=architecture.hidden, layers=architecture.layers, image_size=architecture.image_size)
    )


def _residual(architecture: Architecture) -> Embedder:
    return ConvolutionalEmbedder(ResidualBody(architecture.hidden, architecture.layers))


def _convnext(architecture: Architecture) -> Embedder:
    return ConvolutionalEmbedder(ConvNextBody(architecture.hidden, architecture.layers))


ARCHITECTURES: dict[str, Callable[[Architecture], Embedder]] = {
    "residual": _residual,
    "convnext": _convnext,
    "vit": _vit,
}
"""How each is built."""

"""Networks that an encoder can be: photographs in, embeddings out, and how each is written down."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lymphoscope.encoders.dinov2 import backbone_sha256, random_dinov2, save_dinov2
from lymphoscope.encoders.published import VitShape
from lymphoscope.training.bounds import check_choice


@dataclass(frozen=True)
class Architecture:
    """Which network, and how large.

    Attributes
    ----------
    kind : one of `ARCHITECTURES`.
    hidden : width of the network.
    layers : its depth.
    image_size : side of the photographs in pixels.
    """

    kind: str = "vit"
    hidden: int = 128
    layers: int = 4
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

    @abstractmethod
    def sha256(self) -> str:
        """Of the tensors, as models that are built on them name it."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the weights, as model.safetensors, and what rebuilds the network as the new `folder`."""


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
        return backbone_sha256(self.transformer)

    def save(self, folder: Path) -> None:
        """As `load_dinov2` takes it."""
        save_dinov2(self.transformer, folder)


def _vit(architecture: Architecture) -> Embedder:
    return VitEmbedder(
        VitShape(hidden=architecture.hidden, layers=architecture.layers, image_size=architecture.image_size)
    )


ARCHITECTURES: dict[str, Callable[[Architecture], Embedder]] = {"vit": _vit}
"""How each is built."""

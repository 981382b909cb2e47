"""A network whose patients are what a head of multiple-instance learning makes of their cells."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor, nn

from lymphoscope.models.heads.base import BagHead, create_head
from lymphoscope.models.networks.base import N_CLINICAL, CellNetwork, Criterion
from lymphoscope.training.packing import Packing

Fusion = Literal["none", "concatenation", "additive", "gate"]


class HeadedNetwork(CellNetwork):
    """What is seen in each cell, and a head.

    Parameters
    ----------
    encoder : a network on photographs, whose features are taken; or a module on the numbers of cells,
        (n_cells, n_columns) → (n_cells, d).
    bag_head : what makes a patient of them.
    """

    averages = False

    def __init__(self, encoder: nn.Module, bag_head: BagHead) -> None:
        super().__init__()
        self.encoder, self.bag_head = encoder, bag_head
        seen = isinstance(encoder, CellNetwork) and encoder.features_take_clinical
        self.takes_clinical = bag_head.takes_clinical or seen
        if isinstance(encoder, CellNetwork):
            self.frozen_features, self.looks_first = encoder.frozen_features, encoder.looks_first
            self.built_from_weights, self.weights_sha256 = encoder.built_from_weights, encoder.weights_sha256

    def features(self, images: Tensor, clinical: Tensor) -> Tensor:
        """What the encoder sees, (n_cells, d)."""
        if isinstance(self.encoder, CellNetwork):
            return self.encoder.features(images, clinical)
        seen: Tensor = self.encoder(images)
        return seen

    def head(self, features: Tensor, clinical: Tensor) -> Tensor:
        """Each row as a patient of one cell, (n, 2)."""
        return self.bags(
            features, Packing(torch.ones(len(features), dtype=torch.int64, device=features.device)), clinical
        )

    def bags(self, features: Tensor, packing: Packing, clinical: Tensor) -> Tensor:
        """The head's logits, (n_patients, 2)."""
        return self.bag_head(features, packing, clinical)

    def bag_loss(
        self, features: Tensor, packing: Packing, clinical: Tensor, labels: Tensor, criterion: Criterion
    ) -> tuple[Tensor, Tensor]:
        """The head's logits and loss."""
        return self.bag_head.loss(features, packing, clinical, labels, criterion)

    def shares(self, features: Tensor, packing: Packing, clinical: Tensor) -> dict[str, Tensor]:
        """The head's."""
        return self.bag_head.shares(features, packing, clinical)

    def first_look(self, images: Tensor) -> None:
        """The encoder's."""
        if isinstance(self.encoder, CellNetwork):
            self.encoder.first_look(images)

    def rates(self) -> dict[str, float]:
        """The encoder's."""
        if not isinstance(self.encoder, CellNetwork):
            return {}
        return {f"encoder.{name}": share for name, share in self.encoder.rates().items()}

    def tuned(self, head: nn.Module | None = None) -> str:
        """The encoder's, with this head."""
        return self.encoder.tuned(head or self.bag_head) if isinstance(self.encoder, CellNetwork) else ""

    def pretrained_parts(self) -> dict[str, nn.Module] | None:
        """The encoder's."""
        return self.encoder.pretrained_parts() if isinstance(self.encoder, CellNetwork) else None


def headed(encoder: CellNetwork, image_size: int, name: str, width: float, fusion: str) -> HeadedNetwork:
    """`encoder` under the head called `name`; its own head is left unused."""
    images = torch.empty(1, 3, image_size, image_size, device="meta")
    seen = copy.deepcopy(encoder).to("meta").eval().features(images, images.new_empty(1, N_CLINICAL))
    return HeadedNetwork(encoder, create_head(name, seen.shape[1], width=width, fusion=fusion))

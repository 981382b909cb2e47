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
    n_features : d, where every place of the encoder's last map is a row for the head; None where cells are.
    """

    averages = False

    def __init__(self, encoder: nn.Module, bag_head: BagHead, n_features: int | None = None) -> None:
        super().__init__()
        self.encoder, self.bag_head, self._n_features = encoder, bag_head, n_features
        self.by_place = n_features is not None
        seen = isinstance(encoder, CellNetwork) and encoder.features_take_clinical
        self.takes_clinical = bag_head.takes_clinical or seen
        if isinstance(encoder, CellNetwork):
            self.features_take_clinical = seen
            self.frozen_features, self.looks_first = encoder.frozen_features, encoder.looks_first
            self.remembered = encoder.remembered
            self.built_from_weights, self.weights_sha256 = encoder.built_from_weights, encoder.weights_sha256

    def features(self, images: Tensor, clinical: Tensor) -> Tensor:
        """What the encoder sees, (n_cells, places · d)."""
        if isinstance(self.encoder, CellNetwork):
            if not self.by_place:
                return self.encoder.features(images, clinical)
            return self.encoder.maps(images, clinical).flatten(2).transpose(1, 2).flatten(1)
        seen: Tensor = self.encoder(images)
        return seen

    def head(self, features: Tensor, clinical: Tensor) -> Tensor:
        """Each row as a patient of one cell, (n, 2)."""
        return self.bags(
            features, Packing(torch.ones(len(features), dtype=torch.int64, device=features.device)), clinical
        )

    def bags(self, features: Tensor, packing: Packing, clinical: Tensor) -> Tensor:
        """The head's logits, (n_patients, 2)."""
        return self.bag_head(*self._rows(features, packing), clinical)

    def bag_loss(
        self, features: Tensor, packing: Packing, clinical: Tensor, labels: Tensor, criterion: Criterion
    ) -> tuple[Tensor, Tensor]:
        """The head's logits and loss."""
        return self.bag_head.loss(*self._rows(features, packing), clinical, labels, criterion)

    def shares(self, features: Tensor, packing: Packing, clinical: Tensor) -> dict[str, Tensor]:
        """The head's."""
        return self.bag_head.shares(*self._rows(features, packing), clinical)

    def _rows(self, features: Tensor, packing: Packing) -> tuple[Tensor, Packing]:
        """What the head takes for rows, and which belong to which patient."""
        if self._n_features is None:
            return features, packing
        places = features.shape[1] // self._n_features
        return features.reshape(-1, self._n_features), Packing(packing.counts * places)

    def before_training(self, clinical: Tensor, labels: Tensor, criterion: Criterion) -> None:
        """What brings in the clinical values looks at them."""
        self.bag_head.fusion.before_training(clinical, labels, criterion)

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
    maps = copy.deepcopy(encoder).to("meta").eval().maps(images, images.new_empty(1, N_CLINICAL))
    bag_head = create_head(name, maps.shape[1], width=width, fusion=fusion)
    return HeadedNetwork(encoder, bag_head, maps.shape[1] if bag_head.by_place else None)

"""Mixtures of an expert on photographs and an expert on clinical values, and a gate that sees both."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from lymphoscope.errors import InputError
from lymphoscope.models.networks.base import N_CLINICAL, CellNetwork, Criterion, network
from lymphoscope.models.networks.blocks import decided_by, scaled, train_alone
from lymphoscope.models.networks.resnet import ResNet
from lymphoscope.models.networks.unet import unet_encoder_backbone
from lymphoscope.training.packing import Packing, segment_mean

Encoder = Literal["u-net", "residual"]
Gate = Literal["learned", "cells", "clinical"]

GATES: tuple[Gate, ...] = ("learned", "cells", "clinical")


class MixtureOfExperts(CellNetwork):
    """z = g · z_cells + (1 − g) · z_clinical: logits of two experts, mixed (after Jacobs et al. 1991).

    Logits and not probabilities are mixed: these end at 0 and 1, so that an expert with a small share could
    not decide however sure it is.

    Photographs are encoded, and averaged over the cells of a patient. Of the average one expert gives
    logits, of the clinical values another one, and the gate 0 < g < 1 is learned from both.

    Parameters
    ----------
    encoder : (n, 3, S, S) → (n, n_features, s, s).
    gate, gate_width, expert_loss, pretraining : see `mixture_of_experts`.
    """

    takes_clinical = True
    own_patients = True

    def __init__(
        self,
        encoder: nn.Module,
        n_features: int,
        width: float,
        *,
        gate: Gate,
        gate_width: int,
        expert_loss: float,
        pretraining: int,
    ) -> None:
        super().__init__()
        numbers = (gate_width >= 1, 0 <= expert_loss < float("inf"), pretraining >= 0)
        if gate not in GATES or not all(numbers):
            raise InputError(
                "a mixture of experts cannot be built so",
                found=f"gate {gate}, gate_width {gate_width}, expert_loss {expert_loss}, "
                f"pretraining {pretraining}",
                allowed=f"gate: {', '.join(GATES)}; gate_width: 1 or more; "
                "expert_loss and pretraining: 0 or more",
            )
        self.takes_clinical = gate != "cells"
        self.encoder = encoder
        self._fixed, self._expert_loss, self._pretraining = gate, expert_loss, pretraining
        hidden = scaled(64, width)
        self.cells = nn.Sequential(nn.Linear(n_features, hidden), nn.ReLU(), nn.Linear(hidden, 2))
        hidden = scaled(16, width)
        self.clinical = nn.Sequential(nn.Linear(N_CLINICAL, hidden), nn.Tanh(), nn.Linear(hidden, 2))
        self.gate = nn.Sequential(
            nn.Linear(n_features + N_CLINICAL, gate_width), nn.Tanh(), nn.Linear(gate_width, 1)
        )
        for parameter in self.gate[-1].parameters():  # both experts count the same until it is known better
            nn.init.normal_(parameter, std=0.01)

    def features(self, images: Tensor, clinical: Tensor) -> Tensor:
        """Global average of the encoder's last map, (n, n_features)."""
        return self.encoder(images).mean(dim=(2, 3))

    def head(self, features: Tensor, clinical: Tensor) -> Tensor:
        """Logits of the mixture, (n, 2)."""
        return self.experts(features, clinical)[0]

    def bag_loss(
        self, features: Tensor, packing: Packing, clinical: Tensor, labels: Tensor, criterion: Criterion
    ) -> tuple[Tensor, Tensor]:
        """The mixture's loss, and `expert_loss` times the mean of the experts' own."""
        mixed, *experts = self.experts(segment_mean(features, packing), clinical)
        loss = criterion(mixed, labels)
        if self._expert_loss:
            loss = loss + self._expert_loss * sum(criterion(each, labels) for each in experts) / len(experts)
        return mixed, loss

    def before_training(self, clinical: Tensor, labels: Tensor, criterion: Criterion) -> None:
        """Train the clinical expert alone."""
        expert = self.clinical.train()
        train_alone(expert, lambda: criterion(expert(clinical), labels), self._pretraining)

    def shares(self, features: Tensor, packing: Packing, clinical: Tensor) -> dict[str, Tensor]:
        """How much of the decision came from the cells and how much from the table, (n_patients,)."""
        pooled = segment_mean(features, packing)
        _, cells, table = self.experts(pooled, clinical)
        gate = self._gate(pooled, clinical)[:, 0]
        return decided_by(gate, *(each[:, 1] - each[:, 0] for each in (cells, table)))

    def experts(self, features: Tensor, clinical: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the mixture, of the cells and of the clinical values, (n, 2) each."""
        cells, table = self.cells(features), self.clinical(clinical)
        gate = self._gate(features, clinical)
        return gate * cells + (1 - gate) * table, cells, table

    def _gate(self, features: Tensor, clinical: Tensor) -> Tensor:
        """The share of the cells, (n, 1)."""
        if self._fixed == "learned":
            return torch.sigmoid(self.gate(torch.cat([features, clinical], dim=1)))
        return torch.full_like(clinical[:, :1], float(self._fixed == "cells"))


@network("mixture-of-experts")
def mixture_of_experts(
    width: float,
    _image_size: int,
    *,
    encoder: Encoder = "u-net",
    gate: Gate = "learned",
    gate_width: int = 16,
    expert_loss: float = 0.0,
    pretraining: int = 0,
) -> CellNetwork:
    """The mixtures of Collin & Le Chenadec, and in outline of Sahasrabudhe et al. 2021.

    Neither gives sizes of experts and gate: 64 hidden units on the photographs, 16 on the clinical values.

    Parameters
    ----------
    encoder : "u-net", Collin & Le Chenadec's contracting half of a U-Net, 8 to 256 channels; or "residual",
        a narrow residual network of four basic blocks, 16 to 128 channels.
    gate : "learned", or given for good to the "cells" or to the "clinical" values.
    gate_width : hidden units of the gate.
    expert_loss : weight of the mean of both experts' own losses beside the mixture's. With 0 an expert
        learns only as far as the gate lets it.
    pretraining : steps that the clinical expert takes alone before the first epoch; without them the expert
        that has three numbers to learn from is slower than the gate to turn away from it.
    """
    if encoder == "u-net":
        backbone, n_features = unet_encoder_backbone(width)
    else:
        narrow = ResNet((1, 1, 1, 1), width / 4)
        backbone, n_features = narrow, narrow.n_features
    return MixtureOfExperts(
        backbone,
        n_features,
        width,
        gate=gate,
        gate_width=gate_width,
        expert_loss=expert_loss,
        pretraining=pretraining,
    )

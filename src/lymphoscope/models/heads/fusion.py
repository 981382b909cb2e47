"""How age, lymphocyte count and sex join what a head sees in the cells, the same for every head."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lymphoscope.models.networks.base import N_CLINICAL, Criterion
from lymphoscope.models.networks.blocks import ClinicalTerm, decided_by, scaled, train_alone, two_logits
from lymphoscope.training.packing import Packing

_EXPERT_STEPS = 300
"""In which a gate's clinical expert is trained alone."""


class Fusion(nn.Module):
    """Nothing joins: the cells alone decide.

    Attributes
    ----------
    n_more : numbers that are added to the features of each row.
    """

    n_more: int = 0

    def before_training(self, clinical: Tensor, labels: Tensor, criterion: Criterion) -> None:
        """Told of the patients to be trained on, (B, 3) and (B,), before their cells are seen."""

    def rows(self, features: Tensor, packing: Packing, clinical: Tensor) -> Tensor:
        """What the head is shown, (N, d) → (N, d + n_more)."""
        return features

    def forward(self, logit: Tensor, clinical: Tensor) -> Tensor:
        """The logit of malignant from that of the head, (B, 1) and (B, 3) → (B, 1)."""
        return logit

    def shares(self, logit: Tensor, clinical: Tensor) -> dict[str, Tensor]:
        """How much of the decision came from where, (B,) by name; {} if not known."""
        return {}


class Concatenation(Fusion):
    """The clinical values stand beside the features of every row of their bag: x_i ← (x_i, c).

    Not beside a summary of the bag, because some heads have none: they judge rows and combine the verdicts.
    """

    n_more = N_CLINICAL

    def rows(self, features: Tensor, packing: Packing, clinical: Tensor) -> Tensor:
        """(N, d) and (B, 3) → (N, d + 3)."""
        return torch.cat([features, clinical[packing.owner].to(features.dtype)], dim=1)


class Additive(Fusion):
    """z + wᵀc + b, with w (3,): as in a logistic regression that has the head's verdict as its offset."""

    def __init__(self) -> None:
        super().__init__()
        self.term = ClinicalTerm()

    def before_training(self, clinical: Tensor, labels: Tensor, criterion: Criterion) -> None:
        """Begin with the w and b that are best without the cells."""
        self.term.fit(clinical, labels, criterion)

    def forward(self, logit: Tensor, clinical: Tensor) -> Tensor:
        """(B, 1) and (B, 3) → (B, 1)."""
        return logit + self.term(clinical)


class Gate(Fusion):
    """g · z + (1 − g) · z_c: two experts, and a gate that is fed by both (Jacobs et al. 1991, equation 1).

    z (B, 1) is the head's logit, z_c (B, 1) that of a small network on the clinical values c (B, 3), and
    g = σ(network(tanh(z / 2), tanh(z_c / 2), c)) is how much the cells count, (B, 1). The gate is shown what
    either expert believes, tanh(z / 2) = 2 σ(z) − 1, and not features, because some heads have no summary of
    a bag.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        hidden = scaled(16, width)
        self.clinical = nn.Sequential(nn.Linear(N_CLINICAL, hidden), nn.Tanh(), nn.Linear(hidden, 1))
        self.gate = nn.Sequential(nn.Linear(2 + N_CLINICAL, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def before_training(self, clinical: Tensor, labels: Tensor, criterion: Criterion) -> None:
        """Train the clinical expert alone."""
        expert = self.clinical.train()
        train_alone(expert, lambda: criterion(two_logits(expert(clinical)), labels), _EXPERT_STEPS)

    def forward(self, logit: Tensor, clinical: Tensor) -> Tensor:
        """(B, 1) and (B, 3) → (B, 1)."""
        of_clinical = self.clinical(clinical)
        share = self._share(logit, of_clinical, clinical)
        return share * logit + (1 - share) * of_clinical

    def shares(self, logit: Tensor, clinical: Tensor) -> dict[str, Tensor]:
        """Of g · z and (1 − g) · z_c; see `decided_by`."""
        of_clinical = self.clinical(clinical)
        share = self._share(logit, of_clinical, clinical)
        return decided_by(*(each.squeeze(1) for each in (share, logit, of_clinical)))

    def _share(self, logit: Tensor, of_clinical: Tensor, clinical: Tensor) -> Tensor:
        beliefs = torch.tanh(torch.cat([logit, of_clinical], dim=1) / 2)
        return torch.sigmoid(self.gate(torch.cat([beliefs, clinical], dim=1)))


FUSIONS: dict[str, Callable[[float], Fusion]] = {
    "none": lambda _width: Fusion(),
    "concatenation": lambda _width: Concatenation(),
    "additive": lambda _width: Additive(),
    "gate": Gate,
}
"""Ways to bring in the clinical values, by name: width → fusion."""

"""Parts that several networks share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lymphoscope.models.networks.base import N_CLINICAL, CellNetwork, Criterion

_AT_ONCE, _SMALLEST = 128, 1e-6
_ENDLESS = 1e30
"""A deviation, and finite, so that its average over steps is a number."""

_ITERATIONS = 100
"""At most, of the fit of the clinical values alone."""


def scaled(channels: int, width: float) -> int:
    """`channels` times `width`, rounded, at least 1."""
    return max(1, round(channels * width))


def convolution_block(inputs: int, outputs: int) -> list[nn.Module]:
    """3 × 3 convolution that keeps the size, batch normalisation (which has the bias), ReLU."""
    return [
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


def pooled_block(inputs: int, outputs: int) -> list[nn.Module]:
    """`convolution_block` with max-pooling by 2 before its ReLU: the same maps for a quarter of the work."""
    convolution, normalisation, activation = convolution_block(inputs, outputs)
    return [convolution, normalisation, nn.MaxPool2d(2), activation]


def initialise_convolutions(module: nn.Module) -> None:
    """Weights of all convolutions with the variance 2 / fan-in of He et al. 2015 (equation 10), bias 0.

    Not with 2 / fan-out, as is usual for these backbones: without batch normalisation (VGG can be had so) the
    signal would shrink by √(3 / 512) on its way through the layers, and small batches are then learned less
    reliably.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def two_logits(logit: Tensor) -> Tensor:
    """The logits (0, z) that say the same as one logit z of malignant, (n, 1) → (n, 2)."""
    return torch.cat([torch.zeros_like(logit), logit], dim=1)


class ClinicalHead(nn.Module):
    """Dense layers 120, 84 and 2 on features with the clinical values beside them (Collin & Le Chenadec)."""

    def __init__(self, n_features: int, width: float) -> None:
        super().__init__()
        first, second = scaled(120, width), scaled(84, width)
        self.layers = nn.Sequential(
            nn.Linear(n_features + N_CLINICAL, first),
            nn.ReLU(),
            nn.Linear(first, second),
            nn.ReLU(),
            nn.Linear(second, 2),
        )

    def forward(self, features: Tensor, clinical: Tensor) -> Tensor:
        """(n, n_features) and (n, 3) → (n, 2)."""
        return self.layers(torch.cat([features, clinical], dim=1))


class ClinicalTerm(nn.Linear):
    """wᵀc + b, (n, 3) → (n, 1); 0 until it is fitted."""

    def __init__(self) -> None:
        super().__init__(N_CLINICAL, 1)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def fit(self, clinical: Tensor, labels: Tensor, criterion: Criterion) -> None:
        """Set w and b to those of a logistic regression on the clinical values alone.

        Training would not find them: in some hundred steps at the rates that deep networks bear, Adam moves
        a weight by some hundredths, and values that tell patients apart better than cells do would hardly
        count. The penalty on the summed loss is ‖w · deviation of c‖² / 2, as of scikit-learn's on values of
        deviation 1.

        Parameters
        ----------
        clinical : float32 (n_patients, 3), scaled; 0 stands for missing.
        labels : int64 (n_patients,), 1 for malignant.
        """
        spread = clinical.std(0, correction=0)
        optimiser = torch.optim.LBFGS(self.parameters(), max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

        def penalised() -> Tensor:
            optimiser.zero_grad()
            loss = criterion(two_logits(self(clinical)), labels)
            loss = loss + (self.weight * spread).square().sum() / (2 * len(labels))
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimiser.step(penalised)  # type: ignore[no-untyped-call]


def train_alone(expert: nn.Module, loss: Callable[[], Tensor], steps: int) -> None:
    """Lower the loss of an expert on clinical values before the photographs are seen (AdamW, full batch)."""
    optimiser = torch.optim.AdamW(expert.parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(steps):
        optimiser.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        optimiser.step()


class ScaledFeatures(CellNetwork):
    """A network of weights that have learned; its features begin the training with mean 0 and deviation 1.

    Before a linear head on such features others put a batch normalisation that has no scale and bias of its
    own (He et al. 2022, arXiv:2111.06377, appendix A.1). Here mean and deviation are taken once, over some
    cells of the training patients, so that no row depends on others.

    Attributes
    ----------
    mean, deviation : of every feature, (d,); 0 and 1 until `first_look`. The deviation is endless
        where nothing differed, so that nothing that a head never learned of counts later.
    """

    built_from_weights = True
    looks_first = True
    mean: Tensor
    deviation: Tensor

    def begin_scale(self, n_features: int) -> None:
        """Make room for the scale of so many features, d."""
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("deviation", torch.ones(n_features))

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """Features as the weights give them, (n, d), of images (n, 3, S, S), normalised."""

    def features(self, images: Tensor, clinical: Tensor) -> Tensor:
        """Those on the scale that they had at the beginning, (n, d)."""
        return (self.embed(images) - self.mean) / self.deviation

    @torch.no_grad()
    def first_look(self, images: Tensor) -> None:
        """Take the scale; it stays, whatever is trained, so that a head has firm ground."""
        training = self.training
        self.eval()
        seen = torch.cat([self.embed(part) for part in torch.split(images, _AT_ONCE)])
        self.train(training)
        spread = seen.std(dim=0, correction=0)
        self.mean.copy_(seen.mean(dim=0))
        self.deviation.copy_(torch.where(spread > _SMALLEST, spread, _ENDLESS))


def decided_by(gate: Tensor, cells: Tensor, clinical: Tensor) -> dict[str, Tensor]:
    """How much of g · z_cells + (1 − g) · z_clinical came from where, (n,) by name, adding up to 1.

    Shares of the sizes of both summands, and not g alone: an expert that says nothing has decided nothing,
    however much the gate lets through. Where neither says anything, g.

    Parameters
    ----------
    gate : g, (n,).
    cells, clinical : log-odds of malignancy that the experts give, (n,).
    """
    sizes = gate * cells.abs(), (1 - gate) * clinical.abs()
    together = sizes[0] + sizes[1]
    smallest = torch.finfo(together.dtype).tiny
    share = torch.where(together > smallest, sizes[0] / together.clamp_min(smallest), gate)
    return {"cells": share, "clinical": 1 - share}


class BackboneNetwork(CellNetwork):
    """A backbone in the place of Collin & Le Chenadec's convolutions: global average, their dense layers.

    Parameters
    ----------
    backbone : (n, 3, S, S) → (n, n_features, s, s).
    n_features : channels of the backbone's last map.
    width : of the dense layers.
    prefix : what stands before the backbone's keys in torchvision's public checkpoint of it; None where there
        is no such checkpoint.
    """

    takes_clinical = True

    def __init__(
        self, backbone: nn.Module, n_features: int, width: float, *, prefix: str | None = None
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.dense = ClinicalHead(n_features, width)
        self._prefix = prefix

    def features(self, images: Tensor, clinical: Tensor) -> Tensor:
        """Global average of the backbone's last map, (n, n_features)."""
        return self.maps(images, clinical).mean(dim=(2, 3))

    def maps(self, images: Tensor, clinical: Tensor) -> Tensor:
        """The backbone's last map, (n, n_features, s, s)."""
        found: Tensor = self.backbone(images)
        return found

    def head(self, features: Tensor, clinical: Tensor) -> Tensor:
        """Dense layers on features and clinical values, (n, 2)."""
        return self.dense(features, clinical)

    def pretrained_parts(self) -> dict[str, nn.Module] | None:
        """The backbone, where torchvision publishes one like it."""
        return None if self._prefix is None else {self._prefix: self.backbone}


class Unbuilt(CellNetwork):
    """Stands in for a network that is built from weights, on torch's meta device alone.

    Only what the options say is asked for there.
    """

    built_from_weights = True

    def __init__(self, takes_clinical: bool, frozen_features: bool = False) -> None:
        super().__init__()
        self.takes_clinical, self.frozen_features = takes_clinical, frozen_features
        self.layers = nn.Linear(3 + N_CLINICAL * takes_clinical, 2)

    def features(self, images: Tensor, clinical: Tensor) -> Tensor:
        """(n, 3) of nothing."""
        return images.mean(dim=(2, 3))

    def head(self, features: Tensor, clinical: Tensor) -> Tensor:
        """(n, 2) of nothing."""
        return self.layers(torch.cat([features, clinical], dim=1) if self.takes_clinical else features)

"""The networks of Wang 2024: inverted residuals (MobileNetV2, Sandler et al. 2018, section 3.3 and table 1).

Smaller than the original: expansion 4 in place of 6, five stages in place of seven, a last layer of 216.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lymphoscope.models.networks.base import N_CLINICAL, CellNetwork, network
from lymphoscope.models.networks.blocks import initialise_convolutions, scaled, two_logits

_STEM, _LAST = 32, 216
_STAGES = ((1, 16, 1, 1), (4, 24, 2, 2), (4, 32, 2, 2), (4, 64, 2, 2), (4, 96, 2, 2))
"""Expansion, channels, blocks, stride of the first block."""


class InvertedResidual(nn.Module):
    """1 × 1 to `expansion` times the channels, 3 × 3 of each channel for itself, 1 × 1 back, no activation.

    The input is added where it has the shape of the output.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        widen = _convolution(inputs, hidden, 1) if expansion > 1 else []
        self.layers = nn.Sequential(
            *widen,
            *_convolution(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, s, s) → (n, outputs, ⌈s / stride⌉, ⌈s / stride⌉)."""
        return x + self.layers(x) if self.residual else self.layers(x)


class MobileNet(CellNetwork):
    """Inverted residuals, global average, one linear layer with a single logit.

    Parameters
    ----------
    width : multiplies the channels.
    clinical_planes : the three clinical values are three more input planes, each of one value. They enter in
        `features` and not again in `head`.
    """

    def __init__(self, width: float, *, clinical_planes: bool) -> None:
        super().__init__()
        self.takes_clinical = self.features_take_clinical = clinical_planes
        channels, last = scaled(_STEM, width), scaled(_LAST, width)
        layers = _convolution(3 + N_CLINICAL * clinical_planes, channels, 3, stride=2)
        for expansion, outputs, blocks, stride in _STAGES:
            for block in range(blocks):
                layers.append(
                    InvertedResidual(channels, scaled(outputs, width), 1 if block else stride, expansion)
                )
                channels = scaled(outputs, width)
        self.convolutions = nn.Sequential(*layers, *_convolution(channels, last, 1))
        initialise_convolutions(self.convolutions)
        self.dense = nn.Linear(last, 1)

    def features(self, images: Tensor, clinical: Tensor) -> Tensor:
        """Global average of the last map, (n, n_features)."""
        return self.maps(images, clinical).mean(dim=(2, 3))

    def maps(self, images: Tensor, clinical: Tensor) -> Tensor:
        """The last map, (n, n_features, s, s)."""
        if self.takes_clinical:
            planes = clinical[:, :, None, None].expand(-1, -1, *images.shape[2:])
            images = torch.cat([images, planes.to(images)], dim=1)
        found: Tensor = self.convolutions(images)
        return found

    def head(self, features: Tensor, clinical: Tensor) -> Tensor:
        """One linear layer on the features, (n, 2)."""
        return two_logits(self.dense(features))


@network("mobilenet-image")
def mobilenet_image(width: float, _image_size: int) -> CellNetwork:
    """The network of Wang 2024 on images alone."""
    return MobileNet(width, clinical_planes=False)


@network("mobilenet-clinical")
def mobilenet_clinical(width: float, _image_size: int) -> CellNetwork:
    """The same with the clinical values as input planes.

    The report masks clinical values at random while training; that is the training loop's part.
    """
    return MobileNet(width, clinical_planes=True)


def _convolution(
    inputs: int, outputs: int, size: int, stride: int = 1, *, groups: int = 1
) -> list[nn.Module]:
    """Convolution that keeps the size but for its stride, batch normalisation, ReLU6."""
    return [
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    ]

"""A small convolutional network with channel and spatial attention (CBAM: Woo et al. 2018, section 3)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from lymphoscope.models.networks.base import CellNetwork, network
from lymphoscope.models.networks.blocks import (
    BackboneNetwork,
    initialise_convolutions,
    pooled_block,
    scaled,
)


class ChannelAttention(nn.Module):
    """x · sigmoid(MLP(average of x) + MLP(maximum of x)), one weight per channel (equation 2).

    The hidden layer has a sixteenth of the channels, as in the paper, and at least 4, which is what the
    paper's narrowest map (64 channels) has.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(4, channels // 16)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, s, s) → the same shape."""
        weights = torch.sigmoid(self.mlp(x.mean(dim=(2, 3))) + self.mlp(x.amax(dim=(2, 3))))
        return x * weights[:, :, None, None]


class SpatialAttention(nn.Module):
    """x · sigmoid(7 × 7 convolution of [mean, maximum] over channels), one weight per place (equation 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, s, s) → the same shape."""
        summary = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.convolution(summary))


@network("cnn-attention")
def cnn_attention(width: float, _image_size: int) -> CellNetwork:
    """The five convolutions of cnn-enhanced with attention after each max-pooling.

    Dense layers as in Collin & Le Chenadec.

    The report names attention and no network; with these convolutions the difference to cnn-enhanced is the
    attention and the clinical values.
    """
    channels = [3, *(scaled(c, width) for c in (16, 32, 64, 128, 256))]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(channels):
        layers += [*pooled_block(inputs, outputs), ChannelAttention(outputs), SpatialAttention()]
    backbone = nn.Sequential(*layers)
    initialise_convolutions(backbone)
    return BackboneNetwork(backbone, channels[-1], width)

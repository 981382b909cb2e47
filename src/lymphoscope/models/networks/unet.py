"""The contracting half of a U-Net (Ronneberger et al. 2015), as Collin & Le Chenadec encode cells."""

from __future__ import annotations

from torch import nn

from lymphoscope.models.networks.base import CellNetwork, network
from lymphoscope.models.networks.blocks import (
    BackboneNetwork,
    convolution_block,
    initialise_convolutions,
    scaled,
)


@network("unet-encoder")
def unet_encoder(width: float, _image_size: int) -> CellNetwork:
    """Six blocks of two convolutions, 8 to 256 channels, max-pooling between them."""
    backbone, n_features = unet_encoder_backbone(width)
    return BackboneNetwork(backbone, n_features, width)


def unet_encoder_backbone(width: float) -> tuple[nn.Module, int]:
    """The blocks alone, (n, 3, S, S) → (n, channels, S // 32, S // 32), and the number of channels.

    Unlike the original, convolutions keep the size and are batch-normalised.
    """
    layers: list[nn.Module] = []
    inputs = 3
    for level, channels in enumerate((8, 16, 32, 64, 128, 256)):
        outputs = scaled(channels, width)
        if level:
            layers.append(nn.MaxPool2d(2))
        layers += [*convolution_block(inputs, outputs), *convolution_block(outputs, outputs)]
        inputs = outputs
    backbone = nn.Sequential(*layers)
    initialise_convolutions(backbone)
    return backbone, inputs

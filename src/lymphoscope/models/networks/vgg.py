"""VGG16 and VGG19 without batch normalisation (Simonyan & Zisserman 2015, table 1, columns D and E).

Keys and shapes are those of torchvision's public checkpoints of vgg16 and vgg19, `features.0.weight` and on.
Their three dense layers of 4096, 4096 and 1000 make way for a global average and the dense layers of
Collin & Le Chenadec.
"""

from __future__ import annotations

from torch import nn

from lymphoscope.models.networks.base import CellNetwork, network
from lymphoscope.models.networks.blocks import BackboneNetwork, initialise_convolutions, scaled

_CHANNELS = (64, 128, 256, 512, 512)


@network("vgg16")
def vgg16(width: float, _image_size: int) -> CellNetwork:
    """Thirteen convolutions."""
    return _vgg((2, 2, 3, 3, 3), width)


@network("vgg19")
def vgg19(width: float, _image_size: int) -> CellNetwork:
    """Sixteen convolutions."""
    return _vgg((2, 2, 4, 4, 4), width)


def _vgg(depths: tuple[int, ...], width: float) -> CellNetwork:
    """3 × 3 convolutions with ReLU, `depths` of them at each of five sizes, max-pooling after each size."""
    layers: list[nn.Module] = []
    inputs = 3
    for depth, channels in zip(depths, _CHANNELS, strict=True):
        outputs = scaled(channels, width)
        for _ in range(depth):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    backbone = nn.Sequential(*layers)
    initialise_convolutions(backbone)
    return BackboneNetwork(backbone, inputs, width, prefix="features.")

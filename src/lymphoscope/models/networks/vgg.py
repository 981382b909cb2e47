"""VGG16 and VGG19 (Simonyan & Zisserman 2015, table 1, columns D and E).

Keys and shapes are those of torchvision's public checkpoints, `features.0.weight` and on: of vgg16_bn and
vgg19_bn, which have a batch normalisation after every convolution (Ioffe & Szegedy 2015), or with
`batch_norm` false of vgg16 and vgg19, which have none. Their three dense layers of 4096, 4096 and 1000 make
way for a global average and the dense layers of Collin & Le Chenadec.

Without normalisation, and begun at random, what all photographs have in common grows from layer to layer
beside what sets them apart. There every convolution takes its scale and its bias from some cells of the
training patients (Salimans & Kingma 2016, arXiv:1602.07868, equation 6), unless weights are brought. Nothing
holds that while they are trained, and how well they learn hangs on the rate.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lymphoscope.models.networks.base import CellNetwork, network
from lymphoscope.models.networks.blocks import BackboneNetwork, initialise_convolutions, scaled

_CHANNELS = (64, 128, 256, 512, 512)

_LOOKED_AT = 32
"""Cells from which convolutions take scale and bias, evenly spread over those shown."""

_SMALLEST = 1e-5


class PlainVgg(BackboneNetwork):
    """Convolutions that give every channel mean 0 and deviation 1 over some cells before training."""

    looks_first = True

    @torch.no_grad()
    def first_look(self, images: Tensor) -> None:
        """Set weights and biases layer by layer, from the cells as the layers before then give them."""
        seen = images[torch.linspace(0, len(images) - 1, min(len(images), _LOOKED_AT)).long()]
        for layer in self.backbone.children():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                given = layer(seen)
                mean, deviation = given.mean((0, 2, 3)), given.std((0, 2, 3)).clamp_min(_SMALLEST)
                layer.weight.div_(deviation[:, None, None, None])
                layer.bias.sub_(mean).div_(deviation)
            seen = layer(seen)


@network("vgg16")
def vgg16(width: float, _image_size: int, *, batch_norm: bool = True) -> CellNetwork:
    """Thirteen convolutions.

    Parameters
    ----------
    batch_norm : each has a batch normalisation after it, as in torchvision's vgg16_bn; false for vgg16.
    """
    return _vgg((2, 2, 3, 3, 3), width, batch_norm)


@network("vgg19")
def vgg19(width: float, _image_size: int, *, batch_norm: bool = True) -> CellNetwork:
    """Sixteen convolutions.

    Parameters
    ----------
    batch_norm : each has a batch normalisation after it, as in torchvision's vgg19_bn; false for vgg19.
    """
    return _vgg((2, 2, 4, 4, 4), width, batch_norm)


def _vgg(depths: tuple[int, ...], width: float, batch_norm: bool) -> CellNetwork:
    """3 × 3 convolutions with ReLU, `depths` of them at each of five sizes, max-pooling after each size."""
    layers: list[nn.Module] = []
    inputs = 3
    for depth, channels in zip(depths, _CHANNELS, strict=True):
        outputs = scaled(channels, width)
        for _ in range(depth):
            layers.append(nn.Conv2d(inputs, outputs, 3, padding=1))
            if batch_norm:
                layers.append(nn.BatchNorm2d(outputs))
            layers.append(nn.ReLU(inplace=True))
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    backbone = nn.Sequential(*layers)
    initialise_convolutions(backbone)
    kind = BackboneNetwork if batch_norm else PlainVgg
    return kind(backbone, inputs, width, prefix="features.")

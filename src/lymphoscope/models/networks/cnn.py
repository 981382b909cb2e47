"""The small convolutional networks of Si Salah & Ahmadi and of Collin & Le Chenadec."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from lymphoscope.models.networks.base import CellNetwork, network
from lymphoscope.models.networks.blocks import (
    ClinicalHead,
    initialise_convolutions,
    pooled_block,
    scaled,
    two_logits,
)


class ImageCNN(CellNetwork):
    """Convolutions, then dense layers with a single logit; clinical values are not looked at."""

    takes_clinical = False

    def __init__(self, convolutions: nn.Module, dense: nn.Module) -> None:
        super().__init__()
        self.convolutions = convolutions
        self.dense = dense

    def features(self, images: Tensor, clinical: Tensor) -> Tensor:
        """Last map of the convolutions, flattened, (n, n_features)."""
        return self.convolutions(images).flatten(1)

    def head(self, features: Tensor, clinical: Tensor) -> Tensor:
        """Dense layers on the features alone, (n, 2)."""
        return two_logits(self.dense(features))


class ClinicalCNN(CellNetwork):
    """Collin & Le Chenadec's baseline: two convolutions, clinical values beside their flattened map."""

    takes_clinical = True

    def __init__(self, width: float, image_size: int) -> None:
        super().__init__()
        first, second = scaled(6, width), scaled(16, width)
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, first, 5),
            nn.MaxPool2d(2),  # before the ReLU: the same maps with a quarter of its work
            nn.ReLU(inplace=True),
            nn.Conv2d(first, second, 5),
            nn.MaxPool2d(2),
            nn.ReLU(inplace=True),
        )
        side = ((image_size - 4) // 2 - 4) // 2
        self.dense = ClinicalHead(second * side**2, width)

    def features(self, images: Tensor, clinical: Tensor) -> Tensor:
        """Last map of the convolutions, flattened, (n, n_features); 10,000 features at 112 px."""
        return self.convolutions(images).flatten(1)

    def head(self, features: Tensor, clinical: Tensor) -> Tensor:
        """Dense layers on features and clinical values, (n, 2)."""
        return self.dense(features, clinical)


@network("cnn-baseline", smallest_image=27)
def cnn_baseline(width: float, image_size: int) -> CellNetwork:
    """Si Salah & Ahmadi's first network: three convolutions with max-pooling, two dense layers.

    The report gives neither sizes nor the activation; here 3 × 3 convolutions that keep the size, 16, 32 and
    64 channels, pooling by 3, ReLU, 64 hidden units. Pooling by 2 leaves the dense layer so many inputs that
    the report's learning rate drove the network to a constant within an epoch.
    """
    channels = [3, *(scaled(c, width) for c in (16, 32, 64))]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(channels):
        # Pooling before the ReLU gives the same maps with a quarter of its work.
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.MaxPool2d(3), nn.ReLU(inplace=True)]
    hidden = scaled(64, width)
    dense = nn.Sequential(
        nn.Linear(channels[-1] * (image_size // 27) ** 2, hidden), nn.ReLU(), nn.Linear(hidden, 1)
    )
    return ImageCNN(nn.Sequential(*layers), dense)


@network("cnn-enhanced")
def cnn_enhanced(width: float, _image_size: int) -> CellNetwork:
    """Si Salah & Ahmadi's second network: more convolutions, and dropout.

    The report says no more than that. Here the baseline's row of channels goes on to five (16 to 256), each
    convolution with batch normalisation; a global average in place of the flattened map, so that the dense
    layers (128 hidden units) stay small; dropout of 0.5 before each of them.
    """
    channels = [3, *(scaled(c, width) for c in (16, 32, 64, 128, 256))]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(channels):
        layers += pooled_block(inputs, outputs)
    convolutions = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))
    initialise_convolutions(convolutions)
    hidden = scaled(128, width)
    dense = nn.Sequential(
        nn.Dropout(0.5), nn.Linear(channels[-1], hidden), nn.ReLU(), nn.Dropout(0.5), nn.Linear(hidden, 1)
    )
    return ImageCNN(convolutions, dense)


@network("cnn-clinical", smallest_image=16)
def cnn_clinical(width: float, image_size: int) -> CellNetwork:
    """Collin & Le Chenadec's baseline: 5 × 5 convolutions to 6 and 16 channels, dense layers 120, 84, 2."""
    return ClinicalCNN(width, image_size)

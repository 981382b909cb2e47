"""ResNet-18 and ResNet-34 (He et al. 2016, table 1), trained or frozen.

Keys and shapes are those of torchvision's public checkpoints of resnet18 and resnet34, `conv1.weight` and on.
"""

from __future__ import annotations

from typing import Self

from torch import Tensor, nn

from lymphoscope.models.networks.base import CellNetwork, Criterion, network
from lymphoscope.models.networks.blocks import (
    BackboneNetwork,
    ClinicalTerm,
    initialise_convolutions,
    scaled,
    two_logits,
)

_RESNET18 = (2, 2, 2, 2)
_RESNET34 = (3, 4, 6, 3)
_LEAST = 8
"""Channels. With fewer, the gradient of a 1 × 1 convolution with stride 2 writes beyond its memory: seen with
torch 2.13's oneDNN, channels last, on a processor with AVX2 and no AVX-512."""


class BasicBlock(nn.Module):
    """ReLU(x + two 3 × 3 convolutions of x); x is projected where size or channels change."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, s, s) → (n, outputs, s / stride, s / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet(nn.Module):
    """Stem and four layers of `depths` basic blocks, without the classification head.

    Attributes
    ----------
    n_features : channels of the last map, 512 at width 1.
    """

    def __init__(self, depths: tuple[int, int, int, int], width: float) -> None:
        super().__init__()
        channels = [max(_LEAST, scaled(c, width)) for c in (64, 128, 256, 512)]
        self.n_features = channels[-1]
        self.conv1 = nn.Conv2d(3, channels[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inputs = [channels[0], *channels[:-1]]
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(
                BasicBlock(inputs[i], channels[i], stride=2 if i else 1),
                *(BasicBlock(channels[i], channels[i], stride=1) for _ in range(depths[i] - 1)),
            )
            for i in range(4)
        )
        initialise_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, S, S) → (n, n_features, ⌈S / 32⌉, ⌈S / 32⌉)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class FrozenResNet(CellNetwork):
    """Frozen features; logit of malignant = small MLP of them + a linear term of the clinical values.

    A public attempt at the challenge (2nd of 43) had ResNet-34 with ImageNet's weights, features averaged
    over the patient's cells, and a head of this shape; here with 64 hidden units and dropout of 0.5. It is
    only as good as the weights that `load_backbone` gives it.
    """

    takes_clinical = True
    frozen_features = True
    remembered = True

    def __init__(self, backbone: ResNet, width: float) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False).eval()
        blocks = [module for module in backbone.modules() if isinstance(module, BasicBlock)]
        for block in blocks:
            # Until a checkpoint is loaded nothing normalises the frozen maps: the sum over sixteen random
            # blocks would grow to hundreds, where published features lie about 1.
            nn.init.constant_(block.bn2.weight, len(blocks) ** -0.5)
        hidden = scaled(64, width)
        self.image_term = nn.Sequential(
            nn.Linear(backbone.n_features, hidden), nn.ReLU(), nn.Dropout(0.5), nn.Linear(hidden, 1)
        )
        self.clinical_term = ClinicalTerm()

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`, but for the backbone, whose batch statistics stay what they are."""
        super().train(mode)
        self.backbone.eval()
        return self

    def before_training(self, clinical: Tensor, labels: Tensor, criterion: Criterion) -> None:
        """Begin with the linear term that is best without the cells."""
        self.clinical_term.fit(clinical, labels, criterion)

    def features(self, images: Tensor, clinical: Tensor) -> Tensor:
        """Global average of the backbone's last map, (n, n_features)."""
        return self.maps(images, clinical).mean(dim=(2, 3))

    def maps(self, images: Tensor, clinical: Tensor) -> Tensor:
        """The backbone's last map, (n, n_features, s, s)."""
        found: Tensor = self.backbone(images)
        return found

    def head(self, features: Tensor, clinical: Tensor) -> Tensor:
        """Sum of the two terms, as logits (0, z), (n, 2)."""
        return two_logits(self.image_term(features) + self.clinical_term(clinical))

    def pretrained_parts(self) -> dict[str, nn.Module]:
        """The backbone."""
        return {"": self.backbone}


@network("resnet18")
def resnet18(width: float, _image_size: int) -> CellNetwork:
    """Eight basic blocks."""
    return _resnet(_RESNET18, width)


@network("resnet34")
def resnet34(width: float, _image_size: int) -> CellNetwork:
    """Sixteen basic blocks."""
    return _resnet(_RESNET34, width)


@network("frozen-resnet34")
def frozen_resnet34(width: float, _image_size: int) -> CellNetwork:
    """ResNet-34 that only looks; a small head learns."""
    return FrozenResNet(ResNet(_RESNET34, width), width)


def _resnet(depths: tuple[int, int, int, int], width: float) -> CellNetwork:
    backbone = ResNet(depths, width)
    return BackboneNetwork(backbone, backbone.n_features, width, prefix="")

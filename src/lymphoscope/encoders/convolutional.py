"""Convolutional encoders: a residual network, which loses its normalisations when it is kept, and a ConvNeXt.

A kept network is convolutions, biases and ReLUs only: smaller, quicker, and nothing in it can be updated by
the photographs that it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lymphoscope.files import write_bytes

WEIGHTS = "model.safetensors"

Tensors = dict[str, Tensor]


class ConvolutionNorm(nn.Module):
    """A convolution and the normalisation that follows it, one convolution with a bias once folded."""

    def __init__(self, inputs: int, outputs: int, side: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, side, stride, padding=side // 2, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, s, s) → (n, outputs, ⌈s / stride⌉, ⌈s / stride⌉)."""
        return self.norm(self.conv(x))

    def fold(self) -> None:
        """Take the normalisation, as it is in evaluation, into the convolution."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv = fuse_conv_bn_eval(self.conv.eval(), self.norm.eval())
            self.norm = nn.Identity()


class ResidualBlock(nn.Module):
    """ReLU(x + two 3 × 3 convolutions of x); x is averaged and projected where size or channels change.

    Averaging before the projection (He et al. 2019, arXiv:1812.01187, ResNet-D) loses no pixel of the
    shortcut. The last normalisation begins at zero, so that every block begins as the identity.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = ConvolutionNorm(inputs, outputs, 3, stride)
        self.second = ConvolutionNorm(outputs, outputs, 3)
        nn.init.zeros_(self.second.norm.weight)  # type: ignore[arg-type]
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            smaller = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
            self.shortcut = nn.Sequential(smaller, ConvolutionNorm(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, s, s) → (n, outputs, ⌈s / stride⌉, ⌈s / stride⌉)."""
        return torch.relu(self.shortcut(x) + self.second(torch.relu(self.first(x))))


class ResidualBody(nn.Module):
    """A stem at half the size and four stages of residual blocks, each at half the size of the one before.

    Attributes
    ----------
    width : channels of the last map, `hidden`; the stages have an eighth, a quarter, half and all of it.
    """

    def __init__(self, hidden: int, layers: int) -> None:
        super().__init__()
        channels = [max(1, hidden // 8), max(1, hidden // 4), max(1, hidden // 2), hidden]
        self.width = hidden
        self.stem = ConvolutionNorm(3, channels[0], 5, stride=2)
        blocks = []
        for stage, outputs in enumerate(channels):
            inputs = channels[max(0, stage - 1)]
            # The first stage has the largest maps, on which a block costs as much as on all others.
            for block in range(layers if stage else 1):
                first = block == 0
                blocks.append(
                    ResidualBlock(inputs if first else outputs, outputs, 2 if first and stage else 1)
                )
        self.blocks = nn.Sequential(*blocks)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised photographs (n, 3, S, S) → (n, width, ⌈S / 16⌉, ⌈S / 16⌉)."""
        return self.blocks(torch.relu(self.stem(images)))

    def fold(self) -> None:
        """Take every normalisation into the convolution before it; for good."""
        for module in self.modules():
            if isinstance(module, ConvolutionNorm):
                module.fold()


class ConvNextBlock(nn.Module):
    """x + a 7 × 7 convolution per channel, normalised, and two dense layers (Liu et al. 2022, figure 4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.dense = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, s, s) → the same shape."""
        seen = self.spatial(x).permute(0, 2, 3, 1)
        return x + self.dense(self.norm(seen)).permute(0, 3, 1, 2)


class ConvNextBody(nn.Module):
    """Patches of 4 pixels, then three stages of ConvNeXt blocks, each at half the size of the one before.

    Attributes
    ----------
    width : channels of the last map, `hidden`; the stages have a quarter, half and all of it.
    """

    def __init__(self, hidden: int, layers: int) -> None:
        super().__init__()
        channels = [max(1, hidden // 4), max(1, hidden // 2), hidden]
        self.width = hidden
        parts: list[nn.Module] = [nn.Conv2d(3, channels[0], 4, 4)]
        for stage, outputs in enumerate(channels):
            if stage:
                parts.append(nn.Conv2d(channels[stage - 1], outputs, 2, 2))
            parts += [ConvNextBlock(outputs) for _ in range(layers)]
        self.stages = nn.Sequential(*parts)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised photographs (n, 3, S, S) → (n, width, S // 16, S // 16)."""
        return self.stages(images)

    def fold(self) -> None:
        """There is nothing to fold."""


Body = ResidualBody | ConvNextBody


def half_precision(tensors: Mapping[str, Tensor]) -> Tensors:
    """The tensors as they are kept: 16 bits a number, half the size of a file."""
    return {name: value.detach().to(torch.float16).contiguous() for name, value in tensors.items()}


def write_half_precision(network: nn.Module, path: Path) -> None:
    """Write the tensors of a network as they are kept."""
    write_bytes(path, save(half_precision(network.state_dict())))

"""An encoder of cells, trained on in part or whole by the patients' labels."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lymphoscope.errors import InputError
from lymphoscope.models.networks.base import N_CLINICAL, CellNetwork, network
from lymphoscope.models.networks.blocks import ScaledFeatures, Unbuilt, scaled

Tuning = Literal["frozen", "last-stage", "adapters", "whole"]

RANDOM = "random"
"""The weights of an encoder that has learned nothing, which shows that the software runs and nothing else."""

SHIPPED = "pbc-small"
"""`encoders.kept.SHIPPED`, which a bare machine cannot import: it lacks safetensors."""

_WIDTH, _LAYERS = 192, 2
"""Of a random encoder: as of the shipped one."""

_ADAPTED_STAGES = 2


class AdaptedShortcut(nn.Module):
    """shortcut(x) + W_up · ReLU(W_down · x̄): a bottleneck beside the two convolutions of a residual block.

    It stands in the place of the block's shortcut, so that the block's ReLU comes after the sum of all three.
    x̄ is x, averaged where the block halves the size; both W are 1 × 1 convolutions. W_up begins at zero, so
    that a new one gives exactly what the shortcut gives.

    Parameters
    ----------
    shortcut : of the block.
    inputs, outputs, stride : of the block.
    width : channels of the bottleneck.
    """

    def __init__(self, shortcut: nn.Module, inputs: int, outputs: int, stride: int, width: int) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.smaller = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
        self.down = nn.Conv2d(inputs, width, 1)
        self.up = nn.Conv2d(width, outputs, 1)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, s, s) → (n, outputs, ⌈s / stride⌉, ⌈s / stride⌉)."""
        return self.shortcut(x) + self.up(torch.relu(self.down(self.smaller(x))))


class EncoderNetwork(ScaledFeatures):
    """A residual encoder, what is tuned in it, and a linear head for cells or patients.

    Its normalisations were folded into its convolutions when it was kept: weights and biases are all that
    there is, no statistics that photographs could shift, and `train()` changes nothing in what it computes.

    Parameters
    ----------
    embedder : photographs to embeddings, (n, 3, S, S) → (n, d), a `ResidualBody` in `body`.
    layers : blocks in each of its stages but the first.
    weights_sha256 : of the embedder; "" of one that has learned nothing.
    tuning, adapter_width, encoder_rate, clinical : see `pbc_encoder`.
    """

    backbone: Any  # mypy takes parts of a module for tensors

    def __init__(
        self,
        embedder: nn.Module,
        layers: int,
        weights_sha256: str,
        *,
        tuning: Tuning,
        adapter_width: int,
        encoder_rate: float,
        clinical: bool,
    ) -> None:
        super().__init__()
        self.backbone, self.weights_sha256 = embedder, weights_sha256
        self.tuning, self.takes_clinical, self._encoder_rate = tuning, clinical, encoder_rate
        self.backbone.requires_grad_(tuning == "whole")
        blocks = self.backbone.body.blocks
        if tuning == "last-stage":
            blocks[-layers:].requires_grad_(True)
        elif tuning == "adapters":
            for block in blocks[-_ADAPTED_STAGES * layers :]:
                convolution = block.first.conv
                shape = convolution.in_channels, convolution.out_channels, convolution.stride[0]
                block.shortcut = AdaptedShortcut(block.shortcut, *shape, adapter_width)
        self.frozen_features = tuning == "frozen"
        self.begin_scale(self.backbone.width)
        self.layers = nn.Linear(self.backbone.width + N_CLINICAL * clinical, 2)

    def embed(self, images: Tensor) -> Tensor:
        """Embeddings, (n, d)."""
        seen: Tensor = self.backbone(images)
        return seen

    def rates(self) -> dict[str, float]:
        """What is tuned in the encoder goes slower than the head, which begins at random."""
        return {f"backbone.{name}": self._encoder_rate for name, _ in self.backbone.named_parameters()}

    def head(self, features: Tensor, clinical: Tensor) -> Tensor:
        """Logits (n, 2) of embeddings (n, d), with the clinical values beside them if chosen."""
        return self.layers(torch.cat([features, clinical], dim=1) if self.takes_clinical else features)

    def tuned(self, head: nn.Module | None = None) -> str:
        """What is trained, and how much of everything it is; `head` stands in place of its own."""
        parameters = [*self.backbone.parameters(), *(head or self.layers).parameters()]
        trained = sum(each.numel() for each in parameters if each.requires_grad)
        all_of_it = sum(each.numel() for each in parameters)
        what = {
            "frozen": "The head",
            "last-stage": "The encoder's last stage and the head",
            "adapters": f"Adapters in the encoder's last {_ADAPTED_STAGES} stages and the head",
            "whole": "The whole encoder and the head",
        }[self.tuning]
        share = f"{trained / all_of_it:.2%}"
        return f"{what}: {trained:,} of {all_of_it:,} parameters are trained ({share})."


@network("pbc-encoder", smallest_image=16, from_weights=True, default_weights=SHIPPED)
def pbc_encoder(
    width: float,
    _image_size: int,
    weights: str | None,
    *,
    tuning: Tuning = "adapters",
    adapter_width: int = 16,
    encoder_rate: float = 0.1,
    clinical: bool = False,
) -> CellNetwork:
    """An encoder of cells, what is tuned in it, and a head on its embeddings.

    Parameters
    ----------
    width : of a random encoder; trained ones have theirs, and only the head of a recipe follows it.
    weights : "pbc-small", which is shipped and the default; a folder that `lymphoscope encoder train` or
        `adapt` wrote, of the residual kind; or "random" for one that knows nothing.
    tuning : what is trained beside the head: "frozen" nothing, "last-stage" the blocks of the last stage,
        "adapters" a bottleneck of 1 × 1 convolutions beside each block of the last two stages, "whole"
        everything. Normalisations were folded when the encoder was kept, so there is nothing but weights.
    adapter_width : channels of an adapter's bottleneck.
    encoder_rate : share of the learning rate that the encoder is tuned with; the head has all of it.
    clinical : the network's own head sees age, count and sex; another head has its fusion.
    """
    if weights is None and torch.empty(0).is_meta:
        return Unbuilt(clinical, tuning == "frozen")
    if adapter_width < 1:
        raise InputError("an adapter cannot have this width", found=adapter_width, allowed="at least 1")
    if not 0 < encoder_rate <= 1:
        raise InputError("an encoder cannot be tuned at this rate", found=encoder_rate, allowed="0 to 1")
    embedder, layers, sha256 = _random(width) if weights == RANDOM else _known(weights or SHIPPED)
    return EncoderNetwork(
        embedder,
        layers,
        sha256,
        tuning=tuning,
        adapter_width=adapter_width,
        encoder_rate=encoder_rate,
        clinical=clinical,
    )


def _random(width: float) -> tuple[nn.Module, int, str]:
    """An encoder that has learned nothing, its blocks, and no hash."""
    from lymphoscope.encoders.architectures import Architecture  # a bare machine lacks safetensors

    embedder = Architecture("residual", hidden=scaled(_WIDTH, width), layers=_LAYERS).build()
    embedder.finish()
    return embedder, _LAYERS, ""


def _known(weights: str) -> tuple[nn.Module, int, str]:
    """The encoder of a name or a folder, the number of its blocks in a stage, and its hash."""
    from lymphoscope.encoders.architectures import ConvolutionalEmbedder
    from lymphoscope.encoders.convolutional import ResidualBody
    from lymphoscope.encoders.kept import card_architecture, card_normalisation, encoder_folder, read_embedder
    from lymphoscope.training.augmentation import IMAGENET

    folder = encoder_folder(weights)
    if folder is None:
        raise InputError(
            "there is no encoder at this place",
            found=weights,
            allowed=f'{SHIPPED}, a folder that `lymphoscope encoder train` wrote, or "{RANDOM}"',
            remedy="Name its folder: --weights PATH.",
        )
    embedder, card = read_embedder(folder)
    if not (isinstance(embedder, ConvolutionalEmbedder) and isinstance(embedder.body, ResidualBody)):
        raise InputError(
            "this network tunes residual encoders alone",
            file=folder,
            found=card["architecture"]["kind"],
            allowed="residual",
            remedy="For a vit, take the recipe dinov2-adaptformer with the same weights.",
        )
    if card_normalisation(card) != IMAGENET:
        raise InputError(
            "this encoder normalises photographs otherwise than networks here do",
            file=folder,
            found=card_normalisation(card),
            allowed=str(IMAGENET),
        )
    return embedder, card_architecture(card).layers, embedder.sha256()

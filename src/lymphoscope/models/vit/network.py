"""DINOv2 with adapters, low-rank updates, a head alone, or trained whole, as a network of cells."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lymphoscope.encoders.dinov2 import RANDOM, load_dinov2
from lymphoscope.encoders.published import VitShape
from lymphoscope.errors import InputError
from lymphoscope.models.networks.base import N_CLINICAL
from lymphoscope.models.networks.blocks import ScaledFeatures
from lymphoscope.models.vit.adapters import (
    AdaptedFeedForward,
    LowRankLinear,
    ParallelAdapter,
    check_adapter,
    chosen_blocks,
)
from lymphoscope.training.weights import tensors_sha256

Tuning = Literal["adaptformer", "lora", "linear", "full"]
TrainedNorms = Literal["none", "final", "all"]

_DEFAULT_SCALE: dict[str, float] = {"adaptformer": 0.1, "lora": 1.0}
_DEFAULT_WIDTH: dict[str, int] = {"adaptformer": 64, "lora": 16}
_FEW_PATCHES = 100
"""Up to so many, torch's fused attention, made for long sequences, is slower than the plain one."""


class DinoNetwork(ScaledFeatures):
    """A vision transformer that has seen many images, tuned a little, and a head for cells or patients.

    Parameters
    ----------
    source, shape, download : of the transformer; see `load_dinov2`.
    image_size : S, side of the images in pixels, a multiple of the patch (14); the table of positions is
        interpolated to it.
    tuning : what is trained beside the head: "adaptformer" an adapter parallel to the feed-forward network of
        each chosen block (Chen et al. 2022), "lora" low-rank updates of its queries, keys and values (Hu et
        al. 2021), "linear" nothing, "full" everything.
    adapter_width : of the bottleneck, or the rank; None is the 64 of AdaptFormer's paper, and 16 for LoRA,
        whose authors find that a handful is enough.
    adapter_scale : factor of what is added; None is the paper's 0.1, and 1 for LoRA. Learned from there where
        `learned_scale` is set.
    adapter_dropout : share dropped inside adapters in training.
    blocks : which are adapted: all, the last so many, or these; see `chosen_blocks`.
    trained_norms : layer normalisations that are trained too: "none", the "final" one, or "all".
    patch_mean : features are the class token and the mean of the patches' tokens, not the class token alone.
        Registers are never among them.
    takes_clinical : the linear head sees age, count and sex beside the features.
    checkpointing : activations inside blocks are computed again for the gradient instead of kept.
    images_at_once : at most so many go through the transformer together; in training, those of each group
        are then computed again for the gradient, so that the memory is that of one group. None takes all.

    Raises
    ------
    InputError : as `load_dinov2`, and for options that cannot be.

    Attributes
    ----------
    n_features : d, width of the features.
    adapted_blocks : numbers of the blocks with adapters.
    weights_sha256 : of the transformer before it is tuned; "" of a random one, which has learned nothing, so
        that no comparison should rank it.

    Notes
    -----
    Fresh weights (adapters, head, and a random transformer) are drawn from torch's global generator. At its
    first step an adapted network gives what the frozen one gives. Frozen modules stay in `eval()`.
    The head sees features on their scale over some cells of the training patients.
    """

    backbone: Any  # mypy takes parts of a module for tensors

    def __init__(
        self,
        source: Path | str,
        *,
        image_size: int = 224,
        tuning: Tuning = "adaptformer",
        adapter_width: int | None = None,
        adapter_scale: float | None = None,
        learned_scale: bool = False,
        adapter_dropout: float = 0.0,
        blocks: Sequence[int] | int | None = None,
        trained_norms: TrainedNorms = "none",
        patch_mean: bool = False,
        takes_clinical: bool = True,
        checkpointing: bool = False,
        images_at_once: int | None = None,
        shape: VitShape | None = None,
        download: bool = False,
    ) -> None:
        super().__init__()
        _check_choice("tuning", tuning, Tuning)
        _check_choice("trained_norms", trained_norms, TrainedNorms)
        if images_at_once is not None and images_at_once < 1:
            raise InputError("images_at_once cannot be this", found=images_at_once, allowed="at least 1")
        scale = _DEFAULT_SCALE.get(tuning, 1.0) if adapter_scale is None else adapter_scale
        width = _DEFAULT_WIDTH.get(tuning, 1) if adapter_width is None else adapter_width
        check_adapter(width, scale, adapter_dropout)
        self.backbone = load_dinov2(source, shape=shape, download=download)
        self.weights_sha256 = "" if str(source) == RANDOM else tensors_sha256(self.backbone.state_dict())
        self.image_size, self.tuning, self.patch_mean = image_size, tuning, patch_mean
        self.takes_clinical, self.images_at_once = takes_clinical, images_at_once
        _check_image_size(image_size, self.backbone.config.patch_size)
        if (image_size // self.backbone.config.patch_size) ** 2 <= _FEW_PATCHES:
            self.backbone.set_attn_implementation("eager")
        options: dict[str, Any] = {"learned_scale": learned_scale, "dropout": adapter_dropout}
        self._adapt(chosen_blocks(blocks, len(self.backbone.encoder.layer)), width, scale, options)
        self._choose_trained(trained_norms)
        if checkpointing:
            self.backbone.activation_checkpointing_enable({"use_reentrant": False})
        self.n_features: int = self.backbone.config.hidden_size * (2 if patch_mean else 1)
        self.begin_scale(self.n_features)
        self.layer = _linear(self.n_features + (N_CLINICAL if takes_clinical else 0))
        self.train()

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`, but what is frozen stays in `eval()`: no dropout, no dropped paths."""
        super().train(mode)
        if self.tuning != "full":
            self.backbone.eval()
            for part in _adapters(self):
                part.dropout.train(mode)
            for block in self.backbone.encoder.layer:
                block.training = mode  # its own flag and not its parts': checkpointing asks for it
        return self

    def embed(self, images: Tensor) -> Tensor:
        """Class token after the last normalisation, with the patches' mean behind it if chosen, (n, d).

        `images` are (n, 3, S, S), normalised.
        """
        if tuple(images.shape[1:]) != (3, self.image_size, self.image_size):
            raise ValueError(f"images must be (n, 3, {self.image_size}, {self.image_size}): {images.shape}")
        groups = torch.split(images, self.images_at_once or max(1, len(images)))
        if len(groups) == 1:
            return self._look(images)
        again = torch.is_grad_enabled() and not self.frozen_features
        look = partial(checkpoint, self._look, use_reentrant=False) if again else self._look
        return torch.cat([look(group) for group in groups])

    def head(self, features: Tensor, clinical: Tensor) -> Tensor:
        """Logits (n, 2) of features (n, d), with the clinical values beside them if chosen."""
        return self.layer(torch.cat([features, clinical], dim=1) if self.takes_clinical else features)

    def tuned(self, head: nn.Module | None = None) -> str:
        """What is trained, and how much of everything it is; `head` stands in place of its own."""
        parameters = [*self.backbone.parameters(), *(head or self.layer).parameters()]
        trained = sum(p.numel() for p in parameters if p.requires_grad)
        all_of_it = sum(p.numel() for p in parameters)
        n_blocks = len(self.backbone.encoder.layer)
        chosen = f" in {len(self.adapted_blocks)} of {n_blocks} blocks" if self.adapted_blocks else ""
        what = {
            "adaptformer": f"AdaptFormer{chosen} and the head",
            "lora": f"LoRA{chosen} and the head",
            "linear": "The head",
            "full": "The whole transformer and the head",
        }[self.tuning]
        norms = [part for part in self.backbone.modules() if isinstance(part, nn.LayerNorm)]
        n_norms = sum(part.weight.requires_grad for part in norms)
        beside = f", {n_norms} normalisations too" if n_norms and self.tuning != "full" else ""
        share = f"{trained / all_of_it:.2%}"
        return f"{what}{beside}: {trained:,} of {all_of_it:,} parameters are trained ({share})."

    def _look(self, images: Tensor) -> Tensor:
        tokens = self.backbone(images).last_hidden_state  # (n, 1 + registers + patches, hidden)
        if not self.patch_mean:
            return tokens[:, 0]
        patches = tokens[:, 1 + self.backbone.config.num_register_tokens :]
        return torch.cat([tokens[:, 0], patches.mean(dim=1)], dim=1)

    def _adapt(self, blocks: list[int], width: int, scale: float, options: dict[str, Any]) -> None:
        """Put adapters into the chosen blocks."""
        self.adapted_blocks = blocks if self.tuning in _DEFAULT_SCALE else []
        for number in self.adapted_blocks:
            block = self.backbone.encoder.layer[number]
            if self.tuning == "adaptformer":
                adapter = ParallelAdapter(self.backbone.config.hidden_size, width, scale, **options)
                block.mlp = AdaptedFeedForward(block.mlp, block.layer_scale2, adapter)
                block.layer_scale2 = nn.Identity()
                continue
            for name in ("q_proj", "k_proj", "v_proj"):
                frozen = getattr(block.attention, name)
                setattr(block.attention, name, LowRankLinear(frozen, width, scale, **options))

    def _choose_trained(self, norms: TrainedNorms) -> None:
        """Ask for gradients of what is tuned and of nothing else."""
        self.backbone.requires_grad_(self.tuning == "full")
        # Only pretraining hides patches; a parameter without a gradient would be counted and never learn.
        self.backbone.embeddings.mask_token.requires_grad_(False)
        if norms == "final":
            self.backbone.layernorm.requires_grad_(True)
        elif norms == "all":
            for module in self.backbone.modules():
                if isinstance(module, nn.LayerNorm):
                    module.requires_grad_(True)
        for part in _adapters(self):
            for name, parameter in part.named_parameters():
                parameter.requires_grad_(not name.startswith("frozen."))
        self.frozen_features = not any(p.requires_grad for p in self.backbone.parameters())


# ---- parts -------------------------------------------------------------------------------------------------


def _adapters(network: DinoNetwork) -> list[ParallelAdapter | LowRankLinear]:
    return [part for part in network.backbone.modules() if isinstance(part, (ParallelAdapter, LowRankLinear))]


def _linear(n_inputs: int) -> nn.Linear:
    """A head that begins near 0 (deviation 0.01), as in the code of Chen et al."""
    layer = nn.Linear(n_inputs, 2)
    nn.init.trunc_normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return layer


def _check_choice(option: str, value: str, kind: Any) -> None:
    if value not in get_args(kind):
        raise InputError(f"{option} cannot be this", found=value, allowed=", ".join(get_args(kind)))


def _check_image_size(size: int, patch: int) -> None:
    if size < patch or size % patch:
        near = max(1, round(size / patch)) * patch
        raise InputError(
            f"images of this side cannot be cut into patches of {patch} pixels",
            found=size,
            allowed=f"a multiple of {patch}, as 112 or 224" if patch == 14 else f"a multiple of {patch}",
            remedy=f"Take {near}.",
        )

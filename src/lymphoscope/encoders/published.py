"""State dicts of DINOv2 and DinoBloom as their authors publish them, and their names in transformers.

DINOv2 (Oquab et al. 2023; with registers Darcet et al. 2023) publishes the backbone alone. DinoBloom (Koch et
al. 2024) publishes the teacher of a DINOv2 training: the backbone under `backbone.` and two projection heads,
all of it inside an entry `teacher`. Nothing here needs transformers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lymphoscope.errors import InputError
from lymphoscope.files import sha256_file
from lymphoscope.training.weights import read_weights, some

HEAD_WIDTH = 64
"""Width of an attention head in every published DINOv2; a state dict does not say it."""

_TEACHER = "teacher"
_BACKBONE = "backbone."
_PROJECTIONS = ("dino_head.", "ibot_head.")
_CHUNK = re.compile(r"^blocks\.\d+\.(\d+)\.")


@dataclass(frozen=True)
class VitShape:
    """The size of a vision transformer.

    Attributes
    ----------
    hidden : width of a token.
    layers : number of blocks.
    heads : attention heads; None takes one per 64 of `hidden`, as the published ones have, and at least 1.
    registers : tokens beside the class token that no feature is read from; 0 is DINOv2 without registers.
    patch : side of a patch in pixels.
    image_size : side of the images that the table of positions is made for; a multiple of `patch`.
    mlp_ratio : hidden width of the feed-forward network over `hidden`.
    swiglu : the feed-forward network is gated, as in the giant one, with two thirds of that width.
    """

    hidden: int = 128
    layers: int = 4
    heads: int | None = None
    registers: int = 4
    patch: int = 14
    image_size: int = 112
    mlp_ratio: int = 4
    swiglu: bool = False

    @property
    def n_heads(self) -> int:
        """Attention heads."""
        return max(1, self.hidden // HEAD_WIDTH) if self.heads is None else self.heads

    @property
    def mlp_hidden(self) -> int:
        """Hidden width of the feed-forward network; a gated one is rounded up to a multiple of 8."""
        hidden = self.hidden * self.mlp_ratio
        return (int(hidden * 2 / 3) + 7) // 8 * 8 if self.swiglu else hidden


def read_published(path: Path | str) -> tuple[dict[str, Tensor], str]:
    """The backbone in a file of DINOv2 or DinoBloom, by DINOv2's names, and the SHA-256 of the file.

    Taken away are: an entry `teacher` around everything, a prefix `teacher.` or `backbone.`, the projection
    heads (dino_head.*, ibot_head.*), and the chunk in `blocks.CHUNK.N.*` of checkpoints of a training.

    Raises
    ------
    InputError : as `read_weights`; and where `backbone.` is on some keys only.
    """
    state, sha256 = _read(Path(path))
    state = {key.removeprefix(f"{_TEACHER}."): value for key, value in state.items()}
    state = {key: value for key, value in state.items() if not key.startswith(_PROJECTIONS)}
    bare = [key for key in state if not key.startswith(_BACKBONE)]
    if 0 < len(bare) < len(state):
        raise InputError(
            "this file holds a backbone and something that is not known",
            file=path,
            found=some(bare),
            allowed=f"{_BACKBONE}* and beside it {' and '.join(f'{head}*' for head in _PROJECTIONS)}",
        )
    return {_CHUNK.sub(r"blocks.\1.", key.removeprefix(_BACKBONE)): v for key, v in state.items()}, sha256


def published_shape(state: Mapping[str, Tensor], file: Path | str | None = None) -> VitShape:
    """The size of the transformer that `state` is of, by DINOv2's names.

    Raises
    ------
    InputError : not a state dict of this kind, or not of a size that DINOv2 has.
    """
    read_from = {"cls_token": 3, "pos_embed": 3, "patch_embed.proj.weight": 4}
    blocks = {int(key.split(".")[1]) for key in state if re.match(r"blocks\.\d+\.", key)}
    feed_forward = next((k for k in ("mlp.fc1.weight", "mlp.w12.weight") if f"blocks.0.{k}" in state), None)
    fits = (key in state and state[key].dim() == n and state[key].numel() for key, n in read_from.items())
    if not all(fits) or feed_forward is None:
        raise InputError(
            "these are not weights of DINOv2",
            file=file,
            found=some(sorted(state)) or "no tensors",
            allowed=f"a state dict with {', '.join(read_from)} and blocks.N.*",
            remedy="Take the file of a backbone as DINOv2 or DinoBloom publishes it.",
        )
    registers = state.get("register_tokens")
    patch = state["patch_embed.proj.weight"].shape[-1]
    grid = math.isqrt(max(0, state["pos_embed"].shape[-2] - 1))
    hidden, swiglu = state["cls_token"].shape[-1], feed_forward.endswith("w12.weight")
    if hidden % HEAD_WIDTH:
        raise InputError(
            "the number of attention heads of these weights is not known",
            file=file,
            found=f"{hidden} numbers per token",
            allowed=f"a multiple of {HEAD_WIDTH}, which a head has in every published DINOv2",
            remedy="Give a folder with config.json and model.safetensors instead; config.json says it.",
        )
    ratio = 4 if swiglu else max(1, state[f"blocks.0.{feed_forward}"].shape[0] // hidden)
    return VitShape(
        hidden=hidden,
        layers=len(blocks),
        registers=0 if registers is None else registers.shape[-2],
        patch=patch,
        image_size=grid * patch,
        mlp_ratio=ratio,
        swiglu=swiglu,
    )


def published_layout(shape: VitShape) -> dict[str, tuple[int, ...]]:
    """What DINOv2's state dict of this size holds: the shape of each tensor by name."""
    d, m, n = shape.hidden, shape.mlp_hidden, (shape.image_size // shape.patch) ** 2
    layout: dict[str, tuple[int, ...]] = {"cls_token": (1, 1, d), "pos_embed": (1, 1 + n, d)}
    if shape.registers:
        layout["register_tokens"] = (1, shape.registers, d)
    layout |= {"mask_token": (1, d), "norm.weight": (d,), "norm.bias": (d,)}
    layout |= {"patch_embed.proj.weight": (d, 3, shape.patch, shape.patch), "patch_embed.proj.bias": (d,)}
    feed_forward = {"w12": (2 * m, d), "w3": (d, m)} if shape.swiglu else {"fc1": (m, d), "fc2": (d, m)}
    linear = {"attn.qkv": (3 * d, d), "attn.proj": (d, d)} | {f"mlp.{k}": v for k, v in feed_forward.items()}
    norms = [f"{norm}.{kind}" for norm in ("norm1", "norm2") for kind in ("weight", "bias")]
    for block in (f"blocks.{i}." for i in range(shape.layers)):
        layout |= {f"{block}{norm}": (d,) for norm in norms}
        layout |= {f"{block}{scale}.gamma": (d,) for scale in ("ls1", "ls2")}
        layout |= {f"{block}{name}.weight": size for name, size in linear.items()}
        layout |= {f"{block}{name}.bias": size[:1] for name, size in linear.items()}
    return layout


def check_layout(
    state: Mapping[str, Tensor], layout: Mapping[str, tuple[int, ...]], file: Path | str | None = None
) -> None:
    """Refuse a state dict that is not exactly of this layout, or not finite.

    Raises
    ------
    InputError : a name is missing, strange, or its tensor does not fit.
    """
    faults = {
        "missing": [name for name in layout if name not in state],
        "not known": [name for name in state if name not in layout],
        "does not fit": [
            f"{name} {tuple(state[name].shape)} for {size}"
            for name, size in layout.items()
            if name in state and tuple(state[name].shape) != size
        ],
        "not finite numbers": [
            name
            for name, value in state.items()
            if not (value.is_floating_point() and bool(torch.isfinite(value).all()))
        ],
    }
    if any(faults.values()):
        raise InputError(
            "these weights are not of a DINOv2 of this size",
            file=file,
            found="; ".join(f"{what}: {some(names)}" for what, names in faults.items() if names),
            allowed=f"its {len(layout)} tensors: {some(list(layout))}",
            remedy="Take the file of a backbone as DINOv2 or DinoBloom publishes it, complete and unaltered.",
        )


_TOP = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "register_tokens": "embeddings.register_tokens",
    "mask_token": "embeddings.mask_token",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
}
_BLOCK = {
    "norm1": ("norm1",),
    "attn.qkv": ("attention.q_proj", "attention.k_proj", "attention.v_proj"),
    "attn.proj": ("attention.o_proj",),
    "ls1": ("layer_scale1",),
    "norm2": ("norm2",),
    "mlp.fc1": ("mlp.fc1",),
    "mlp.fc2": ("mlp.fc2",),
    "mlp.w12": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp.w3": ("mlp.down_proj",),
    "ls2": ("layer_scale2",),
}
"""Names of a block in DINOv2 and in transformers; several share the rows out in order."""


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """DINOv2's tensors under the names of transformers, in single precision; `state` fits its layout.

    Queries, keys and values, which are one matrix in DINOv2, become three; of the gated feed-forward network
    the first half of the rows is the gate.
    """
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        if name in _TOP:
            renamed[_TOP[name]] = value.float()
            continue
        layer, _, kind = name.rpartition(".")
        if layer in _TOP:
            renamed[f"{_TOP[layer]}.{kind}"] = value.float()
            continue
        _, number, part = layer.split(".", 2)
        targets = _BLOCK[part]
        for target, rows in zip(targets, value.float().chunk(len(targets)), strict=True):
            kind_there = "lambda1" if kind == "gamma" else kind
            renamed[f"encoder.layer.{number}.{target}.{kind_there}"] = rows.contiguous()
    return renamed


def _read(path: Path) -> tuple[dict[str, Tensor], str]:
    """`read_weights`, or what lies under `teacher` in a file that holds that besides."""
    try:
        return read_weights(path)
    except InputError:
        nested = _under_teacher(path)
        if nested is None:
            raise
        return nested, sha256_file(path)


def _under_teacher(path: Path) -> dict[str, Tensor] | None:
    if path.suffix.lower() not in (".pth", ".pt") or not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # `read_weights` has said what is wrong with it
        return None
    inner = state.get(_TEACHER) if isinstance(state, Mapping) else None
    if not isinstance(inner, Mapping) or not all(isinstance(value, Tensor) for value in inner.values()):
        return None
    return dict(inner)

"""Small transformers, state dicts as DINOv2 publishes them, a second way through them, and a few steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional

from lymphoscope.encoders.published import VitShape, published_layout
from lymphoscope.models.vit.network import DinoNetwork

SMALL = VitShape(hidden=64, layers=3, registers=4, image_size=56)
PLAIN = VitShape(hidden=64, layers=2, registers=0, image_size=56)
GIANT = VitShape(hidden=128, layers=2, registers=4, image_size=42, swiglu=True)


def network(seed: int = 0, **options: Any) -> DinoNetwork:
    torch.manual_seed(seed)
    given = {"source": "random", "shape": SMALL, "image_size": 56, "adapter_width": 8} | options
    return DinoNetwork(**given)


def photographs(n: int = 3, size: int = 56, seed: int = 5) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def clinical(n: int = 3) -> Tensor:
    return torch.linspace(-1, 1, 3 * n).reshape(n, 3)


def published_state(shape: VitShape = SMALL, seed: int = 7) -> dict[str, Tensor]:
    """Tensors by DINOv2's names; normalisations and layer scales lie about 1, all else is small."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, size in published_layout(shape).items():
        value = 0.15 * torch.randn(size, generator=generator)
        one = name.endswith("gamma") or ("norm" in name and name.endswith("weight"))
        state[name] = value + 1 if one else value
    return state


def dinobloom_state(shape: VitShape = PLAIN) -> dict[str, dict[str, Tensor]]:
    """The teacher of a DINOv2 training, as DinoBloom publishes it."""
    teacher = {f"backbone.{name}": value for name, value in published_state(shape).items()}
    heads = {
        f"{head}.{layer}.weight": torch.ones(4, 4) for head in ("dino_head", "ibot_head") for layer in "ab"
    }
    return {"teacher": teacher | heads}


def reference_tokens(state: dict[str, Tensor], images: Tensor, heads: int) -> Tensor:
    """All tokens after the last normalisation, (n, 1 + registers + patches, d): Oquab et al. 2023, and Darcet
    et al. 2023 for the registers, from tensors by their published names."""
    weight = state["patch_embed.proj.weight"]
    maps = functional.conv2d(images, weight, state["patch_embed.proj.bias"], stride=weight.shape[-1])
    tokens = maps.flatten(2).transpose(1, 2)
    tokens = torch.cat([state["cls_token"].expand(len(images), -1, -1), tokens], dim=1)
    tokens = tokens + reference_positions(state, maps.shape[-1])
    if "register_tokens" in state:
        registers = state["register_tokens"].expand(len(images), -1, -1)
        tokens = torch.cat([tokens[:, :1], registers, tokens[:, 1:]], dim=1)
    number = 0
    while f"blocks.{number}.norm1.weight" in state:
        start = f"blocks.{number}."
        block = {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}
        tokens = reference_block(block, tokens, heads)
        number += 1
    return _normalised(state, "norm", tokens)


def reference_positions(state: dict[str, Tensor], side: int) -> Tensor:
    table = state["pos_embed"]
    was = round((table.shape[1] - 1) ** 0.5)
    if side == was:
        return table
    grid = table[:, 1:].reshape(1, was, was, -1).permute(0, 3, 1, 2)
    if "register_tokens" in state:
        grid = functional.interpolate(grid, size=(side, side), mode="bicubic", antialias=True)
    else:
        factor = (side + 0.1) / was
        grid = functional.interpolate(grid, scale_factor=(factor, factor), mode="bicubic", antialias=False)
    return torch.cat([table[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


def reference_block(block: dict[str, Tensor], tokens: Tensor, heads: int) -> Tensor:
    n, length, width = tokens.shape
    qkv = _linear(block, "attn.qkv", _normalised(block, "norm1", tokens))
    q, k, v = qkv.reshape(n, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    attention = ((q @ k.transpose(-2, -1)) / (width // heads) ** 0.5).softmax(dim=-1)
    seen = (attention @ v).transpose(1, 2).reshape(n, length, width)
    tokens = tokens + block["ls1.gamma"] * _linear(block, "attn.proj", seen)
    inner = _normalised(block, "norm2", tokens)
    if "mlp.w12.weight" in block:
        gate, value = _linear(block, "mlp.w12", inner).chunk(2, dim=-1)
        inner = _linear(block, "mlp.w3", functional.silu(gate) * value)
    else:
        inner = _linear(block, "mlp.fc2", functional.gelu(_linear(block, "mlp.fc1", inner)))
    return tokens + block["ls2.gamma"] * inner


def _linear(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def _normalised(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    spread = (centred.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt()
    return centred / spread * state[f"{name}.weight"] + state[f"{name}.bias"]


def written(state: Any, path: Path) -> Path:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path)
    return path


def tokens_of(model: Any, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model(images).last_hidden_state


def output(model: DinoNetwork, images: Tensor | None = None) -> Tensor:
    images = photographs() if images is None else images
    with torch.no_grad():
        return model.eval()(images, clinical(len(images)))


def features(model: DinoNetwork, images: Tensor | None = None) -> Tensor:
    images = photographs() if images is None else images
    with torch.no_grad():
        return model.eval().features(images, clinical(len(images)))


LABELS = torch.tensor([0, 1, 0, 1, 1, 0])


def planted() -> Tensor:
    """Photographs of which those with label 1 are brighter."""
    return photographs(6) + LABELS[:, None, None, None]


def trained(model: DinoNetwork, steps: int = 3, rate: float = 1e-2) -> DinoNetwork:
    """The network after some steps of AdamW, with weight decay, on planted labels."""
    images, labels = planted(), LABELS
    chosen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(chosen, lr=rate, weight_decay=0.1)
    model.train()
    for _ in range(steps):
        optimiser.zero_grad()
        functional.cross_entropy(model(images, clinical(6)), labels).backward()
        optimiser.step()
    return model


def learned(model: DinoNetwork) -> dict[str, Tensor]:
    """Copies of all that is trained."""
    return {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}

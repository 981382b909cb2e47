"""A training in full on disk after each epoch: weights, optimiser, history. Tensors and JSON, no code.

Random numbers need no place in it: those of every epoch are derived from the seed and the epoch's number.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lymphoscope.files import atomic_path
from lymphoscope.training.curves import Epoch

_WEIGHTS, _KEPT, _OPTIMISER = "weights.", "kept.", "optimiser."

Weights = dict[str, Tensor]


def save_checkpoint(
    path: Path,
    key: str,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    history: Sequence[Epoch],
    kept: Sequence[Weights],
) -> None:
    """Write everything that training on needs, atomically; `key` tells what it belongs to."""
    tensors = {_WEIGHTS + name: value for name, value in network.state_dict().items()}
    for i, weights in enumerate(kept):
        tensors |= {f"{_KEPT}{i}.{name}": value for name, value in weights.items()}
    for i, parameter in enumerate(_parameters(optimiser)):
        for name, value in optimiser.state[parameter].items():
            tensors[f"{_OPTIMISER}{i}.{name}"] = torch.as_tensor(value)
    epochs = json.dumps([epoch.as_dict() for epoch in history])
    metadata = {"key": key, "history": epochs, "kept": str(len(kept))}
    with atomic_path(path) as temporary:
        save_file({name: value.detach().contiguous() for name, value in tensors.items()}, temporary, metadata)


def load_checkpoint(
    path: Path, key: str, network: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[list[Epoch], list[Weights]] | None:
    """Take up what was saved under `key`; None, and nothing changed, where there is no such checkpoint."""
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
    except Exception:  # missing, cut short or foreign: the remedy is the same, train from the start
        return None
    own = network.state_dict()
    if metadata.get("key") != key or any(_WEIGHTS + name not in tensors for name in own):
        return None
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(tensors[_WEIGHTS + name])
        for i, parameter in enumerate(_parameters(optimiser)):
            state = _under(f"{_OPTIMISER}{i}.", tensors)
            # Copied into memory laid out like the parameter, so that every later sum is the same to the bit.
            optimiser.state[parameter] = {
                name: torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value
                for name, value in state.items()
            }
    history = [Epoch.from_dict(each) for each in json.loads(metadata["history"])]
    return history, [_under(f"{_KEPT}{i}.", tensors) for i in range(int(metadata["kept"]))]


def _under(start: str, tensors: Weights) -> Weights:
    """Those whose names begin so, by the rest of their names."""
    return {name[len(start) :]: value for name, value in tensors.items() if name.startswith(start)}


def _parameters(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]

"""A training in full on disk after each epoch: weights, optimiser, history. Tensors and JSON, no code.

Random numbers need no place in it: those of every epoch are derived from the seed and the epoch's number.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from lymphoscope.files import atomic_path
from lymphoscope.training.curves import Epoch
from lymphoscope.training.learner import Learner, Weights, under

_KEPT = "kept."


def save_checkpoint(
    path: Path, key: str, learner: Learner, history: Sequence[Epoch], kept: Sequence[Weights]
) -> None:
    """Write everything that training on needs, atomically; `key` tells what it belongs to."""
    tensors = learner.tensors()
    for i, weights in enumerate(kept):
        tensors |= {f"{_KEPT}{i}.{name}": value for name, value in weights.items()}
    epochs = json.dumps([epoch.as_dict() for epoch in history])
    metadata = {"key": key, "history": epochs, "kept": str(len(kept))}
    write_tensors(path, tensors, metadata)


def load_checkpoint(path: Path, key: str, learner: Learner) -> tuple[list[Epoch], list[Weights]] | None:
    """Take up what was saved under `key`; None, and nothing changed, where there is no such checkpoint."""
    found = read_tensors(path, key)
    if found is None or not learner.take_up(found[0]):
        return None
    tensors, metadata = found
    history = [Epoch.from_dict(each) for each in json.loads(metadata["history"])]
    return history, [under(f"{_KEPT}{i}.", tensors) for i in range(int(metadata["kept"]))]


def write_tensors(path: Path, tensors: Weights, metadata: dict[str, str]) -> None:
    """Tensors and texts in one file, atomically."""
    from safetensors.torch import save_file  # a bare machine may lack it

    with atomic_path(path) as temporary:
        save_file({name: value.detach().contiguous() for name, value in tensors.items()}, temporary, metadata)


def read_tensors(path: Path, key: str) -> tuple[Weights, dict[str, str]] | None:
    """What `write_tensors` wrote with this `key` among the texts; None where there is no such file."""
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
    except Exception:  # missing, cut short or foreign: the remedy is the same, train from the start
        return None
    return (tensors, metadata) if metadata.get("key") == key else None

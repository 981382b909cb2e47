"""Features that nothing trains, computed once in a process for each cell.

Folds, members, inner folds and predictions of one model look at the same cells again and again through the
same frozen network, which is the slowest part of it. So what it gave is remembered by content: of the
network's frozen tensors, and of the cell. That changes the speed and never a bit: cells go through in groups
of one size, the last one filled up, so that no result depends on who else was in the group.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from lymphoscope.training.augmentation import Normalisation, prepare

_AT_ONCE = 32
_ROOM = 1 << 28
"""Bytes of features; where more would be remembered, all are forgotten first."""

_known: dict[bytes, Tensor] = {}
"""Features (d,) on the CPU, by the content of network and cell."""


def remembers(network: Any) -> bool:
    """Whether the features of a network follow from what is frozen in it alone, and so may be remembered.

    Those that take a scale from some training cells give others in every fold.
    """
    return bool(network.frozen_features and not network.looks_first)


def frozen_features(
    network: Any, images: Tensor, normalisation: Normalisation, device: torch.device
) -> Tensor:
    """Features (n, d) on `device` of uint8 images (n, S, S, 3), of a network that `remembers` allows."""
    own = _content(network, normalisation, device)
    keys = [hashlib.blake2b(own + cell.tobytes(), digest_size=16).digest() for cell in images.cpu().numpy()]
    new = {key: row for row, key in enumerate(keys) if key not in _known}
    found = {key: _known[key] for key in keys if key in _known}
    for start in range(0, len(new), _AT_ONCE):
        some = list(new.items())[start : start + _AT_ONCE]
        filled = images.new_zeros((_AT_ONCE, *images.shape[1:]))
        filled[: len(some)] = images[[row for _, row in some]]
        clinical = torch.zeros(_AT_ONCE, 3, device=device)  # features of frozen networks do not see them
        given = network.features(prepare(filled.to(device), normalisation), clinical).cpu()
        found |= {key: given[i].clone() for i, (key, _) in enumerate(some)}
    _remember({key: found[key] for key in new})
    return torch.stack([found[key] for key in keys]).to(device)


def _remember(new: dict[bytes, Tensor]) -> None:
    size = sum(each.nbytes for each in new.values())
    if size + sum(each.nbytes for each in _known.values()) > _ROOM:
        _known.clear()
    if size <= _ROOM:
        _known.update(new)


def _content(network: Any, normalisation: Normalisation, device: torch.device) -> bytes:
    """What the features of a cell follow from, besides the cell."""
    digest = hashlib.blake2b(f"{normalisation} {device} {torch.get_num_threads()}".encode(), digest_size=16)
    frozen = [(name, each) for name, each in network.named_parameters() if not each.requires_grad]
    for name, tensor in (*frozen, *network.named_buffers()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.digest()

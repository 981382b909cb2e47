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
    """Whether a network allows it (`CellNetwork.remembered`), and its features take little room.

    Those of an option that is no tensor could not be told from another option's. Those that take a scale from
    some training cells are others in every fold, and those of all places of a map are many.
    """
    alike = network.remembered and not network.looks_first
    return bool(network.frozen_features and alike and not network.by_place)


class Remembered:
    """The features of a network that `remembers` allows.

    Parameters
    ----------
    normalisation : of the cells.
    device : that the network is on.
    """

    def __init__(self, network: Any, normalisation: Normalisation, device: torch.device) -> None:
        self._network, self._normalisation, self._device = network, normalisation, device
        self._content = _content(network, normalisation, device)

    def features(self, images: Tensor) -> Tensor:
        """(n, d) on the device, of uint8 images (n, S, S, 3)."""
        keys = [
            hashlib.blake2b(self._content + cell.tobytes(), digest_size=16).digest()
            for cell in images.cpu().numpy()
        ]
        found = {key: _known[key] for key in keys if key in _known}
        new = {key: row for row, key in enumerate(keys) if key not in found}
        for start in range(0, len(new), _AT_ONCE):
            some = dict(list(new.items())[start : start + _AT_ONCE])
            given = self._group(images[list(some.values())])
            found |= {key: each.clone() for key, each in zip(some, given, strict=False)}
        _remember({key: found[key] for key in new})
        return torch.stack([found[key] for key in keys]).to(self._device)

    def _group(self, images: Tensor) -> Tensor:
        """Of a few cells and what fills up their group, (`_AT_ONCE`, d), on the CPU."""
        filled = images.new_zeros((_AT_ONCE, *images.shape[1:]))
        filled[: len(images)] = images
        clinical = torch.zeros(
            _AT_ONCE, 3, device=self._device
        )  # features of frozen networks do not see them
        with torch.autocast(self._device.type, enabled=False):
            given: Tensor = self._network.features(
                prepare(filled.to(self._device), self._normalisation), clinical
            )
        return given.cpu()


def _remember(new: dict[bytes, Tensor]) -> None:
    """All features have the same type; so many as there is room for."""
    if not new:
        return
    size = sum(each.nbytes for each in new.values())
    if size + len(_known) * (size // len(new)) > _ROOM:
        _known.clear()
    if size <= _ROOM:
        _known.update(new)


def _content(network: Any, normalisation: Normalisation, device: torch.device) -> bytes:
    """What the features of a cell follow from, besides the cell."""
    kind = f"{type(network).__qualname__} {type(getattr(network, 'encoder', None)).__qualname__}"
    made_by = f"{kind} {normalisation} {device} {torch.get_num_threads()}"
    digest = hashlib.blake2b(made_by.encode(), digest_size=16)
    frozen = [(name, each) for name, each in network.named_parameters() if not each.requires_grad]
    for name, tensor in (*frozen, *network.named_buffers()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.digest()

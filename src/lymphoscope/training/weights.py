"""Weights from elsewhere: files of named tensors, read without trusting whoever wrote them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from lymphoscope.errors import InputError
from lymphoscope.files import sha256_file

_CONVERT = (
    "If you trust its origin, convert it where it came from: "
    'safetensors.torch.save_file(model.state_dict(), "weights.safetensors").'
)


def read_weights(path: Path | str) -> tuple[dict[str, Tensor], str]:
    """Tensors of a checkpoint by name, on the CPU, and the SHA-256 of its file.

    `.safetensors`, or `.pth` and `.pt` through torch's reader that takes tensors only and runs no code.

    Raises
    ------
    InputError : no such file, another suffix, or not a plain checkpoint of tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            "there is no file of weights here",
            file=path,
            found="a folder" if path.is_dir() else "nothing of this name",
            allowed=", ".join(f"a {suffix} file" for suffix in _READERS),
            remedy="Give the path of a checkpoint that you have downloaded.",
        )
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise InputError(
            "weights of this kind are not read",
            file=path,
            found=path.suffix or path.name,
            allowed=", ".join(_READERS),
            remedy=f"Name a checkpoint. {_CONVERT}",
        )
    try:
        state = read(path)
    except Exception as error:  # both readers raise whatever their parser stumbles over
        raise InputError(
            "this file cannot be read as tensors alone",
            file=path,
            found=str(error).strip().partition("\n")[0][:120] or type(error).__name__,
            allowed="a checkpoint that holds nothing but named tensors",
            remedy=_CONVERT,
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(
            "this file holds more than named tensors",
            file=path,
            found=some(list(state)) if isinstance(state, Mapping) else type(state).__name__,
            allowed="a state dict: one tensor per name",
            remedy=f"Save the state dict alone. {_CONVERT}",
        )
    return dict(state), sha256_file(path)


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the names, kinds, shapes and bytes of tensors, however they were read."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def some(names: list[str], shown: int = 3) -> str:
    """The first few of `names`, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def _read_safetensors(path: Path) -> object:
    from safetensors.torch import load_file  # a bare machine may lack it

    return load_file(path)


def _read_pickle(path: Path) -> object:
    return torch.load(path, map_location="cpu", weights_only=True)


_READERS = {".safetensors": _read_safetensors, ".pth": _read_pickle, ".pt": _read_pickle}

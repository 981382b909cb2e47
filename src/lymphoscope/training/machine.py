"""How a training uses the machine: memory, precision, where photographs lie, the same bits every time."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from typing import Any

import torch

from lymphoscope.errors import InputError
from lymphoscope.training.prediction import CellData
from lymphoscope.training.settings import Precision, TrainingSettings

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""Of mallopt(3)."""


@cache
def keep_memory() -> None:
    """Have the C library keep what it is given back instead of asking for it anew in every step.

    Its default returns large blocks to the system at once; fetching them again, page by page, took a quarter
    of a training step of a small network. Systems without glibc are left alone.
    """
    if sys.platform != "linux" or not hasattr(library := ctypes.CDLL(None), "mallopt"):
        return
    for option, value in ((_MMAP_THRESHOLD, 1 << 30), (_TRIM_THRESHOLD, (1 << 31) - 1), (_TOP_PAD, 64 << 20)):
        library.mallopt(option, value)


def device_named(name: str) -> torch.device:
    """The device of that name; "auto" is a graphics processor where there is one, else the processor.

    Raises
    ------
    InputError : a graphics processor is asked for where there is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "there is no graphics processor here that PyTorch can use",
            found="device cuda",
            allowed="auto, cpu",
        )
    return torch.device(name)


def fastest_precision(device: torch.device) -> Precision:
    """bfloat16 where the device is faster with it, by its kind: the same in every process and every run.

    A graphics processor that has it, and a processor that has AMD's AVX-512 instructions for it, which
    were faster than single precision on those measured (`benchmarks/precision.py`), or tiles, which by their
    design are and were not at hand. Intel's AVX-512 instructions without tiles were slower. Never by a timing
    made here: on a busy machine it differs from one process to the next, and with it the result.
    """
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    has: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    fast = has.get("amx_bf16") or (has.get("avx512_bf16") and "AMD" in str(has.get("cpu_name")))
    return "bfloat16" if fast else "float32"


def autocast(settings: TrainingSettings, device: torch.device) -> AbstractContextManager[Any]:
    if settings.precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def beside(data: CellData, device: torch.device) -> CellData:
    """The same cells in the device's own memory, where they take less than half of what is free there."""
    if device.type != "cuda" or data.cells.device == device:
        return data
    free, _ = torch.cuda.mem_get_info(device)
    return replace(data, cells=data.cells.to(device)) if data.cells.nbytes < free / 2 else data


@contextmanager
def same_bits(device: torch.device) -> Iterator[None]:
    """While the block runs, a graphics processor sums in the same order every time, in true single precision.

    By default its convolutions round what they multiply to ten bits (TF32). Others do neither.
    """
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for, before its first use
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    rounded = torch.backends.cudnn.allow_tf32
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        torch.backends.cudnn.allow_tf32 = rounded

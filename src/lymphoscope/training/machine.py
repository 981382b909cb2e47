"""How a training uses the machine: memory, precision, where photographs lie, the same bits every time."""

from __future__ import annotations

import ctypes
import math
import os
import sys
import time
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

_PROBE, _TURNS = 512, 6
"""Rows of the matrices that are multiplied to compare precisions, and how often."""

_WORTH_ROUNDING = 1.3
"""Times that bfloat16 must be faster to be taken."""


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
    """bfloat16 where the device is faster with it: a graphics processor that has it, or as measured here.

    That a processor has instructions for it is not enough: some have fewer units for them than for single
    precision, and are slower.
    """
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    known = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # no public name for it yet
    if known is None or not known():
        return "float32"
    return "bfloat16" if bfloat16_gain() > _WORTH_ROUNDING else "float32"


@cache
def bfloat16_gain() -> float:
    """How many times faster this process multiplies matrices in bfloat16 than in single precision.

    The quickest of several turns each, some hundredths of a second together. Processors seen so far gave 0.4
    and 2.6, so that a busy machine does not change what follows from it.
    """
    quickest = dict.fromkeys((torch.float32, torch.bfloat16), math.inf)
    factors = {dtype: torch.ones(_PROBE, _PROBE, dtype=dtype) for dtype in quickest}
    for _ in range(_TURNS):
        for dtype, factor in factors.items():
            start = time.perf_counter()
            factor @ factor
            quickest[dtype] = min(quickest[dtype], time.perf_counter() - start)
    return quickest[torch.float32] / quickest[torch.bfloat16]


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

"""What is installed, and whether what is needed works on this machine."""

from __future__ import annotations

import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata as packages
from pathlib import Path

import numpy as np

from lymphoscope.cores import available_cores

PROGRAM = "lymphoscope"
SPACE_NEEDED = 1 << 30
"""Bytes that the photographs and numbers of a large cohort take in the cache."""


@dataclass(frozen=True)
class Line:
    """One thing that was looked at."""

    what: str
    found: str
    ok: bool = True


def examine(cache: Path) -> Iterator[Line]:
    """Look at the interpreter, the packages, the processor, the cache folder and the JPEG decoder."""
    yield Line("Python", f"{platform.python_version()} ({sys.platform})", sys.version_info >= (3, 11))
    for name in (PROGRAM, *needed()):
        yield _package(name)
    yield Line("Processor cores", str(available_cores()))
    yield _cache(cache)
    yield _jpeg()


def needed() -> list[str]:
    """Packages that this one requires, without those of its extras; none where it is not installed itself."""
    try:
        required = packages.requires(PROGRAM) or []
    except packages.PackageNotFoundError:
        return []
    names = (re.match(r"[\w.-]+", line) for line in required if "extra ==" not in line)
    return [name.group() for name in names if name]


def _package(name: str) -> Line:
    try:
        return Line(name, packages.version(name))
    except packages.PackageNotFoundError:
        return Line(name, "not installed; pip install it", ok=False)


def _cache(folder: Path) -> Line:
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Line(
            "Cache folder",
            f"{folder}: cannot be written ({error.strerror}); choose one with --cache",
            ok=False,
        )
    return Line("Cache folder", f"{folder}, {free / 2**30:.1f} GiB free", free > SPACE_NEEDED)


def _jpeg() -> Line:
    """Encode a grey ramp and decode it: the decoder's shared library is loaded and right."""
    import simplejpeg

    ramp = np.repeat(np.linspace(0, 255, 64, dtype=np.uint8)[:, None, None], 3, axis=2).repeat(64, axis=1)
    decoded = simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(np.ascontiguousarray(ramp), quality=95))
    worst = int(np.abs(decoded.astype(int) - ramp).max())
    return Line("JPEG decoder", f"largest error {worst} of 255 after a round trip", worst <= 8)

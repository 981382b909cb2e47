"""Writing that a kill or a full disk cannot leave half done, and content hashes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lymphoscope.errors import WriteError

# Temporary files are private by default; what they become must be readable like any file of the user's.
_UMASK = os.umask(0)
os.umask(_UMASK)


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn what the operating system says while `target` is written into one error that names `target`.

    Raises
    ------
    WriteError : the disk is full, the folder may not be written to, a file stands where a folder must, ….
    """
    try:
        yield
    except OSError as error:
        raise WriteError(target, error.strerror or str(error)) from error
    except WriteError as error:  # of a file in a temporary folder, whose name would tell nobody anything
        raise WriteError(target, error.reason) from error


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; on success it becomes `target`, else it is removed."""
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            temporary.chmod(0o666 & ~_UMASK)
            yield temporary
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def write_bytes(target: Path, data: bytes) -> None:
    """Write `data` to `target` atomically."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 `text` to `target` atomically."""
    write_bytes(target, text.encode("utf-8"))


def to_json(value: Any) -> str:
    """Canonical JSON text: sorted keys, two-space indent, final newline, no NaN."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(target: Path, value: Any) -> None:
    """Write `value` as canonical JSON, atomically."""
    write_text(target, to_json(value))


@contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `target` that becomes `target` on success.

    `target` must not exist yet; nothing that exists is overwritten.
    """
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
        try:
            temporary.chmod(0o777 & ~_UMASK)
            yield temporary
            temporary.replace(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def sha256_bytes(data: bytes) -> str:
    """Hexadecimal SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_json(value: Any) -> str:
    """Hexadecimal SHA-256 of the canonical JSON of `value`."""
    return sha256_bytes(to_json(value).encode("utf-8"))


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of the file at `path`."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

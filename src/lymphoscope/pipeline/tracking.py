"""`--track`: the epochs of every fold as TensorBoard shows them, while networks are trained."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lymphoscope.errors import InputError
from lymphoscope.evaluation.epoch_progress import Track
from lymphoscope.files import writing
from lymphoscope.training.curves import Epoch

NewWriter = Callable[[Path], Any]
"""Makes a writer of events for a folder: with `add_scalar(tag, value, step)`, `flush()` and `close()`."""


@contextmanager
def tracking(folder: Path | None, *, new_writer: NewWriter | None = None) -> Iterator[Track | None]:
    """Yield what writes epochs below `folder`, a folder per recipe and fold; None where `folder` is None.

    Raises
    ------
    InputError : TensorBoard is not installed.
    """
    if folder is None:
        yield None
        return
    tracker = _Tracker(folder, new_writer or _tensorboard())
    try:
        yield tracker
    finally:
        tracker.close()


def require_tracking(folder: Path | None, run: Path | None = None) -> None:
    """Refuse, before the work begins, what `tracking` would, and a folder within that of the run."""
    if folder is None:
        return
    _tensorboard()
    if folder.exists() and not folder.is_dir():
        raise InputError("this is a file; events go into a folder", file=folder, remedy="Name a folder.")
    if run is not None and folder.resolve().is_relative_to(run.resolve()):
        raise InputError(
            "the folder for TensorBoard lies inside the run's, which holds nothing but the run",
            file=folder,
            allowed=f"a place outside {run}",
        )


@contextmanager
def told_if_untracked(folder: Path | None, tell: Callable[[str], None]) -> Iterator[None]:
    """`tell` a sentence after the block where it has left no new events in `folder`."""
    before = _events(folder)
    yield
    if folder is not None and _events(folder) == before:
        tell(
            f"Nothing was written to {folder}: no network was trained in this call. The curves of those that "
            "were trained before are in the results."
        )


def _events(folder: Path | None) -> frozenset[Path]:
    return frozenset() if folder is None else frozenset(folder.rglob("events.*"))


class _Tracker:
    """Writes what it is told; one writer per recipe and fold."""

    def __init__(self, folder: Path, new_writer: NewWriter) -> None:
        self._folder, self._new_writer = folder, new_writer
        self._writers: dict[tuple[str, str], Any] = {}

    def __call__(self, recipe: str, fold: str, epoch: Epoch) -> None:
        with writing(self._folder):
            writer = self._writers.get((recipe, fold)) or self._open(recipe, fold)
            for of, measured in (("training", epoch.training), ("validation", epoch.validation)):
                for name, value in ({} if measured is None else asdict(measured)).items():
                    if math.isfinite(value):
                        writer.add_scalar(f"{name}/{of}", value, epoch.number)
            writer.add_scalar("learning_rate", epoch.learning_rate, epoch.number)
            writer.add_scalar("images_per_second", epoch.images / max(epoch.seconds, 1e-9), epoch.number)
            writer.flush()

    def close(self) -> None:
        with writing(self._folder):
            for writer in self._writers.values():
                writer.close()

    def _open(self, recipe: str, fold: str) -> Any:
        folder = self._folder / _file_name(recipe) / _file_name(fold)
        folder.mkdir(parents=True, exist_ok=True)
        self._writers[recipe, fold] = self._new_writer(folder)
        return self._writers[recipe, fold]


def _file_name(text: str) -> str:
    """`text` as a name that every file system takes."""
    return re.sub(r"[^\w.@=+-]+", "_", text)


def _tensorboard() -> NewWriter:
    if find_spec("tensorboard") is None:
        raise InputError(
            "--track writes for TensorBoard, which is not installed",
            remedy="Install it with `pip install 'lymphoscope[track]'`, or leave --track out; the curves are "
            "in the results either way.",
        )

    def new_writer(folder: Path) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(folder))

    return new_writer

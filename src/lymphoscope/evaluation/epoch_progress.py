"""Epochs of all folds while networks train: for the progress that is shown, and for whoever tracks them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lymphoscope.cohort.progress import Noting, Progress
from lymphoscope.evaluation.epoch_log import listening
from lymphoscope.training.curves import Epoch

Track = Callable[[str, str, Epoch], None]
"""Told of the recipe, of the fold as in "repeat 1, fold 2", and of every epoch of its training."""

INNER_LOG = "-inner"
"""Ends the name of the log of trainings within a fold, which count as progress and are not tracked."""


def fold_log(repeat: int, fold: int, ending: str = "") -> str:
    """Name of the file in which a fold tells of its epochs."""
    return f"{repeat}-{fold}{ending}.jsonl"


def fold_name(repeat: int, fold: int) -> str:
    """What people call a fold; `repeat` and `fold` from 0."""
    return f"repeat {repeat + 1}, fold {fold + 1}"


@contextmanager
def epochs_shown(
    progress: Progress | None,
    track: Track | None,
    log: Path,
    name: str,
    total: int,
    done: int,
    processes: int,
) -> Iterator[None]:
    """While the block runs, show and track the epochs that folds write into the folder `log`.

    Parameters
    ----------
    name : of the recipe.
    total, done : epochs of all folds, and of those folds that need not be trained any more.
    processes : that train at the same time.
    """
    heard = _Epochs(progress, track, name, processes)
    if progress is not None:
        progress.start(name, total)
        progress.advance(done)
        heard.note("epochs")
    with listening(log, heard):
        yield
    if progress is not None:
        progress.done()


class _Epochs:
    """Adds up what is heard of."""

    def __init__(self, progress: Progress | None, track: Track | None, name: str, processes: int) -> None:
        self._progress, self._track, self._name = progress, track, name
        self._processes, self._images, self._seconds = processes, 0, 0.0

    def __call__(self, log: str, epoch: Epoch) -> None:
        self._images += epoch.images
        self._seconds += epoch.seconds
        if self._progress is not None:
            self._progress.advance()
            speed = self._processes * self._images / max(self._seconds, 1e-9)
            self.note(f"epochs, {speed:,.0f} images/s")
        if self._track is not None and not log.endswith(INNER_LOG):
            repeat, fold = log.split("-")
            self._track(self._name, fold_name(int(repeat), int(fold)), epoch)

    def note(self, text: str) -> None:
        if isinstance(self._progress, Noting):
            self._progress.note(text)

"""Epochs of all folds while networks train: for the progress that is shown, and for whoever tracks them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock

from lymphoscope.cohort.progress import Noting, Progress
from lymphoscope.evaluation.epoch_log import listening
from lymphoscope.evaluation.resampling import Watch
from lymphoscope.training.curves import Epoch

Track = Callable[[str, str, Epoch], None]
"""Told of the recipe, of the fold as in "repeat 1, fold 2", and of every epoch of its training."""

INNER_LOG = "-inner"
"""Ends the name of the log of trainings within a fold, which count as progress and are not tracked."""


def fold_log(repeat: int, fold: int, ending: str = "") -> str:
    """Name of the file in which a fold tells of its epochs."""
    return f"{repeat}-{fold}{ending}.jsonl"


def training_name(fold: str, epoch: Epoch) -> str:
    """What the training of an epoch is called: the fold, and which of several networks it is."""
    return f"{fold}, network {epoch.member + 1}" if epoch.member else fold


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
) -> Iterator[Callable[[int, int, int], None]]:
    """While the block runs, show and track the epochs that folds write into the folder `log`.

    Yields what is to be told of a finished fold: its repeat, its number, and how many epochs it was given.

    Parameters
    ----------
    name : of the recipe.
    total, done : epochs of all folds, and of those folds that need not be trained any more.
    processes : that train at the same time.
    """
    heard = _Epochs(progress, track, name, processes)
    with heard.shown(name, total, done), listening(log, lambda log, epoch: heard(_fold_of(log), epoch)):
        yield lambda repeat, fold, epochs: heard.spare(epochs - epochs_in(log, repeat, fold))


@contextmanager
def training_shown(
    progress: Progress | None, track: Track | None, name: str, patients: str, total: int
) -> Iterator[tuple[Watch, Watch]]:
    """While the block runs, show the epochs of a training in this process.

    Yields what is to be told of the epochs that are tracked too, as those of the fold called `patients`, and
    what of those that are progress alone.
    """
    heard = _Epochs(progress, track, name, 1)
    with heard.shown(f"{name}, {patients}", total, 0):
        yield partial(heard, patients), partial(heard, "")


def epochs_in(log: Path, repeat: int, fold: int) -> int:
    """How many epochs a fold has told of."""
    files = (log / fold_log(repeat, fold, ending) for ending in ("", INNER_LOG))
    return sum(len(path.read_text("utf-8").splitlines()) for path in files if path.exists())


def _fold_of(log: str) -> str:
    """What people call the fold that wrote a log; "" for trainings within a fold."""
    if log.endswith(INNER_LOG):
        return ""
    repeat, fold = log.split("-")
    return fold_name(int(repeat), int(fold))


class _Epochs:
    """Adds up what is heard of."""

    def __init__(self, progress: Progress | None, track: Track | None, name: str, processes: int) -> None:
        self._progress, self._track, self._name = progress, track, name
        self._processes, self._images, self._seconds = processes, 0, 0.0
        self._left, self._lock = 0, Lock()  # a thread hears of epochs, another is told of finished folds

    @contextmanager
    def shown(self, what: str, total: int, done: int) -> Iterator[None]:
        if self._progress is None:
            yield
            return
        self._progress.start(what, total)
        self._progress.advance(done)
        self._left = total - done
        self._note("epochs")
        yield
        self.spare(self._left)
        self._progress.done()

    def spare(self, n: int) -> None:
        """`n` epochs are not needed: training stopped early, or went on where it had been killed."""
        with self._lock:
            self._left -= n
        if n and isinstance(self._progress, Noting):
            self._progress.spare(n)

    def __call__(self, fold: str, epoch: Epoch) -> None:
        self._images += epoch.images
        self._seconds += epoch.seconds
        with self._lock:
            self._left -= 1
        if self._progress is not None:
            self._progress.advance()
            speed = self._processes * self._images / max(self._seconds, 1e-9)
            self._note(f"epochs, {speed:,.0f} cells/s")
        if self._track is not None and fold:
            self._track(self._name, training_name(fold, epoch), epoch)

    def _note(self, text: str) -> None:
        if isinstance(self._progress, Noting):
            self._progress.note(text)

"""What trainings of encoders share: seeds of an epoch, and what is told of their steps."""

from __future__ import annotations

import math
import time

import numpy as np

from lymphoscope.cohort.progress import Noting, Progress


def torch_seed(*parts: int) -> int:
    """A seed for torch that every one of `parts` changes."""
    return int(np.random.SeedSequence(list(parts)).generate_state(1)[0])


class ShownSteps:
    """What is told of the steps, short enough for 80 columns to show the time left beside it.

    Parameters
    ----------
    what : name of the work.
    steps : in all.
    done : of these, in an earlier call.
    """

    def __init__(self, progress: Progress | None, what: str, steps: int, done: int) -> None:
        self._progress = progress
        self._began, self._images, self._loss = time.perf_counter(), 0, math.nan
        if progress:
            progress.start(what, steps)
            progress.advance(done)

    def step(self, epoch: int, images: int, loss: float) -> None:
        """One step of an epoch, counted from 0, on so many photographs."""
        self._images += images
        self._loss = loss if math.isnan(self._loss) else 0.98 * self._loss + 0.02 * loss
        if self._progress:
            self._progress.advance()
            self._note(f"epoch {epoch + 1}, {self._speed:,.0f}/s, loss {self._loss:.2f}")

    def done(self) -> None:
        """The training has ended."""
        if self._progress:
            self._note(f"steps, {self._speed:,.0f} images/s, loss {self._loss:.2f}")
            self._progress.done()

    @property
    def _speed(self) -> float:
        return self._images / max(time.perf_counter() - self._began, 1e-9)

    def _note(self, text: str) -> None:
        if isinstance(self._progress, Noting):
            self._progress.note(text)

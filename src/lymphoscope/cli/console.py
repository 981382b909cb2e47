"""What the commands print: progress with speed and time left, findings, and one clear last line."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


BESIDE_NAME = 59
"""Columns of a terminal that bar, numbers, speed and time left take."""


SOONEST = 0.05
"""Seconds: what takes less was not worked on."""


SPEED_OVER_S = 600.0
"""Seconds; an epoch of a large network takes minutes, and the time left is known from two of them."""


class SpeedColumn(ProgressColumn):
    """Steps per second, e.g. cells/s, or what the work says of its own speed."""

    def render(self, task: Task) -> Text:
        """The speed over the last steps, or over all of a finished task."""
        if note := task.fields.get("note"):
            return Text(note)
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else _per_second(speed))


class TerminalProgress:
    """Progress on a terminal; one line per finished stage where standard error is not a terminal."""

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=14),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            SpeedColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=errors,
            speed_estimate_period=SPEED_OVER_S,
        )
        self._live = errors.is_terminal
        self._what, self._note, self._count, self._total, self._began = "", "", 0, 0, 0.0
        self._task = None if not self._live else self._bars.add_task("", visible=False)

    def start(self, what: str, total: int) -> None:
        """Begin a stage of `total` steps."""
        self._what, self._note, self._count, self._total = what, "", 0, total
        self._began = time.monotonic()
        if self._live:
            self._task = self._bars.add_task(_fitting(what, errors.width - BESIDE_NAME), total=total)

    def advance(self, n: int = 1) -> None:
        """Count `n` finished steps."""
        self._count += n
        if self._live and self._task is not None:
            self._bars.advance(self._task, n)

    def note(self, text: str) -> None:
        """Show `text` after the number of steps in place of their speed."""
        self._note = text
        if self._live and self._task is not None:
            self._bars.update(self._task, note=text)

    def spare(self, n: int) -> None:
        """Count on `n` steps less."""
        self._total -= n
        if self._live and self._task is not None:
            self._bars.update(self._task, total=self._total)

    def done(self) -> None:
        """End the stage."""
        seconds = time.monotonic() - self._began
        if not self._live:
            print(finished_line(self._what, self._count, seconds, self._note), file=sys.stderr)

    @contextmanager
    def shown(self) -> Iterator[TerminalProgress]:
        """Show the bars while the block runs."""
        if not self._live:
            yield self
            return
        with self._bars:
            yield self


def finished_line(what: str, count: int, seconds: float, note: str = "") -> str:
    """One line on a finished stage: "net: 60 epochs, 1,240 cells/s, 28 s", "cells: 900 in 3.0 s (300/s)"."""
    if note:
        return f"{what}: {count:,} {note}, {seconds:,.{0 if seconds >= 10 else 1}f} s"
    if seconds < SOONEST:  # there already, so that it has no speed
        return f"{what}: {count:,}, at once"
    return f"{what}: {count:,} in {seconds:.1f} s ({_per_second(count / seconds)})"


def _fitting(name: str, width: int) -> str:
    """`name` in 34 columns where there is room, or all of it where there is more, or as much as there is."""
    room = max(width, 12)
    return (name if len(name) <= room else f"{name[: room - 1]}…").ljust(min(room, 34))


def _per_second(speed: float) -> str:
    return f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.1f}/s"

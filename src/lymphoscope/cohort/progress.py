"""How long work tells that it is under way, without knowing who listens."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


class Progress(Protocol):
    """Told what is being done and how far it is; the command line draws it."""

    def start(self, what: str, total: int) -> None:
        """Work called `what` begins; it has `total` units."""

    def advance(self, n: int = 1) -> None:
        """`n` more units of the work that was started last are finished."""

    def done(self) -> None:
        """The work that was started last is finished."""


@runtime_checkable
class Noting(Progress, Protocol):
    """Progress that can also say what its units are and how fast they go, and that some are not needed."""

    def note(self, text: str) -> None:
        """Show `text` after the number of finished units in place of their speed: "epochs, 900 cells/s"."""

    def spare(self, n: int) -> None:
        """`n` of the units that are left need not be done."""

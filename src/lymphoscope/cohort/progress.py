"""How long work tells that it is under way, without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told what is being done and how far it is; the command line draws it."""

    def start(self, what: str, total: int) -> None:
        """Work called `what` begins; it has `total` units."""

    def advance(self, n: int = 1) -> None:
        """`n` more units of the work that was started last are finished."""

    def done(self) -> None:
        """The work that was started last is finished."""

"""Errors a user can act on: where, what was found, what is allowed, what to do."""

from __future__ import annotations

from pathlib import Path


class LymphoscopeError(Exception):
    """Base of every error that is the input's or the environment's, not the program's."""


class InputError(LymphoscopeError):
    """Something of the user's cannot be used as it is.

    Parameters
    ----------
    problem : one clause that says what is wrong.
    file : the file or folder concerned.
    row : 1-based line in that file, the header being line 1.
    column : column name in that file.
    found, allowed : what came, and what may come.
    remedy : one sentence, imperative.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: Path | str | None = None,
        row: int | None = None,
        column: str | None = None,
        found: object = None,
        allowed: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.problem, self.file, self.row, self.column = problem, file, row, column
        self.found, self.allowed, self.remedy = found, allowed, remedy
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        where = ", ".join(
            part
            for part in (
                None if self.file is None else str(self.file),
                None if self.row is None else f"row {self.row}",
                None if self.column is None else f"column {self.column}",
            )
            if part
        )
        text = f"{where}: {self.problem}" if where else self.problem
        if self.found is not None:
            text += f"; found {self.found!r}"
        if self.allowed is not None:
            text += f"; allowed: {self.allowed}"
        return f"{text.rstrip('.')}." + (f" {self.remedy}" if self.remedy else "")


class WriteError(LymphoscopeError):
    """A file or folder could not be written, and nothing of it is left.

    Parameters
    ----------
    target : what was being written.
    reason : what the operating system says.
    """

    def __init__(self, target: Path, reason: str) -> None:
        self.target, self.reason = target, reason
        super().__init__(
            f"{target}: could not be written ({reason}). Nothing was left half written; free some space or "
            "choose another folder."
        )


class BundleError(LymphoscopeError):
    """A model bundle is foreign, altered, or newer than this program."""


class RunFolderError(LymphoscopeError):
    """A run folder holds something that this run must not overwrite or cannot resume."""

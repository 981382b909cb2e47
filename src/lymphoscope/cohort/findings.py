"""Findings: what is wrong or noteworthy about a cohort, coded so that it can be cited, ignored, or fixed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from lymphoscope.errors import InputError


class Severity(StrEnum):
    """How much a finding matters: an error stops a run, a warning and an information do not."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True)
class Finding:
    """One kind of fault, found in this cohort; each kind is a subclass with its own code.

    Attributes
    ----------
    message : one sentence that says what was found, with numbers.
    patients : ids of the patients concerned, in table order.
    files : paths concerned, relative to the cohort (or table rows as "file:row").
    """

    code: ClassVar[str]
    title: ClassVar[str]
    severity: ClassVar[Severity]
    remedy: ClassVar[str]

    message: str
    patients: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def anchor(self) -> str:
        """Where the documentation explains this code."""
        return f"docs/reference/findings.md#{self.code.lower()}"

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "code": self.code,
            "title": self.title,
            "severity": str(self.severity),
            "message": self.message,
            "remedy": self.remedy,
            "patients": list(self.patients),
            "files": list(self.files),
            "anchor": self.anchor,
        }


def counted(n: int, noun: str) -> str:
    """`n` and the noun, with an s unless `n` is 1: "1 patient", "2 patients"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def without(findings: Iterable[Finding], ignored: Iterable[str]) -> tuple[Finding, ...]:
    """Leave out the findings whose codes are in `ignored`, in upper or lower case.

    Raises
    ------
    InputError : a code is not known; lists those that are.
    """
    codes = {code.strip().upper() for code in ignored}
    known = [kind.code for kind in all_kinds()]
    if codes - set(known):
        raise InputError(
            "there is no finding with this code to ignore",
            found=", ".join(sorted(codes - set(known))),
            allowed=", ".join(known),
        )
    return tuple(finding for finding in findings if finding.code not in codes)


def all_kinds() -> tuple[type[Finding], ...]:
    """Every kind of finding that the modules loaded so far define, by code."""
    return tuple(sorted(Finding.__subclasses__(), key=lambda kind: kind.code))

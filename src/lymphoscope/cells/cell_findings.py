"""What is found while measuring cells: LYM3xx."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lymphoscope.cohort.findings import Finding, Severity


@dataclass(frozen=True)
class CellNotSegmented(Finding):
    """A photograph in which no cell could be outlined."""

    code: ClassVar[str] = "LYM301"
    title: ClassVar[str] = "Cell could not be segmented"
    severity: ClassVar[Severity] = Severity.WARNING
    remedy: ClassVar[str] = (
        "Look at these photographs: smudged, empty or badly lit ones are expected to be few. They stay in "
        "the cohort, flagged by `segmented` = 0 and with missing numbers."
    )


@dataclass(frozen=True)
class CellBlurred(Finding):
    """A photograph without fine detail."""

    code: ClassVar[str] = "LYM302"
    title: ClassVar[str] = "Cell is out of focus"
    severity: ClassVar[Severity] = Severity.INFO
    remedy: ClassVar[str] = (
        "Chromatin texture of these cells is not reliable; photograph them again if they are many."
    )


@dataclass(frozen=True)
class CellCutOff(Finding):
    """A cell that reaches beyond the frame."""

    code: ClassVar[str] = "LYM303"
    title: ClassVar[str] = "Cell is cut off by the frame"
    severity: ClassVar[Severity] = Severity.INFO
    remedy: ClassVar[str] = (
        "Area and shape of these cells are not complete; use photographs that hold the whole cell."
    )

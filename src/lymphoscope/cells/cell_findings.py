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


@dataclass(frozen=True)
class NotALymphocyte(Finding):
    """A cell that the encoder takes for a neutrophil, eosinophil, basophil or platelets, and is sure of it.

    Sure is a calibrated probability of these four, taken together, of at least 0.9. A cell that looks like a
    monocyte, an immature granulocyte or an erythroblast is not counted: a malignant lymphoid cell may look so
    to an encoder that has seen none. The patients named are those with more than half of their cells so.
    """

    code: ClassVar[str] = "LYM304"
    title: ClassVar[str] = "Cell is taken for another kind"
    severity: ClassVar[Severity] = Severity.INFO
    remedy: ClassVar[str] = (
        "Look at these photographs before you leave any out: the encoder has seen healthy blood alone, and "
        "may be sure and wrong of a malignant cell, of another stain or of another magnification. A smudged "
        "lymphocyte may be taken for platelets, and many smudged ones are a sign of chronic lymphocytic "
        "leukaemia. `--leave-out-cells flagged` leaves these cells out, and with them those of LYM301 and "
        "LYM302; otherwise all count."
    )


@dataclass(frozen=True)
class CellsOfAnotherSize(Finding):
    """The cells are much larger or smaller on the frame than lymphocytes on an analyser's photographs.

    Brought to 224 pixels, these are some 55 to 75 pixels across. Photographs that were taken, cut or scaled
    otherwise change every size that is measured, and are foreign to an encoder that learned at that scale;
    the words that it finds for them are not to be trusted. Large cells alone, blasts for instance, stay
    within the limits, from 38 to 110 pixels.
    """

    code: ClassVar[str] = "LYM305"
    title: ClassVar[str] = "Cells of another size"
    severity: ClassVar[Severity] = Severity.WARNING
    remedy: ClassVar[str] = (
        "Give the photographs as the analyser saves them. If these are what there is, trust recipes that "
        "learn from them alone, with --encoder none, and no words."
    )

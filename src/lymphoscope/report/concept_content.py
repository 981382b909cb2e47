"""What the report says of cells in words, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lymphoscope.stats.group_differences import Difference
from lymphoscope.stats.intervals import Interval


@dataclass(frozen=True)
class DescribedCell:
    """One photographed cell and what the encoder says of it.

    Attributes
    ----------
    jpeg : a small JPEG; see `patient_table.crop_jpeg`.
    kind : the likeliest type, shortened to stand below the picture.
    words : type and some attributes with their probabilities.
    name : file name of the photograph.
    """

    jpeg: bytes
    kind: str
    words: str
    name: str = ""


@dataclass(frozen=True)
class Trait:
    """Part of a patient's cells that look so: a few words, and the share with its interval."""

    words: str
    share: Interval


@dataclass(frozen=True)
class Portrait:
    """What one patient's cells look like.

    Attributes
    ----------
    traits : always the same ones in the same order.
    alike : part of the attributes in which two cells are told alike, 0 to 1; NaN where not known.
    typical, untypical : cells nearest to, and furthest from, the mean of the patient's cells; the most
        typical and the least typical first.
    flagged : cells taken for a type that is no lymphocyte, and the encoder is sure: how many of each.
    """

    traits: tuple[Trait, ...]
    alike: float
    typical: tuple[DescribedCell, ...] = ()
    untypical: tuple[DescribedCell, ...] = ()
    flagged: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ConceptRow:
    """One concept, compared between malignant and reactive patients.

    Attributes
    ----------
    words : what is seen in the cells.
    difference : of the patients' shares.
    is_share : the number is a share of cells, and not how alike they are.
    """

    words: str
    difference: Difference
    is_share: bool = True


@dataclass(frozen=True)
class ConceptComparison:
    """How the cells of malignant and reactive patients differ, in words.

    Attributes
    ----------
    rows : the largest effects first; not all that were compared.
    n_compared : concepts that the p-values are corrected for.
    n_malignant, n_reactive : labelled patients with cells.
    """

    rows: tuple[ConceptRow, ...]
    n_compared: int
    n_malignant: int
    n_reactive: int

"""What is found about an encoder beside a cohort: LYM5xx."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lymphoscope.cohort.bags import IntArray
from lymphoscope.cohort.cell_store import CellStore
from lymphoscope.cohort.cohort import UNLABELLED, Cohort
from lymphoscope.cohort.findings import Finding, Severity, counted
from lymphoscope.cohort.progress import Progress
from lymphoscope.encoders.adapted import seen_in_adaptation
from lymphoscope.encoders.colours import Colours
from lymphoscope.encoders.encoder import Encoder
from lymphoscope.encoders.kept import COLOUR_MAP, COLOURS
from lymphoscope.encoders.known_cells import CellsLearnedFrom, find_known


@dataclass(frozen=True)
class AdaptedOnThesePatients(Finding):
    """The encoder was adapted or matched, without labels, to photographs of patients with known labels.

    When such a patient is held out and scored, the encoder has seen its cells before. So every number of a
    recipe on its embeddings or concepts, or whose own network begins with it, is transductive: it is that of
    patients who were all there from the start, and says little of one who comes later. The folder of an
    adapted encoder lists the photographs.
    """

    code: ClassVar[str] = "LYM502"
    title: ClassVar[str] = "Encoder has seen these patients' cells"
    severity: ClassVar[Severity] = Severity.WARNING
    remedy: ClassVar[str] = (
        "Measure with an encoder that was adapted or matched to other patients (`--patients unlabelled` of "
        "`lymphoscope encoder adapt` and `match`), or with the recipe `encoder-adapted-mean`, which adapts "
        "in every fold anew."
    )


@dataclass(frozen=True)
class UnlikeColours(Finding):
    """The colours of these photographs are far from those that the encoder has learned from.

    Another stain, camera or white balance can make an encoder take all cells for much the same. Given is how
    far pixels would have to move on the average, in spreads of the pixels that the encoder has learned from
    (`Colours.distance`): other patients of its own laboratory were within 0.15 of it, single types of cells
    within 0.3, another laboratory at 0.7.
    """

    code: ClassVar[str] = "LYM503"
    title: ClassVar[str] = "Colours unlike those the encoder learned from"
    severity: ClassVar[Severity] = Severity.WARNING
    remedy: ClassVar[str] = (
        "Match the encoder to these photographs (`lymphoscope encoder match COHORT -o MATCHED`) and name it "
        "with `--encoder MATCHED`. Colours alone are matched: cells photographed at another magnification "
        "stay foreign to it, and the words that it finds for them are then not to be trusted."
    )


_FAR = 0.4
"""Distance of colours that is worth a word; see `UnlikeColours`."""

_CELLS = 500
"""Photographs that colours are looked at in, evenly spread."""

SEEN_BEFORE = (CellsLearnedFrom, AdaptedOnThesePatients)
"""Findings that an encoder has seen these cells before."""


def encoder_findings(
    encoder: Encoder, cohort: Cohort, store: CellStore, *, jobs: int = 2, progress: Progress | None = None
) -> tuple[Finding, ...]:
    """What an encoder has seen of this cohort before: in its first training, and when it was adapted."""
    found = (*_adapted_on_these(encoder, cohort, store), *_colours_of_these(encoder, store))
    if encoder.known is None:
        return found
    size, name = encoder.image_size, encoder.name
    known = find_known(cohort, store, encoder.known, size, name, jobs=jobs, progress=progress)
    return (*known, *found)


def _adapted_on_these(encoder: Encoder, cohort: Cohort, store: CellStore) -> tuple[Finding, ...]:
    label = cohort.patients.label[store.index.patient]
    seen = seen_in_adaptation(encoder, store.index.sha256) & (label != UNLABELLED)
    if not seen.any():
        return ()
    patients: IntArray = np.unique(store.index.patient[seen])
    message = (
        f"{encoder.name} was adapted or matched to {counted(int(seen.sum()), 'photograph')} of "
        f"{counted(len(patients), 'labelled patient')} of this cohort: results that are built on it are "
        "transductive."
    )
    return (AdaptedOnThesePatients(message, tuple(cohort.patients.ids[i] for i in patients)),)


def _colours_of_these(encoder: Encoder, store: CellStore) -> tuple[Finding, ...]:
    preprocessing = (encoder.card or {}).get("preprocessing", {})
    if COLOURS not in preprocessing or COLOUR_MAP in preprocessing or len(store) == 0:
        return ()
    shown = np.unique(np.linspace(0, len(store) - 1, _CELLS).round().astype(np.int64))
    images = np.stack([store.crop(i, encoder.image_size) for i in shown.tolist()])
    distance = Colours.of(images).distance(Colours.from_dict(preprocessing[COLOURS]))
    if distance < _FAR:
        return ()
    message = (
        f"Pixels are {distance:.2f} spreads from the colours that {encoder.name} has learned from; {_FAR:g} "
        "is far."
    )
    return (UnlikeColours(message),)

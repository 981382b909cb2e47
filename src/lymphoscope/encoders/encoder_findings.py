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
from lymphoscope.encoders.encoder import Encoder
from lymphoscope.encoders.known_cells import CellsLearnedFrom, find_known


@dataclass(frozen=True)
class AdaptedOnThesePatients(Finding):
    """The encoder was adapted, without labels, on photographs of patients whose labels are known here.

    When such a patient is held out and scored, the encoder has seen its cells before. So every number of a
    recipe on its embeddings or concepts, or whose own network begins with it, is transductive: it is that of
    patients who were all there from the start, and says little of one who comes later. The folder of an
    adapted encoder lists the photographs.
    """

    code: ClassVar[str] = "LYM502"
    title: ClassVar[str] = "Encoder has seen these patients' cells"
    severity: ClassVar[Severity] = Severity.WARNING
    remedy: ClassVar[str] = (
        "Measure with an encoder that was adapted on other patients (`lymphoscope encoder adapt --patients "
        "unlabelled`), or with the recipe `encoder-adapted-mean`, which adapts in every fold anew."
    )


SEEN_BEFORE = (CellsLearnedFrom, AdaptedOnThesePatients)
"""Findings that an encoder has seen these cells before."""


def encoder_findings(
    encoder: Encoder, cohort: Cohort, store: CellStore, *, jobs: int = 2, progress: Progress | None = None
) -> tuple[Finding, ...]:
    """What an encoder has seen of this cohort before: in its first training, and when it was adapted."""
    adapted = _adapted_on_these(encoder, cohort, store)
    if encoder.known is None:
        return adapted
    size, name = encoder.image_size, encoder.name
    known = find_known(cohort, store, encoder.known, size, name, jobs=jobs, progress=progress)
    return (*known, *adapted)


def _adapted_on_these(encoder: Encoder, cohort: Cohort, store: CellStore) -> tuple[Finding, ...]:
    label = cohort.patients.label[store.index.patient]
    seen = seen_in_adaptation(encoder, store.index.sha256) & (label != UNLABELLED)
    if not seen.any():
        return ()
    patients: IntArray = np.unique(store.index.patient[seen])
    message = (
        f"{encoder.name} was adapted on {counted(int(seen.sum()), 'photograph')} of "
        f"{counted(len(patients), 'labelled patient')} of this cohort: results that are built on it are "
        "transductive."
    )
    return (AdaptedOnThesePatients(message, tuple(cohort.patients.ids[i] for i in patients)),)

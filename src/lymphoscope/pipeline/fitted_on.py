"""The patients that a model was fitted on, known again by their photographs and not by their names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from lymphoscope.encoders.kept import DIGITS
from lymphoscope.pipeline.preparation import Prepared

_KEPT = 3
"""Photographs a patient. Those with the lowest hashes, so that a patient who has some more by now, or some
less, is still known."""


def known_by(prepared: Prepared) -> list[str]:
    """What a model keeps of each labelled patient: the first digits of some SHA-256 of photographs."""
    labelled = set(prepared.labelled.tolist())
    return sorted(
        digest
        for patient, digests in _digests(prepared).items()
        if patient in labelled
        for digest in sorted(digests)[:_KEPT]
    )


def known_again(kept: Collection[str], prepared: Prepared) -> int:
    """How many patients of a cohort have a photograph that is among those kept."""
    wanted = set(kept)
    return sum(not wanted.isdisjoint(digests) for digests in _digests(prepared).values())


def _digests(prepared: Prepared) -> dict[int, list[str]]:
    """Patient → first digits of the SHA-256 of its photographs."""
    index = prepared.store.index
    found: dict[int, list[str]] = defaultdict(list)
    for patient, digest in zip(index.patient.tolist(), index.sha256.tolist(), strict=True):
        found[patient].append(digest[:DIGITS])
    return found

"""Planted faults: wrong labels, empty fields, copied photographs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.synthetic.clinical import Floats, Ints, Labels
from lymphoscope.cohort.synthetic.plan import Leak

LEAKING_PATIENTS, LEAKING_TEST = 0.1, 0.4
COPIED_SHARE = 0.5
REENCODED_SHARE = 0.25


@dataclass(frozen=True)
class Copy:
    """One photograph that stands for another: cell `to` of the cohort shows cell `source`.

    `reencoded` copies are compressed once more and so differ in bytes; the others are identical files.
    """

    source: int
    to: int
    reencoded: bool


def flip_labels(label: Labels, share: float, rng: np.random.Generator) -> Labels:
    """Labels of which the share `share`, to the nearest patient, is wrong."""
    flipped = rng.permutation(len(label))[: round(share * len(label))]
    noisy = label.copy()
    noisy[flipped] = 1 - noisy[flipped]
    return noisy


def missing_values(clinical: Floats, probability: float, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Which values of a clinical table are left empty, shape as `clinical`."""
    return np.asarray(rng.random(clinical.shape) < probability)


def draw_copies(
    leak: Leak, label: Labels, is_test: Labels, offsets: Ints, rng: np.random.Generator
) -> list[Copy]:
    """Choose which cells are copies of which.

    "patients": a tenth of the labelled patients, at least one, take half of their photographs from another
    labelled patient. "splits": four in ten of the test patients take theirs from labelled patients. Giver
    and taker have the same true label where there is such a pair, no taker gives.
    """
    if leak == "none":
        return []
    labelled, test = np.flatnonzero(is_test == 0), np.flatnonzero(is_test == 1)
    pool, share = (labelled, LEAKING_PATIENTS) if leak == "patients" else (test, LEAKING_TEST)
    takers = rng.permutation(pool)[: max(1, round(share * len(pool)))]
    givers = np.setdiff1d(labelled, takers)
    copies = []
    for taker in takers:
        alike = givers[label[givers] == label[taker]]
        giver = int(rng.choice(alike if len(alike) else givers))
        available = int(offsets[giver + 1] - offsets[giver])
        wanted = round(COPIED_SHARE * int(offsets[taker + 1] - offsets[taker]))
        n = min(available, max(1, wanted))
        sources = offsets[giver] + rng.permutation(available)[:n]
        targets = offsets[taker] + rng.permutation(int(offsets[taker + 1] - offsets[taker]))[:n]
        reencoded = rng.random(len(targets)) < REENCODED_SHARE
        copies += [
            Copy(int(s), int(t), bool(r)) for s, t, r in zip(sources, targets, reencoded, strict=False)
        ]
    return copies

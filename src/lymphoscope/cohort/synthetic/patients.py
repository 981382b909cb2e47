"""All patients of a cohort, drawn from one seed: labels, clinical values, populations, looks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lymphoscope.cohort.synthetic.clinical import ClinicalDraw, Floats, Labels, draw_clinical, draw_labels
from lymphoscope.cohort.synthetic.look import draw_looks
from lymphoscope.cohort.synthetic.plan import SyntheticPlan
from lymphoscope.cohort.synthetic.population import Populations, draw_populations


@dataclass(frozen=True, eq=False)
class PatientDraw:
    """n patients.

    Attributes
    ----------
    label : int8 (n,), the truth: 1 malignant, 0 reactive.
    is_test : int8 (n,), 1 for the unlabelled test patients.
    clinical, populations : see there.
    looks, border : see `look.draw_looks`.
    """

    label: Labels
    is_test: Labels
    clinical: ClinicalDraw
    populations: Populations
    looks: Floats
    border: Labels

    def __len__(self) -> int:
        return len(self.label)


def generator(seed: int, purpose: int, item: int = 0) -> np.random.Generator:
    """An independent stream for each (purpose, item), so that one option leaves other draws as they were."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, item)))


LABELS, CLINICAL, POPULATIONS, LOOKS, CELLS, FAULTS, TABLES, PIXELS = range(8)


def draw_patients(plan: SyntheticPlan, labelled: int, test: int, seed: int) -> PatientDraw:
    """Draw `labelled` + `test` patients, the test patients last."""
    rng = generator(seed, LABELS)
    label = np.concatenate([draw_labels(n, plan.prevalence, rng) for n in (labelled, test)])
    is_test = (np.arange(labelled + test) >= labelled).astype(np.int8)
    coin = rng.integers(0, 2, labelled + test, dtype=np.int8)
    giveaway = np.where(is_test == 1, coin, label).astype(np.int8)
    clinical = draw_clinical(plan, label, giveaway, generator(seed, CLINICAL))
    populations = draw_populations(plan, label, generator(seed, POPULATIONS))
    looks, border = draw_looks(plan, is_test, giveaway, generator(seed, LOOKS))
    return PatientDraw(label, is_test, clinical, populations, looks, border)

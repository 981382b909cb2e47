"""Cohorts at the level of per-cell numbers, without pixels: thousands of them, for tests of statistics.

Each column is a linear reading of a cell's latent traits and of its patient's look, plus measurement noise.
The weights, in `readings.csv`, were fitted to what `lymphoscope.cells` measures on painted cells
(`benchmarks/synthetic_readings.py`), so these numbers are worth about as much as those from photographs.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.bags import Bags
from lymphoscope.cohort.synthetic.clinical import Labels
from lymphoscope.cohort.synthetic.faults import flip_labels, missing_values
from lymphoscope.cohort.synthetic.look import LOOK
from lymphoscope.cohort.synthetic.patients import CELLS, FAULTS, draw_patients, generator
from lymphoscope.cohort.synthetic.plan import SyntheticPlan
from lymphoscope.cohort.synthetic.population import TRAITS, draw_cells

READINGS_FILE: Final = "readings.csv"
READINGS_HEADER: Final = ("column", "base", "noise", *TRAITS, *LOOK)

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Readings:
    """How measured columns follow from the truth: base + traits @ by_trait + look @ by_look + noise.

    Attributes
    ----------
    columns : n_columns names, as `lymphoscope.cells` has them.
    base, noise : (n_columns,); noise is the standard deviation between cells.
    by_trait : (n_traits, n_columns). by_look : (n_looks, n_columns).
    """

    columns: tuple[str, ...]
    base: Weights
    noise: Weights
    by_trait: Weights
    by_look: Weights


@cache
def readings() -> Readings:
    """The readings that the package ships."""
    text = resources.files(__package__).joinpath(READINGS_FILE).read_text("utf-8")
    header, *rows = csv.reader(text.splitlines())
    if tuple(header) != READINGS_HEADER:
        raise ValueError(f"{READINGS_FILE}: columns {header}; allowed: {READINGS_HEADER}")
    table = np.array([[float(value) for value in row[1:]] for row in rows], dtype=np.float32).T
    by_trait, by_look = table[2 : 2 + len(TRAITS)], table[2 + len(TRAITS) :]
    return Readings(tuple(row[0] for row in rows), table[0], table[1], by_trait, by_look)


def draw_numbers(
    plan: SyntheticPlan, n_patients: int, seed: int, *, max_cells: int | None = None
) -> tuple[Bags, Labels]:
    """Draw labelled patients as per-cell numbers.

    Of the plan's options for faults, label noise, missing values and the background and bag-size shortcuts
    apply; a border, copies, test patients and dirt have no counterpart here.

    Parameters
    ----------
    plan : its `patients`, `test` and `seed` are not used.
    n_patients : patients to draw, 2 or more.
    seed : the same plan, number and seed give the same bags.
    max_cells : at most this many cells per patient are kept; for populations of many thousands.

    Returns
    -------
    bags : `cells` float32 (n_cells, n_columns), columns as in `readings`; those named background_* and
        neighbours_* hold no signal.
    y : int8 (n_patients,), labels as a table would give them, label noise included.
    """
    patients = draw_patients(plan, n_patients, 0, seed)
    n_cells = patients.clinical.n_cells
    if max_cells is not None:
        n_cells = np.minimum(n_cells, max_cells)
    rng = generator(seed, CELLS)
    cells = draw_cells(patients.populations, n_cells, rng)
    reading = readings()
    values = rng.standard_normal((len(cells.patient), len(reading.columns)), dtype=np.float32)
    values *= reading.noise
    values += cells.traits @ reading.by_trait
    values += (reading.base + patients.looks.astype(np.float32) @ reading.by_look)[cells.patient]

    faults = generator(seed, FAULTS)
    y = flip_labels(patients.label, plan.label_noise, faults)
    clinical = patients.clinical.table()
    clinical[missing_values(clinical, plan.missing, faults)] = np.nan
    bags = Bags(
        cells=values,
        offsets=np.concatenate([[0], np.cumsum(n_cells)]),
        clinical=clinical,
        patient_ids=tuple(f"P{i + 1}" for i in range(n_patients)),
        columns=reading.columns,
    )
    return bags, y

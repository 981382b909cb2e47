"""Cohorts at the level of per-cell numbers, without pixels: thousands of them, for tests of statistics.

Each column is a linear reading of latent traits and of the patient's look, plus measurement noise: what a
segmentation and its measurements would give, at a millionth of the price.
"""

from __future__ import annotations

from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Reading:
    """How a measured column follows from the truth: base + Σ weight × trait + Σ weight × look + noise."""

    name: str
    base: float
    noise: float
    traits: dict[str, float] = field(default_factory=dict)
    look: dict[str, float] = field(default_factory=dict)


READINGS: Final = (
    Reading("nucleus_area_px", -2080, 120, {"nucleus_radius_px": 162}, {"defocus": 25}),
    Reading("cell_area_px", 1600, 190, {"nucleus_radius_px": 192, "nucleus_share": -4100}, {"defocus": 30}),
    Reading("cell_nucleus_ratio", 0.06, 0.03, {"nucleus_share": 0.9}, {"stain_strength": 0.012}),
    Reading("nucleus_roundness", 0.97, 0.02, {"irregularity": -0.9, "cleft": -0.25, "elongation": -0.2}),
    Reading("nucleus_solidity", 0.985, 0.008, {"cleft": -0.12, "irregularity": -0.3}),
    Reading("nucleus_eccentricity", 0.25, 0.08, {"elongation": 2.2}),
    Reading("nucleus_lab_l", 46, 1.6, {"nucleus_density": -26}, {"stain_strength": -1.4, "exposure": 0.7}),
    Reading("nucleus_lab_b", 38, 1.2, {"nucleus_density": -6}, {"stain_blueness": -1.5}),
    Reading("chromatin_contrast_od", 2.5, 0.6, {"clumping": 4.0}, {"defocus": -0.35}),
    Reading(
        "chromatin_granularity_2px_od", 1.6, 0.35, {"clumping": 1.6, "nucleolus": 0.8}, {"defocus": 0.12}
    ),
    Reading("cytoplasm_lab_l", 74, 3.2, {"basophilia": -30}, {"stain_strength": -0.8, "exposure": 0.8}),
    Reading("cytoplasm_blueness_od", 12, 3.0, {"basophilia": 28}, {"stain_blueness": 1.2}),
    Reading("cytoplasm_granule_fraction", 1.0, 0.35, {"granules": 3.0, "vacuoles": 1.6}, {"defocus": -0.1}),
    Reading("cell_edge_hairiness", 0.02, 0.01, {"hair": 0.09}, {"defocus": -0.002}),
    Reading("neighbours_red_cell_fraction", 11, 3.0, {}, {"red_cell_density": 2.4}),
    Reading("background_lab_l", 93, 0.6, {}, {"exposure": 0.7, "background_warmth": -0.4}),
    Reading("background_lab_b", 14, 0.8, {}, {"exposure": -0.4, "background_warmth": 1.3}),
)
"""Columns of the bags that `draw_numbers` gives, in order; the last three hold no signal."""

NUMBER_COLUMNS: Final = tuple(reading.name for reading in READINGS)


def _weights() -> tuple[npt.NDArray[np.float32], ...]:
    base = np.array([reading.base for reading in READINGS], dtype=np.float32)
    noise = np.array([reading.noise for reading in READINGS], dtype=np.float32)
    traits = np.array([[r.traits.get(name, 0.0) for r in READINGS] for name in TRAITS], dtype=np.float32)
    look = np.array([[r.look.get(name, 0.0) for r in READINGS] for name in LOOK], dtype=np.float32)
    return base, noise, traits, look


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
    bags : `cells` float32 (n_cells, len(NUMBER_COLUMNS)).
    y : int8 (n_patients,), labels as a table would give them, label noise included.
    """
    patients = draw_patients(plan, n_patients, 0, seed)
    n_cells = patients.clinical.n_cells
    if max_cells is not None:
        n_cells = np.minimum(n_cells, max_cells)
    rng = generator(seed, CELLS)
    cells = draw_cells(patients.populations, n_cells, rng)
    base, noise, traits, look = _weights()
    values = rng.standard_normal((len(cells.patient), len(NUMBER_COLUMNS)), dtype=np.float32)
    values *= noise
    values += cells.traits @ traits
    values += (base + patients.looks.astype(np.float32) @ look)[cells.patient]

    faults = generator(seed, FAULTS)
    y = flip_labels(patients.label, plan.label_noise, faults)
    clinical = patients.clinical.table()
    clinical[missing_values(clinical, plan.missing, faults)] = np.nan
    bags = Bags(
        cells=values,
        offsets=np.concatenate([[0], np.cumsum(n_cells)]),
        clinical=clinical,
        patient_ids=tuple(f"P{i + 1}" for i in range(n_patients)),
        columns=NUMBER_COLUMNS,
    )
    return bags, y

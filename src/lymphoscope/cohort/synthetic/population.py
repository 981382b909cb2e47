"""What the cells of a synthetic patient are like: kinds of lymphocyte, and latent traits per cell.

A malignant patient has one clone (CLL-like, mantle-like, villous or hairy), a reactive one a mixture of
activated lymphocytes (granular, deep blue, plasmacytoid). Both also have ordinary small lymphocytes, so
only a share of the cells carries the signal. How clearly a population differs from ordinary cells, its
`expressivity`, varies between patients and reaches down to nothing: that is what makes the classes overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.synthetic.clinical import Floats, Ints, Labels
from lymphoscope.cohort.synthetic.plan import SyntheticPlan

Traits = npt.NDArray[np.float32]

KINDS: Final = (
    "ordinary",
    "cll",
    "mantle",
    "villous",
    "hairy",
    "granular",
    "deep-blue",
    "plasmacytoid",
    "smudge",
)
CLONES: Final = (1, 2, 3, 4)
CLONE_WEIGHTS: Final = (0.6, 0.16, 0.14, 0.1)
ACTIVATED: Final = (5, 6, 7)
SMUDGE: Final = 8

TRAITS: Final = (
    "nucleus_radius_px",
    "nucleus_share",
    "elongation",
    "irregularity",
    "cleft",
    "clumping",
    "nucleolus",
    "basophilia",
    "nucleus_density",
    "granules",
    "vacuoles",
    "hair",
    "nucleus_offset",
    "smudge",
)
"""Latent traits. `nucleus_radius_px` is that of the disc of equal area in the 224 px frame and
`nucleus_share` nucleus area / cell area; the others run from 0 (none) to 1 (extreme)."""

_LOW = np.array([16, 0.25, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], dtype=np.float32)
_HIGH = np.array([44, 0.95, 0.8, 0.3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], dtype=np.float32)

# One row per kind, one column per trait: textbook morphology (after Bain, Blood Cells: A Practical Guide).
_MEANS = np.array(
    [
        [27.2, 0.80, 0.12, 0.040, 0.07, 0.50, 0.05, 0.45, 0.62, 0.02, 0.03, 0.05, 0.45, 0],  # ordinary
        [27.0, 0.88, 0.07, 0.024, 0.03, 0.92, 0.05, 0.35, 0.70, 0.00, 0.02, 0.02, 0.25, 0],  # cll
        [29.5, 0.79, 0.18, 0.070, 0.60, 0.40, 0.15, 0.35, 0.58, 0.00, 0.03, 0.05, 0.40, 0],  # mantle
        [28.5, 0.70, 0.13, 0.045, 0.10, 0.60, 0.10, 0.30, 0.58, 0.00, 0.05, 0.50, 0.45, 0],  # villous
        [29.5, 0.58, 0.18, 0.045, 0.18, 0.28, 0.12, 0.22, 0.48, 0.02, 0.08, 0.90, 0.40, 0],  # hairy
        [28.0, 0.58, 0.15, 0.045, 0.08, 0.55, 0.08, 0.15, 0.60, 0.60, 0.05, 0.05, 0.50, 0],  # granular
        [33.0, 0.56, 0.20, 0.065, 0.12, 0.22, 0.45, 0.85, 0.46, 0.05, 0.15, 0.10, 0.45, 0],  # deep-blue
        [26.0, 0.50, 0.09, 0.025, 0.02, 0.78, 0.05, 0.92, 0.66, 0.02, 0.20, 0.02, 0.85, 0],  # plasmacytoid
        [34.0, 0.95, 0.30, 0.090, 0.00, 0.30, 0.00, 0.00, 0.30, 0.00, 0.00, 0.00, 0.00, 1],  # smudge
    ]
)
# Spread between cells of one kind, and between the centres of patients.
_WITHIN = np.array([2.0, 0.060, 0.06, 0.015, 0.07, 0.13, 0.07, 0.10, 0.06, 0.05, 0.05, 0.07, 0.22, 0])
_BETWEEN = np.array([1.6, 0.044, 0.04, 0.010, 0.04, 0.12, 0.04, 0.10, 0.04, 0.02, 0.02, 0.04, 0.10, 0])

SMUDGE_SHARE = 0.025
"""Share of crushed cells, which say nothing, in every patient."""

SIGNAL_SHARE = (0.32, 0.45)
"""Mean share of cells that carry the signal, reactive and malignant."""
_SHARE_CONCENTRATION = 4.0
_EXPRESSIVITY_SHAPE = 1.6
_HETEROGENEITY_SD = 0.12


@dataclass(frozen=True, eq=False)
class Populations:
    """What is particular to each of n patients.

    Attributes
    ----------
    clone : int64 (n,), index into KINDS; 0 for reactive patients.
    activated : float (n, 3), shares of the ACTIVATED kinds among the signal cells; 0 for malignant ones.
    signal_share : float (n,), expected share of cells that carry the signal.
    expressivity : float (n,), distance from ordinary, 1 = the textbook's.
    heterogeneity : float (n,), multiplies the spread between cells.
    centre_shift : float (n, n_traits), what all cells of the patient share, in trait units.
    """

    clone: Ints
    activated: Floats
    signal_share: Floats
    expressivity: Floats
    heterogeneity: Floats
    centre_shift: Floats

    def names(self) -> list[str]:
        """The kind of population per patient: the clone's name, or "reactive"."""
        return [KINDS[clone] if clone else "reactive" for clone in self.clone]


@dataclass(frozen=True, eq=False)
class Cells:
    """Latent truth of every cell, patients one after another.

    Attributes
    ----------
    patient : int64 (n_cells,), index of the patient.
    kind : int64 (n_cells,), index into KINDS.
    signal : bool (n_cells,), whether the cell is of the clone or activated, not ordinary.
    traits : float32 (n_cells, n_traits).
    """

    patient: Ints
    kind: Ints
    signal: npt.NDArray[np.bool_]
    traits: Traits


def draw_populations(plan: SyntheticPlan, label: Labels, rng: np.random.Generator) -> Populations:
    """Draw what is particular to each patient, given the true labels."""
    n = len(label)
    malignant = label == 1
    clone = np.where(malignant, rng.choice(CLONES, size=n, p=CLONE_WEIGHTS), 0)
    activated = rng.dirichlet([1.5] * len(ACTIVATED), size=n) * ~malignant[:, None]
    mean_share = np.where(malignant, SIGNAL_SHARE[1], SIGNAL_SHARE[0])
    share = rng.beta(mean_share * _SHARE_CONCENTRATION, (1 - mean_share) * _SHARE_CONCENTRATION)
    expressivity = (
        plan.morphology_effect * rng.gamma(_EXPRESSIVITY_SHAPE, 1 / _EXPRESSIVITY_SHAPE, n)
        if plan.morphology_effect
        else np.zeros(n)
    )
    heterogeneity = np.exp(_HETEROGENEITY_SD * rng.standard_normal(n))
    heterogeneity *= np.where(malignant, 1 - plan.heterogeneity_effect, 1.0)
    shift = rng.standard_normal((n, len(TRAITS))) * _BETWEEN
    return Populations(clone, activated, share, np.minimum(expressivity, 1.6), heterogeneity, shift)


def draw_cells(populations: Populations, n_cells: Ints, rng: np.random.Generator) -> Cells:
    """Draw `n_cells` cells for each patient, shape (n_patients,)."""
    patient = np.repeat(np.arange(len(n_cells)), n_cells)
    roll = rng.random(len(patient), dtype=np.float32)
    crushed = roll > 1 - SMUDGE_SHARE
    signal = (roll < populations.signal_share[patient]) & ~crushed
    cumulative = np.cumsum(populations.activated[:, :-1], axis=1)[patient]
    step = (rng.random((len(patient), 1)) > cumulative).sum(axis=1)
    carrier = np.where(populations.clone[patient] > 0, populations.clone[patient], ACTIVATED[0] + step)
    kind = np.where(signal, carrier, np.where(crushed, SMUDGE, 0))

    offset = (_MEANS - _MEANS[0]).astype(np.float32)[kind]
    strength = np.where(crushed, 1.0, populations.expressivity[patient]).astype(np.float32)
    offset *= strength[:, None]
    noise = rng.standard_normal((len(patient), len(TRAITS)), dtype=np.float32)
    noise *= _WITHIN.astype(np.float32)
    noise *= populations.heterogeneity.astype(np.float32)[patient, None]
    centre = (_MEANS[0] + populations.centre_shift).astype(np.float32)[patient]
    traits = np.clip(centre + offset + noise, _LOW, _HIGH)
    return Cells(patient, kind, signal, traits)


def ordinary_traits(rng: np.random.Generator) -> Traits:
    """Traits of one ordinary lymphocyte of nobody in particular, shape (n_traits,)."""
    traits = _MEANS[0] + _WITHIN * rng.standard_normal(len(TRAITS))
    return np.clip(traits, _LOW, _HIGH).astype(np.float32)

"""Stain, exposure and field of view: what varies between patients and says nothing about the diagnosis."""

from __future__ import annotations

from typing import Final

import numpy as np

from lymphoscope.cohort.synthetic.clinical import Floats, Labels
from lymphoscope.cohort.synthetic.plan import SyntheticPlan

LOOK: Final = (
    "stain_strength",
    "stain_blueness",
    "background_warmth",
    "exposure",
    "defocus",
    "red_cell_density",
    "red_cell_pallor",
    "red_cell_greyness",
)
"""Latent look of a patient's photographs, standard normal between patients."""

_STAIN_SHIFTED: Final = ("stain_strength", "stain_blueness", "background_warmth", "exposure")
BACKGROUND_SHORTCUT = 3.0
BORDER_SHARES = (0.05, 0.95)
"""Share of reactive and malignant labelled patients whose photographs have a planted border."""


def draw_looks(
    plan: SyntheticPlan, is_test: Labels, giveaway: Labels, rng: np.random.Generator
) -> tuple[Floats, Labels]:
    """Draw the look of every patient, shape (n, len(LOOK)), and whether its photographs have a border, (n,).

    `giveaway` is what a planted shortcut shows: the label, or for test patients a coin's toss.
    """
    n = len(is_test)
    looks = rng.standard_normal((n, len(LOOK)))
    border_roll = rng.random(n)
    for name in _STAIN_SHIFTED:
        looks[:, LOOK.index(name)] += plan.stain_shift * is_test
    if plan.shortcut == "background":
        looks[:, LOOK.index("background_warmth")] += BACKGROUND_SHORTCUT * (giveaway - 0.5)
    shares = np.asarray(BORDER_SHARES)[giveaway.astype(np.int64)]
    border = (plan.shortcut == "border") & (border_roll < shares)
    return looks, border.astype(np.int8)

"""Everything that decides what a synthetic cohort is: one frozen value, checked when it is made."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from lymphoscope.errors import InputError

Shortcut = Literal["none", "background", "bag-size", "border"]
Leak = Literal["none", "patients", "splits"]

CHALLENGE_PATIENTS, CHALLENGE_TEST, CHALLENGE_MALIGNANT = 163, 42, 113

LARGEST_BAG, LARGEST_COHORT = 10_000, 10_000_000
"""Most photographs per patient and in all, at the median; ten million take about 100 GB and days to paint."""


@dataclass(frozen=True)
class SyntheticPlan:
    """Parameters of a synthetic cohort. The defaults imitate the lymphocytosis challenge's marginals.

    Attributes
    ----------
    patients, test : labelled and unlabelled patients, together at most 10 million / `cells`.
    cells : median photographs per patient, at most 10,000; the range scales with it (16 to 198 at the
        default of 66).
    seed : the same plan and seed give the same bytes on processors of one kind; on another, the same but for
        some levels in one of about ten thousand values of the photographs.
    prevalence : share of malignant patients among the labelled and among the test patients, exact up to
        rounding.
    age_shift : mean age of malignant minus reactive patients, years.
    log_count_shift : mean natural log count (10⁹/L) of malignant minus reactive patients.
    morphology_effect : mean strength with which a patient's own population differs from ordinary
        lymphocytes, in units of the textbook difference; 0 makes all cells ordinary.
    heterogeneity_effect : how much more alike a malignant patient's cells are: their spread is multiplied
        by 1 − this; 0 to below 1.
    bag_size_slope : natural log photographs per patient gained for each natural log of the count; how the
        number of photographs comes to predict the label. 0 unlinks them.
    bag_size_spread : standard deviation of log photographs per patient, count held fixed; 0 with slope 0
        gives every patient `cells`.
    shortcut : something besides cells and clinical values that gives the label away in the labelled
        patients, and is independent of it in the test patients: "background" colour, "bag-size", "border".
    leak : copies of photographs: "patients" between labelled patients, "splits" from labelled into test
        patients.
    label_noise : share of labelled patients whose label in the table is wrong.
    missing : probability that a clinical value (sex, birth date, count) is left empty.
    stain_shift : shift of the test patients' stain and exposure, in standard deviations between patients.
    dirt : the challenge's blemishes: stray files, extra tables, one "f", two date layouts, counts below 4.
    """

    patients: int = CHALLENGE_PATIENTS
    test: int = CHALLENGE_TEST
    cells: int = 66
    seed: int = 0
    prevalence: float = CHALLENGE_MALIGNANT / CHALLENGE_PATIENTS
    age_shift: float = 19.8
    log_count_shift: float = 1.17
    morphology_effect: float = 0.7
    heterogeneity_effect: float = 0.2
    bag_size_slope: float = 0.54
    bag_size_spread: float = 0.3
    shortcut: Shortcut = "none"
    leak: Leak = "none"
    label_noise: float = 0.0
    missing: float = 0.0
    stain_shift: float = 0.0
    dirt: bool = True

    def __post_init__(self) -> None:
        self._require_type()
        self._require("patients", self.patients >= 2, "2 or more")
        self._require("test", self.test >= 0, "0 or more")
        self._require("cells", 1 <= self.cells <= LARGEST_BAG, f"1 to {LARGEST_BAG:,}")
        most = LARGEST_COHORT // self.cells
        self._require(
            "patients",
            self.patients + self.test <= most,
            f"together with test at most {most:,} at {self.cells:,} cells each",
        )
        self._require("seed", self.seed >= 0, "0 or more")
        self._require("prevalence", 0 < self.prevalence < 1, "above 0 and below 1")
        self._require("age_shift", abs(self.age_shift) <= 40, "-40 to 40 years")
        self._require("log_count_shift", 0 <= self.log_count_shift <= 3, "0 to 3")
        self._require("morphology_effect", 0 <= self.morphology_effect <= 3, "0 to 3")
        self._require("heterogeneity_effect", 0 <= self.heterogeneity_effect < 1, "0 to below 1")
        self._require("bag_size_slope", -2 <= self.bag_size_slope <= 2, "-2 to 2")
        self._require("bag_size_spread", 0 <= self.bag_size_spread <= 2, "0 to 2")
        self._require("shortcut", self.shortcut in get_args(Shortcut), ", ".join(get_args(Shortcut)))
        self._require("leak", self.leak in get_args(Leak), ", ".join(get_args(Leak)))
        self._require("leak", self.leak != "splits" or self.test > 0, '"splits" needs test patients')
        self._require("label_noise", 0 <= self.label_noise <= 0.5, "0 to 0.5")
        self._require("missing", 0 <= self.missing <= 1, "0 to 1")
        self._require("stain_shift", -5 <= self.stain_shift <= 5, "-5 to 5 standard deviations")

    def _require_type(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, float) and not (
                isinstance(value, int | float) and math.isfinite(value)
            ):
                self._require(field.name, False, "a finite number")
            if type(field.default) is int and type(value) is not int:
                self._require(field.name, False, "a whole number")

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise InputError(
                f"synthetic plan: {name} is out of range", found=getattr(self, name), allowed=allowed
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `SyntheticPlan(**value)` gives the plan back."""
        return asdict(self)

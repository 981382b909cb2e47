"""What a cohort is once it has been read: patients, where their photographs are, and what was found."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.findings import Finding

UNLABELLED = -1


@dataclass(frozen=True, eq=False)
class Patients:
    """The clinical table after ingest. No birth date and no name gets this far.

    Attributes
    ----------
    ids : n_patients unique ids, in the order of the table (patients known only by an image folder last).
    label : int8 (n_patients,); 1 malignant, 0 reactive, -1 unlabelled.
    clinical : float64 (n_patients, 3): age in years, sex (0 female, 1 male), count in 10⁹/L; NaN missing.
    split : one of "train", "test", "" per patient: the folder or column that the cohort itself gives.
    date_layout : per patient, how the date of birth was written: "M/D/YYYY", "DD-MM-YYYY", … or "".
    """

    ids: tuple[str, ...]
    label: npt.NDArray[np.int8]
    clinical: npt.NDArray[np.float64]
    split: tuple[str, ...]
    date_layout: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Cohort:
    """A cohort on disk, read but not yet decoded.

    Attributes
    ----------
    root : the cohort's folder; never written to.
    patients : the clinical table.
    images : paths of the photographs relative to `root`, grouped by patient in the order of `patients.ids`,
        sorted by name inside a patient.
    image_patient : int64 (n_images,), index into `patients`, non-decreasing.
    findings : what reading the table and the folders found.
    reference_date : the day at which ages were taken.
    count_unit : the unit the table's lymphocyte counts came in, e.g. "10^9/L".
    """

    root: Path
    patients: Patients
    images: tuple[Path, ...]
    image_patient: npt.NDArray[np.int64]
    findings: tuple[Finding, ...]
    reference_date: date
    count_unit: str = "10^9/L"
    notes: tuple[str, ...] = field(default=())

"""Everything the page that shows a cohort says, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.findings import Finding


@dataclass(frozen=True, eq=False)
class SegmentationExample:
    """A photograph and what was taken for its cell.

    Attributes
    ----------
    image : uint8 (H, W, 3).
    nucleus, cell : bool (H, W); the cell holds the nucleus.
    ok : whether the segmentation was accepted.
    reason : why not, when it was not.
    """

    image: npt.NDArray[np.uint8]
    nucleus: npt.NDArray[np.bool_]
    cell: npt.NDArray[np.bool_]
    ok: bool
    reason: str = ""


@dataclass(frozen=True, eq=False)
class SampleCells:
    """Some photographs of one class, drawn by the caller (from different patients, where there are)."""

    label: int
    images: tuple[npt.NDArray[np.uint8], ...]


@dataclass(frozen=True, eq=False)
class ExploreContent:
    """A cohort to be looked at before anything is learned from it; any array may be empty.

    Attributes
    ----------
    name : name of the cohort's folder.
    label : (n_patients,); 1 malignant, 0 reactive, -1 unlabelled.
    split : "train", "test" or "" per patient.
    clinical : float (n_patients, 3): age in years, sex (0 female, 1 male), count in 10⁹/L; NaN missing.
    n_images : (n_patients,) photographs per patient.
    samples, segmentation : pictures to show; each may be empty.
    labels_note : as in `CohortSummary`.
    """

    name: str
    label: npt.NDArray[np.integer[Any]]
    split: tuple[str, ...]
    clinical: npt.NDArray[np.float64]
    n_images: npt.NDArray[np.integer[Any]]
    samples: tuple[SampleCells, ...] = ()
    segmentation: tuple[SegmentationExample, ...] = ()
    findings: tuple[Finding, ...] = ()
    labels_note: str = ""

    def __post_init__(self) -> None:
        n = len(self.label)
        shapes = {"split": len(self.split), "clinical": len(self.clinical), "n_images": len(self.n_images)}
        for name, length in shapes.items():
            if length != n:
                raise ValueError(f"{name}: {length} rows for {n} patients")

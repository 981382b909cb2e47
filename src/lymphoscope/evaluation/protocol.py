"""What is measured, on whom and how often: the plan of an evaluation, fixed before any model is fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.splits import Split, fixed_split, repeated_stratified, stratified_holdout
from lymphoscope.errors import InputError

Kind = Literal["repeated-cv", "holdout", "column"]

KINDS: tuple[Kind, ...] = ("repeated-cv", "holdout", "column")


@dataclass(frozen=True)
class Protocol:
    """How recipes are evaluated.

    Attributes
    ----------
    kind : "repeated-cv" (stratified, `folds` × `repeats`), "holdout" (one stratified split with `test_size`
        test patients) or "column" (the split that the patients' table gives).
    folds, repeats : of the cross-validation.
    test_size : patients in the hold-out.
    seed : of splits, fits and bootstraps.
    overlap_limit : lymphocyte count in 10⁹/L up to and including which a patient is in the overlap zone;
        above 10.47 all patients of the source are malignant (Chakroun et al. 2021).
    wished_sensitivity : of the referral threshold, above 0 and below 1.
    bootstrap : replicates behind every interval.
    """

    kind: Kind = "repeated-cv"
    folds: int = 5
    repeats: int = 10
    test_size: int = 33
    seed: int = 0
    overlap_limit: float = 10.47
    wished_sensitivity: float = 0.95
    bootstrap: int = 2000

    def __post_init__(self) -> None:
        allowed = {
            "kind": (self.kind in KINDS, ", ".join(KINDS)),
            "folds": (self.folds >= 2, "2 or more"),
            "repeats": (self.repeats >= 1, "1 or more"),
            "test_size": (self.test_size >= 2, "2 or more"),
            "seed": (self.seed >= 0, "0 or more"),
            "overlap_limit": (self.overlap_limit > 0, "above 0, in 10^9/L"),
            "wished_sensitivity": (0 < self.wished_sensitivity < 1, "above 0 and below 1"),
            "bootstrap": (self.bootstrap >= 100, "100 or more"),
        }
        for name, (holds, what) in allowed.items():
            if not holds:
                raise InputError(
                    f"{name} of the protocol is out of range", found=getattr(self, name), allowed=what
                )

    def splits(self, y: npt.ArrayLike, split_column: Sequence[str] | None = None) -> list[Split]:
        """The splits of the labelled patients `y` that this protocol asks for.

        Parameters
        ----------
        split_column : "train" or "test" per labelled patient; needed where `kind` is "column".
        """
        if self.kind == "holdout":
            return stratified_holdout(y, self.test_size, self.seed)
        if self.kind == "repeated-cv":
            return repeated_stratified(y, self.folds, self.repeats, self.seed)
        if split_column is None:
            raise InputError(
                "the protocol asks for the table's own split, but there is none",
                remedy='Name the column of the split (its words: "train", "test"), or use cross-validation.',
            )
        splits = fixed_split(split_column)
        for split in splits:
            _require_both_classes(np.asarray(y), split)
        return splits

    def sentence(self) -> str:
        """The protocol in words, for the methods section."""
        if self.kind == "repeated-cv":
            repeats = "1 repeat" if self.repeats == 1 else f"{self.repeats} repeats"
            return f"{self.folds}-fold stratified cross-validation of patients, {repeats}"
        if self.kind == "holdout":
            return f"one stratified hold-out of {self.test_size} patients"
        return "the fixed split that the patients' table gives"

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return asdict(self)


def _require_both_classes(y: npt.NDArray[np.integer[Any]], split: Split) -> None:
    """Refuse a side on which there is nothing to learn from, or nothing to measure."""
    for side, patients in (("train", split.train), ("test", split.test)):
        malignant = int((y[patients] == 1).sum())
        if malignant in (0, len(patients)):
            raise InputError(
                f'the split that the table gives has patients of one class only on its side "{side}"',
                found=f"{malignant} malignant and {len(patients) - malignant} reactive patients",
                allowed="patients of both classes on both sides",
                remedy="Change the split, or use cross-validation.",
            )

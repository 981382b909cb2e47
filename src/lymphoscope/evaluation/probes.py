"""Shortcut probes (LYM400 to LYM499): can the label be read off something that is no biology?

A model that learns from the number of photographs, their file size, the colour of the border or the way dates
are written does well on the cohort at hand and fails in the next hospital. Each probe tries to predict the
label from one such thing alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.bags import FloatArray, IntArray, segment_mean, segment_std
from lymphoscope.cohort.findings import Finding, Severity
from lymphoscope.cohort.splits import repeated_stratified
from lymphoscope.stats.intervals import Interval, PatientBootstrap, percentile_interval
from lymphoscope.stats.metrics import BoolArray, met_in_a_fold, pair_wins

WARN_ABOVE = 0.6
"""A probe warns where the lower bound of its AUC lies above this: weaker ones cannot carry a model."""

REPEATS, FOLDS = 5, 5


@dataclass(frozen=True)
class ImageCountPredictsLabel(Finding):
    """The number of photographs alone tells malignant from reactive patients.

    Analysers photograph more cells where the count is high, so part of this may be the count itself; the
    overlap zone shows what is left of it there.
    """

    code = "LYM401"
    title = "Number of photographs predicts the label"
    severity = Severity.WARNING
    remedy = "Use recipes that average over cells; do not feed the number of cells to a model."


@dataclass(frozen=True)
class FileSizePredictsLabel(Finding):
    """The size of the image files alone tells malignant from reactive patients."""

    code = "LYM402"
    title = "File size predicts the label"
    severity = Severity.WARNING
    remedy = "Check that both classes were photographed and compressed alike (device, quality, export)."


@dataclass(frozen=True)
class BorderColourPredictsLabel(Finding):
    """The colour of the photographs' border, away from the cell, tells malignant from reactive patients."""

    code = "LYM403"
    title = "Background colour predicts the label"
    severity = Severity.WARNING
    remedy = "Compare with a recipe without colour; look for batches of stain or lamp that hold one class."


@dataclass(frozen=True)
class DateLayoutPredictsLabel(Finding):
    """The way in which dates of birth are written tells malignant from reactive patients.

    The dates themselves are not used beyond the age, so that no recipe sees this; but it shows that the
    classes were collected in different ways.
    """

    code = "LYM404"
    title = "Date format predicts the label"
    severity = Severity.WARNING
    remedy = "Ask how the two classes were collected; prefer patients from one source."


@dataclass(frozen=True)
class ShortcutProbed(Finding):
    """A shortcut probe found nothing that would carry a model, or could not be run."""

    code = "LYM410"
    title = "Shortcut probe"
    severity = Severity.INFO
    remedy = "Nothing needs to be done."


@dataclass(frozen=True)
class Probe:
    """How well one thing that is no biology predicts the label.

    Attributes
    ----------
    name : what was probed.
    n_malignant, n_reactive : labelled patients for whom it is known.
    auc : 0.5 is chance. For a single number the direction is free, so that the estimate is 0.5 or more; for
        several numbers together, out-of-fold from a logistic regression. None where it could not be run.
    auc_overlap : the same among patients of the overlap zone.
    sentence : the same in words.
    finding : the finding that goes with it.
    """

    name: str
    n_malignant: int
    n_reactive: int
    auc: Interval | None
    auc_overlap: Interval | None
    sentence: str
    finding: Finding

    @property
    def warns(self) -> bool:
        """Whether the lower bound of the AUC lies above `WARN_ABOVE`."""
        return self.auc is not None and self.auc.low > WARN_ABOVE

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "n_malignant": self.n_malignant,
            "n_reactive": self.n_reactive,
            "auc": None if self.auc is None else self.auc.as_dict(),
            "auc_overlap": None if self.auc_overlap is None else self.auc_overlap.as_dict(),
            "warns": self.warns,
            "code": self.finding.code,
            "sentence": self.sentence,
        }


def probe_shortcuts(
    label: npt.ArrayLike,
    *,
    offsets: IntArray,
    n_bytes: npt.ArrayLike,
    border_lab: npt.ArrayLike,
    date_layout: Sequence[str],
    lymphocyte_count: npt.ArrayLike,
    overlap_limit: float = 10.47,
    replicates: int = 2000,
    seed: int = 0,
) -> tuple[Probe, ...]:
    """Run the four probes on the labelled patients.

    Parameters
    ----------
    label : 1, 0, or -1 for unlabelled patients, which are left out; shape (n_patients,).
    offsets : int64 (n_patients + 1,), which images are whose, as in `Bags`.
    n_bytes : file size of each image, shape (n_images,).
    border_lab : mean CIELAB colour of each image's border, shape (n_images, 3).
    date_layout : how each patient's date of birth was written, "" where there is none.
    lymphocyte_count : 10⁹/L, NaN where missing, shape (n_patients,).
    """
    labels = np.asarray(label, dtype=np.int64)
    sizes = np.log(np.maximum(np.asarray(n_bytes, dtype=np.float64), 1.0))[:, None]
    border = np.asarray(border_lab, dtype=np.float64)
    layouts = np.array([str(each) for each in date_layout], dtype=object)
    names = sorted(set(layouts[labels >= 0]))
    written = np.array([[each == name for name in names[1:]] for each in layouts], dtype=np.float64)
    tables: tuple[tuple[str, type[Finding], FloatArray], ...] = (
        ("number of photographs", ImageCountPredictsLabel, np.diff(offsets)[:, None].astype(np.float64)),
        ("file size", FileSizePredictsLabel, _mean_and_spread(sizes, offsets)),
        ("border colour", BorderColourPredictsLabel, _mean_and_spread(border, offsets)),
        ("date format", DateLayoutPredictsLabel, written.reshape(len(labels), -1)),
    )
    count = np.asarray(lymphocyte_count, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        overlap = count <= overlap_limit
    return tuple(
        _probe(name, kind, values, labels, overlap, replicates, seed) for name, kind, values in tables
    )


def _probe(
    name: str,
    kind: type[Finding],
    values: FloatArray,
    label: IntArray,
    overlap: BoolArray,
    replicates: int,
    seed: int,
) -> Probe:
    known = (label >= 0) & np.isfinite(values).all(1)
    truth = label[known] == 1
    n_malignant, n_reactive = int(truth.sum()), int((~truth).sum())
    patients = f"{n_malignant} malignant and {n_reactive} reactive patients"
    if min(n_malignant, n_reactive) < 2 or values.shape[1] == 0 or not np.ptp(values[known], axis=0).any():
        same = "it is the same for all" if min(n_malignant, n_reactive) >= 2 else "too few to tell"
        sentence = f"The {name} was not probed on {patients}: {same}."
        return Probe(name, n_malignant, n_reactive, None, None, sentence, ShortcutProbed(sentence))
    met = _met(values[known], truth, seed)
    auc = _interval(*met, truth, np.ones(len(truth), dtype=bool), replicates, seed)
    in_overlap = _interval(*met, truth, overlap[known], replicates, seed)
    if auc is None:
        raise AssertionError("in stratified folds a malignant and a reactive patient always meet")
    sentence = f"The {name} alone predicts the label of {patients} with AUC {_bounds(auc)}"
    sentence += f"; {_bounds(in_overlap)} in the overlap zone." if in_overlap else "."
    finding = kind(sentence) if auc.low > WARN_ABOVE else ShortcutProbed(sentence)
    return Probe(name, n_malignant, n_reactive, auc, in_overlap, sentence, finding)


def _mean_and_spread(values: FloatArray, offsets: IntArray) -> FloatArray:
    return np.concatenate([segment_mean(values, offsets), segment_std(values, offsets)], axis=1)


def _met(values: FloatArray, truth: BoolArray, seed: int) -> tuple[FloatArray, FloatArray]:
    """Pairs won by the best prediction from `values`, and pairs compared, (n_malignant, n_reactive) each.

    Of several numbers only patients of the same fold are compared, as `met_in_a_fold` tells why.
    """
    if values.shape[1] == 1:
        wins = pair_wins(truth, values[:, 0])
        return wins if wins.mean() >= 0.5 else 1.0 - wins, np.ones_like(wins)
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = min(FOLDS, int(truth.sum()), int((~truth).sum()))
    score, fold = np.empty((REPEATS, len(truth))), np.empty((REPEATS, len(truth)), dtype=np.int64)
    for split in repeated_stratified(truth.astype(int), folds, REPEATS, seed):
        model = make_pipeline(StandardScaler(), LogisticRegression())
        model.fit(values[split.train], truth[split.train])
        score[split.repeat, split.test] = model.predict_proba(values[split.test])[:, 1]
        fold[split.repeat, split.test] = split.fold
    return met_in_a_fold(truth, score, fold)


def _interval(
    wins: FloatArray, times: FloatArray, truth: BoolArray, inside: BoolArray, replicates: int, seed: int
) -> Interval | None:
    """AUC among the patients `inside`; None where no two of them were compared."""
    pairs = np.ix_(inside[truth], inside[~truth])
    if not times[pairs].any():
        return None
    draws = PatientBootstrap(truth[inside], replicates, seed)
    estimate = float(wins[pairs].sum() / times[pairs].sum())
    return percentile_interval(estimate, draws.pairs(wins[pairs], times[pairs]))


def _bounds(auc: Interval) -> str:
    return f"{auc.estimate:.2f} ({auc.low:.2f} to {auc.high:.2f})"

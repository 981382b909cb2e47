"""Everything the report's page says, as plain values: who fills it in need not know how a page is drawn.

A missing clinical value is NaN, as in `Bags.clinical`; None was not measured, and the page then says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from lymphoscope.cohort.cohort import UNLABELLED
from lymphoscope.cohort.findings import Finding
from lymphoscope.report.cluster_content import Clusters
from lymphoscope.report.concept_content import ConceptComparison, Portrait
from lymphoscope.report.training_content import Training
from lymphoscope.stats.intervals import Interval

Decision = Literal["advised", "not advised", "cannot say"]
"""What is said about flow cytometry for one patient."""

DECISIONS: tuple[Decision, ...] = get_args(Decision)

Inputs = Literal["rules", "clinical", "images", "both"]
"""What a rung of the ladder looks at: a published rule, clinical values, images, or both."""


@dataclass(frozen=True)
class CellCrop:
    """One photographed cell and how much it weighed.

    Attributes
    ----------
    jpeg : a small JPEG, about 72 × 72 px; see `patient_table.crop_jpeg`.
    evidence : positive speaks for malignancy, negative against; no unit.
    name : file name of the photograph.
    """

    jpeg: bytes
    evidence: float
    name: str = ""


@dataclass(frozen=True)
class PatientRow:
    """One patient's line in the table.

    Attributes
    ----------
    id : patient id, any text.
    label : 1 malignant, 0 reactive, -1 unlabelled.
    split : "train", "test" or "", as the cohort gives it.
    age, sex, count : years; 0 female, 1 male; 10⁹/L; NaN where missing.
    n_cells : photographs used.
    probability : of malignancy, 0 to 1, with its interval. For a labelled patient: predicted while the
        patient was held out of training. None where no prediction was possible.
    decision : whether flow cytometry is advised.
    reason : one short clause in plain words.
    cells_for, cells_against : the cells that weighed most, heaviest first.
    threshold : the cut this patient's decision used, where it is not `ReportContent.threshold`.
    shares : how much of the decision came from the "cells" and from the "clinical" values, together 1.
    portrait : what the patient's cells look like; None where no encoder tells.
    """

    id: str
    label: int
    split: str
    age: float
    sex: float
    count: float
    n_cells: int
    probability: Interval | None
    decision: Decision
    reason: str
    cells_for: tuple[CellCrop, ...] = ()
    cells_against: tuple[CellCrop, ...] = ()
    threshold: float | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    portrait: Portrait | None = None

    def __post_init__(self) -> None:
        if self.decision not in DECISIONS:
            raise ValueError(f"decision {self.decision!r}; allowed: {', '.join(DECISIONS)}")
        if self.label not in (1, 0, UNLABELLED):
            raise ValueError(f"label {self.label!r}; allowed: 1, 0, {UNLABELLED}")
        if any(cell.evidence <= 0 for cell in self.cells_for):
            raise ValueError(f"patient {self.id}: a cell for malignancy must have evidence above 0")
        if any(cell.evidence >= 0 for cell in self.cells_against):
            raise ValueError(f"patient {self.id}: a cell against malignancy must have evidence below 0")

    @property
    def labelled(self) -> bool:
        """Whether the patient's label is known."""
        return self.label != UNLABELLED


@dataclass(frozen=True)
class CohortSummary:
    """What the cohort holds.

    Attributes
    ----------
    name : name of the cohort's folder.
    n_malignant, n_reactive, n_unlabelled : patients.
    n_cells : photographs that could be read.
    labels_note : empty where labels are diagnoses; else one sentence that says what they are instead
        ("The patients and labels are simulated …"), printed wherever a number rests on them.
    """

    name: str
    n_malignant: int
    n_reactive: int
    n_unlabelled: int
    n_cells: int
    labels_note: str = ""


@dataclass(frozen=True)
class Scores:
    """How well one recipe did on one set of held-out patients; None where it could not be measured."""

    n_malignant: int
    n_reactive: int
    balanced_accuracy: Interval | None = None
    sensitivity: Interval | None = None
    specificity: Interval | None = None
    auc: Interval | None = None
    brier: Interval | None = None
    calibration_slope: Interval | None = None
    calibration_intercept: Interval | None = None


@dataclass(frozen=True)
class Rung:
    """One recipe on the reference ladder.

    Attributes
    ----------
    recipe : registry name, e.g. "clinical".
    title : the recipe in a few plain words, e.g. "Age, sex and count: logistic regression".
    inputs : what it looks at.
    overall, overlap : all tested patients; those whose count alone does not decide.
    training_balanced_accuracy : on the patients it was trained on, for comparison; 0 to 1.
    chosen : whether the predictions on the page come from this recipe.
    optimistic : its epoch was chosen on the patients that are scored.
    """

    recipe: str
    title: str
    inputs: Inputs
    overall: Scores
    overlap: Scores | None = None
    training_balanced_accuracy: float | None = None
    chosen: bool = False
    optimistic: bool = False


@dataclass(frozen=True)
class Comparison:
    """Paired difference in balanced accuracy of two rungs on the same folds: `second` minus `first`."""

    first: str
    second: str
    overall: Interval
    overlap: Interval | None = None


@dataclass(frozen=True)
class Ladder:
    """Rules, clinical values, images, both: measured alike.

    Attributes
    ----------
    rungs : in the order they are shown, lowest first.
    overlap_limit : highest count of the overlap zone, in 10⁹/L.
    comparisons : named by the rungs' `title`.
    optimism : optimistic rungs against the same recipes measured honestly; named likewise.
    conclusion : plain sentence on whether rungs can be told apart; written from `comparisons` when empty.
    """

    rungs: tuple[Rung, ...]
    overlap_limit: float
    comparisons: tuple[Comparison, ...] = ()
    optimism: tuple[Comparison, ...] = ()
    conclusion: str = ""


@dataclass(frozen=True)
class DecisionQuality:
    """How the decision did on held-out labelled patients. "Cannot say" counts as referred.

    Attributes
    ----------
    sensitivity : share of malignant patients who were referred.
    share_referred : share of all patients who were referred: advised or cannot say.
    tests_saved : share of all patients who were spared the test.
    share_cannot_say : share of all patients marked cannot say.
    """

    n_malignant: int
    n_reactive: int
    sensitivity: Interval | None
    share_referred: Interval | None
    tests_saved: Interval | None
    share_cannot_say: Interval | None = None


@dataclass(frozen=True)
class CalibrationBin:
    """Patients of similar predicted probability: mean prediction, share truly malignant, how many."""

    predicted: float
    observed: Interval
    n: int


@dataclass(frozen=True)
class Calibration:
    """Whether a predicted 0.8 comes true in 8 of 10 patients."""

    bins: tuple[CalibrationBin, ...]
    slope: Interval | None = None
    intercept: Interval | None = None


@dataclass(frozen=True)
class Proof:
    """What this number of patients can prove at best.

    Attributes
    ----------
    n_malignant, n_reactive : tested patients.
    sensitivity_without_miss : the sensitivity proven (one-sided 95 %) if no malignant patient is missed.
    needed : pairs (sensitivity, malignant patients needed to prove it without a single miss).
    differences : half-widths of the narrowest and of the widest interval of a difference in balanced accuracy
        between two recipes; None where none were compared.
    """

    n_malignant: int
    n_reactive: int
    sensitivity_without_miss: float
    needed: tuple[tuple[float, int], ...] = ()
    differences: tuple[float, float] | None = None


@dataclass(frozen=True)
class Swing:
    """How far the score of one small test set would swing by luck alone.

    Attributes
    ----------
    n_malignant, n_reactive : patients in such a test set.
    balanced_accuracy : mean and the range that holds `level` of random test sets.
    one_miss, one_false_alarm : how far a single patient moves the score.
    """

    n_malignant: int
    n_reactive: int
    balanced_accuracy: Interval
    one_miss: float
    one_false_alarm: float


@dataclass(frozen=True)
class Probe:
    """Whether something that is no property of the disease predicts the label.

    Attributes
    ----------
    name : e.g. "Number of images".
    auc : 0.5 is no relation; None where it could not be measured.
    overlap_auc : the same in the overlap zone.
    remark : one sentence, may be empty.
    warns : whether a model could do well by it alone.
    """

    name: str
    auc: Interval | None
    overlap_auc: Interval | None = None
    remark: str = ""
    warns: bool = False


@dataclass(frozen=True)
class Methods:
    """How the numbers came about, so that someone else gets the same ones.

    Attributes
    ----------
    paragraphs : protocol and recipe in plain sentences.
    facts : pairs (name, value): recipe, protocol, seed, budget, fingerprint, reference date, command …
    versions : pairs (package, version).
    """

    paragraphs: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    versions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class ReportContent:
    """The whole page.

    Attributes
    ----------
    patients : labelled and unlabelled, any order; the page sorts and groups them.
    threshold : probability at and above which flow cytometry is advised.
    wished_sensitivity : what the threshold was chosen for, 0 to 1.
    quality, quality_overlap : of the decision, overall and in the overlap zone.
    without_threshold : share of the tested patients in whose fold malignant patients were too few to choose a
        threshold, so that everybody was referred.
    concepts : how the cells of malignant and reactive patients differ; None where no encoder tells.
    training : of the ladder's networks; may be empty.
    clusters : of cells, where the model that made the predictions has learned some.
    coefficients : pairs (what is weighed, change of the log-odds per standard deviation between patients, or
        per 2 percentage points of a share that differs less), the largest first, where the model that made
        the predictions is one that can be read so.
    fitted_on : name of the cohort that the model was fitted on, where that is another one and the labels of
        this one are not looked at; empty on the page of a run.
    caveats : sentences on why nothing here may be believed as it stands.
    ignored : findings that the user asked to leave out.
    created : date or time in words; left out of the page when empty.
    """

    cohort: CohortSummary
    patients: tuple[PatientRow, ...]
    threshold: float
    wished_sensitivity: float
    ladder: Ladder | None = None
    quality: DecisionQuality | None = None
    quality_overlap: DecisionQuality | None = None
    without_threshold: float = 0.0
    calibration: Calibration | None = None
    proof: Proof | None = None
    swing: Swing | None = None
    concepts: ConceptComparison | None = None
    probes: tuple[Probe, ...] = ()
    training: tuple[Training, ...] = ()
    clusters: Clusters | None = None
    coefficients: tuple[tuple[str, float], ...] = ()
    fitted_on: str = ""
    caveats: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    ignored: tuple[Finding, ...] = ()
    methods: Methods = Methods()
    created: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.threshold) and 0 <= self.threshold <= 1):
            raise ValueError(f"threshold {self.threshold!r}; allowed: 0 to 1")

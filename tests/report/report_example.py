"""Invented content for the pages' tests: no patient, no cell and no number here is real."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.table_findings import (
    CountBelowInclusion,
    IgnoredColumns,
    MissingValues,
    MixedDateLayouts,
)
from lymphoscope.report.content import (
    Calibration,
    CalibrationBin,
    CellCrop,
    CohortSummary,
    Comparison,
    DecisionQuality,
    Ladder,
    Methods,
    PatientRow,
    Probe,
    Proof,
    ReportContent,
    Rung,
    Scores,
    Swing,
)
from lymphoscope.report.patient_table import crop_jpeg
from lymphoscope.report.training_content import Balancing, FoldCurves, Training
from lymphoscope.stats.intervals import Interval

Image = npt.NDArray[np.uint8]
INVENTED = "Every patient, cell and number on this page is invented, to show what the page looks like."
THRESHOLD = 0.42


def cell_image(rng: np.random.Generator, side: int = 64) -> Image:
    """A violet disc on a pale ground: enough of a cell for a page."""
    y, x = np.mgrid[:side, :side] - side / 2
    inside = np.hypot(x, y * rng.uniform(0.8, 1.2)) < side * rng.uniform(0.22, 0.36)
    image = np.full((side, side, 3), (236, 220, 226), dtype=np.float64)
    image[inside] = (104, 62, 140)
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def interval(estimate: float, half: float = 0.06) -> Interval:
    return Interval(estimate, max(estimate - half, 0.0), min(estimate + half, 1.0))


def decide(probability: Interval) -> tuple[str, str]:
    if probability.low >= THRESHOLD:
        return "advised", "whole interval above the threshold"
    if probability.high < THRESHOLD:
        return "not advised", "whole interval below the threshold"
    return "cannot say", "interval crosses the threshold"


def patient(
    number: int, label: int, rng: np.random.Generator, image: Callable[[np.random.Generator], Image], k: int
) -> PatientRow:
    malignant = rng.random() < 0.69 if label == -1 else label == 1
    p = float(np.clip(rng.beta(5, 1.6) if malignant else rng.beta(1.6, 5), 0.002, 0.998))
    half = 0.04 + 0.5 * p * (1 - p)
    probability = Interval(p, max(p - half, 0.0), min(p + half, 1.0))
    decision, reason = decide(probability)
    weights = np.sort(np.abs(rng.normal(0, 0.8, (2, k))), axis=1)[:, ::-1] + 0.05
    crops = [
        tuple(
            CellCrop(crop_jpeg(image(rng)), float(sign * w), f"{int(rng.integers(200)):06d}.jpg")
            for w in weights[row]
        )
        for row, sign in ((0, 1), (1, -1))
    ]
    return PatientRow(
        id=f"P{number}",
        label=label,
        split="test" if label == -1 else "train",
        age=float("nan") if number % 17 == 0 else float(rng.integers(24, 93)),
        sex=float(rng.integers(2)),
        count=float(np.exp(rng.normal(3.0 if malignant else 1.7, 0.8 if malignant else 0.25))),
        n_cells=int(rng.integers(16, 198)),
        probability=probability,
        decision=decision,
        reason=reason,
        cells_for=crops[0],
        cells_against=crops[1],
    )


def scores(ba: float, auc: float, n: tuple[int, int], half: float) -> Scores:
    return Scores(
        n_malignant=n[0],
        n_reactive=n[1],
        balanced_accuracy=interval(ba, half),
        sensitivity=interval(ba + 0.03, half),
        specificity=interval(ba - 0.03, half),
        auc=interval(auc, half * 0.8),
        brier=interval(0.11, 0.03),
        calibration_slope=Interval(0.93, 0.71, 1.18),
        calibration_intercept=Interval(-0.05, -0.42, 0.31),
    )


RULE = "Malignant if the count is above 10.47 × 10⁹/L or the patient older than 62.5 years"
OLD_RULE = "Malignant if the count is at least 4 above 67 years, or above 6.7 from 50 to 67 years"
CLINICAL = "Logistic regression on age, log lymphocyte count and sex"
IMAGES = "Cell shape, colour and chromatin"
BOTH = "Cell shape and colour + clinical"


def rung(
    recipe: str,
    title: str,
    inputs: str,
    overall: tuple[float, float],
    zone: tuple[float, float],
    training: float,
) -> Rung:
    return Rung(
        recipe=recipe,
        title=title,
        inputs=inputs,
        overall=scores(*overall, (113, 50), 0.065),
        overlap=scores(*zone, (46, 50), 0.095),
        training_balanced_accuracy=training,
        chosen=title == BOTH,
    )


def example_ladder() -> Ladder:
    return Ladder(
        rungs=(
            rung("rule-chakroun-2021", RULE, "rules", (0.80, 0.86), (0.62, 0.71), 0.80),
            rung("rule-2008", OLD_RULE, "rules", (0.79, 0.85), (0.61, 0.70), 0.79),
            rung("clinical", CLINICAL, "clinical", (0.834, 0.94), (0.70, 0.85), 0.85),
            rung("morphology", IMAGES, "images", (0.82, 0.89), (0.73, 0.81), 0.91),
            rung("morphology-clinical", BOTH, "both", (0.88, 0.95), (0.79, 0.89), 0.94),
        ),
        overlap_limit=10.47,
        comparisons=(
            Comparison(RULE, CLINICAL, Interval(0.03, -0.03, 0.09), Interval(0.08, -0.02, 0.17)),
            Comparison(CLINICAL, IMAGES, Interval(-0.014, -0.08, 0.06), Interval(0.03, -0.08, 0.14)),
            Comparison(CLINICAL, BOTH, Interval(0.046, 0.004, 0.09), Interval(0.09, 0.01, 0.17)),
            Comparison(IMAGES, BOTH, Interval(0.06, -0.004, 0.12), Interval(0.06, -0.03, 0.15)),
        ),
    )


def example_calibration() -> Calibration:
    bins = (
        CalibrationBin(0.08, Interval(0.05, 0.01, 0.17), 33),
        CalibrationBin(0.29, Interval(0.33, 0.18, 0.52), 18),
        CalibrationBin(0.52, Interval(0.61, 0.40, 0.78), 16),
        CalibrationBin(0.74, Interval(0.69, 0.53, 0.82), 24),
        CalibrationBin(0.93, Interval(0.96, 0.89, 0.99), 72),
    )
    return Calibration(bins, Interval(0.93, 0.71, 1.18), Interval(-0.05, -0.42, 0.31))


def fold_curves(number: int, rng: np.random.Generator, epochs: int) -> FoldCurves:
    """Training goes on improving; validation gets worse again after some epochs."""
    at = np.arange(1, epochs + 1)
    sides = []
    for best, overfit in ((0.97, 0.0), (0.85 + rng.normal(0, 0.04), 0.004)):
        noise = rng.normal(0, 0.015, (3, epochs))
        sensitivity = np.clip(best - 0.4 * np.exp(-at / 6) - overfit * at + noise[0], 0, 1)
        specificity = np.clip(best - 0.1 - 0.6 * np.exp(-at / 9) - overfit * at + noise[1], 0, 1)
        sides.append(
            {
                "loss": tuple(0.15 / best + 0.6 * np.exp(-at / 8) + 3 * overfit * at + abs(noise[2])),
                "balanced_accuracy": tuple((sensitivity + specificity) / 2),
                "sensitivity": tuple(sensitivity),
                "specificity": tuple(specificity),
            }
        )
    chosen = int(np.argmin(sides[1]["loss"])) + 1
    return FoldCurves(f"repeat 1, fold {number}", (chosen,), *sides)


def example_training(folds: int = 5, epochs: int = 40) -> Training:
    rng = np.random.default_rng(3)
    return Training(
        recipe="cnn-clinical@fast",
        title="Small CNN and clinical values",
        rule="Kept was the epoch with the lowest loss on validation patients.",
        folds=tuple(fold_curves(i + 1, rng, epochs) for i in range(folds)),
        balancing=Balancing(
            "Patients of the smaller class were repeated.",
            (40, 90.4),
            (90.4, 90.4),
            (3210, 9850),
            (7190, 9850),
        ),
    )


def example_methods() -> Methods:
    return Methods(
        paragraphs=(
            "Ten times, the labelled patients were dealt into five groups of the same mix. Each group was "
            "predicted by a model that had learned from the other four; scaling, penalty and threshold "
            "were chosen inside those four.",
            "Intervals come from a bootstrap of patients. Probabilities of unlabelled patients come from the "
            "model fitted on all labelled ones, their intervals from refits on bootstrap samples.",
        ),
        facts=(
            ("Recipe", "morphology-clinical"),
            ("Protocol", "repeated stratified cross-validation, 5 folds × 10 repeats, by patient"),
            ("Seed", "0"),
            ("Budget", "full"),
            ("Ages taken on", "2020-01-01"),
            ("Fingerprint of the cohort", "3f9a0c" * 10),
        ),
        versions=(("lymphoscope", "0.1.0"), ("numpy", "2.4.6"), ("scikit-learn", "1.9.1")),
    )


def example_report(
    n_unlabelled: int = 9,
    n_malignant: int = 7,
    n_reactive: int = 5,
    cells_per_side: int = 2,
    image: Callable[[np.random.Generator], Image] = cell_image,
    seed: int = 0,
) -> ReportContent:
    rng = np.random.default_rng(seed)
    labels = [-1] * n_unlabelled + [1] * n_malignant + [0] * n_reactive
    patients = tuple(patient(i + 1, label, rng, image, cells_per_side) for i, label in enumerate(labels))
    return ReportContent(
        cohort=CohortSummary("example", n_malignant, n_reactive, n_unlabelled, 1234, INVENTED),
        patients=patients,
        threshold=THRESHOLD,
        wished_sensitivity=0.95,
        ladder=example_ladder(),
        quality=DecisionQuality(
            113, 50, Interval(0.965, 0.91, 0.99), interval(0.81), interval(0.19), interval(0.12, 0.05)
        ),
        quality_overlap=DecisionQuality(
            46, 50, Interval(0.93, 0.82, 0.98), interval(0.66, 0.09), interval(0.34, 0.09), interval(0.21)
        ),
        calibration=example_calibration(),
        proof=Proof(113, 50, 0.974, ((0.90, 29), (0.95, 59), (0.97, 99), (0.99, 299)), (0.03, 0.09)),
        swing=Swing(29, 13, Interval(0.87, 0.76, 0.97), 0.017, 0.038),
        probes=(
            Probe("Number of images", Interval(0.80, 0.73, 0.87), Interval(0.61, 0.50, 0.72),
                  "Malignant patients have more photographs.", warns=True),
            Probe("File size", Interval(0.54, 0.44, 0.63)),
            Probe("Background colour", Interval(0.61, 0.49, 0.72), Interval(0.55, 0.43, 0.66)),
            Probe("Date layout", None, None, "Every date is written alike."),
        ),
        training=(example_training(),),
        findings=(
            MixedDateLayouts("Dates of birth come in 2 layouts: 176 as M/D/YYYY, 29 as DD-MM-YYYY.",
                             files=("clinical_annotation.csv",)),
            CountBelowInclusion("2 patients have a count below 4 × 10⁹/L.", patients=("P3", "P11")),
            MissingValues("1 patient has no age.", patients=("P17",)),
            IgnoredColumns("Not used: column WARD."),
        ),
        methods=example_methods(),
    )  # fmt: skip

"""The answer per patient: probability, interval, decision, and the cells that weighed most."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.bags import Bags, FloatArray, IntArray
from lymphoscope.cohort.cell_store import CellStore
from lymphoscope.cohort.cohort import UNLABELLED, Cohort
from lymphoscope.cohort.findings import Finding, Severity
from lymphoscope.evaluation.out_of_fold import OutOfFold
from lymphoscope.evaluation.triage import NO_CELLS_NEEDED, Advice
from lymphoscope.models.base import BagClassifier
from lymphoscope.models.registry import recipe_info
from lymphoscope.pipeline.portraits import CROP, portraits
from lymphoscope.report.content import CellCrop, PatientRow
from lymphoscope.report.patient_table import crop_jpeg, strongest_cells
from lymphoscope.stats.intervals import Interval


@dataclass(frozen=True, eq=False)
class Answers:
    """What is said about some patients of a cohort.

    Attributes
    ----------
    patients : indices into the cohort's patients.
    probability, low, high : of malignancy with its interval, shape (n_patients,); bounds NaN where there is
        none.
    threshold : referral threshold of each patient, shape (n_patients,).
    decision : 1 malignant, 0 reactive at the model's own threshold, shape (n_patients,).
    advice : about flow cytometry.
    evidence : per patient, one number per cell in the store's order; None where the model cannot say.
    shares : how much of each decision came from where, (n_patients,) by name; empty where it cannot say.
    """

    patients: IntArray
    probability: FloatArray
    low: FloatArray
    high: FloatArray
    threshold: FloatArray
    decision: npt.NDArray[np.int8]
    advice: tuple[Advice, ...]
    evidence: tuple[FloatArray | None, ...]
    shares: Mapping[str, FloatArray] = field(default_factory=dict)


def by_patient(evidence: FloatArray | None, bags: Bags) -> tuple[FloatArray | None, ...]:
    """The evidence of each patient's cells, or None for each where a model cannot say."""
    if evidence is None:
        return (None,) * len(bags)
    return tuple(np.split(evidence, bags.offsets[1:-1]))


def cells_looked_at(model: BagClassifier, bags: Bags) -> IntArray:
    """Cells per patient for `advise`: `NO_CELLS_NEEDED` for a model that looks at none, so that none lack."""
    return bags.counts if model.looks_at_cells else np.full(len(bags), NO_CELLS_NEEDED)


def cells_looked_at_held_out(found: OutOfFold, bags: Bags) -> IntArray:
    """The same of tested patients in the first repeat: `auto` may have chosen another recipe in every fold.

    Parameters
    ----------
    bags : of the tested patients.
    """
    chosen = {
        fold: settings.get("recipe", found.recipe)
        for (repeat, fold), settings in zip(found.splits, found.settings, strict=True)
        if repeat == 0
    }
    looks = np.array([recipe_info(chosen[fold]).cell_input != "none" for fold in found.fold[0].tolist()])
    return np.where(looks, bags.counts, NO_CELLS_NEEDED)


def patient_rows(
    cohort: Cohort, store: CellStore, bags: Bags, answers: Answers, strip: int, *, hide_labels: bool = False
) -> tuple[PatientRow, ...]:
    """The report's line for each patient of `answers`.

    Parameters
    ----------
    bags : numbers of the whole cohort's cells, so that they are the store's.
    strip : cells shown per side.
    hide_labels : treat every patient as unlabelled.
    """
    portrait = portraits(store, bags, strip)
    rows = (
        replace(_row(cohort, store, bags, answers, k, strip), portrait=portrait(int(i)))
        for k, i in enumerate(answers.patients)
    )
    return tuple(replace(row, label=UNLABELLED) if hide_labels else row for row in rows)


def _row(cohort: Cohort, store: CellStore, bags: Bags, answers: Answers, k: int, strip: int) -> PatientRow:
    i = int(answers.patients[k])
    age, sex, count = (float(value) for value in cohort.patients.clinical[i])
    weights = answers.evidence[k]
    first = int(bags.offsets[i])
    above, below = ((), ()) if weights is None else strongest_cells(weights, strip)
    crops = [
        tuple(_crop(store, first + j, float(weights[j])) for j in side) if weights is not None else ()
        for side in (above, below)
    ]
    return PatientRow(
        id=cohort.patients.ids[i],
        label=int(cohort.patients.label[i]),
        split=cohort.patients.split[i],
        age=age,
        sex=sex,
        count=count,
        n_cells=int(bags.counts[i]),
        probability=Interval(float(answers.probability[k]), float(answers.low[k]), float(answers.high[k])),
        decision=answers.advice[k].decision,
        reason=answers.advice[k].reason,
        cells_for=crops[0],
        cells_against=crops[1],
        threshold=float(answers.threshold[k]),
        shares={name: float(share[k]) for name, share in answers.shares.items() if np.isfinite(share[k])},
    )


def _crop(store: CellStore, cell: int, evidence: float) -> CellCrop:
    return CellCrop(crop_jpeg(store.crop(cell, CROP)), evidence, store.index.path[cell].rpartition("/")[2])


def patients_with_errors(findings: Sequence[Finding]) -> frozenset[str]:
    """Ids of patients named by a finding of severity error."""
    return frozenset(
        patient for finding in findings if finding.severity is Severity.ERROR for patient in finding.patients
    )


def predictions_csv(cohort: Cohort, answers: Answers, decision_threshold: float) -> str:
    """One line per patient: id, probability, interval, decision and its threshold, flow cytometry, reason.

    The ends of an interval that there is not are empty. A model that knows how much of each decision came
    from where adds a column for each source.

    Parameters
    ----------
    decision_threshold : probability at and above which a patient is predicted to be malignant.
    """
    header = (
        "id",
        "probability",
        "low",
        "high",
        "predicted",
        "decision_threshold",
        "referral_threshold",
        "flow_cytometry",
        "reason",
        *(f"share_{name}" for name in answers.shares),
    )
    rows = (
        (
            cohort.patients.ids[i],
            f"{answers.probability[k]:.6f}",
            *("" if np.isnan(bound[k]) else f"{bound[k]:.6f}" for bound in (answers.low, answers.high)),
            str(answers.decision[k]),
            f"{decision_threshold:.6f}",
            f"{answers.threshold[k]:.6f}",
            answers.advice[k].decision,
            answers.advice[k].reason,
            *("" if np.isnan(share[k]) else f"{share[k]:.6f}" for share in answers.shares.values()),
        )
        for k, i in enumerate(answers.patients)
    )
    return to_csv(header, rows)


def submission_csv(cohort: Cohort, answers: Answers, columns: tuple[str, str], probabilities: bool) -> str:
    """One line per patient in the form that the challenge takes: id and 0 or 1 (or the probability)."""
    values = (
        (f"{p:.6f}" for p in answers.probability) if probabilities else (str(d) for d in answers.decision)
    )
    ids = (cohort.patients.ids[i] for i in answers.patients)
    return to_csv(columns, zip(ids, values, strict=True))


def to_csv(header: Sequence[str], rows: object) -> str:
    """Text of a table with commas and line feeds."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)  # type: ignore[arg-type]
    return out.getvalue()

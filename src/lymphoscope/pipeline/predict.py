"""`lymphoscope predict`: a fitted model on new patients."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lymphoscope.cohort.findings import counted
from lymphoscope.errors import BundleError
from lymphoscope.evaluation.resampling import explained, one_thread
from lymphoscope.evaluation.triage import advise, refit_bounds
from lymphoscope.files import atomic_directory, write_text
from lymphoscope.models.bundle import Bundle, load_bundle
from lymphoscope.pipeline import page
from lymphoscope.pipeline.answers import (
    Answers,
    by_patient,
    cells_looked_at,
    patient_rows,
    patients_with_errors,
    predictions_csv,
)
from lymphoscope.pipeline.fitted_on import known_again
from lymphoscope.pipeline.preparation import Prepared, require_new, require_outside
from lymphoscope.report.content import CohortSummary, Methods, ReportContent
from lymphoscope.report.html import write_report

STRIP = 4

FACTS: Mapping[str, type | tuple[type, ...]] = {
    "referral_threshold": (int, float),
    "wished_sensitivity": (int, float),
    "min_cells": int,
    "cell_columns": list,
    "encoder": (dict, type(None)),
    "leave_out_cells": str,
    "labels_note": str,
    "cohort": dict,
    "photographs": list,
}
"""What a prediction needs of a bundle besides the model."""


def read_model(folder: Path, weights: Path | None = None) -> Bundle:
    """The model that a run left in `folder`; `weights` if it does not hold those that it was built on.

    Raises
    ------
    BundleError : it cannot be read, or does not say what predictions need.
    """
    bundle = load_bundle(folder, weights)
    _check_facts(bundle, folder)
    return bundle


def predict_cohort(bundle: Bundle, prepared: Prepared, out: Path) -> Answers:
    """Say of every patient of `prepared` what the model of `bundle` says, and write it to `out`.

    Labels that the cohort may have are not looked at. `out` must not exist yet; it gets predictions.csv and
    report.html, or nothing.
    """
    require_outside(prepared.cohort, out)
    require_new(out)
    _check_columns(bundle, prepared)
    prepared.require_no_errors()
    answers = answer(prepared, bundle)
    with atomic_directory(out) as folder:
        write_text(
            folder / "predictions.csv", predictions_csv(prepared.cohort, answers, bundle.model.threshold_)
        )
        write_report(_content(prepared, bundle, answers), folder / "report.html")
    return answers


def answer(prepared: Prepared, bundle: Bundle, patients: np.ndarray | None = None) -> Answers:
    """What a fitted model says about patients of a cohort; all of them if none are named."""
    chosen = np.arange(len(prepared.bags)) if patients is None else patients
    bags, facts = prepared.bags_for(bundle.model)[chosen], bundle.metadata
    threshold = float(facts["referral_threshold"])
    unknown = np.full(len(chosen), np.nan)
    with one_thread(bundle.model):
        probability, said = explained(bundle.model, bags)
        bounds = refit_bounds(bundle.refits, bags, probability) if bundle.refits else None
    low, high = bounds or (probability, probability)
    return Answers(
        patients=chosen,
        probability=probability,
        low=low if bounds else unknown,
        high=high if bounds else unknown,
        threshold=np.full(len(bags), threshold),
        decision=(probability >= bundle.model.threshold_).astype(np.int8),
        advice=advise(
            bags.patient_ids,
            probability,
            low,
            high,
            threshold,
            n_cells=cells_looked_at(bundle.model, bags),
            min_cells=int(facts["min_cells"]),
            with_errors=patients_with_errors((*prepared.findings, *prepared.ignored)),
        ),
        evidence=by_patient(said.evidence, bags),
        shares=said.shares,
    )


def caveats_of(bundle: Bundle, prepared: Prepared) -> tuple[str, ...]:
    """Why these predictions may not be believed as they stand, in sentences."""
    found = page.caveats(bundle.model) + _not_held_out(bundle, prepared) + page.barely_trained(bundle.recipe)
    seen = known_again(bundle.metadata["photographs"], prepared)
    if bundle.metadata["cohort"]["fingerprint"] == prepared.store.fingerprint:
        found += (
            "These are the data that the model was fitted on: what it says of patients it has learned from "
            "flatters it.",
        )
    elif seen:
        found += (
            f"The model was fitted on {seen} of these {counted(len(prepared.cohort.patients), 'patient')}, "
            "known again by their photographs: what it says of them flatters it.",
        )
    day = bundle.metadata["cohort"].get("reference_date")
    if day is not None and day != str(prepared.cohort.reference_date):
        found += (
            f"The model was fitted on ages at {day}, and is given ages at {prepared.cohort.reference_date} "
            "where they come from dates of birth: see --reference-date.",
        )
    fitted = bundle.metadata["leave_out_cells"]
    if fitted != prepared.leave_out and bundle.model.looks_at_cells:
        found += (
            f"The model was fitted with --leave-out-cells {fitted}, and these predictions are made with "
            f"{prepared.leave_out}: it looks at other cells than those that it was measured on.",
        )
    return found


def _not_held_out(bundle: Bundle, prepared: Prepared) -> tuple[str, ...]:
    return page.not_held_out(prepared, [(bundle.recipe, bundle.model)])


def _check_facts(bundle: Bundle, model: Path) -> None:
    """A bundle may come from elsewhere; what `lymphoscope run` keeps with a model must be there."""
    facts = bundle.metadata
    lacking = [name for name, kind in FACTS.items() if name not in facts or not isinstance(facts[name], kind)]
    if not lacking:
        lacking = [n for n in ("name", "fingerprint", "malignant", "reactive") if n not in facts["cohort"]]
    if lacking:
        raise BundleError(
            f"{model}: does not say what predictions need ({', '.join(lacking)}). Name the folder called "
            "`model` of a run, or fit the model again."
        )


def _check_columns(bundle: Bundle, prepared: Prepared) -> None:
    """The numbers that the model was fitted on must be those that this version and the encoder give."""
    if bundle.model.cell_input != "numbers" or not bundle.model.looks_at_cells:
        return
    wanted = bundle.metadata["encoder"]
    given = None if prepared.encoder is None else prepared.encoder.as_dict()
    if wanted != given:
        raise BundleError(
            f"The model was fitted on what {_named(wanted)} says of cells, and was given {_named(given)}. "
            "Name the same one with --encoder."
        )
    if bundle.metadata["cell_columns"] != list(prepared.bags.columns or ()):
        raise BundleError(
            "The model was fitted on other per-cell numbers than this version measures. Install the version "
            "that made it, or fit the model again with this one."
        )


def _named(encoder: dict[str, str] | None) -> str:
    return "no encoder" if encoder is None else f"the encoder {encoder['name']} ({encoder['sha256'][:12]})"


def _content(prepared: Prepared, bundle: Bundle, answers: Answers) -> ReportContent:
    cohort, facts = prepared.cohort, bundle.metadata
    rows = patient_rows(cohort, prepared.store, prepared.bags, answers, STRIP, hide_labels=True)
    trained = facts["cohort"]
    return ReportContent(
        fitted_on=str(trained["name"]),
        cohort=CohortSummary(
            cohort.root.name, 0, 0, len(rows), len(prepared.store), str(facts["labels_note"])
        ),
        patients=rows,
        threshold=float(facts["referral_threshold"]),
        wished_sensitivity=float(facts["wished_sensitivity"]),
        coefficients=page.coefficients(bundle.model),
        caveats=caveats_of(bundle, prepared),
        findings=prepared.findings,
        ignored=prepared.ignored,
        methods=Methods(
            paragraphs=(
                f"Predicted by a model of recipe “{bundle.recipe}”, fitted on {trained['malignant']} "
                f"malignant and {trained['reactive']} reactive patients of the cohort “{trained['name']}”. "
                "How well it does on patients like these cannot be seen from this page: see the report of "
                "the run that fitted it.",
                *_not_held_out(bundle, prepared),
            ),
            facts=(
                ("Recipe", bundle.recipe),
                *page.cells_told(prepared.encoder, prepared.left_out),
                *page.weights(bundle.model),
                ("Fingerprint of the training data", trained["fingerprint"]),
                ("Fingerprint of these data", prepared.store.fingerprint),
                ("Ages taken at", str(cohort.reference_date)),
            ),
            versions=tuple(sorted(bundle.packages.items())),
        ),
    )

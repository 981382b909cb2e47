"""`lymphoscope run`: from a cohort folder to predictions, a report and a model, resumable at every fold."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata as packages
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lymphoscope.cohort.findings import Finding, without
from lymphoscope.cohort.progress import Progress
from lymphoscope.errors import InputError, RunFolderError
from lymphoscope.evaluation.epoch_progress import Track
from lymphoscope.evaluation.fold_curves import COLUMNS, curve_rows
from lymphoscope.evaluation.folds import chosen_settings
from lymphoscope.evaluation.ladder import Ladder, climb
from lymphoscope.evaluation.out_of_fold import OutOfFold
from lymphoscope.evaluation.probes import Probe
from lymphoscope.evaluation.sample_size import swing_of_a_test_set, what_patients_prove
from lymphoscope.evaluation.triage import Triage, triage
from lymphoscope.files import atomic_path, write_json, write_text
from lymphoscope.models.base import BagClassifier
from lymphoscope.models.bundle import Bundle, save_bundle
from lymphoscope.models.named_settings import public_name
from lymphoscope.models.registry import recipe_info
from lymphoscope.pipeline import page
from lymphoscope.pipeline.answers import (
    Answers,
    cells_looked_at_held_out,
    patient_rows,
    patients_with_errors,
    predictions_csv,
    submission_csv,
)
from lymphoscope.pipeline.cluster_page import clusters
from lymphoscope.pipeline.concept_page import compare_concepts
from lymphoscope.pipeline.evaluate import ladder_with
from lymphoscope.pipeline.final_model import fit_final
from lymphoscope.pipeline.plan import RunPlan
from lymphoscope.pipeline.predict import answer
from lymphoscope.pipeline.preparation import Prepared, probe_cohort, require_outside
from lymphoscope.pipeline.run_folder import COHORT, CURVES, RunFolder
from lymphoscope.pipeline.tracking import require_tracking, tracking
from lymphoscope.pipeline.training_page import training
from lymphoscope.report.content import CohortSummary, Methods, ReportContent
from lymphoscope.report.html import write_report

VERSIONS = ("lymphoscope", "numpy", "scikit-learn", "torch", "opencv-python-headless", "simplejpeg")


def run(
    prepared: Prepared,
    out: Path,
    plan: RunPlan,
    *,
    jobs: int = 2,
    overwrite: bool = False,
    track: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Evaluate the ladder, fit the plan's recipe, advise on every patient, and write the run folder.

    A folder that holds the finished run of the same plan and data is left as it is.

    Parameters
    ----------
    track : folder for TensorBoard to watch networks in while they are trained.

    Raises
    ------
    LymphoscopeError : findings of severity error, no labelled patients, or a folder that holds another run.
    """
    require_outside(prepared.cohort, out)
    prepared.require_no_errors()
    prepared.require_labels()
    _require_ladder(prepared, plan)
    require_tracking(track, out)
    if track is not None:
        require_outside(prepared.cohort, track)
    with RunFolder.open(
        out,
        plan.as_dict(prepared.cohort.root.name, prepared.encoder, prepared.leave_out),
        overwrite=overwrite,
    ) as folder:
        _pin_cohort(folder, prepared)
        if not folder.complete:
            with tracking(track) as epochs:
                _run(folder, prepared, plan, jobs, progress, epochs)
    return out


def _require_ladder(prepared: Prepared, plan: RunPlan) -> None:
    """Refuse, before anything is written, what must fail on the way: impossible splits, no cells at all."""
    plan.protocol.splits(prepared.labels, prepared.labelled_split)
    if not prepared.labelled_bags.counts.any():
        raise InputError(
            "no labelled patient has a photograph that can be read, so the ladder has no rungs on images",
            file=prepared.cohort.root,
            remedy="Add photographs, or measure a recipe on clinical values alone: "
            "lymphoscope evaluate COHORT --recipe clinical.",
        )


def _run(
    folder: RunFolder,
    prepared: Prepared,
    plan: RunPlan,
    jobs: int,
    progress: Progress | None,
    track: Track | None,
) -> None:
    folder.log("started")
    ladder = climb(
        prepared.labelled_bags,
        prepared.labels,
        plan.protocol,
        recipes=ladder_with(plan.recipe, prepared.bags),
        refer=(plan.kept,),
        refits=plan.refits,
        split_column=prepared.labelled_split,
        jobs=jobs,
        pieces=folder / "pieces",
        progress=progress,
        track=track,
        bags_for=lambda model: prepared.bags_for(model, jobs=jobs, progress=progress)[prepared.labelled],
    )
    folder.log("evaluated", seconds={row.recipe: row.evaluation.out_of_fold.seconds for row in ladder.rows})
    bundle = fit_final(folder, prepared, plan, jobs, progress, track)
    folder.log("fitted", recipe=plan.recipe_name)
    found = Found(
        ladder=ladder,
        triage=_triage(prepared, plan, ladder),
        new=answer(prepared, bundle, prepared.unlabelled),
        probes=probe_cohort(prepared, plan.protocol),
        cautions=page.cautions(prepared, ladder),
    )
    _write(folder, prepared, plan, bundle, found)
    shutil.rmtree(folder / "pieces", ignore_errors=True)
    folder.log("finished")


@dataclass(frozen=True, eq=False)
class Found:
    """What a run found out.

    Attributes
    ----------
    triage : the decision for labelled patients while they were held out, first repeat.
    new : the answers for unlabelled patients.
    cautions : why numbers of the ladder flatter, in sentences.
    """

    ladder: Ladder
    triage: Triage
    new: Answers
    probes: tuple[Probe, ...]
    cautions: tuple[str, ...]


def _pin_cohort(folder: RunFolder, prepared: Prepared) -> None:
    """Write cohort.json, or make sure that the cohort is still the one this run began with."""
    patients = prepared.cohort.patients
    facts: dict[str, Any] = {
        "name": prepared.cohort.root.name,
        "fingerprint": prepared.store.fingerprint,
        "patients": len(patients),
        "malignant": int((patients.label == 1).sum()),
        "reactive": int((patients.label == 0).sum()),
        "unlabelled": int((patients.label == -1).sum()),
        "cells": len(prepared.store),
        "cells_left_out": prepared.left_out.n if prepared.left_out else 0,
        "reference_date": str(prepared.cohort.reference_date),
        "count_unit": prepared.cohort.count_unit,
    }
    path = folder / COHORT
    if path.exists() and folder.read(COHORT).get("fingerprint") != facts["fingerprint"]:
        raise RunFolderError(
            f"{folder.path}: was begun with other data (the cohort's fingerprint differs). Choose a new "
            "folder, or give --overwrite to replace that run."
        )
    write_json(path, facts)


def _triage(prepared: Prepared, plan: RunPlan, ladder: Ladder) -> Triage:
    found = ladder.row(plan.recipe_name).evaluation.out_of_fold
    return triage(
        found,
        plan.protocol,
        n_cells=cells_looked_at_held_out(found, prepared.labelled_bags[found.patients]),
        min_cells=plan.reading.min_cells,
        with_errors=patients_with_errors((*prepared.findings, *prepared.ignored)),
    )


def _write(folder: RunFolder, prepared: Prepared, plan: RunPlan, bundle: Bundle, found: Found) -> None:
    """Everything but plan and cohort; metrics.json comes last and says that the run is complete."""
    cohort, submission = prepared.cohort, plan.submission
    _write_splits(folder / "splits.parquet", found.ladder)
    _write_predictions(folder / "predictions.parquet", found.ladder)
    _write_curves(folder / CURVES, found.ladder)
    write_text(folder / "predictions.csv", predictions_csv(cohort, found.new, bundle.model.threshold_))
    write_text(
        folder / "submission.csv",
        submission_csv(cohort, found.new, submission.columns, submission.values == "probability"),
    )
    target = folder / "model"
    if target.exists():
        shutil.rmtree(target)
    save_bundle(bundle, target)
    findings = _findings(prepared, plan, found)
    write_json(folder / "findings.json", [finding.as_dict() for finding in findings])
    write_report(_content(prepared, plan, bundle, found), folder / "report.html")
    write_json(folder / "metrics.json", _metrics(bundle, found))


def _findings(prepared: Prepared, plan: RunPlan, found: Found) -> tuple[Finding, ...]:
    """Those of the data, and those of the shortcut probes."""
    probes = without((probe.finding for probe in found.probes if probe.warns), plan.ignore)
    return (*prepared.findings, *probes)


def _write_splits(path: Path, ladder: Ladder) -> None:
    found = ladder.rows[0].evaluation.out_of_fold
    repeats = np.repeat(np.arange(found.n_repeats), len(found.patients))
    ids = list(found.patient_ids) * found.n_repeats
    _write_parquet(path, pd.DataFrame({"repeat": repeats, "fold": found.fold.ravel(), "id": ids}))


def _write_predictions(path: Path, ladder: Ladder) -> None:
    """Every out-of-fold prediction of every recipe, one row each."""
    frames = []
    for row in ladder.rows:
        found = row.evaluation.out_of_fold
        columns = {
            "recipe": row.recipe,
            "optimistic": found.optimistic,
            "repeat": np.repeat(np.arange(found.n_repeats), len(found.patients)),
            "fold": found.fold.ravel(),
            "id": list(found.patient_ids) * found.n_repeats,
            "label": np.tile(found.y, found.n_repeats),
            "probability": found.probability.ravel(),
            "decision": found.decision.ravel(),
            "threshold": found.threshold.ravel(),
        }
        frames.append(pd.DataFrame(columns))
    _write_parquet(path, pd.concat(frames, ignore_index=True))


def _write_curves(path: Path, ladder: Ladder) -> None:
    """Every epoch of every fold of the recipes that are trained in epochs; no file without any."""
    rows = [line for row in ladder.rows for line in curve_rows(row.evaluation.out_of_fold)]
    if rows:
        _write_parquet(path, pd.DataFrame(rows, columns=list(COLUMNS)))


def _write_parquet(path: Path, table: pd.DataFrame) -> None:
    with atomic_path(path) as temporary:
        table.to_parquet(temporary, index=False)


def _metrics(bundle: Bundle, found: Found) -> dict[str, Any]:
    out_of_fold = found.ladder.row(bundle.recipe).evaluation.out_of_fold
    malignant = int(out_of_fold.y.sum())
    return {
        "recipe": bundle.recipe,
        "chosen": chosen_settings(bundle.model),
        "ladder": found.ladder.as_dict(),
        "triage": found.triage.as_dict(),
        "referral_threshold": bundle.metadata["referral_threshold"],
        "sample_size": what_patients_prove(malignant, len(out_of_fold.y) - malignant).as_dict(),
        "swing": swing_of_a_test_set(out_of_fold).as_dict(),
        "probes": [probe.as_dict() for probe in found.probes],
        "cautions": list(found.cautions),
    }


def _content(prepared: Prepared, plan: RunPlan, bundle: Bundle, found: Found) -> ReportContent:
    cohort = prepared.cohort
    labels, row = cohort.patients.label, found.ladder.row(bundle.recipe)
    tested = row.evaluation.overall
    rows = [
        line
        for answers in (found.new, _held_out(prepared, found, row.evaluation.out_of_fold))
        for line in patient_rows(cohort, prepared.store, prepared.bags, answers, plan.strip)
    ]
    return ReportContent(
        cohort=CohortSummary(
            cohort.root.name,
            int((labels == 1).sum()),
            int((labels == 0).sum()),
            len(prepared.unlabelled),
            len(prepared.store),
            plan.labels_note,
        ),
        patients=tuple(rows),
        threshold=bundle.metadata["referral_threshold"],
        wished_sensitivity=plan.protocol.wished_sensitivity,
        ladder=page.ladder(found.ladder, bundle.recipe),
        quality=page.decision_quality(found.triage.overall),
        quality_overlap=page.decision_quality(found.triage.overlap),
        without_threshold=float((found.triage.threshold == 0).mean()),
        calibration=page.calibration(row.evaluation),
        proof=page.proof(what_patients_prove(tested.n_malignant, tested.n_reactive), row.comparisons),
        swing=page.swing(swing_of_a_test_set(row.evaluation.out_of_fold)),
        concepts=compare_concepts(
            prepared.labelled_bags,
            prepared.labels,
            replicates=plan.protocol.bootstrap,
            seed=plan.protocol.seed,
        ),
        probes=page.probes(found.probes),
        training=training(found.ladder),
        clusters=clusters(prepared, bundle.model),
        coefficients=page.coefficients(bundle.model),
        caveats=(*page.caveats(bundle.model), *found.cautions),
        findings=_findings(prepared, plan, found),
        ignored=prepared.ignored,
        methods=_methods(prepared, plan, bundle, found.cautions),
    )


def _held_out(prepared: Prepared, found: Found, out_of_fold: OutOfFold) -> Answers:
    decided = found.triage
    return Answers(
        patients=prepared.labelled[out_of_fold.patients],
        probability=decided.probability,
        low=decided.low,
        high=decided.high,
        threshold=decided.threshold,
        decision=out_of_fold.decision[0],
        advice=decided.advice,
        evidence=out_of_fold.evidence,
        shares=out_of_fold.shares,
    )


def _methods(prepared: Prepared, plan: RunPlan, bundle: Bundle, cautions: tuple[str, ...]) -> Methods:
    info = recipe_info(plan.kept)
    protocol = plan.protocol
    return Methods(
        paragraphs=(
            f"Recipe “{plan.recipe_name}”: {info.summary} Source: {info.source}.",
            *page.set_otherwise(bundle.model, plan.kept),
            f"Measured by {protocol.sentence()}; all cells of a patient stand on the same side of every "
            "split, and scaling, settings, thresholds and the choice of a recipe come from training patients "
            "alone. Intervals are from a bootstrap of patients.",
            "What is said of labelled patients was said while they were held out. "
            + (
                f"The interval of a probability comes from {plan.refits} models refitted on bootstrap "
                "samples of patients, with the settings that the fitted model had chosen."
                if plan.has_refits
                else "A probability stands without an interval: networks are not refitted on bootstrap "
                "samples of patients, which takes too long."
            ),
            *cautions,
            *_rule(plan),
        ),
        facts=(
            ("Recipe", plan.recipe_name),
            *page.cells_told(prepared.encoder, prepared.left_out),
            *page.weights(bundle.model),
            *_chosen(bundle.model),
            ("Protocol", protocol.sentence()),
            ("Seed", str(protocol.seed)),
            ("Refits", str(plan.refits) if plan.has_refits else "none"),
            ("Ages taken at", str(prepared.cohort.reference_date)),
            ("Counts given in", prepared.cohort.count_unit),
            ("Overlap zone", f"count up to {protocol.overlap_limit:g} × 10⁹/L"),
            ("Fingerprint of the data", prepared.store.fingerprint),
        ),
        versions=tuple((name, packages.version(name)) for name in VERSIONS),
    )


def _chosen(model: BagClassifier) -> Iterator[tuple[str, str]]:
    """What the model chose in its inner folds, in words and a few digits."""
    for name, value in chosen_settings(model).items():
        shown = f"{value:.3g}" if isinstance(value, float) else f"{value}"
        yield f"Chosen {name.replace('_', ' ')}", shown


def _rule(plan: RunPlan) -> tuple[str, ...]:
    """Why predictions do not come from the recipe that was asked for, where they do not."""
    if plan.kept == plan.recipe:
        return ()
    return (
        f"Asked for was “{public_name(plan.recipe)}”, whose epoch is chosen on the patients that are scored. "
        "It is on the ladder, and is optimistic. New patients have no labels to choose an epoch by, so "
        f"predictions come from “{plan.recipe_name}”, which chooses it within the training patients.",
    )

"""The truth about a synthetic cohort, in the folder beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lymphoscope._version import __version__
from lymphoscope.cohort.synthetic.clinical import Labels
from lymphoscope.cohort.synthetic.faults import Copy
from lymphoscope.cohort.synthetic.look import LOOK
from lymphoscope.cohort.synthetic.output_folders import PLAN_FILE, PROGRAM
from lymphoscope.cohort.synthetic.patients import PatientDraw
from lymphoscope.cohort.synthetic.plan import SyntheticPlan
from lymphoscope.cohort.synthetic.population import ACTIVATED, CLONES, KINDS, TRAITS, Cells
from lymphoscope.cohort.synthetic.tables import csv_text
from lymphoscope.files import write_json, write_text

TRUTH_FILES = ("patients.csv", "cells.csv", "test_truth.csv", PLAN_FILE)


def write_truth(
    folder: Path,
    plan: SyntheticPlan,
    patients: PatientDraw,
    ids: Sequence[str],
    table_label: Labels,
    cells: Cells,
    files: Sequence[str],
    copies: Sequence[Copy],
    record: dict[str, Any],
) -> None:
    """Write `TRUTH_FILES` into `folder`.

    `patients.csv` has a row per patient: the true label (LABEL) beside the table's (TABLE_LABEL), clinical
    values as they were drawn, the kind of population and the latent values that made it. `cells.csv` has a
    row per photograph: whether it carries the signal, what for, what it is a copy of, and its latent traits.
    `test_truth.csv` has the test patients' labels alone. `record` is added to the plan's file.
    """
    write_text(folder / "patients.csv", _patients_text(patients, ids, table_label, cells))
    write_text(folder / "cells.csv", _cells_text(ids, patients, cells, files, copies))
    test = [(ids[int(i)], patients.label[i]) for i in np.flatnonzero(patients.is_test)]
    write_text(folder / "test_truth.csv", csv_text(("ID", "LABEL"), test))
    about = {"program": PROGRAM, "version": __version__, "plan": plan.as_dict()}
    write_json(folder / PLAN_FILE, {**about, "truth_files": list(TRUTH_FILES), **record})


def _patients_text(patients: PatientDraw, ids: Sequence[str], table_label: Labels, cells: Cells) -> str:
    populations, clinical = patients.populations, patients.clinical
    names = populations.names()
    carrying = np.bincount(cells.patient, weights=cells.signal, minlength=len(patients))
    header = ["ID", "split", "LABEL", "TABLE_LABEL", "population", "age_years", "sex", "lymphocyte_count"]
    header += ["n_cells", "signal_cells", "signal_share", "expressivity", "heterogeneity", "border"]
    header += [f"share_{KINDS[kind]}" for kind in ACTIVATED] + [f"look_{name}" for name in LOOK]
    rows = []
    for i, patient_id in enumerate(ids):
        row: list[object] = [
            patient_id,
            "test" if patients.is_test[i] else "train",
            patients.label[i],
            table_label[i],
            names[i],
            f"{clinical.age[i]:.3f}",
            "FM"[clinical.sex[i]],
            f"{clinical.count[i]:.4f}",
            clinical.n_cells[i],
            int(carrying[i]),
        ]
        numbers = [populations.signal_share[i], populations.expressivity[i], populations.heterogeneity[i]]
        row += [f"{value:.4f}" for value in numbers]
        row.append(patients.border[i])
        row += [f"{value:.4f}" for value in (*populations.activated[i], *patients.looks[i])]
        rows.append(row)
    return csv_text(header, rows)


def _cells_text(
    ids: Sequence[str], patients: PatientDraw, cells: Cells, files: Sequence[str], copies: Sequence[Copy]
) -> str:
    shown = np.arange(len(files))
    copy_of, reencoded = [""] * len(files), [""] * len(files)
    for copy in copies:
        shown[copy.to] = copy.source
        copy_of[copy.to] = files[copy.source]
        reencoded[copy.to] = "1" if copy.reencoded else "0"
    header = ("ID", "split", "file", "kind", "signal", "speaks_for", "copy_of", "reencoded", *TRAITS)
    rows = []
    for k, patient in enumerate(cells.patient):
        kind = int(cells.kind[shown[k]])
        speaks_for = "malignant" if kind in CLONES else "reactive" if kind in ACTIVATED else ""
        split = "test" if patients.is_test[patient] else "train"
        traits = (f"{value:.4f}" for value in cells.traits[shown[k]])
        signal = int(cells.signal[shown[k]])
        start = (ids[int(patient)], split, files[k], KINDS[kind], signal, speaks_for)
        rows.append((*start, copy_of[k], reencoded[k], *traits))
    return csv_text(header, rows)

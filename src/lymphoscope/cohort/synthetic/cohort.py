"""Writes a synthetic cohort: photographs and tables in the challenge's layout, and beside it the truth."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import joblib
import numpy as np
import simplejpeg

from lymphoscope.cohort.progress import Progress
from lymphoscope.cohort.synthetic.clinical import Floats, Ints
from lymphoscope.cohort.synthetic.faults import Copy, draw_copies, flip_labels, missing_values
from lymphoscope.cohort.synthetic.output_folders import TABLE, cohort_and_truth, image_name, truth_folder
from lymphoscope.cohort.synthetic.painter import Scene, encode, paint
from lymphoscope.cohort.synthetic.patients import (
    CELLS,
    FAULTS,
    PIXELS,
    TABLES,
    PatientDraw,
    draw_patients,
    generator,
)
from lymphoscope.cohort.synthetic.plan import SyntheticPlan
from lymphoscope.cohort.synthetic.population import Traits, draw_cells
from lymphoscope.cohort.synthetic.tables import below_inclusion, challenge_tables, table_rows
from lymphoscope.cohort.synthetic.truth import write_truth
from lymphoscope.files import sha256_bytes

DS_STORE = b"\x00\x00\x00\x01Bud1" + bytes(6140)
"""What a Mac leaves behind: a file that is no image, 6148 bytes."""


@dataclass(frozen=True)
class SyntheticCohort:
    """What was written: `cohort` and `truth` folders, how much, and how long painting took."""

    cohort: Path
    truth: Path
    patients: int
    cells: int
    seconds: float


def synthesize(
    plan: SyntheticPlan,
    out: Path,
    *,
    jobs: int = 2,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> SyntheticCohort:
    """Write the cohort of `plan` to `out` and the truth to `<out>_truth`, both whole or not at all.

    Parameters
    ----------
    jobs : processes that paint; the bytes written do not depend on it.
    overwrite : replace `out` if this program wrote it and nothing was added since.

    Raises
    ------
    InputError : `out` is there already and may not be replaced.
    """
    out = Path(out).absolute()
    with cohort_and_truth(out, overwrite=overwrite) as (cohort, truth):
        patients = _patients(plan)
        n_cells = patients.clinical.n_cells
        offsets = np.concatenate([[0], np.cumsum(n_cells)])
        cells = draw_cells(patients.populations, n_cells, generator(plan.seed, CELLS))
        rng = generator(plan.seed, FAULTS)
        table_label = patients.label.copy()
        labelled = patients.is_test == 0
        table_label[labelled] = flip_labels(patients.label[labelled], plan.label_noise, rng)
        missing = missing_values(patients.clinical.table(), plan.missing, rng)
        copies = draw_copies(plan.leak, patients.label, patients.is_test, offsets, rng)

        rng = generator(plan.seed, TABLES)
        ids = [f"P{number + 1}" for number in rng.permutation(len(patients))]
        folders = [f"{_split_folder(patients, i)}/{patient_id}" for i, patient_id in enumerate(ids)]
        rows = table_rows(patients, ids, table_label, missing, dirt=plan.dirt, rng=rng)
        tables = challenge_tables(rows, dirt=plan.dirt, rng=rng)
        others = _write_others(cohort, tables, folders if plan.dirt else ())

        started = time.monotonic()
        _paint_all(plan, cohort, folders, patients, cells.traits, offsets, jobs, progress)
        files = [f"{folders[p]}/{image_name(k - offsets[p])}" for k, p in enumerate(cells.patient)]
        _copy_photographs(cohort, files, copies)
        seconds = time.monotonic() - started
        record = {
            "table_sha256": sha256_bytes(tables[TABLE].encode()),
            "images": {folder: int(n) for folder, n in zip(folders, n_cells, strict=True)},
            "other_files": others,
        }
        write_truth(truth, plan, patients, ids, table_label, cells, files, copies, record)
    return SyntheticCohort(out, truth_folder(out), len(patients), len(files), seconds)


def _patients(plan: SyntheticPlan) -> PatientDraw:
    patients = draw_patients(plan, plan.patients, plan.test, plan.seed)
    if not plan.dirt:
        return patients
    # Its own stream: a cohort without dirt is otherwise the same.
    low = below_inclusion(patients.clinical.count, patients.is_test, generator(plan.seed, TABLES, 1))
    return replace(patients, clinical=replace(patients.clinical, count=low))


def _split_folder(patients: PatientDraw, i: int) -> str:
    return "testset" if patients.is_test[i] else "trainset"


def _write_others(cohort: Path, tables: dict[str, str], dirty_folders: Sequence[str]) -> list[str]:
    """Write the tables and, if folders are given, the strays of a Mac; return their names."""
    contents = {name: text.encode() for name, text in tables.items()}
    if dirty_folders:
        strays = {".DS_Store", "trainset/.DS_Store", f"{dirty_folders[0]}/.DS_Store"}
        contents |= dict.fromkeys(strays, DS_STORE)
    for name, content in contents.items():
        (cohort / name).parent.mkdir(parents=True, exist_ok=True)
        (cohort / name).write_bytes(content)
    return sorted(contents)


def _paint_all(
    plan: SyntheticPlan,
    cohort: Path,
    folders: Sequence[str],
    patients: PatientDraw,
    traits: Traits,
    offsets: Ints,
    jobs: int,
    progress: Progress | None,
) -> None:
    for folder in folders:
        (cohort / folder).mkdir(parents=True, exist_ok=True)
    # Large bags first, so that the processes finish together.
    order = np.argsort(-patients.clinical.n_cells, kind="stable")
    tasks = (
        joblib.delayed(_paint_patient)(
            cohort / folders[i],
            traits[offsets[i] : offsets[i + 1]],
            patients.looks[i],
            bool(patients.border[i]),
            (plan.seed, int(i)),
        )
        for i in order
    )
    if progress is not None:
        progress.start("Painting cells", int(offsets[-1]))
    for n in _run(tasks, jobs):
        if progress is not None:
            progress.advance(n)
    if progress is not None:
        progress.done()


def _run(tasks: Iterator[tuple[object, tuple[object, ...], dict[str, object]]], jobs: int) -> Iterator[int]:
    yield from joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")(tasks)


def _paint_patient(folder: Path, traits: Traits, look: Floats, border: bool, seed: tuple[int, int]) -> int:
    """Paint and write one patient's photographs; the stream depends on the patient alone."""
    rng = generator(seed[0], PIXELS, seed[1])
    scene = Scene.from_look(look, border)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for k, row in enumerate(traits):
            (folder / image_name(k)).write_bytes(encode(paint(row, scene, rng)))
    finally:
        cv2.setNumThreads(threads)
    return len(traits)


def _copy_photographs(cohort: Path, files: Sequence[str], copies: Sequence[Copy]) -> None:
    for copy in copies:
        content = (cohort / files[copy.source]).read_bytes()
        if copy.reencoded:
            content = encode(simplejpeg.decode_jpeg(content, colorspace="RGB"))
        (cohort / files[copy.to]).write_bytes(content)

"""Read a cohort's table and folders into patients, paths of photographs, and findings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from lymphoscope.cohort import folder_findings as kinds
from lymphoscope.cohort.cohort import UNLABELLED, Cohort, Patients
from lymphoscope.cohort.findings import Finding, counted
from lymphoscope.cohort.image_folders import (
    TABLE_SUFFIXES,
    ImageFolders,
    almost,
    find_images,
    natural_order,
    split_of,
    stray_files,
)
from lymphoscope.cohort.options import DateOrder, ReadOptions
from lymphoscope.cohort.patient_table import PatientTable, read_patient_table
from lymphoscope.cohort.repeated_tables import compare_tables
from lymphoscope.errors import InputError

__all__ = ["ReadOptions", "read_cohort"]

DEFAULT_OPTIONS = ReadOptions()
DEFAULT_TABLE = "clinical_annotation.csv"

_SUBMISSION = "sample_submission.csv"
_LAYOUT_HINT = "Point at a folder that holds one folder of photographs per patient and the patient table."


def read_cohort(root: Path, options: ReadOptions = DEFAULT_OPTIONS) -> Cohort:
    """Read the cohort in the folder `root`; nothing is decoded and nothing is written.

    Patients are those of the table, in its order, then those that have a folder of photographs alone.
    Faults that leave a cohort to speak of become findings, even those that must stop a run.

    Raises
    ------
    InputError : the folder, the table or an option cannot be used at all.
    """
    root = _folder(Path(root), "the cohort")
    _check(options)
    path = _choose_table(root, options.table)
    table = None if path is None else read_patient_table(path, options, name=_name(path, root))
    start = root if options.images is None else _folder(_within(root, options.images), "the images folder")
    ids = () if table is None else table.ids
    folders = find_images(root, start, ids, known=() if path is None else (path,))
    repeated = compare_tables(root, folders.tables, table, options)
    findings = [*(table.findings if table else (_no_table(folders),)), *repeated.findings, *folders.findings]
    stray = [*folders.stray, *repeated.unreadable]
    if stray:
        findings.append(stray_files(stray))
    extra = sorted(folders.images.keys() - set(ids), key=natural_order)
    if not ids and not extra:
        raise InputError(
            "there is neither a patient table nor a photograph in a patient's folder",
            file=root,
            found=f"{counted(len(stray), 'other file')}" if stray else "nothing",
            remedy=_LAYOUT_HINT,
        )
    split, found = _splits(table, extra, folders, repeated.splits)
    patients = _patients(table, extra, split)
    findings += [*found, *_matching_findings(table, extra, folders, options.min_cells)]
    images = [(i, Path(p)) for i, patient in enumerate(patients.ids) for p in folders.images.get(patient, ())]
    return Cohort(
        root=root,
        patients=patients,
        images=tuple(path for _, path in images),
        image_patient=np.array([i for i, _ in images], dtype=np.int64),
        findings=tuple(sorted(findings, key=lambda finding: finding.code)),
        reference_date=options.reference_date,
        count_unit=options.count_unit,
        notes=() if table is None else table.notes,
    )


def _check(options: ReadOptions) -> None:
    if options.date_order not in get_args(DateOrder):
        raise InputError(
            "this is no order of dates", found=options.date_order, allowed=", ".join(get_args(DateOrder))
        )


def _folder(path: Path, what: str) -> Path:
    """`path` resolved, if it is a folder that can be opened."""
    try:
        next(path.iterdir(), None)
    except FileNotFoundError:
        problem = f"there is no such folder for {what}"
    except NotADirectoryError:
        problem = f"{what} is not a folder"
    except OSError as error:
        problem = f"{what} cannot be opened ({error.strerror})"
    else:
        return _real(path)
    raise InputError(problem, file=path, remedy=_LAYOUT_HINT)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _within(root: Path, path: Path) -> Path:
    """`path` as it is meant: absolute, in the cohort, or else in the current folder."""
    inside = root / path
    return path if not os.path.lexists(inside) and os.path.lexists(path) else inside


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _choose_table(root: Path, wished: Path | None) -> Path | None:
    """The patient table, resolved; None where the cohort has none.

    Raises
    ------
    InputError : the wished table is not there, or several could be meant.
    """
    if wished is not None:
        return _real(_within(root, wished))
    usual = root / DEFAULT_TABLE
    if os.path.lexists(usual):
        return _real(usual)
    tables = sorted(
        path
        for path in root.iterdir()
        if path.suffix.lower() in TABLE_SUFFIXES
        and not path.name.startswith(".")
        and path.name != _SUBMISSION
    )
    if len(tables) > 1:
        raise InputError(
            "several tables may be the patient table",
            file=root,
            found=", ".join(path.name for path in tables),
            allowed=f"one table, or one called {DEFAULT_TABLE}",
            remedy="Name the one that is meant with --table.",
        )
    return _real(tables[0]) if tables else None


def _no_table(folders: ImageFolders) -> Finding:
    others = f"; there are {', '.join(folders.tables)}" if folders.tables else ""
    return kinds.NoTable(f"No patient table at the cohort's root{others}.", files=tuple(folders.tables))


def _patients(table: PatientTable | None, extra: Sequence[str], split: tuple[str, ...]) -> Patients:
    """The patients of the table, then `extra` ones known by a folder alone."""
    n = len(extra)
    label = np.full(n, UNLABELLED, dtype=np.int8)
    clinical = np.full((n, 3), np.nan)
    if table is None:
        return Patients(tuple(extra), label, clinical, split, date_layout=("",) * n)
    return Patients(
        ids=(*table.ids, *extra),
        label=np.concatenate([table.label, label]),
        clinical=np.concatenate([table.clinical, clinical]),
        split=split,
        date_layout=(*table.date_layout, *[""] * n),
    )


def _splits(
    table: PatientTable | None, extra: Sequence[str], folders: ImageFolders, listed: Mapping[str, str]
) -> tuple[tuple[str, ...], list[Finding]]:
    """ "train", "test" or "" per patient, by the column, else the folder, else the table in a folder."""
    column = dict(zip(table.ids, table.split, strict=True)) if table else {}
    splits, differ = [], []
    for patient in (*column, *extra):
        places = {split_of(folder) for folder in folders.folders.get(patient, ())}
        by_folder = "" if len(places) > 1 else (places or {listed.get(patient, "")}).pop()
        by_column = column.get(patient, "")
        splits.append(by_column or by_folder)
        if by_column and by_folder and by_column != by_folder:
            differ.append(patient)
    if not differ:
        return tuple(splits), []
    message = f"{counted(len(differ), 'patient')} in another part by the table's column than by folder."
    return tuple(splits), [kinds.SplitsDisagree(message, patients=tuple(differ))]


def _matching_findings(
    table: PatientTable | None, extra: Sequence[str], folders: ImageFolders, min_cells: int
) -> list[Finding]:
    """How table and folders fit together."""
    found: list[Finding] = []
    ids = table.ids if table else ()
    without = tuple(i for i in ids if i not in folders.images)
    if without:
        message = f"{len(without)} of {counted(len(ids), 'patient')} in the table without photographs."
        found.append(kinds.PatientsWithoutImages(message, patients=without))
    if table and extra:
        paths = tuple(path for i in extra for path in folders.folders[i])
        n = sum(len(folders.images[i]) for i in extra)
        message = (
            f"{counted(len(extra), 'folder')} ({counted(n, 'photograph')}) not named as an id of the table."
        )
        found.append(kinds.ImagesWithoutPatient(message, patients=tuple(extra), files=paths))
        if len(without) == len(ids):
            message = (
                f"None of {counted(len(extra), 'folder')} bears one of {len(ids)} ids, e.g. {extra[0]!r}"
            )
            found.append(kinds.NothingMatches(f"{message} against {ids[0]!r}.", patients=tuple(extra)))
        found += _almost_matching(ids, extra, folders)
    few = {
        i: len(folders.images[i]) for i in (*ids, *extra) if 0 < len(folders.images.get(i, ())) < min_cells
    }
    if few:
        who = counted(len(few), "patient")
        message = f"{who} with fewer than {min_cells} photographs, the fewest {min(few.values())}."
        found.append(kinds.TooFewCells(message, patients=tuple(few)))
    return found


def _almost_matching(ids: Sequence[str], extra: Sequence[str], folders: ImageFolders) -> list[Finding]:
    near = {almost(i): i for i in ids}
    pairs = {folder: near[almost(folder)] for folder in extra if almost(folder) in near}
    if not pairs:
        return []
    folder, patient = next(iter(pairs.items()))
    n = counted(len(pairs), "folder")
    message = f"{n} with almost an id of the table as name, e.g. {folder!r} against {patient!r}."
    paths = tuple(path for i in pairs for path in folders.folders[i])
    return [kinds.AlmostMatchingFolder(message, patients=tuple(pairs.values()), files=paths)]

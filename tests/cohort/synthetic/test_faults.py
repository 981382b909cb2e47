from __future__ import annotations

import csv
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from lymphoscope.cohort.synthetic import SyntheticPlan, synthesize
from lymphoscope.cohort.synthetic.faults import draw_copies
from lymphoscope.cohort.synthetic.patients import draw_patients
from lymphoscope.cohort.synthetic.tables import DASHED_DATE_SHARE, table_rows

PLAN = SyntheticPlan(patients=24, test=10, cells=2, seed=11)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def made(tmp_path: Path, **changes: object) -> tuple[Path, list[dict[str, str]], list[dict[str, str]]]:
    """A cohort with these changes to the plan, and the truth about its patients and cells."""
    result = synthesize(replace(PLAN, **changes), tmp_path / "cohort", jobs=1)  # type: ignore[arg-type]
    return result.cohort, rows_of(result.truth / "patients.csv"), rows_of(result.truth / "cells.csv")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def photograph(path: Path) -> np.ndarray:
    return simplejpeg.decode_jpeg(path.read_bytes()).astype(float)


def outer(path: Path) -> float:
    """Mean level of the outermost pixels: 150 where a border was planted."""
    image = photograph(path)
    return float(np.mean([image[0], image[-1], image[:, 0], image[:, -1]]))


def test_without_a_planted_fault_there_is_none(tmp_path: Path) -> None:
    cohort, patients, cells = made(tmp_path)
    assert all(row["copy_of"] == "" for row in cells)
    assert len({digest(path) for path in cohort.rglob("*.jpg")}) == len(cells)
    assert all(row["LABEL"] == row["TABLE_LABEL"] and row["border"] == "0" for row in patients)
    assert all(all(row.values()) for row in rows_of(cohort / "trainset/trainset_true.csv"))
    assert min(outer(path) for path in cohort.rglob("*.jpg")) > 175


def test_copies_between_labelled_patients(tmp_path: Path) -> None:
    cohort, patients, cells = made(tmp_path, leak="patients", cells=6)
    copies = [row for row in cells if row["copy_of"]]
    label = {row["ID"]: row["LABEL"] for row in patients}
    owner = {row["file"]: row["ID"] for row in cells}
    traits = {row["file"]: (row["kind"], row["nucleus_radius_px"]) for row in cells}
    assert len({row["ID"] for row in copies}) == 2
    for row in copies:
        giver = owner[row["copy_of"]]
        assert row["split"] == "train"
        assert row["copy_of"].startswith("trainset/")
        assert giver != row["ID"]
        assert label[giver] == label[row["ID"]]
        assert traits[row["copy_of"]] == traits[row["file"]]
        same_bytes = digest(cohort / row["file"]) == digest(cohort / row["copy_of"])
        assert same_bytes == (row["reencoded"] == "0")
        difference = photograph(cohort / row["file"]) - photograph(cohort / row["copy_of"])
        assert np.abs(difference).mean() < 3
    assert {row["reencoded"] for row in copies} == {"0", "1"}


def test_copies_from_labelled_into_test_patients(tmp_path: Path) -> None:
    _, _, cells = made(tmp_path, leak="splits")
    copies = [row for row in cells if row["copy_of"]]
    assert {row["split"] for row in copies} == {"test"}
    assert all(row["copy_of"].startswith("trainset/") for row in copies)
    assert len({row["ID"] for row in copies}) == 4


def test_a_patient_who_takes_does_not_give() -> None:
    label, offsets = np.array([0, 1] * 20, dtype=np.int8), np.arange(41) * 5
    copies = draw_copies("patients", label, np.zeros(40, np.int8), offsets, np.random.default_rng(0))
    givers, takers = {c.source // 5 for c in copies}, {c.to // 5 for c in copies}
    assert len(takers) == 4
    assert not givers & takers
    assert len({copy.to for copy in copies}) == len(copies)


def test_a_border_follows_the_label_in_the_labelled_patients(tmp_path: Path) -> None:
    cohort, patients, cells = made(tmp_path, shortcut="border")
    bordered = {row["ID"] for row in patients if row["border"] == "1"}
    train = [row for row in patients if row["split"] == "train"]
    agree = [(row["ID"] in bordered) == (row["LABEL"] == "1") for row in train]
    assert np.mean(agree) > 0.8
    for row in cells[:: len(cells) // 20]:
        assert (outer(cohort / row["file"]) < 175) == (row["ID"] in bordered)


def test_a_background_colour_follows_the_label(tmp_path: Path) -> None:
    cohort, patients, cells = made(tmp_path, shortcut="background")
    label = {row["ID"]: row["LABEL"] for row in patients if row["split"] == "train"}
    blue: dict[str, list[float]] = {"0": [], "1": []}
    for row in cells:
        if row["file"].endswith("000000.jpg") and row["ID"] in label:
            image = photograph(cohort / row["file"])
            blue[label[row["ID"]]].append(float(np.percentile(image[..., 2], 90)))
    assert np.mean(blue["0"]) - np.mean(blue["1"]) > 5


def test_wrong_labels_are_in_the_table_and_not_in_the_truth(tmp_path: Path) -> None:
    cohort, patients, _ = made(tmp_path, label_noise=0.25)
    shown = {row["ID"]: row["LABEL"] for row in rows_of(cohort / "clinical_annotation.csv")}
    wrong = [row for row in patients if row["split"] == "train" and shown[row["ID"]] != row["LABEL"]]
    assert len(wrong) == 6
    assert all(row["TABLE_LABEL"] == shown[row["ID"]] for row in wrong)
    assert all(row["LABEL"] == ("0" if row["population"] == "reactive" else "1") for row in patients)


def test_missing_values_are_empty_fields(tmp_path: Path) -> None:
    cohort, _, _ = made(tmp_path, missing=0.4)
    table = rows_of(cohort / "clinical_annotation.csv")
    for name in ("GENDER", "DOB", "LYMPH_COUNT"):
        assert 0.15 < np.mean([row[name] == "" for row in table]) < 0.65
    assert all(row["ID"] and row["LABEL"] for row in table)


@pytest.mark.parametrize("shift", [-3.0, 3.0])
def test_a_stain_shift_changes_the_test_patients_alone(tmp_path: Path, shift: float) -> None:
    plain, _, cells = made(tmp_path / "plain")
    shifted, _, _ = made(tmp_path / "shifted", stain_shift=shift)
    for row in cells:
        same = digest(plain / row["file"]) == digest(shifted / row["file"])
        assert same == (row["split"] == "train")


def test_the_date_layout_tells_the_label_as_in_the_challenge() -> None:
    patients = draw_patients(SyntheticPlan(), 2000, 0, 0)
    nothing = np.zeros((2000, 3), dtype=bool)
    ids = [f"P{i}" for i in range(2000)]
    rows = table_rows(patients, ids, patients.label, nothing, dirt=True, rng=np.random.default_rng(0))
    dashed = np.array(["-" in row.birth for row in rows])
    for label, share in enumerate(DASHED_DATE_SHARE):
        assert abs(dashed[patients.label == label].mean() - share) < 0.05
    assert abs(dashed.mean() - 29 / 205) < 0.03

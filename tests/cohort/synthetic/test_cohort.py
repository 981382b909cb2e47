from __future__ import annotations

import csv
import hashlib
import json
import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lymphoscope.cohort.synthetic import SyntheticPlan, synthesize
from lymphoscope.errors import InputError

SMALL = SyntheticPlan(patients=12, test=5, cells=3, seed=4)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "small"
    synthesize(SMALL, out, jobs=1)
    return out


def truth_of(cohort: Path) -> Path:
    return cohort.with_name(f"{cohort.name}_truth")


def test_the_layout_is_the_challenges(small: Path) -> None:
    table = rows_of(small / "clinical_annotation.csv")
    assert list(table[0]) == ["", "ID", "LABEL", "GENDER", "DOB", "LYMPH_COUNT"]
    assert [row[""] for row in table] == [str(i) for i in range(17)]
    assert {row["ID"] for row in table} == {f"P{i}" for i in range(1, 18)}
    assert sum(row["LABEL"] == "-1" for row in table) == 5
    for row in table:
        folder = small / ("testset" if row["LABEL"] == "-1" else "trainset") / row["ID"]
        names = sorted(path.name for path in folder.glob("*.jpg"))
        assert names == [f"{k:06d}.jpg" for k in range(len(names))]
        assert names
    assert len(rows_of(small / "trainset/trainset_true.csv")) == 12
    assert {row["LABEL"] for row in rows_of(small / "testset/testset_data.csv")} == {"-1"}
    assert list(rows_of(small / "sample_submission.csv")[0]) == ["ID", "LABEL"]


def test_a_photograph_is_a_baseline_jpeg_of_224_px(small: Path) -> None:
    content = (small / rows_of(truth_of(small) / "cells.csv")[0]["file"]).read_bytes()
    height, width, colour, _ = simplejpeg.decode_jpeg_header(content)
    assert (height, width, colour) == (224, 224, "YCbCr")
    assert b"\xff\xc0" in content
    assert b"Exif" not in content


def test_the_truth_has_a_row_for_every_patient_and_photograph(small: Path) -> None:
    patients, cells = rows_of(truth_of(small) / "patients.csv"), rows_of(truth_of(small) / "cells.csv")
    assert {row["file"] for row in cells} == {p.relative_to(small).as_posix() for p in small.rglob("*.jpg")}
    shown = {row["ID"]: row["LABEL"] for row in rows_of(small / "clinical_annotation.csv")}
    assert all(shown[row["ID"]] in (row["LABEL"], "-1") for row in patients)
    test = rows_of(truth_of(small) / "test_truth.csv")
    assert {row["ID"]: row["LABEL"] for row in test} == {
        row["ID"]: row["LABEL"] for row in patients if row["split"] == "test"
    }
    label = {row["ID"]: row["LABEL"] for row in patients}
    for row in cells:
        assert (row["signal"] == "0") == (row["kind"] in ("ordinary", "smudge")) == (row["speaks_for"] == "")
        if row["signal"] == "1":
            assert row["speaks_for"] == {"0": "reactive", "1": "malignant"}[label[row["ID"]]]
    assert SyntheticPlan(**json.loads((truth_of(small) / "plan.json").read_text())["plan"]) == SMALL


def test_the_truth_does_not_leak_into_the_cohort(small: Path) -> None:
    others = {name for name in digests(small) if not name.endswith(".jpg")}
    assert {Path(name).name for name in others} == {
        ".DS_Store",
        "clinical_annotation.csv",
        "trainset_true.csv",
        "testset_data.csv",
        "sample_submission.csv",
    }
    kinds = re.compile(rb"cll|mantle|hairy|reactive|signal|synth", re.IGNORECASE)
    for name in others:
        assert not kinds.search((small / name).read_bytes()), name


def test_dirt_is_there_and_can_be_left_out(small: Path, tmp_path: Path) -> None:
    strays = [path.relative_to(small).as_posix() for path in small.rglob(".DS_Store")]
    assert {".DS_Store", "trainset/.DS_Store"} < set(strays)
    assert any(len(Path(name).parts) == 3 for name in strays)
    table = rows_of(small / "clinical_annotation.csv")
    assert [row["GENDER"] for row in table].count("f") == 1
    assert sum(float(row["LYMPH_COUNT"]) < 4 for row in table if row["LABEL"] != "-1") == 2
    synthesize(replace(SMALL, dirt=False), tmp_path / "clean", jobs=1)
    clean = rows_of(tmp_path / "clean/clinical_annotation.csv")
    assert list(clean[0]) == ["ID", "LABEL", "GENDER", "DOB", "LYMPH_COUNT"]
    assert {row["GENDER"] for row in clean} == {"F", "M"}
    assert all("/" in row["DOB"] and float(row["LYMPH_COUNT"]) >= 4 for row in clean)
    files = digests(tmp_path / "clean")
    assert [name for name in files if not name.endswith(".jpg")] == ["clinical_annotation.csv"]
    photographs = {name: digest for name, digest in digests(small).items() if name.endswith(".jpg")}
    assert photographs.items() <= files.items()


def test_the_birth_date_gives_the_age_on_the_reference_date(small: Path) -> None:
    ages = {row["ID"]: float(row["age_years"]) for row in rows_of(truth_of(small) / "patients.csv")}
    for row in rows_of(small / "clinical_annotation.csv"):
        layout = "%m/%d/%Y" if "/" in row["DOB"] else "%d-%m-%Y"
        days = (datetime(2020, 1, 1) - datetime.strptime(row["DOB"], layout)).days
        assert days / 365.25 == pytest.approx(ages[row["ID"]], abs=0.01)


def test_the_bytes_depend_on_the_seed_and_not_on_the_processes(small: Path, tmp_path: Path) -> None:
    synthesize(SMALL, tmp_path / "small", jobs=2)
    assert digests(tmp_path / "small") == digests(small)
    assert digests(tmp_path / "small_truth") == digests(truth_of(small))
    synthesize(replace(SMALL, seed=5), tmp_path / "other", jobs=1)
    same = digests(tmp_path / "other").items() & digests(small).items()
    assert {Path(name).name for name, _ in same} <= {".DS_Store", "sample_submission.csv"}


def test_nothing_is_overwritten_unasked(small: Path, tmp_path: Path) -> None:
    before = digests(small)
    with pytest.raises(InputError, match="exists already"):
        synthesize(SMALL, small, jobs=1)
    assert digests(small) == before


def test_only_an_untouched_cohort_of_its_own_is_replaced(tmp_path: Path) -> None:
    out, plan = tmp_path / "cohort", SyntheticPlan(patients=3, test=1, cells=1)
    (out / "trainset").mkdir(parents=True)
    (out / "trainset" / "mine.txt").write_text("keep me")
    with pytest.raises(InputError, match="not written by this program"):
        synthesize(plan, out, jobs=1, overwrite=True)
    assert (out / "trainset" / "mine.txt").read_text() == "keep me"

    out = tmp_path / "second"
    synthesize(plan, out, jobs=1)
    synthesize(replace(plan, seed=1), out, jobs=1, overwrite=True)
    assert json.loads((tmp_path / "second_truth/plan.json").read_text())["plan"]["seed"] == 1
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="did not write") as caught:
        synthesize(plan, out, jobs=1, overwrite=True)
    assert caught.value.found == ["notes.txt"]
    (out / "notes.txt").unlink()
    (out / "clinical_annotation.csv").write_text("ID,LABEL\n")
    with pytest.raises(InputError, match="not the synthetic cohort"):
        synthesize(plan, out, jobs=1, overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"cohort", "second", "second_truth"}


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object, **__: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lymphoscope.cohort.synthetic.cohort.encode", full_disk)
    with pytest.raises(Exception, match="No space left"):
        synthesize(SMALL, tmp_path / "out", jobs=1)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    plan=st.builds(
        SyntheticPlan,
        patients=st.integers(2, 5),
        test=st.integers(1, 3),
        cells=st.integers(1, 3),
        seed=st.integers(0, 2**32),
        prevalence=st.floats(0.01, 0.99),
        morphology_effect=st.floats(0, 3),
        log_count_shift=st.floats(0, 3),
        shortcut=st.sampled_from(["none", "background", "bag-size", "border"]),
        leak=st.sampled_from(["none", "patients", "splits"]),
        label_noise=st.floats(0, 0.5),
        missing=st.floats(0, 1),
        stain_shift=st.floats(-5, 5),
        dirt=st.booleans(),
    )
)
def test_any_small_plan_works(plan: SyntheticPlan, tmp_path_factory: pytest.TempPathFactory) -> None:
    out = tmp_path_factory.mktemp("any") / "cohort"
    made = synthesize(plan, out, jobs=1)
    cells = rows_of(made.truth / "cells.csv")
    assert len(cells) == made.cells == len(list(out.rglob("*.jpg")))
    assert len(rows_of(out / "clinical_annotation.csv")) == made.patients == plan.patients + plan.test
    labels = {row["LABEL"] for row in rows_of(made.truth / "patients.csv") if row["split"] == "train"}
    assert labels == {"0", "1"}
    image = simplejpeg.decode_jpeg((out / cells[-1]["file"]).read_bytes())
    assert np.ptp(image) > 60

"""A cohort as a whole: table and folders together."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lymphoscope.cohort import read as read_module
from lymphoscope.cohort.cohort import Cohort
from lymphoscope.cohort.findings import Finding, Severity
from lymphoscope.cohort.read import ReadOptions, read_cohort
from lymphoscope.errors import InputError

HEADER = "ID,LABEL,GENDER,DOB,LYMPH_COUNT\n"
TRAIN = "P10,1,M,31-07-1973,14.8\nP1,0,f,9/15/1959,4.78\n"
TEST = "P100,-1,F,2/18/1930,5.5\n"


def put(root: Path, *paths: str, text: str = "x") -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


@pytest.fixture
def challenge(tmp_path: Path) -> Path:
    """The challenge's layout with its dirt."""
    root = tmp_path / "cohort"
    rows = (TRAIN + TEST).splitlines()
    indexed = "".join(f"{i},{row}\n" for i, row in enumerate(rows))
    put(root, "clinical_annotation.csv", text="," + HEADER + indexed)
    put(root, "trainset/trainset_true.csv", text=HEADER + TRAIN)
    put(root, "testset/testset_data.csv", text=HEADER + TEST)
    put(root, "sample_submission.csv", text="ID,LABEL\nP100,0\n")
    for folder, patient, n in (("trainset", "P1", 12), ("trainset", "P10", 11), ("testset", "P100", 10)):
        put(root, *(f"{folder}/{patient}/{i:06}.jpg" for i in range(n)))
    return put(root, ".DS_Store", "trainset/.DS_Store", "trainset/P1/.DS_Store")


def found(cohort: Cohort, code: str) -> Finding:
    (finding,) = [finding for finding in cohort.findings if finding.code == code]
    return finding


def codes(cohort: Cohort) -> set[str]:
    return {finding.code for finding in cohort.findings}


def test_challenge_layout_without_preparation(challenge: Path) -> None:
    cohort = read_cohort(challenge)
    assert cohort.root == challenge.resolve()
    assert cohort.patients.ids == ("P10", "P1", "P100")
    assert cohort.patients.label.tolist() == [1, 0, -1]
    assert cohort.patients.label.dtype == np.int8
    assert cohort.patients.split == ("train", "train", "test")
    assert cohort.patients.clinical.shape == (3, 3)
    assert np.bincount(cohort.image_patient).tolist() == [11, 12, 10]
    assert cohort.image_patient.dtype == np.int64
    assert cohort.images[0] == Path("trainset/P10/000000.jpg")
    assert cohort.images[11:23] == tuple(Path(f"trainset/P1/{i:06}.jpg") for i in range(12))
    assert codes(cohort) == {"LYM011", "LYM013", "LYM015", "LYM107"}
    assert not [finding for finding in cohort.findings if finding.severity is Severity.ERROR]
    assert found(cohort, "LYM107").files == (
        ".DS_Store",
        "sample_submission.csv",
        "trainset/.DS_Store",
        "trainset/P1/.DS_Store",
    )


def test_nothing_is_written_and_no_birth_date_remains(challenge: Path) -> None:
    def state() -> dict[str, tuple[str, int]]:
        return {
            str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
            for path in challenge.rglob("*")
            if path.is_file()
        }

    before = state()
    cohort = read_cohort(challenge)
    assert state() == before
    text = repr(vars(cohort)) + repr(vars(cohort.patients))
    assert not [born for born in ("1973", "1959", "1930", "31-07", "9/15") if born in text]


def test_tables_beside_the_photographs_that_disagree(challenge: Path) -> None:
    other = TRAIN.replace("P10,1", "P10,0").replace("4.78", "6.5") + "P7,1,M,1/25/1950,9\n"
    put(challenge, "trainset/trainset_true.csv", text=HEADER + other)
    cohort = read_cohort(challenge)
    assert found(cohort, "LYM018").patients == ("P10",)
    assert found(cohort, "LYM018").files == ("trainset/trainset_true.csv:2",)
    assert found(cohort, "LYM019").patients == ("P1",)
    assert found(cohort, "LYM020").patients == ("P7",)
    assert cohort.patients.label.tolist() == [1, 0, -1]
    assert cohort.patients.clinical[1, 2] == 4.78


def test_a_table_that_is_chosen_may_differ_from_those_beside_the_photographs(challenge: Path) -> None:
    put(challenge.parent, "permuted.csv", text=HEADER + TRAIN.replace("P10,1", "P10,0") + TEST)
    cohort = read_cohort(challenge, ReadOptions(table=challenge.parent / "permuted.csv"))
    assert cohort.patients.label.tolist() == [0, 0, -1]
    assert "LYM018" not in codes(cohort)
    assert found(cohort, "LYM019").patients == ("P10",)


def test_other_date_order_beside_the_photographs_is_no_disagreement(challenge: Path) -> None:
    """The repeated rows alone would not settle the order that the whole table settles."""
    rows = "P10,1,M,3/4/1973,14.8\nP1,0,F,3/5/1959,4.78\n"
    put(challenge, "clinical_annotation.csv", text=HEADER + rows + "P100,-1,F,25/2/1930,5.5\n")
    put(challenge, "trainset/trainset_true.csv", text=HEADER + rows)
    put(challenge, "testset/testset_data.csv", text="ID,LABEL\nP100,-1\n")
    cohort = read_cohort(challenge)
    assert not codes(cohort) & {"LYM018", "LYM019"}
    assert cohort.patients.date_layout == ("D/M/YYYY",) * 3


def test_a_table_beside_the_photographs_that_is_none_is_stray(challenge: Path) -> None:
    put(challenge, "trainset/notes.csv", text="who,what\na,b\n")
    assert "trainset/notes.csv" in found(read_cohort(challenge), "LYM107").files


def test_general_layout(tmp_path: Path) -> None:
    root = put(tmp_path, "images/site A/7/x.TIF", "images/site B/007/slide/y.png", "images/007/README")
    put(root, "Tabelle.csv", text="Nr;Diagnose;ALC\n007;1;14,8\n7;0;4800\n8;;5,1\n".replace("4800", "4,8"))
    options = ReadOptions(
        columns={"id": "Nr", "label": "Diagnose", "lymphocyte_count": "ALC"},
        images=Path("images"),
        min_cells=1,
    )
    cohort = read_cohort(root, options)
    assert cohort.patients.ids == ("007", "7", "8")
    assert cohort.images == (Path("images/site B/007/slide/y.png"), Path("images/site A/7/x.TIF"))
    assert cohort.image_patient.tolist() == [0, 1]
    assert found(cohort, "LYM102").patients == ("8",)
    assert cohort.patients.split == ("", "", "")


def test_table_and_images_elsewhere(challenge: Path) -> None:
    put(challenge.parent, "new/table.csv", text="ID\nP1\n")
    put(challenge.parent, "new/readme.txt")
    cohort = read_cohort(challenge.parent / "new", ReadOptions(images=challenge / "trainset"))
    assert len(cohort.images) == 23
    assert cohort.patients.ids == ("P1", "P10")
    assert all((cohort.root / path).is_file() for path in cohort.images)


def test_a_path_may_be_given_from_the_current_folder(
    challenge: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(challenge.parent)
    cohort = read_cohort(
        Path("cohort"),
        ReadOptions(table=Path("cohort/testset/testset_data.csv"), images=Path("cohort/testset")),
    )
    assert cohort.patients.ids == ("P100",)


def test_images_alone(tmp_path: Path) -> None:
    root = put(tmp_path, "new/P10/a.jpg", "new/P2/a.jpg", "new/P2/b.jpg", "new/listed.csv")
    cohort = read_cohort(root)
    assert cohort.patients.ids == ("P2", "P10")
    assert cohort.patients.label.tolist() == [-1, -1]
    assert np.isnan(cohort.patients.clinical).all()
    assert "new/listed.csv" in found(cohort, "LYM101").message
    assert "LYM103" not in codes(cohort)


def test_table_alone(tmp_path: Path) -> None:
    cohort = read_cohort(put(tmp_path, "only.csv", text=HEADER + TRAIN))
    assert cohort.images == ()
    assert cohort.image_patient.shape == (0,)
    assert found(cohort, "LYM102").patients == ("P10", "P1")
    assert cohort.patients.clinical[0, 2] == 14.8


def test_table_without_labels(challenge: Path) -> None:
    cohort = read_cohort(challenge / "testset")
    assert cohort.patients.ids == ("P100",)
    assert cohort.patients.label.tolist() == [-1]
    assert len(cohort.images) == 10


def test_images_without_patient_are_unlabelled_patients(challenge: Path) -> None:
    put(challenge, "trainset/P2/a.jpg", "trainset/p1/a.jpg")
    cohort = read_cohort(challenge)
    assert cohort.patients.ids == ("P10", "P1", "P100", "P2", "p1")
    assert cohort.patients.label.tolist() == [1, 0, -1, -1, -1]
    assert cohort.patients.split[-1] == "train"
    assert np.isnan(cohort.patients.clinical[3:]).all()
    assert found(cohort, "LYM103").patients == ("P2", "p1")
    assert found(cohort, "LYM103").files == ("trainset/P2", "trainset/p1")
    assert found(cohort, "LYM105").patients == ("P1",)
    assert found(cohort, "LYM106").patients == ("P2", "p1")


def test_nothing_matches(tmp_path: Path) -> None:
    root = put(tmp_path, "t.csv", text="ID,LABEL\n1,1\n2,0\n")
    put(root, "P1/a.jpg", "P2/a.jpg")
    finding = found(read_cohort(root), "LYM104")
    assert finding.severity is Severity.ERROR
    assert "'P1' against '1'" in finding.message


def test_too_few_cells(challenge: Path) -> None:
    assert found(read_cohort(challenge, ReadOptions(min_cells=12)), "LYM106").patients == ("P10", "P100")
    assert "LYM106" not in codes(read_cohort(challenge, ReadOptions(min_cells=10)))


def test_patient_in_both_sets_belongs_to_neither(challenge: Path) -> None:
    put(challenge, "testset/P1/000000.jpg")
    cohort = read_cohort(challenge)
    assert cohort.patients.split == ("train", "", "test")
    assert found(cohort, "LYM109").patients == ("P1",)
    assert np.bincount(cohort.image_patient).tolist() == [11, 13, 10]


def test_split_by_column_goes_before_the_folder(challenge: Path) -> None:
    put(challenge, "clinical_annotation.csv", text="ID,SPLIT\nP1,test\nP10,\nP100,test\n")
    cohort = read_cohort(challenge)
    assert cohort.patients.split == ("test", "train", "test")
    assert found(cohort, "LYM115").patients == ("P1",)


def test_patient_without_images_is_split_by_the_table_that_lists_it(challenge: Path) -> None:
    put(challenge, "clinical_annotation.csv", text=HEADER + TRAIN + TEST + "P8,0,M,1/25/1950,7\n")
    put(challenge, "trainset/trainset_true.csv", text=HEADER + TRAIN + "P8,0,M,1/25/1950,7\n")
    assert read_cohort(challenge).patients.split[-1] == "train"


def test_reference_date_and_unit_are_stated(challenge: Path) -> None:
    cohort = read_cohort(challenge, ReadOptions(count_unit="G/L"))
    assert cohort.count_unit == "G/L"
    assert cohort.reference_date.isoformat() == "2020-01-01"
    assert any("G/L" in note for note in cohort.notes)


def refusal(root: Path, options: ReadOptions | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read_cohort(root, options or ReadOptions())
    return str(caught.value)


def test_no_cohort_at_all(tmp_path: Path) -> None:
    assert "no such folder" in refusal(tmp_path / "none")
    assert "not a folder" in refusal(put(tmp_path / "a", "file") / "file")
    (tmp_path / "empty").mkdir()
    assert "found 'nothing'" in refusal(tmp_path / "empty")
    assert "other file" in refusal(put(tmp_path / "b", "x.txt"))
    assert "one folder of photographs per patient" in refusal(put(tmp_path / "c", "x.jpg"))


def test_bad_options(challenge: Path) -> None:
    assert "day-first" in refusal(challenge, replace(ReadOptions(), date_order="random"))  # type: ignore[arg-type]
    assert "no such table" in refusal(challenge, ReadOptions(table=Path("none.csv")))
    assert "no such folder for the images" in refusal(challenge, ReadOptions(images=Path("none")))


def test_bad_table_at_the_root(challenge: Path) -> None:
    put(challenge, "clinical_annotation.csv", text="")
    assert "the table is empty" in refusal(challenge)


def test_several_tables(tmp_path: Path) -> None:
    root = put(tmp_path, "a.csv", "b.TSV", text="ID\nP1\n")
    assert "a.csv, b.TSV" in refusal(root)
    assert read_cohort(root, ReadOptions(table=Path("b.TSV"))).patients.ids == ("P1",)


def test_unreadable_cohort(challenge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> object:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(read_module.Path, "iterdir", refuse)
        assert "Permission denied" in refusal(challenge)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert "clinical_annotation.csv: the table cannot be read (Permission denied)" in refusal(challenge)


def test_links_that_lead_in_a_circle(challenge: Path) -> None:
    (challenge / "clinical_annotation.csv").unlink()
    (challenge / "clinical_annotation.csv").symlink_to("clinical_annotation.csv")
    assert "cannot be read" in refusal(challenge)
    (challenge.parent / "circle").symlink_to("circle")
    assert "cannot be opened" in refusal(challenge.parent / "circle")


def test_values_that_only_the_tables_beside_the_photographs_have(challenge: Path) -> None:
    put(challenge, "clinical_annotation.csv", text="ID,LABEL\nP10,1\nP1,-1\nP100,-1\n")
    put(challenge, "testset/testset_data.csv", text="ID,LABEL\nP100,-1\n")
    assert found(read_cohort(challenge), "LYM019").patients == ("P10", "P1")


def test_a_cohort_reached_through_a_link(challenge: Path) -> None:
    (challenge.parent / "link").symlink_to(challenge)
    cohort = read_cohort(challenge.parent / "link")
    assert cohort.root == challenge.resolve()
    assert len(cohort.images) == 33
    assert not codes(cohort) & {"LYM113", "LYM114"}


def test_a_linked_table_is_read(challenge: Path) -> None:
    (challenge / "clinical_annotation.csv").rename(challenge.parent / "moved.csv")
    (challenge / "clinical_annotation.csv").symlink_to(challenge.parent / "moved.csv")
    cohort = read_cohort(challenge)
    assert cohort.patients.ids == ("P10", "P1", "P100")
    assert "clinical_annotation.csv" not in found(cohort, "LYM107").files

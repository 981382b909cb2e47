"""Whose photographs are whose, and what strange folders get."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import pytest

from lymphoscope.cohort import image_folders
from lymphoscope.cohort.findings import Finding
from lymphoscope.cohort.image_folders import ImageFolders, almost, find_images, natural_order, split_of


def put(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    return root


def look(root: Path, ids: Collection[str] = ()) -> ImageFolders:
    return find_images(root.resolve(), root.resolve(), ids)


def found(folders: ImageFolders, code: str) -> Finding:
    (finding,) = [finding for finding in folders.findings if finding.code == code]
    return finding


def test_an_id_that_begins_another_takes_none_of_its_photographs(tmp_path: Path) -> None:
    put(tmp_path, *(f"trainset/{i}/{n:06}.jpg" for i in ("P1", "P10", "P100") for n in range(len(i))))
    folders = look(tmp_path, ["P1", "P10", "P100"])
    assert {patient: len(paths) for patient, paths in folders.images.items()} == {
        "P1": 2,
        "P10": 3,
        "P100": 4,
    }
    assert all(path.split("/")[1] == patient for patient, paths in folders.images.items() for path in paths)
    assert set(look(tmp_path, ["P1"]).images["P1"]) == {"trainset/P1/000000.jpg", "trainset/P1/000001.jpg"}


def test_photographs_by_extension_in_any_case(tmp_path: Path) -> None:
    names = ["a.jpg", "b.JPG", "c.jpeg", "d.Png", "e.tif", "f.TIFF", "g.bmp"]
    put(
        tmp_path,
        *(f"P1/{name}" for name in [*names, "h.gif", "i.jpg.txt", "jpg", ".j.jpg", "k.csv", "Thumbs.db"]),
    )
    folders = look(tmp_path, ["P1"])
    assert folders.images == {"P1": [f"P1/{name}" for name in names]}
    assert folders.stray == [
        f"P1/{name}" for name in [".j.jpg", "Thumbs.db", "h.gif", "i.jpg.txt", "jpg", "k.csv"]
    ]


def test_folders_within_a_patients_folder_are_the_patients(tmp_path: Path) -> None:
    put(tmp_path, "site/P1/slide1/a.jpg", "site/P1/slide2/b/c.jpg", "site/P1/0.jpg", "site/P1/P1/d.jpg")
    folders = look(tmp_path, ["P1"])
    assert folders.images == {
        "P1": ["site/P1/0.jpg", "site/P1/P1/d.jpg", "site/P1/slide1/a.jpg", "site/P1/slide2/b/c.jpg"]
    }
    assert folders.folders == {"P1": ["site/P1"]}
    assert folders.findings == []


def test_without_a_table_the_folder_that_holds_the_photographs_names_the_patient(tmp_path: Path) -> None:
    put(tmp_path, "testset/P2/a.jpg", "testset/P10/a.jpg", "more/deep/P3/a.jpg", "empty/x.txt")
    assert look(tmp_path).images == {
        "P2": ["testset/P2/a.jpg"],
        "P10": ["testset/P10/a.jpg"],
        "P3": ["more/deep/P3/a.jpg"],
    }


def test_photographs_outside_any_patients_folder_are_reported(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "trainset/b.jpg", "Test/c.jpg", "P1/d.jpg")
    folders = look(tmp_path)
    assert folders.images == {"P1": ["P1/d.jpg"]}
    assert found(folders, "LYM108").files == ("Test/c.jpg", "a.jpg", "trainset/b.jpg")


def test_one_id_in_two_folders(tmp_path: Path) -> None:
    put(tmp_path, "trainset/P1/a.jpg", "testset/P1/a.jpg", "testset/P2/a.jpg", "trainset/P2/readme.txt")
    folders = look(tmp_path, ["P1", "P2"])
    assert found(folders, "LYM109").patients == ("P1",)
    assert set(found(folders, "LYM109").files) == {"trainset/P1", "testset/P1"}
    assert len(folders.images["P1"]) == 2


def test_patient_inside_patient(tmp_path: Path) -> None:
    put(tmp_path, "P1/P2/a.jpg", "P1/b.jpg")
    folders = look(tmp_path, ["P1", "P2"])
    assert found(folders, "LYM110").files == ("P1/P2",)
    assert folders.images == {"P1": ["P1/P2/a.jpg", "P1/b.jpg"]}


def test_hidden_and_system_folders_are_stray(tmp_path: Path) -> None:
    put(tmp_path, ".git/P1/a.jpg", "__MACOSX/P1/a.jpg", "P1/@eaDir/a.jpg", "P1/.DS_Store", ".P2/a.jpg")
    folders = look(tmp_path, ["P1", ".P2"])
    assert folders.images == {".P2": [".P2/a.jpg"]}
    assert folders.stray == [".git/", "P1/.DS_Store", "P1/@eaDir/", "__MACOSX/"]


def test_tables_beside_patients_but_not_inside(tmp_path: Path) -> None:
    put(tmp_path, "trainset/t.csv", "trainset/P1/u.csv", "root.csv", "known.csv", "trainset/known.TSV")
    root = tmp_path.resolve()
    folders = find_images(root, root, ["P1"], known=[root / "known.csv", root / "trainset/known.TSV"])
    assert folders.tables == ["trainset/t.csv"]
    assert folders.stray == ["root.csv", "trainset/P1/u.csv"]


def test_symlink_loops_end_and_are_reported(tmp_path: Path) -> None:
    put(tmp_path, "P1/a.jpg", "P2/b.jpg")
    (tmp_path / "P1/up").symlink_to(tmp_path)
    (tmp_path / "P1/self").symlink_to("self")
    (tmp_path / "P1/other").symlink_to(tmp_path / "P2")
    (tmp_path / "P2/other").symlink_to(tmp_path / "P1")
    (tmp_path / "P3").symlink_to(tmp_path / "P1")
    (tmp_path / "P1/gone.jpg").symlink_to("nothing")
    (tmp_path / "root").symlink_to("/")
    folders = look(tmp_path, ["P1", "P2", "P3"])
    assert folders.images == {"P1": ["P1/a.jpg"], "P2": ["P2/b.jpg"]}
    assert set(found(folders, "LYM114").files) == {
        "P1/up",
        "P1/self",
        "P1/other",
        "P2/other",
        "P3",
        "P1/gone.jpg",
        "root",
    }


def test_links_out_of_the_cohort_are_followed_and_reported(tmp_path: Path) -> None:
    outside = put(tmp_path / "outside", "P1/a.jpg", "b.jpg", "P1/loop/c.jpg")
    cohort = put(tmp_path / "cohort", "P2/a.jpg", "P3/a.jpg")
    (cohort / "P1").symlink_to(outside / "P1")
    (cohort / "P2/b.jpg").symlink_to(outside / "b.jpg")
    (cohort / "P2/inside.jpg").symlink_to(cohort / "P3/a.jpg")
    folders = look(cohort, ["P1", "P2", "P3"])
    assert folders.images["P1"] == ["P1/a.jpg", "P1/loop/c.jpg"]
    assert folders.images["P2"] == ["P2/a.jpg", "P2/b.jpg", "P2/inside.jpg"]
    assert found(folders, "LYM113").files == ("P1", "P2/b.jpg")


def test_photographs_that_lie_elsewhere(tmp_path: Path) -> None:
    put(tmp_path, "cohort/table.csv", "slides/P1/a.jpg")
    root, start = (tmp_path / "cohort").resolve(), (tmp_path / "slides").resolve()
    folders = find_images(root, start, ["P1"])
    assert folders.images == {"P1": ["../slides/P1/a.jpg"]}
    assert (root / "../slides/P1/a.jpg").exists()
    assert folders.findings == []


def test_unreadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "P1/a.jpg", "P2/a.jpg")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("P2"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(image_folders.os, "scandir", refuse)
    folders = look(tmp_path, ["P1", "P2"])
    assert list(folders.images) == ["P1"]
    assert found(folders, "LYM111").files == ("P2",)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    put(tmp_path, "P1/a.jpg", "P\n2/a.jpg", "a\\b/a.jpg", "P1/b\x1b.jpg")
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/P1/\xff.jpg"))).write_bytes(b"x")
    folders = look(tmp_path)
    assert folders.images == {"P1": ["P1/a.jpg"]}
    files = found(folders, "LYM112").files
    assert len(files) == 4
    assert all(name.isprintable() and name.encode() for name in files)


def test_a_pipe_named_like_a_photograph_is_never_opened(tmp_path: Path) -> None:
    put(tmp_path, "P1/a.jpg")
    os.mkfifo(tmp_path / "P1/b.jpg")
    folders = look(tmp_path, ["P1"])
    assert folders.images == {"P1": ["P1/a.jpg"]}
    assert folders.stray == ["P1/b.jpg"]


def test_folder_of_the_split() -> None:
    assert [split_of(f) for f in ("trainset/P1", "a/TestSet/b/P1", "P1", "test", "latest/P1")] == [
        "train",
        "test",
        "",
        "",
        "",
    ]


def test_what_counts_as_almost_the_same_name() -> None:
    assert almost("p01") == almost("P 1") == almost("P-001") == almost("P1")
    assert almost("P10") != almost("P1")
    assert almost("Zoe\u0308") == almost("Zoë")
    assert almost("0") != almost("")


def test_natural_order() -> None:
    assert sorted(["P10", "P2", "Q1", "7", "P"], key=natural_order) == ["7", "P", "P2", "P10", "Q1"]


def test_empty_folders_without_a_row_are_told_of(tmp_path: Path) -> None:
    put(tmp_path, "trainset/P1/a.jpg", "trainset/P4/.DS_Store", "trainset/P5/notes.txt")
    for name in ("P1/none", "P2", "P3", "site/P6"):
        (tmp_path / "trainset" / name).mkdir(parents=True)
    finding = found(look(tmp_path, ["P1", "P2"]), "LYM116")
    assert finding.files == ("trainset/P3", "trainset/P4", "trainset/site/P6")
    assert finding.message == "3 folders without files and without a row in the table, e.g. trainset/P3."

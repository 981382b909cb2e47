from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import simplejpeg
from photographs import encoded, jpeg, make_cohort, photograph

from lymphoscope.cohort import image_finding_kinds
from lymphoscope.cohort.cell_store import open_store
from lymphoscope.cohort.cohort import Cohort
from lymphoscope.cohort.findings import Finding, Severity, all_kinds

A, B, C, D = (jpeg(photograph(seed)) for seed in range(4))


def found(cohort: Cohort, cache: Path) -> dict[str, Finding]:
    findings = open_store(cohort, cache).findings
    assert [finding.code for finding in findings] == sorted({finding.code for finding in findings})
    return {finding.code: finding for finding in findings}


def altered(data: bytes) -> bytes:
    return jpeg(np.clip(simplejpeg.decode_jpeg(data).astype(int) + 12, 0, 255).astype(np.uint8), 60)


def test_distinct_photographs_give_no_finding(tmp_path: Path) -> None:
    assert found(make_cohort(tmp_path / "c", {"P1": [A, B], "P2": [C, D]}), tmp_path / "cache") == {}


def test_same_file_twice_in_a_patient_is_a_warning(tmp_path: Path) -> None:
    findings = found(make_cohort(tmp_path / "c", {"P1": [A, B, A], "P2": [C]}), tmp_path / "cache")
    assert list(findings) == ["LYM220"]
    assert findings["LYM220"].files == ("P1/000000.jpg", "P1/000002.jpg")
    assert findings["LYM220"].patients == ("P1",)
    assert findings["LYM220"].message == "2 photographs show 1 picture, file by file the same, in 1 patient."
    assert findings["LYM220"].severity is Severity.WARNING


def test_same_file_under_two_patients_is_an_error(tmp_path: Path) -> None:
    findings = found(make_cohort(tmp_path / "c", {"P1": [A, B], "P2": [A, C], "P3": [D]}), tmp_path / "cache")
    assert list(findings) == ["LYM221"]
    assert findings["LYM221"].patients == ("P1", "P2")
    assert findings["LYM221"].severity is Severity.ERROR


@pytest.mark.parametrize(
    ("label", "split"),
    [([1, 0, 1], ["train", "test", "train"]), ([1, -1, 0], ["", "", ""]), ([1, -1, 0], ["train"] * 3)],
)
def test_same_file_in_training_and_test_is_graver(tmp_path: Path, label: list[int], split: list[str]) -> None:
    cohort = make_cohort(tmp_path / "c", {"P1": [A, B], "P2": [A], "P3": [C]}, label=label, split=split)
    findings = found(cohort, tmp_path / "cache")
    assert list(findings) == ["LYM222"]
    assert findings["LYM222"].files == ("P1/000000.jpg", "P2/000000.jpg")


def test_each_group_is_reported_once_under_its_gravest_kind(tmp_path: Path) -> None:
    files = {"P1": [A, A, B], "P2": [B, C, D], "P3": [C], "P4": [A]}
    cohort = make_cohort(tmp_path / "c", files, split=["train", "train", "test", "train"])
    findings = found(cohort, tmp_path / "cache")
    assert list(findings) == ["LYM221", "LYM222"]
    assert set(findings["LYM221"].patients) == {"P1", "P2", "P4"}
    assert len(findings["LYM221"].files) == 5
    assert findings["LYM222"].files == ("P2/000001.jpg", "P3/000000.jpg")


def test_the_same_cell_in_another_file_is_found_across_patients_only(tmp_path: Path) -> None:
    files = {"P1": [A, altered(A)], "P2": [altered(B), C], "P3": [B, D]}
    findings = found(make_cohort(tmp_path / "c", files), tmp_path / "cache")
    assert list(findings) == ["LYM223"]
    assert findings["LYM223"].files == ("P2/000000.jpg", "P3/000000.jpg")
    assert findings["LYM223"].message == "2 photographs show 1 cell under 2 patients in different files."


def test_the_same_cell_over_training_and_test_is_said_so(tmp_path: Path) -> None:
    mirrored = jpeg(np.ascontiguousarray(simplejpeg.decode_jpeg(A)[:, ::-1]), 80)
    cohort = make_cohort(tmp_path / "c", {"P1": [A], "P2": [mirrored]}, split=["train", "test"])
    message = found(cohort, tmp_path / "cache")["LYM223"].message
    assert message.endswith("1 of them in training and in test, or labelled and unlabelled.")


def test_exact_duplicates_are_not_reported_again_as_alike(tmp_path: Path) -> None:
    assert list(found(make_cohort(tmp_path / "c", {"P1": [A], "P2": [A]}), tmp_path / "cache")) == ["LYM221"]


def test_sizes_are_reported_once_with_counts(tmp_path: Path) -> None:
    sizes = [(300, 300), (300, 300), (200, 160), (150, 150), (151, 151), (224, 224)]
    files = [jpeg(photograph(i, 320)[:h, :w]) for i, (h, w) in enumerate(sizes)]
    findings = found(make_cohort(tmp_path / "c", {"P1": files[:3], "P2": files[3:]}), tmp_path / "cache")
    assert list(findings) == ["LYM210", "LYM211"]
    assert findings["LYM210"].message == (
        "5 photographs scaled to 224 × 224 pixels: 2 of 300 × 300, 1 of 160 × 200, 1 of 150 × 150 "
        "and 1 other size."
    )
    assert findings["LYM211"].files == ("P1/000002.jpg",)


def test_conversions_animations_metadata_and_names_are_told(tmp_path: Path) -> None:
    picture = PIL.Image.fromarray(photograph(0))
    exif = PIL.Image.Exif()
    exif[315] = "Jane Doe"
    files = [
        encoded(PIL.Image.fromarray(photograph(1)).convert("L"), "JPEG"),
        encoded(PIL.Image.fromarray(photograph(2)).convert("CMYK"), "JPEG"),
        encoded(picture, "JPEG", exif=exif.tobytes()),
        encoded(PIL.Image.fromarray(photograph(3)), "PNG"),
        encoded(
            PIL.Image.fromarray(photograph(4)),
            "TIFF",
            save_all=True,
            append_images=[PIL.Image.fromarray(photograph(5))],
        ),
        jpeg(np.full((224, 224, 3), 222, dtype=np.uint8)),
    ]
    cohort = make_cohort(tmp_path / "c", {"P1": files})
    findings = found(cohort, tmp_path / "cache")
    assert list(findings) == ["LYM209", "LYM212", "LYM213", "LYM214", "LYM230"]
    assert findings["LYM209"].files == ("P1/000005.jpg",)
    assert findings["LYM212"].message == "2 photographs converted to 8-bit RGB (1 grey, 1 CMYK)."
    assert findings["LYM213"].files == ("P1/000004.jpg",)
    assert findings["LYM214"].files == ("P1/000003.jpg", "P1/000004.jpg")
    assert findings["LYM230"].files == ("P1/000002.jpg",)
    stored = b"".join(path.read_bytes() for path in sorted((tmp_path / "cache").rglob("*")) if path.is_file())
    assert b"Jane Doe" not in stored


def test_findings_follow_the_labels_of_the_moment(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "c", {"P1": [A], "P2": [A]})
    assert list(found(cohort, tmp_path / "cache")) == ["LYM221"]
    patients = replace(cohort.patients, label=np.array([1, -1], dtype=np.int8))
    assert list(found(replace(cohort, patients=patients), tmp_path / "cache")) == ["LYM222"]


def test_every_kind_says_what_to_do() -> None:
    kinds = [kind for kind in all_kinds() if kind.__module__ == image_finding_kinds.__name__]
    assert len(kinds) >= 18
    assert all(kind.code.startswith("LYM2") and kind.remedy.endswith(".") and kind.__doc__ for kind in kinds)
    assert len({kind.code for kind in kinds}) == len({kind.title for kind in kinds}) == len(kinds)

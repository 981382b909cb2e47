"""The exploration page: every figure the reports of the field show, for any cohort however poor."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from page_checks import assert_sound
from PIL import Image
from report_example import INVENTED, cell_image

from lymphoscope.cohort.table_findings import MissingValues
from lymphoscope.report import explore_figures as draw
from lymphoscope.report.explore import Plate, draw_plates, write_explore
from lymphoscope.report.explore_content import ExploreContent, SampleCells, SegmentationExample

NAMES = [
    "class-counts", "sex-counts", "sex-by-class", "age-histogram", "age-by-class", "age-by-sex",
    "count-by-class", "count-histogram", "images-per-patient", "train-against-test", "resampling",
    "sample-cells", "segmentation",
]  # fmt: skip


def masks(side: int = 64) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:side, :side] - side / 2
    return np.hypot(x, y) < side * 0.2, np.hypot(x, y) < side * 0.3


def example_explore() -> ExploreContent:
    rng = np.random.default_rng(3)
    label = np.array([1] * 14 + [0] * 7 + [-1] * 6)
    clinical = np.column_stack(
        (rng.integers(20, 95, 27), rng.integers(0, 2, 27), rng.lognormal(2.4, 0.9, 27))
    )
    clinical = clinical.astype(float)
    clinical[2, 0] = clinical[4, 1] = clinical[5, 2] = clinical[20, 2] = np.nan
    nucleus, cell = masks()
    nothing = np.zeros_like(cell)
    return ExploreContent(
        name="example",
        label=label,
        split=("train",) * 21 + ("test",) * 6,
        clinical=clinical,
        n_images=rng.integers(16, 199, 27),
        samples=tuple(SampleCells(value, tuple(cell_image(rng) for _ in range(3))) for value in (1, 0, -1)),
        segmentation=(
            SegmentationExample(cell_image(rng), nucleus, cell, True),
            SegmentationExample(cell_image(rng), nothing, nothing, False, "no nucleus near the centre"),
            SegmentationExample(cell_image(rng), ~nothing, ~nothing, False, "fills the frame"),
        ),
        findings=(MissingValues("2 patients have no count.", patients=("P5", "P20")),),
        labels_note=INVENTED,
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explore")
    assert write_explore(example_explore(), folder) == folder / "explore.html"
    return folder


@pytest.fixture(scope="module")
def plates() -> dict[str, Plate]:
    return {plate.name: plate for plate in draw_plates(example_explore())}


def test_page_is_one_sound_file_with_every_figure(written: Path) -> None:
    text = (written / "explore.html").read_text("utf-8")
    page = assert_sound(text)
    assert [i for i in page.ids if i in NAMES] == NAMES
    assert "missing" not in [attrs.get("class") for attrs in page.named("p")]
    assert "27 patients: 14 malignant, 7 reactive, 6 unlabelled" in page.text
    assert INVENTED in page.text
    assert "LYM014" in page.text


def test_each_figure_is_also_a_file_of_each_kind(written: Path) -> None:
    stems = [f"{number:02d}-{name}" for number, name in enumerate(NAMES, start=1)]
    found = sorted(path.name for path in (written / "figures").iterdir())
    assert found == sorted(f"{stem}.{kind}" for stem in stems for kind in ("png", "svg"))
    with Image.open(written / "figures" / "05-age-by-class.png") as image:
        assert image.format == "PNG"
        assert min(image.size) > 300
        assert np.asarray(image.convert("L")).std() > 10


def test_same_content_gives_same_bytes(written: Path, tmp_path: Path) -> None:
    write_explore(example_explore(), tmp_path)
    for path in written.rglob("*.*"):
        assert (tmp_path / path.relative_to(written)).read_bytes() == path.read_bytes(), path.name


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    write_explore(empty(0), tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "kept"
    assert not list(tmp_path.rglob("*.tmp"))


def test_patients_that_a_figure_cannot_show_are_counted(plates: dict[str, Plate]) -> None:
    assert plates["age-histogram"].missing == "Not shown: 1 patient without age."
    assert plates["age-by-sex"].missing == "Not shown: 1 patient without age, 1 patient without sex."
    assert plates["count-by-class"].missing == "Not shown: 2 patients without a lymphocyte count above 0."
    assert plates["class-counts"].missing == ""


def test_bar_heights_are_the_counts(plates: dict[str, Plate]) -> None:
    def heights(name: str) -> list[int]:
        svg = plates[name].svg or ""
        return [int(number) for number in re.findall(r"text-anchor: middle[^>]*>(\d+)<", svg)]

    assert {14, 7, 6} <= set(heights("class-counts"))
    assert [n for n in heights("resampling") if n in (14, 7)] == [14, 7, 14, 14, 7, 7]


def empty(n: int, label: int = -1) -> ExploreContent:
    return ExploreContent(
        "poor", np.full(n, label), ("",) * n, np.full((n, 3), np.nan), np.zeros(n, dtype=np.int64)
    )


def known(n: int, label: int) -> ExploreContent:
    clinical = np.tile([60.0, 1.0, 5.0], (n, 1))
    return replace(empty(n, label), clinical=clinical, n_images=np.full(n, 20))


@pytest.mark.parametrize(
    "content",
    [empty(0), empty(1), empty(3, label=1), known(1, -1), known(1, 1), known(5, 0)],
    ids=["nobody", "one unknown", "no values", "one unlabelled", "one patient", "one class"],
)
def test_a_poor_cohort_gets_a_page_that_says_what_is_missing(content: ExploreContent, tmp_path: Path) -> None:
    text = write_explore(content, tmp_path).read_text("utf-8")
    page = assert_sound(text)
    assert "This needs labelled patients of both classes." in page.text
    assert "does not say which patients are for training" in page.text
    assert not re.search(r"\bnan\b", page.text)


def test_no_test_set_and_no_labels_are_said_not_guessed() -> None:
    content = replace(example_explore(), split=("train",) * 27, label=np.full(27, -1))
    assert isinstance(draw.train_against_test(content), str)
    assert isinstance(draw.resampling(content), str)
    assert [look.title for look, _ in draw.by_class(content)] == ["Unlabelled"]


def test_counts_without_a_logarithm_are_left_out_of_log_axes_and_counted() -> None:
    content = known(5, 1)
    content.clinical[:3, 2] = (0.0, -4.0, np.nan)
    plates = {plate.name: plate for plate in draw_plates(content)}
    for name in ("count-by-class", "count-histogram"):
        assert plates[name].svg
        assert plates[name].missing == "Not shown: 3 patients without a lymphocyte count above 0."


def test_classes_differ_by_hatch_or_shade_and_by_marker() -> None:
    def grey(colour: str) -> float:
        return sum(int(colour[i : i + 2], 16) * w for i, w in ((1, 0.3), (3, 0.59), (5, 0.11)))

    for group in (
        (draw.MALIGNANT, draw.REACTIVE, draw.UNLABELLED),
        (draw.TRAIN, draw.TEST),
        (draw.FEMALE, draw.MALE),
    ):
        assert len({look.marker for look in group}) == len(group)
        assert len({look.hatch for look in group}) == len(group)
        shades = sorted(grey(look.fill) for look in group)
        assert shades[-1] - shades[0] > 100


def test_a_hostile_name_is_harmless(tmp_path: Path) -> None:
    content = replace(known(2, 1), name="<script>alert(1)</script>", labels_note='"><img src=x onerror=y>')
    page = assert_sound(write_explore(content, tmp_path).read_text("utf-8"))
    assert "<script>alert(1)</script>" in page.text


def test_arrays_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="split: 1 rows for 2 patients"):
        replace(empty(2), split=("train",))


def test_pictures_are_shown_from_any_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = tuple(cell_image(rng, side) for side in (3, 16, 224, 301))
    mask = np.zeros((224, 224), bool)
    mask[0, 0] = True
    content = replace(
        known(4, 1),
        samples=(SampleCells(1, images),),
        segmentation=(SegmentationExample(images[2], mask, mask, False, "x" * 80),),
    )
    write_explore(content, tmp_path)
    with Image.open(io.BytesIO((tmp_path / "figures" / "12-sample-cells.png").read_bytes())) as picture:
        assert picture.width > picture.height

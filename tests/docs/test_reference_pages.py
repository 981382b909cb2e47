"""The reference pages are those of the program, and what they are made from is complete."""

from __future__ import annotations

import re
from pathlib import Path

import generate
import PIL.Image
import pytest
from reference_pages import encoders, findings, models

from lymphoscope.cohort.findings import Severity
from lymphoscope.cohort.folder_findings import StrayFiles
from lymphoscope.cohort.table_findings import RepeatedRow
from lymphoscope.models.registry import estimator_class, list_models, recipe_info


def test_every_page_is_current() -> None:
    assert {path.name for path in generate.REFERENCE.iterdir()} == set(generate.PAGES)
    assert not generate.stale(generate.REFERENCE), "run python docs/generate.py"
    assert not generate.stale_figures(generate.REFERENCE.parent / generate.IMAGES), "run docs/generate.py"


def test_a_stale_page_is_named_and_written_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pages, images = tmp_path / "reference", tmp_path / "images"
    where = ("--reference", str(pages))
    assert generate.main(where) == 0
    assert generate.main((*where, "--check")) == 0
    page = pages / "models.md"
    right = page.read_text("utf-8")
    page.write_text("old")
    (pages / "findings.md").unlink()
    capsys.readouterr()
    assert generate.main((*where, "--check")) == 1
    told = capsys.readouterr().err
    assert [name for name in generate.PAGES if f"{pages / name}: is out of date" in told] == [
        "findings.md",
        "models.md",
    ]
    assert page.read_text() == "old"
    assert not (pages / "findings.md").exists()
    assert generate.main(where) == 0
    assert page.read_text("utf-8") == right
    assert not generate.stale(pages)
    assert not generate.stale_figures(images)


def test_a_figure_that_was_drawn_from_something_else_is_drawn_anew(tmp_path: Path) -> None:
    found = encoders.figures()
    assert set(found) == set(re.findall(r"\(\.\./images/([^)]+)\)", encoders.page()))
    for name, data in found.items():
        (tmp_path / name).write_bytes(data)
    assert not generate.stale_figures(tmp_path)
    path = tmp_path / sorted(found)[0]
    PIL.Image.new("RGB", (4, 4)).save(path)
    assert generate.stale_figures(tmp_path) == {path: found[path.name]}
    path.unlink()
    assert [*generate.stale_figures(tmp_path)] == [path]


def test_every_kind_of_finding_is_complete() -> None:
    kinds = findings.shipped_kinds()
    assert {RepeatedRow, StrayFiles} <= set(kinds)
    for kind in kinds:
        assert re.fullmatch(r"LYM\d{3}", kind.code), kind
        assert kind.code[:4] in findings.GROUPS, kind
        assert isinstance(kind.severity, Severity), kind
        assert kind.title[0].isupper() and not kind.title.endswith("."), kind
        assert kind.remedy.endswith("."), kind
        assert "__doc__" in vars(kind) and len(kind.__doc__ or "") > 15, kind
        assert not (kind.__doc__ or "").startswith(f"{kind.__name__}("), f"{kind} has no docstring of its own"


def test_no_code_is_used_twice() -> None:
    codes = [kind.code for kind in findings.shipped_kinds()]
    assert sorted(set(codes)) == codes


def test_every_anchor_is_on_the_page() -> None:
    headings = {
        "#" + line.removeprefix("### ").lower()
        for line in findings.page().splitlines()
        if line.startswith("### ")
    }
    root = generate.REFERENCE.parents[1]
    for kind in findings.shipped_kinds():
        page, _, anchor = kind("").anchor.partition("#")
        assert root / page == generate.REFERENCE / "findings.md"
        assert f"#{anchor}" in headings


@pytest.mark.parametrize("name", [info.name for info in list_models()])
def test_every_recipe_has_its_section(name: str) -> None:
    page = models.page()
    assert f"\n## {name}\n" in page
    assert recipe_info(name).source in page


def test_a_parameters_text_is_joined_to_one_line() -> None:
    texts = models.parameter_texts(estimator_class(recipe_info("auto")))
    assert list(texts) == ["candidates", "inner_repeats", "random_state"]
    assert texts["inner_repeats"] == "rounds of five inner folds."

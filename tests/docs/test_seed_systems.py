"""The page of seed systems: complete, and its results are those of the table."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest
from reference_pages import seed_systems

from lymphoscope.models.registry import list_models

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def table_of(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import results_table  # type: ignore[import-not-found]

    return results_table


@pytest.fixture
def results(table_of: ModuleType, tmp_path: Path) -> list[seed_systems.Result]:
    """Of a table as the benchmark writes it."""

    def row(
        recipe: str, ba: float, protocol: str = "5 folds", cohort: str = "dev", code: str = "a1"
    ) -> object:
        near = {"ba_low": ba - 0.1, "ba_high": ba + 0.1, "auc": 0.8, "auc_low": 0.7, "auc_high": 0.9}
        near |= {"train_s": 1.0, "wall_s": 2.0, "peak_mb": 100, "jobs": 1, "threads": 1}
        return table_of.Row(recipe, cohort, protocol, "measured", ba=ba, code=code, **near)

    rows = (
        row("clinical", 0.7),
        row("cnn-clinical@fast", 0.75),
        row("cnn-clinical@fast:selection=scored-fold", 0.83, "5 folds, optimistic"),
        row("cnn-clinical@smoke", 0.5),
        row("cnn-clinical@smoke:selection=scored-fold", 0.6, "5 folds, optimistic", code="b2"),
        row("cnn-clinical:epochs=3", 0.6),
        row("vgg16@fast", 0.65, "hold-out of 24"),
        row("vgg16@fast:selection=scored-fold", 0.6, "hold-out of 24, optimistic", "strong"),
        table_of.Row("frozen-resnet34@fast", "dev", "", "needs weights"),
    )
    table_of.write(tmp_path / "networks", table_of.Table(rows, "command"))
    return seed_systems.read_results(tmp_path / "networks.csv")


def lines_of(recipes: list[str], results: list[seed_systems.Result]) -> list[str]:
    return seed_systems.result_table(recipes, results).splitlines()[2:]


def test_every_system_of_the_reports_is_there() -> None:
    _, reports, systems = seed_systems.prose()
    ids = [each.id for each in systems]
    assert ids == ["A1", "A2", "A3", "A4", "B1", "B2", "B3", "B4", "C1", "C2", "C3", "D1", "D2", "D3"]
    assert all(each.report == each.id[0] and each.report in reports for each in systems)
    for each in systems:
        assert each.mended and all(text.endswith(".") for text in (each.reported, each.kept, *each.mended))


def test_every_recipe_of_photographs_stands_in_one_system() -> None:
    named = [recipe for each in seed_systems.prose()[2] for recipe in each.recipes]
    assert len(set(named)) == len(named)
    images = {info.name for info in list_models() if info.cell_input == "images"}
    assert {name for name in images if not name.startswith("encoder-")} <= set(named), "those are our own"


def test_every_command_runs_a_recipe_of_its_system() -> None:
    for each in seed_systems.prose()[2]:
        run = set(re.findall(r"--recipe ([\w-]+)", each.command))
        assert run and (run <= set(each.recipes) or each.id == "D2"), each.id


def test_without_a_table_nothing_is_measured(tmp_path: Path) -> None:
    assert seed_systems.read_results(tmp_path / "missing.csv") == []
    assert lines_of(["vgg16", "vgg19"], []) == [
        f"| `{name}` | – | – | – | not measured yet | – | – | – |" for name in ("vgg16", "vgg19")
    ]


def test_results_are_those_of_the_table(results: list[seed_systems.Result]) -> None:
    assert lines_of(["clinical"], results) == [
        "| `clinical` | dev | – | 5 folds | 0.700 [0.600, 0.800] | 0.800 [0.700, 0.900] | – | – |"
    ]
    assert lines_of(["frozen-resnet34", "resnet34"], results) == [
        "| `frozen-resnet34` | dev | fast | – | needs weights | – | – | – |",
        "| `resnet34` | – | – | – | not measured yet | – | – | – |",
    ]


def test_the_optimism_is_of_the_same_recipe_budget_and_folds(results: list[seed_systems.Result]) -> None:
    fast, smoke, longer = lines_of(["cnn-clinical"], results)
    assert "| fast |" in fast and fast.endswith("| +0.080 |")
    assert "| smoke |" in smoke and smoke.endswith("| – |")  # its optimistic row is of other code
    assert longer.startswith("| `cnn-clinical:epochs=3` | dev | paper |") and longer.endswith("| – |")
    (other,) = lines_of(["vgg16"], results)
    assert other.endswith("| – |")  # its optimistic row is of another cohort

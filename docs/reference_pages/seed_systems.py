"""The page of the systems that recipes rebuild: prose from `seed_systems.yaml`, results from the table."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lymphoscope.models.registry import FULL_BUDGET, recipe_info

PROSE = Path(__file__).with_suffix(".yaml")
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "networks.csv"
"""What `benchmarks/results.py` writes; may be missing."""

OPTIMISTIC = "selection=scored-fold"
"""The setting of a recipe that keeps the epoch that does best on the patients that are scored."""

LADDER = ("clinical", "morphology-clinical", "encoder-mean", "encoder-mean-clinical")
"""What the systems are to be read against."""

NOT_MEASURED = "not measured yet"
NONE = "–"

_COMMENT = "<!-- Made by `python docs/generate.py`; edit docs/reference_pages/seed_systems.yaml instead. -->"


@dataclass(frozen=True)
class Report:
    """Where systems come from, and what to know of its figures."""

    title: str
    source: str
    caution: str


@dataclass(frozen=True)
class System:
    """One system as the page tells of it.

    Attributes
    ----------
    id : "A1", "B4", …; report : the key of its report.
    reported : figures as the authors published them.
    kept, mended : what is as in the source, and what is not, with the reason.
    recipes : that rebuild it; command : that runs them.
    """

    id: str
    report: str
    title: str
    reported: str
    kept: str
    mended: tuple[str, ...]
    recipes: tuple[str, ...]
    command: str


@dataclass(frozen=True)
class Result:
    """One row of the table of results, as its CSV has it."""

    recipe: str
    budget: str
    settings: tuple[str, ...]
    row: Mapping[str, str]

    @property
    def optimistic(self) -> bool:
        """Whether the scored patients chose the epoch."""
        return OPTIMISTIC in self.settings

    @property
    def same_as(self) -> tuple[str, ...]:
        """What an honest and an optimistic row of the same thing share."""
        rest = [each for each in self.settings if each != OPTIMISTIC]
        protocol = self.row["protocol"].removesuffix(", optimistic")
        return (self.recipe, self.budget, ",".join(rest), self.row["cohort"], protocol)


def page() -> str:
    """The page's Markdown text."""
    introduction, reports, systems = prose()
    results = read_results(RESULTS)
    parts = [f"# The systems that recipes rebuild\n\n{_COMMENT}\n", introduction, _overview(systems)]
    plain = [each for each in results if not each.settings]
    parts.append(f"## What to read them against\n\n{result_table(LADDER, plain)}")
    for key, report in reports.items():
        parts.append(f"## {report.title}\n\n{' '.join([report.source, report.caution]).strip()}\n")
        parts += [_section(each, results) for each in systems if each.report == key]
    return "\n".join(parts)


def prose() -> tuple[str, dict[str, Report], list[System]]:
    """The introduction, reports by key, and systems in the order of the page."""
    stored = yaml.safe_load(PROSE.read_text("utf-8"))
    systems = [System(**{name: _tuples(value) for name, value in each.items()}) for each in stored["systems"]]
    reports = {key: Report(**each) for key, each in stored["reports"].items()}
    return stored["introduction"], reports, systems


def read_results(path: Path) -> list[Result]:
    """Rows of the table of results; none where there is no table."""
    if not path.is_file():
        return []
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    return [_result(row) for row in csv.DictReader(lines)]


def result_table(recipes: Sequence[str], results: Iterable[Result]) -> str:
    """What was measured of some recipes: honest rows, with the optimism of those measured both ways.

    Both ways by the same code, or the difference would be that of two programs.
    """
    known = [each for each in results if each.recipe in recipes]
    gains = {(each.same_as, each.row["code"]): each.row["ba"] for each in known if each.optimistic}
    head = ("recipe", "cohort", "budget", "tested", "BA", "AUC", "learned", "optimism")
    lines = [head, ["---"] * len(head)]
    for recipe in recipes:
        rows = [each for each in known if each.recipe == recipe and not each.optimistic]
        lines += [_cells(each, gains.get((each.same_as, each.row["code"]), "")) for each in rows]
        if not rows:
            lines.append((f"`{recipe}`", NONE, NONE, NONE, NOT_MEASURED, NONE, NONE, NONE))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _overview(systems: Sequence[System]) -> str:
    lines = ["| | system | recipes |", "|---|---|---|"]
    lines += [
        f"| [{each.id}](#{_anchor(each)}) | {each.title} | {_linked(each.recipes)} |" for each in systems
    ]
    return "\n".join(lines) + "\n"


def _section(system: System, results: Sequence[Result]) -> str:
    mended = "".join(f"- {each}\n" for each in system.mended)
    return (
        f"### {_heading(system)}\n\n*Reported:* {system.reported}\n\n*Kept:* {system.kept}\n\n"
        f"*Mended or filled in:*\n\n{mended}\n*Command* (recipes {_linked(system.recipes)}):\n\n"
        f"```sh\n{system.command}\n```\n\n*Result:*\n\n{result_table(system.recipes, results)}"
    )


def _heading(system: System) -> str:
    return f"{system.id} {system.title}"


def _anchor(system: System) -> str:
    kept = "".join(c for c in _heading(system).lower() if c.isalnum() or c in " -")
    return kept.replace(" ", "-")


def _linked(recipes: Iterable[str]) -> str:
    return ", ".join(f"[`{recipe_info(each).name}`](models.md#{each})" for each in recipes)


def _cells(result: Result, optimistic_ba: str) -> tuple[str, ...]:
    row = result.row
    name = ":".join(filter(None, [result.recipe, ",".join(result.settings)]))
    place = (f"`{name}`", row["cohort"], result.budget, row["protocol"] or NONE)
    if row["status"] != "measured":
        return (*place, row["status"], NONE, NONE, NONE)
    gain = f"{float(optimistic_ba) - float(row['ba']):+.3f}" if optimistic_ba else NONE
    return (*place, _interval(row, "ba"), _interval(row, "auc"), row["learned"] or NONE, gain)


def _interval(row: Mapping[str, str], name: str) -> str:
    if not row[name]:
        return NONE
    value, low, high = (float(row[f"{name}{end}"] or "nan") for end in ("", "_low", "_high"))
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _result(row: Mapping[str, str]) -> Result:
    name, _, settings = row["recipe"].partition(":")
    recipe, _, budget = name.partition("@")
    budget = budget or (FULL_BUDGET if recipe_info(recipe).budgets else NONE)
    return Result(recipe, budget, tuple(filter(None, settings.split(","))), row)


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

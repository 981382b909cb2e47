"""What the commands print at the end: short, aligned, the same from files as from memory."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from lymphoscope.cohort.findings import Finding, Severity, counted
from lymphoscope.encoders.encoder_findings import SEEN_BEFORE
from lymphoscope.evaluation.scoring import Score
from lymphoscope.pipeline.answers import Answers
from lymphoscope.pipeline.run_folder import COHORT, DONE, PLAN, altered, read_object
from lymphoscope.stats.comparison import OPTIMISTIC, TRANSDUCTIVE, UNTRAINED
from lymphoscope.stats.intervals import Interval

Line = str | Table

_COLUMN = 26
"""Letters that a column of names has on a terminal of 80 columns."""


def run_summary(folder: Path) -> Iterator[Line]:
    """A finished run: the ladder, the decision's quality, the advice, where the files are.

    Raises
    ------
    RunFolderError : a file that this is read from was altered since.
    """
    predictions = folder / "predictions.csv"
    advice = _advice(predictions)
    n = -1 if advice is None else advice.total()
    if advice is None or n != read_object(folder / COHORT).get("unlabelled"):
        raise altered(predictions)
    try:
        found = list(
            _measured(
                read_object(folder / DONE),
                {code.strip().upper() for code in read_object(folder / PLAN)["ignore"]},
            )
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise altered(folder / DONE) from error
    yield from found
    yield ""
    yield f"{counted(n, 'unlabelled patient')} predicted" + (f": {_advice_text(advice)}" if n else ".")
    yield f"Predictions: {_path(predictions)}, submission.csv"
    yield f"Model to keep: {_path(folder / 'model')}"
    yield f"Report: [bold]{_path(folder / 'report.html')}[/]   (research use only, no diagnosis)"


def _measured(metrics: Mapping[str, Any], ignored: Collection[str]) -> Iterator[Line]:
    """What metrics.json says, without the findings that the user ignores."""
    yield from ladder_lines(metrics["ladder"])
    yield from caution_lines(metrics.get("cautions", ()))
    yield ""
    if recipe := metrics.get("chosen", {}).get("recipe"):
        yield f"[bold]{metrics['recipe']}[/] has chosen [bold]{escape(recipe)}[/] from all labelled patients."
    yield f"[bold]{metrics['recipe']}[/], held out: {escape(metrics['triage']['overall']['sentence'])}"
    yield escape(metrics["swing"]["sentence"])
    for probe in metrics["probes"]:
        if probe["warns"] and probe["code"] not in ignored:
            yield f"[yellow]{probe['code']}[/] {escape(probe['sentence'])}"


def _advice(predictions: Path) -> Counter[str] | None:
    """How many patients got which advice; None where the table cannot be read any more."""
    try:
        with predictions.open(encoding="utf-8", newline="") as stream:
            return Counter(row["flow_cytometry"] for row in csv.DictReader(stream))
    except (OSError, ValueError, KeyError, csv.Error):
        return None


def _advice_text(counts: Mapping[Any, int]) -> str:
    return (
        f"flow cytometry advised for {counts['advised']}, not advised for {counts['not advised']}; cannot "
        f"say for {counts['cannot say']}."
    )


def ladder_lines(ladder: Mapping[str, Any]) -> Iterator[Line]:
    """The ladder as a table, and what can be told apart."""
    limit = ladder["protocol"]["overlap_limit"]
    table = Table(box=None, pad_edge=False)
    table.add_column("recipe", overflow="fold")
    for name in ("balanced\naccuracy", "\nAUC", f"balanced accuracy,\ncount ≤ {limit:g}"):
        table.add_column(name, no_wrap=True)
    for row in ladder["rows"]:
        overall, overlap = row["overall"], row["overlap"]
        numbers = (overall["balanced_accuracy"], overall["auc"], overlap["balanced_accuracy"])
        marks = [mark for mark in ("optimistic", "untrained", "transductive") if row.get(mark)]
        mark = "".join(f"\n[yellow]{mark}[/]" for mark in marks)
        name = in_lines(row["recipe"])
        table.add_row(f"[bold]{escape(name)}[/]", *(f"{_bounds(each)}{mark}" for each in numbers))
    yield table
    if any(row["optimistic"] for row in ladder["rows"]):
        yield f"[yellow]optimistic[/]: {OPTIMISTIC}. Expect less of patients that nobody has looked at."
    if any(row.get("untrained") for row in ladder["rows"]):
        yield f"[yellow]untrained[/]: {UNTRAINED}. It is compared with nothing."
    if any(row.get("transductive") for row in ladder["rows"]):
        yield f"[yellow]transductive[/]: {TRANSDUCTIVE}."
    yield ""
    compared = [each for row in ladder["rows"] for each in row["comparisons"] if each["zone"] == "overall"]
    if compared:
        yield _differences(compared)
    for comparison in ladder["optimism"]:
        if comparison["zone"] == "overall":
            yield f"· {escape(comparison['sentence'])}"


def _differences(compared: Sequence[Mapping[str, Any]]) -> Table:
    """One line per pair of recipes; the sentences with the same figures are in the report."""
    first = compared[0]
    table = Table(
        box=None,
        pad_edge=False,
        title_justify="left",
        title_style="",
        title=f"Differences in balanced accuracy, on the same {first['n_malignant']} malignant and "
        f"{first['n_reactive']} reactive patients:",
    )
    table.add_column("recipe", overflow="fold")
    table.add_column("minus", overflow="fold")
    table.add_column("difference", no_wrap=True)
    table.add_column("apart?", no_wrap=True)
    for each in compared:
        found, marks = each["balanced_accuracy"], ("[bold]", "[/]") if each["told_apart"] else ("", "")
        shown = (
            "–"
            if found is None
            else f"{found['estimate']:+.2f} ({found['low']:+.2f} to {found['high']:+.2f})"
        )
        apart = "yes" if each["told_apart"] else "no"
        names = (escape(in_lines(each[which])) for which in ("second", "first"))
        table.add_row(*names, *(f"{marks[0]}{text}{marks[1]}" for text in (shown, apart)))
    return table


def in_lines(recipe: str) -> str:
    """A recipe's name for a narrow column: where it is long, every setting has a line of its own."""
    if len(recipe) <= _COLUMN:
        return recipe
    name, _, settings = recipe.partition(":")
    lines = [f"  {each}" for each in settings.replace(",", ",\n").splitlines()]
    return "\n".join([f"{name}:" if lines else name, *lines])


def finding_lines(findings: Sequence[Finding]) -> Iterator[Line]:
    """The warnings about the data, and where to read on; cautions say what an encoder has seen before."""
    told = [each for each in findings if not isinstance(each, SEEN_BEFORE)]
    warnings = [each for each in told if each.severity is Severity.WARNING]
    for each in warnings:
        yield f"[yellow]{each.code}[/] {escape(each.message)}"
    if warnings:
        which = "this warning" if len(warnings) == 1 else "these warnings"
        yield f"`lymphoscope check` says more of {which}."


def caution_lines(cautions: Iterable[str]) -> Iterator[Line]:
    """Why numbers may not be believed as they stand."""
    for caution in cautions:
        yield f"[yellow]Beware:[/] {escape(caution)}"


def prediction_summary(answers: Answers, out: Path) -> Iterator[Line]:
    """How many patients got which advice, and where it is written."""
    counts = Counter(advice.decision for advice in answers.advice)
    yield f"{counted(len(answers.patients), 'patient')}: {_advice_text(counts)}"
    yield f"Predictions: {_path(out / 'predictions.csv')}"
    yield f"Report: [bold]{_path(out / 'report.html')}[/]   (research use only, no diagnosis)"


def score_lines(found: Score) -> Iterator[Line]:
    """A score in words, its parts, and who was missed."""
    yield f"[bold]{escape(found.sentence)}[/]"
    for name in ("sensitivity", "specificity", "auc", "brier"):
        value: Interval | None = getattr(found, name)
        if value is not None:
            yield f"{name:<12} {_bounds(value.as_dict())}"
    for what, ids in (("missed", found.missed), ("false alarms", found.false_alarms)):
        if ids:
            yield f"{what:<12} {escape(', '.join(ids))}"


def _path(path: Path) -> str:
    return escape(str(path))


def _bounds(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return "–"
    return f"{value['estimate']:.2f} ({value['low']:.2f}–{value['high']:.2f})"

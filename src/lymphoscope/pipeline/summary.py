"""What the commands print at the end: short, aligned, the same from files as from memory."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from lymphoscope.evaluation.scoring import Score
from lymphoscope.pipeline.answers import Answers
from lymphoscope.pipeline.run_folder import COHORT, DONE, altered, read_object
from lymphoscope.stats.comparison import OPTIMISTIC, TRANSDUCTIVE, UNTRAINED
from lymphoscope.stats.intervals import Interval

Line = str | Table


def run_summary(folder: Path) -> Iterator[Line]:
    """A finished run: the ladder, the decision's quality, the advice, where the files are.

    Raises
    ------
    RunFolderError : a file that this is read from was altered since.
    """
    predictions = folder / "predictions.csv"
    n = _rows(predictions)
    if n != read_object(folder / COHORT).get("unlabelled"):
        raise altered(predictions)
    try:
        found = list(_measured(read_object(folder / DONE)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise altered(folder / DONE) from error
    yield from found
    yield ""
    yield f"{n} unlabelled patients predicted: {_path(predictions)}, submission.csv"
    yield f"Model to keep: {_path(folder / 'model')}"
    yield f"Report: [bold]{_path(folder / 'report.html')}[/]   (research use only, no diagnosis)"


def _measured(metrics: Mapping[str, Any]) -> Iterator[Line]:
    """What metrics.json says."""
    yield from ladder_lines(metrics["ladder"])
    yield from caution_lines(metrics.get("cautions", ()))
    yield ""
    yield f"[bold]{metrics['recipe']}[/], held out: {escape(metrics['triage']['overall']['sentence'])}"
    yield escape(metrics["swing"]["sentence"])
    for probe in metrics["probes"]:
        if probe["warns"]:
            yield f"[yellow]{probe['code']}[/] {escape(probe['sentence'])}"


def _rows(table: Path) -> int:
    """Rows below the header of one of a run's tables; -1 where not even a header is left."""
    try:
        with table.open(encoding="utf-8", newline="") as stream:
            return sum(1 for _ in csv.reader(stream)) - 1
    except (OSError, ValueError, csv.Error):
        return -1


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
        table.add_row(f"[bold]{row['recipe']}[/]", *(f"{_bounds(each)}{mark}" for each in numbers))
    yield table
    if any(row["optimistic"] for row in ladder["rows"]):
        yield f"[yellow]optimistic[/]: {OPTIMISTIC}. Expect less of patients that nobody has looked at."
    if any(row.get("untrained") for row in ladder["rows"]):
        yield f"[yellow]untrained[/]: {UNTRAINED}. It is compared with nothing."
    if any(row.get("transductive") for row in ladder["rows"]):
        yield f"[yellow]transductive[/]: {TRANSDUCTIVE}."
    yield ""
    for row in ladder["rows"]:
        for comparison in row["comparisons"]:
            if comparison["zone"] == "overall":
                yield f"· {escape(comparison['sentence'])}"
    for comparison in ladder["optimism"]:
        if comparison["zone"] == "overall":
            yield f"· {escape(comparison['sentence'])}"


def caution_lines(cautions: Iterable[str]) -> Iterator[Line]:
    """Why numbers may not be believed as they stand."""
    for caution in cautions:
        yield f"[yellow]Beware:[/] {escape(caution)}"


def prediction_summary(answers: Answers, out: Path) -> Iterator[Line]:
    """How many patients got which advice, and where it is written."""
    counts = Counter(advice.decision for advice in answers.advice)
    yield (
        f"{len(answers.patients)} patients: flow cytometry advised for {counts['advised']}, "
        f"not advised for {counts['not advised']}; cannot say for {counts['cannot say']}."
    )
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

"""Commands that look at data: check, explore, synthesize, models, doctor."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lymphoscope.cli.options import (
    DEFAULT_ENCODER,
    JOBS,
    CacheOption,
    CohortArgument,
    EncoderOption,
    IgnoreOption,
    JobsOption,
    LeaveOutOption,
    SeedOption,
    encoder_of,
    with_reading,
)

if TYPE_CHECKING:
    from lymphoscope.cohort.findings import Finding
    from lymphoscope.cohort.read import ReadOptions
    from lymphoscope.pipeline.left_out import LeaveOut
    from lymphoscope.pipeline.preparation import Prepared


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    look, other = "Look at data", "Other"
    app.command(rich_help_panel=look)(with_reading(check))
    app.command(rich_help_panel=look)(with_reading(explore))
    app.command(rich_help_panel=look)(synthesize)
    app.command(rich_help_panel=other)(models)
    app.command(rich_help_panel=other)(doctor)


def check(
    cohort: CohortArgument,
    reading: ReadOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    ignore: IgnoreOption = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash every photograph again, whatever its size and time say.")
    ] = False,
    encoder: EncoderOption = DEFAULT_ENCODER,
    leave_out_cells: LeaveOutOption = "none",
    cache: CacheOption = None,
    jobs: JobsOption = JOBS,
) -> None:
    """Read a cohort and list what is wrong or noteworthy. Exit status 1 if there are errors."""
    from lymphoscope.cli.console import console
    from lymphoscope.cohort.findings import Severity, counted
    from lymphoscope.files import to_json
    from lymphoscope.pipeline.preparation import check_cohort

    prepared = _prepare(
        cohort,
        reading,
        cache,
        ignore,
        jobs,
        encoder=encoder_of(encoder),
        leave_out=leave_out_cells,
        verify=verify,
    )
    findings = check_cohort(prepared, ignore or [])
    n_errors = sum(finding.severity is Severity.ERROR for finding in findings)
    if as_json:
        typer.echo(to_json([finding.as_dict() for finding in findings]), nl=False)
    else:
        _print_cohort(prepared)
        for _, alike in groupby(findings, key=lambda finding: (finding.code, finding.remedy)):
            _print_findings(list(alike))
        n_warnings = sum(finding.severity is Severity.WARNING for finding in findings)
        numbers = (
            (n_errors, "error"),
            (n_warnings, "warning"),
            (len(findings) - n_errors - n_warnings, "note"),
        )
        console.print(
            f"\n{_path(cohort)}: {', '.join(counted(n, what) for n, what in numbers)}; "
            f"{_verdict(prepared, n_errors)}."
        )
    if n_errors:
        raise typer.Exit(1)


def explore(
    cohort: CohortArgument,
    reading: ReadOptions,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="New folder for the page and figures.")
    ],
    labels_note: Annotated[
        str, typer.Option(help="A sentence printed where labels are shown, if these are no diagnoses.")
    ] = "",
    cache: CacheOption = None,
    seed: SeedOption = 0,
    jobs: JobsOption = JOBS,
) -> None:
    """Draw what a cohort looks like: classes, ages, counts, images per patient, cells, segmentation."""
    from lymphoscope.cli.console import console
    from lymphoscope.pipeline.explore import explore_cohort
    from lymphoscope.pipeline.preparation import require_new

    require_new(out)
    prepared = _prepare(cohort, reading, cache, None, jobs, encoder=None, out=out)
    page = explore_cohort(prepared, out, seed=seed, labels_note=labels_note)
    console.print(f"Figures and page: [bold]{_path(page)}[/]")


def synthesize(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder for the cohort.")],
    patients: Annotated[int, typer.Option(min=2, help="Labelled patients.")] = 163,
    test: Annotated[int, typer.Option(min=0, help="Unlabelled patients.")] = 42,
    cells: Annotated[int, typer.Option(min=1, help="Median number of cells a patient, up to 10,000.")] = 66,
    seed: SeedOption = 0,
    effect: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=3,
            show_default="0.7",
            help="How far a patient's malignant or activated cells differ from ordinary ones; 0: not at all.",
        ),
    ] = None,
    shortcut: Annotated[
        Literal["none", "background", "bag-size", "border"],
        typer.Option(help="Plant something besides the cells that gives the label away."),
    ] = "none",
    leak: Annotated[
        Literal["none", "patients", "splits"], typer.Option(help="Plant duplicates of photographs.")
    ] = "none",
    label_noise: Annotated[float, typer.Option(help="Share of labels that are wrong.")] = 0.0,
    missing: Annotated[float, typer.Option(help="Share of clinical values that are missing.")] = 0.0,
    stain_shift: Annotated[
        float, typer.Option(help="Shift of the test patients' stain, in standard deviations.")
    ] = 0.0,
    dirt: Annotated[bool, typer.Option(help="Stray files, two date layouts and the like.")] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a cohort that this command wrote.")
    ] = False,
    jobs: JobsOption = JOBS,
) -> None:
    """Paint a cohort with planted truth, in the challenge's layout; the truth goes to OUT_truth."""
    from lymphoscope.cli.console import TerminalProgress, console
    from lymphoscope.cohort.synthetic import SyntheticPlan
    from lymphoscope.cohort.synthetic import synthesize as paint

    chosen: dict[str, Any] = {} if effect is None else {"morphology_effect": effect}
    plan = SyntheticPlan(
        patients=patients,
        test=test,
        cells=cells,
        seed=seed,
        shortcut=shortcut,
        leak=leak,
        label_noise=label_noise,
        missing=missing,
        stain_shift=stain_shift,
        dirt=dirt,
        **chosen,
    )
    with TerminalProgress().shown() as progress:
        paint(plan, out, jobs=jobs, progress=progress, overwrite=overwrite)
    console.print(
        f"Cohort: [bold]{_path(out)}[/]   truth: {_path(out)}_truth   (synthetic: no patient is real)"
    )


def models() -> None:
    """List every recipe: name, what it looks at, one line, source."""
    from rich.table import Table

    from lymphoscope.cli.console import console
    from lymphoscope.models.registry import list_models

    table = Table(box=None, pad_edge=False)
    for title in ("recipe", "cells", "what it is", "source"):
        table.add_column(title, no_wrap=title == "recipe", overflow="fold")
    for info in list_models():
        table.add_row(f"[bold]{info.name}[/]", info.cell_input, info.summary, info.source)
    console.print(table)


def doctor(cache: CacheOption = None) -> None:
    """Say what is installed, where the cache is, and whether everything needed works here."""
    from rich.markup import escape

    from lymphoscope.cli.console import console
    from lymphoscope.pipeline.doctor import examine
    from lymphoscope.pipeline.preparation import default_cache

    ok = True
    for line in examine(cache or default_cache()):
        ok &= line.ok
        console.print(
            f"{'[green]ok  [/]' if line.ok else '[bold red]FAIL[/]'} {line.what}: {escape(line.found)}"
        )
    if not ok:
        raise typer.Exit(1)


def _prepare(
    cohort: Path,
    reading: ReadOptions,
    cache: Path | None,
    ignore: list[str] | None,
    jobs: int,
    *,
    encoder: str | None,
    leave_out: LeaveOut = "none",
    verify: bool = False,
    out: Path | None = None,
) -> Prepared:
    from lymphoscope.cli.console import TerminalProgress
    from lymphoscope.pipeline.preparation import prepare

    with TerminalProgress().shown() as progress:
        return prepare(
            cohort,
            reading,
            cache=cache,
            encoder=encoder,
            leave_out=leave_out,
            ignore=ignore or [],
            jobs=jobs,
            verify=verify,
            out=out,
            progress=progress,
        )


def _verdict(prepared: Prepared, n_errors: int) -> str:
    """What the cohort can be used for as it is."""
    from rich.markup import escape

    from lymphoscope.errors import LymphoscopeError
    from lymphoscope.evaluation.protocol import Protocol

    if n_errors:
        return "[bold red]not ready[/] for `lymphoscope run`"
    if not (prepared.labels == 1).any() or not (prepared.labels == 0).any():
        return "[bold green]ready[/] for `lymphoscope predict`; without labels of both classes, not for `run`"
    try:
        Protocol().splits(prepared.labels, prepared.labelled_split)
    except LymphoscopeError as error:
        why = escape(str(error).rstrip("."))
        return f"[bold yellow]not ready[/] for `lymphoscope run` without further options: {why}"
    return "[bold green]ready[/] for `lymphoscope run`"


def _path(path: Path) -> str:
    from rich.markup import escape

    return escape(str(path))


def _print_cohort(prepared: Prepared) -> None:
    from lymphoscope.cli.console import console

    patients = prepared.cohort.patients
    malignant, reactive = int((patients.label == 1).sum()), int((patients.label == 0).sum())
    console.print(
        f"{len(patients)} patients: {malignant} malignant, {reactive} reactive, "
        f"{len(prepared.unlabelled)} unlabelled; {len(prepared.store):,} cells. "
        f"Ages at {prepared.cohort.reference_date}, counts in {prepared.cohort.count_unit}."
    )
    if prepared.left_out is not None:
        console.print(prepared.left_out.sentence())


def _print_findings(alike: Sequence[Finding]) -> None:
    """Those of one kind, under one heading and above one remedy."""
    from rich.markup import escape

    from lymphoscope.cli.console import console

    kind = alike[0]
    colour = {"error": "bold red", "warning": "yellow", "info": "dim"}[str(kind.severity)]
    console.print(f"\n[{colour}]{kind.code} {kind.severity}[/]  [bold]{escape(kind.title)}[/]")
    for finding in alike:
        console.print(f"  {escape(finding.message)}")
        for what, names in (("patients", finding.patients), ("files", finding.files)):
            if names:
                more = f" and {len(names) - 8} more (--json lists all)" if len(names) > 8 else ""
                console.print(f"  [dim]{what}: {escape(', '.join(names[:8]))}{more}[/]")
    console.print(f"  → {escape(kind.remedy)}")

"""Options that several commands share, written once.

A command that takes a parameter `reading: Reading` gets, on the command line, every option of `READING`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from lymphoscope.cores import MOST_TOGETHER, default_jobs
from lymphoscope.errors import InputError

if TYPE_CHECKING:
    from lymphoscope.cohort.read import ReadOptions

PANEL = "Reading the cohort"
JOBS = default_jobs()

CohortArgument = Annotated[
    Path, typer.Argument(metavar="COHORT", help="Folder with the photographs and the clinical table.")
]
JobsOption = Annotated[
    int,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        show_default=f"one a core, at most {MOST_TOGETHER}",
        help="Processes to use. A network gets the same share of the cores whatever this is; fewer processes "
        "take less memory and longer.",
    ),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of every random number.")]
CacheOption = Annotated[
    Path | None,
    typer.Option(
        envvar="LYMPHOSCOPE_CACHE",
        show_default="the user's cache folder",
        help="Where decoded photographs and per-cell numbers are kept.",
    ),
]
EncoderOption = Annotated[
    str,
    typer.Option(
        metavar="NAME|PATH",
        help="Network that turns cells into numbers beside the measured ones: the shipped one, a folder that "
        "`encoder train`, `adapt` or `match` wrote, weights of DINOv2 or DinoBloom; none leaves it out.",
    ),
]
LeaveOutOption = Annotated[
    Literal["none", "flagged"],
    typer.Option(
        "--leave-out-cells",
        help="flagged leaves out cells that the encoder takes for other kinds and is sure (LYM304), which "
        "may be wrong of malignant ones, and those that are smudged or blurred (LYM301, LYM302).",
    ),
]
IgnoreOption = Annotated[
    list[str] | None,
    typer.Option("--ignore", metavar="CODE", help="Leave this finding out (repeatable), e.g. LYM203."),
]

DEFAULT_ENCODER = "pbc-small"


def encoder_of(name: str) -> str | None:
    """What `--encoder` means."""
    return None if name == "none" else name


def _option(*names: str, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel=PANEL, **settings)


def reading_options(
    table: Annotated[
        Path | None,
        _option(show_default="clinical_annotation.csv", help="The clinical table, within the cohort or not."),
    ] = None,
    images: Annotated[
        Path | None,
        _option(show_default="the cohort's folder", help="Folder that holds one folder of images a patient."),
    ] = None,
    column: Annotated[
        list[str] | None,
        _option(
            metavar="NAME=COLUMN",
            help="What a column is called in your table: id, label, sex, dob, age, lymphocyte_count or "
            "split = its header (repeatable), e.g. --column id=PatientNo.",
        ),
    ] = None,
    sex: Annotated[
        list[str] | None,
        _option(
            metavar="CODE=SEX",
            help="What a code for the sex stands for, female or male (repeatable), e.g. --sex 1=male.",
        ),
    ] = None,
    reference_date: Annotated[
        datetime,
        _option(formats=["%Y-%m-%d"], show_default="2020-01-01", help="The day at which ages are taken."),
    ] = datetime(2020, 1, 1),
    date_order: Annotated[
        Literal["auto", "month-first", "day-first"], _option(help="How dates of birth are read.")
    ] = "auto",
    count_unit: Annotated[
        str, _option(help="Unit of the lymphocyte counts in the table, e.g. 10^9/L or cells/µL.")
    ] = "10^9/L",
    inclusion_limit: Annotated[float, _option(min=0.0, help="Counts below this (10⁹/L) are reported.")] = 4.0,
    min_cells: Annotated[
        int,
        _option(
            min=1, help="Fewer cells than this are too few to decide; predict keeps to its model's number."
        ),
    ] = 10,
) -> ReadOptions:
    """Turn the options of the command line into `ReadOptions`."""
    from lymphoscope.cohort.read import ReadOptions

    return ReadOptions(
        table=table,
        columns=_mapping("--column", column or [], "NAME=COLUMN, e.g. --column id=PatientNo"),
        images=images,
        reference_date=date(reference_date.year, reference_date.month, reference_date.day),
        date_order=date_order,
        count_unit=count_unit,
        inclusion_limit=inclusion_limit,
        min_cells=min_cells,
        sex_codes=_mapping("--sex", sex or [], "CODE=SEX, e.g. --sex 1=male"),
    )


def _mapping(option: str, pairs: list[str], allowed: str) -> dict[str, str]:
    mapping = {}
    for pair in pairs:
        name, sign, meaning = pair.partition("=")
        if not sign or not name or not meaning:
            raise InputError(f"{option} cannot be read", found=pair, allowed=allowed)
        mapping[name.strip()] = meaning.strip()
    return mapping


def with_reading(command: Callable[..., Any]) -> Callable[..., Any]:
    """Replace a command's parameter `reading` by the options of `reading_options`."""
    own, shared = inspect.signature(command), inspect.signature(reading_options)
    kept = [p for name, p in own.parameters.items() if name != "reading"]
    added = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in shared.parameters.values()]

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        given = {name: kwargs.pop(name) for name in shared.parameters}
        return command(*args, **kwargs, reading=reading_options(**given))

    hints = {
        **_hints_without_return(command, skip="reading"),
        **_hints_without_return(reading_options),
    }
    wrapper.__signature__ = own.replace(  # type: ignore[attr-defined]
        parameters=[p.replace(annotation=hints[p.name]) for p in (*kept, *added)],
        return_annotation=None,
    )
    wrapper.__annotations__ = hints
    del wrapper.__wrapped__
    return wrapper


def _hints_without_return(function: Callable[..., Any], skip: str = "") -> dict[str, Any]:
    source = {k: v for k, v in function.__annotations__.items() if k not in {"return", skip}}
    probe = type("Hints", (), {"__annotations__": source, "__module__": function.__module__})
    return get_type_hints(probe, globalns=function.__globals__, include_extras=True)

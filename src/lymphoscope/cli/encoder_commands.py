"""Commands on encoders, which turn photographs of cells into numbers: train, match, adapt, card, export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lymphoscope.cli.options import (
    DEFAULT_ENCODER,
    JOBS,
    CacheOption,
    CohortArgument,
    JobsOption,
    SeedOption,
    with_reading,
)

if TYPE_CHECKING:
    from lymphoscope.cohort.bags import IntArray
    from lymphoscope.cohort.cell_store import CellStore
    from lymphoscope.cohort.progress import Progress
    from lymphoscope.cohort.read import ReadOptions
    from lymphoscope.encoders.adapted import AdaptedEncoder
    from lymphoscope.encoders.trained import TrainedEncoder

NETWORK, TRAINING = "Network", "Training"

HiddenOption = Annotated[
    int | None,
    typer.Option(min=1, show_default="192; vit 128", help="Width of the network.", rich_help_panel=NETWORK),
]
LayersOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        show_default="2; convnext 3, vit 4",
        help="Its depth; of a network in stages, blocks in each.",
        rich_help_panel=NETWORK,
    ),
]
SizeOption = Annotated[
    int,
    typer.Option(
        min=1,
        help="Pixels a side, cut from the centre; of a vit 14 times a number.",
        rich_help_panel=NETWORK,
    ),
]
EpochsOption = Annotated[int, typer.Option(min=1, help="Passes over the cells.", rich_help_panel=TRAINING)]
RateOption = Annotated[float, typer.Option(help="The highest learning rate.", rich_help_panel=TRAINING)]
BatchOption = Annotated[int, typer.Option(min=1, help="Cells per step.", rich_help_panel=TRAINING)]
EncoderArgument = Annotated[
    str,
    typer.Argument(
        metavar="ENCODER",
        help="pbc-small, which is shipped, or a folder that `encoder train`, `adapt` or `match` wrote.",
    ),
]
DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option(help="Where it is trained.", rich_help_panel=TRAINING)
]

SourceOption = Annotated[
    str,
    typer.Option(
        metavar="NAME|PATH",
        help="What is changed: the shipped encoder, or a folder that `encoder train`, `adapt` or `match` "
        "wrote.",
    ),
]
PatientsOption = Annotated[
    Literal["all", "unlabelled"],
    typer.Option(
        help="Whose cells are looked at. With all, numbers measured on this cohort are transductive."
    ),
]


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    encoder = typer.Typer(
        help="Networks that turn photographs of cells into numbers: train one, match or adapt one to a "
        "cohort, read about it, export it.",
        no_args_is_help=True,
    )
    for command in (train, with_reading(match), with_reading(adapt), card, export):
        encoder.command()(command)
    app.add_typer(encoder, name="encoder", rich_help_panel="Learn and predict")


def train(
    cells: Annotated[
        Path,
        typer.Argument(
            metavar="CELLS",
            help="Folder with PBC's folders of photographs, a cell type each, and WBCAtt's tables; or with "
            "train.parquet and val.parquet.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="New folder; resumed if it was cut short.")
    ],
    leave_out: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Leave out the cells that the column `source` of this table names, such as those of a "
            "cohort that the encoder will be judged on.",
        ),
    ] = None,
    architecture: Annotated[
        Literal["residual", "convnext", "vit"],
        typer.Option(
            help="residual: what the shipped encoder is; vit: a small DINOv2 with registers.",
            rich_help_panel=NETWORK,
        ),
    ] = "residual",
    hidden: HiddenOption = None,
    layers: LayersOption = None,
    size: SizeOption = 112,
    epochs: EpochsOption = 30,
    learning_rate: RateOption = 1e-3,
    batch_size: BatchOption = 64,
    foreign: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Photographs of another laboratory's cells: how far apart the encoder sees them is written "
            "into the card.",
        ),
    ] = None,
    foreign_scale: Annotated[
        float, typer.Option(help="How much these have to be enlarged to have the scale of CELLS.")
    ] = 1.0,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
) -> None:
    """Train an encoder on photographs of single cells whose types and attributes are known."""
    from lymphoscope.cli.console import TerminalProgress
    from lymphoscope.encoders.architectures import DEFAULT_SIZES, Architecture
    from lymphoscope.encoders.supervised import SupervisedSettings
    from lymphoscope.encoders.trained import train_encoder
    from lymphoscope.training.machine import device_named, fastest_precision

    where = device_named(device)
    usual_width, usual_depth = DEFAULT_SIZES[architecture]
    settings = SupervisedSettings(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        precision=fastest_precision(where),
        seed=seed,
    )
    with TerminalProgress().shown() as progress:
        trained = train_encoder(
            cells,
            out,
            Architecture(architecture, hidden or usual_width, layers or usual_depth, size),
            settings,
            leave_out=leave_out,
            foreign=foreign,
            foreign_scale=foreign_scale,
            device=where,
            progress=progress,
        )
    _print(trained)


def match(
    cohort: CohortArgument,
    reading: ReadOptions,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="New folder.")],
    encoder: SourceOption = DEFAULT_ENCODER,
    patients: PatientsOption = "all",
    cache: CacheOption = None,
    jobs: JobsOption = JOBS,
) -> None:
    """Let an encoder see a cohort's photographs in the colours it has learned from. Nothing is trained."""

    from lymphoscope.cli.console import TerminalProgress, console
    from lymphoscope.encoders.matched import match_encoder
    from lymphoscope.pipeline.preparation import require_new

    require_new(out)
    with TerminalProgress().shown() as progress:
        store, chosen = _cells(cohort, reading, out, patients, cache, jobs, progress)
        matched = match_encoder(encoder, store, out, cells=chosen, jobs=jobs, progress=progress)
    console.print(f"{matched.cells:,} cells of {matched.patients:,} patients, whose labels had no say.")
    console.print(
        f"Pixels were {matched.distance:.2f} spreads from the colours that the encoder has learned from; "
        "patients of its own laboratory were within 0.15."
    )
    _print_encoder(matched.folder, transductive=patients == "all")


def adapt(
    cohort: CohortArgument,
    reading: ReadOptions,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="New folder; resumed if it was cut short.")
    ],
    encoder: SourceOption = DEFAULT_ENCODER,
    patients: PatientsOption = "all",
    epochs: EpochsOption = 10,
    learning_rate: RateOption = 1e-4,
    batch_size: BatchOption = 128,
    anchor: Annotated[
        float,
        typer.Option(
            min=0, help="How strongly it is held to what it said before; 0: not.", rich_help_panel=TRAINING
        ),
    ] = 1.0,
    device: DeviceOption = "auto",
    cache: CacheOption = None,
    seed: SeedOption = 0,
    jobs: JobsOption = JOBS,
) -> None:
    """Let an encoder go on learning from a cohort's cells. Labels are not looked at."""
    from lymphoscope.cli.console import TerminalProgress
    from lymphoscope.encoders.adapted import adapt_encoder
    from lymphoscope.encoders.self_supervised import AdaptSettings
    from lymphoscope.pipeline.preparation import require_new
    from lymphoscope.training.machine import device_named, fastest_precision

    require_new(out)
    where = device_named(device)
    settings = AdaptSettings(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        anchor=anchor,
        precision=fastest_precision(where),
        seed=seed,
    )
    with TerminalProgress().shown() as progress:
        store, chosen = _cells(cohort, reading, out, patients, cache, jobs, progress)
        adapted = adapt_encoder(
            encoder, store, out, settings, cells=chosen, device=where, jobs=jobs, progress=progress
        )
    _print_adapted(adapted, transductive=patients == "all")


def card(
    encoder: EncoderArgument,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="New folder for page and figures.")
    ],
) -> None:
    """Write an encoder's card as a page: what it has seen, how well it tells, and what it cannot do."""
    from rich.markup import escape

    from lymphoscope.cli.console import console
    from lymphoscope.encoders.encoder import create_encoder
    from lymphoscope.pipeline.preparation import require_new
    from lymphoscope.report.encoder_card import write_card

    require_new(out)
    page = write_card(create_encoder(encoder), out)
    console.print(f"Card: [bold]{escape(str(page))}[/]", soft_wrap=True)


def export(
    encoder: EncoderArgument,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.onnx", help="New file.")],
) -> None:
    """Write an encoder as an ONNX file: photographs in as bytes, embeddings and probabilities out."""
    from rich.markup import escape

    from lymphoscope.cli.console import console
    from lymphoscope.encoders.encoder import create_encoder
    from lymphoscope.encoders.export import export_onnx
    from lymphoscope.pipeline.preparation import require_new

    require_new(out)
    looking = create_encoder(encoder)
    export_onnx(looking, out)
    side, told = looking.image_size, ", ".join(task.name for task in looking.tasks)
    console.print(f"images: uint8 RGB (n, {side}, {side}, 3), the centre of a 224-pixel frame")
    console.print(f"embedding: float32 (n, {looking.width})")
    if told:
        console.print(f"probabilities: {told}", soft_wrap=True)
    console.print(f"ONNX: [bold]{escape(str(out))}[/]   {out.stat().st_size / 2**20:.1f} MB", soft_wrap=True)


def _print_adapted(adapted: AdaptedEncoder, *, transductive: bool) -> None:
    from lymphoscope.cli.console import console

    console.print(f"{adapted.cells:,} cells of {adapted.patients:,} patients, whose labels had no say.")
    console.print(f"Embeddings moved by {adapted.moved:.1%} of the spread between cells.")
    same = adapted.same_answer
    if same:
        least = min(same, key=lambda task: same[task])
        console.print(
            f"Of all that it tells of a cell, {least.replace('_', ' ')} has changed most: {same[least]:.1%} "
            "of these cells are told as before."
        )
    _print_encoder(adapted.folder, transductive=transductive)


def _print_encoder(folder: Path, *, transductive: bool) -> None:
    from rich.markup import escape

    from lymphoscope.cli.console import console

    if transductive:
        console.print("[yellow]Beware:[/] numbers measured with it on these patients are transductive.")
    console.print(f"Encoder: [bold]{escape(str(folder))}[/]", soft_wrap=True)


def _cells(
    cohort: Path,
    reading: ReadOptions,
    out: Path,
    patients: Literal["all", "unlabelled"],
    cache: Path | None,
    jobs: int,
    progress: Progress,
) -> tuple[CellStore, IntArray | None]:
    """The store of a cohort, and which of its cells are looked at; None for all."""
    import numpy as np

    from lymphoscope.cohort.cell_store import open_store
    from lymphoscope.cohort.cohort import UNLABELLED
    from lymphoscope.cohort.read import read_cohort
    from lymphoscope.pipeline.preparation import default_cache, require_outside

    found = read_cohort(cohort, reading)
    require_outside(found, out)
    store = open_store(found, cache or default_cache(), jobs=jobs, progress=progress)
    if patients == "all":
        return store, None
    return store, np.flatnonzero(found.patients.label[store.index.patient] == UNLABELLED)


def _print(trained: TrainedEncoder) -> None:
    from rich.markup import escape
    from rich.table import Table

    from lymphoscope.cli.console import console

    beside = "" if trained.left_out is None else f"; {trained.left_out:,} of {trained.named:,} named left out"
    console.print(f"{trained.training:,} cells to learn from, {trained.validation:,} held out{beside}.")
    for note in trained.notes:
        console.print(f"  {escape(note)}", soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for title in ("held out", "cells", "accuracy", "95 % interval", "macro F1", "majority"):
        table.add_column(title, justify="left" if title == "held out" else "right")
    for score in trained.scores:
        table.add_row(
            escape(score.name.replace("_", " ")),
            f"{score.n:,}",
            f"{score.accuracy:.3f}",
            f"{score.low:.3f} to {score.high:.3f}",
            f"{score.macro_f1:.3f}",
            f"{score.majority:.3f}",
        )
    console.print(table)
    first = trained.scores[0]
    console.print(
        f"Encoder: [bold]{escape(str(trained.folder))}[/]   {first.name.replace('_', ' ')} right in "
        f"{first.accuracy:.1%} of {first.n:,} cells held out",
        soft_wrap=True,
    )

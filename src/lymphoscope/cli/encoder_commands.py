"""Commands on encoders, which turn photographs of cells into numbers: encoder train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lymphoscope.cli.options import SeedOption

if TYPE_CHECKING:
    from lymphoscope.encoders.trained import TrainedEncoder

NETWORK, TRAINING = "Network", "Training"

HiddenOption = Annotated[int, typer.Option(min=1, help="Width of the network.", rich_help_panel=NETWORK)]
LayersOption = Annotated[int, typer.Option(min=1, help="Its depth.", rich_help_panel=NETWORK)]
SizeOption = Annotated[
    int,
    typer.Option(
        min=1, help="Pixels a side, cut from the centre; 14 times a number.", rich_help_panel=NETWORK
    ),
]
EpochsOption = Annotated[int, typer.Option(min=1, help="Passes over the cells.", rich_help_panel=TRAINING)]
RateOption = Annotated[float, typer.Option(help="The highest learning rate.", rich_help_panel=TRAINING)]
BatchOption = Annotated[int, typer.Option(min=1, help="Cells per step.", rich_help_panel=TRAINING)]
DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option(help="Where it is trained.", rich_help_panel=TRAINING)
]


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    encoder = typer.Typer(
        help="Networks that turn photographs of cells into numbers: train one.", no_args_is_help=True
    )
    encoder.command()(train)
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
        Literal["vit"],
        typer.Option(help="vit: a small DINOv2 with registers.", rich_help_panel=NETWORK),
    ] = "vit",
    hidden: HiddenOption = 128,
    layers: LayersOption = 4,
    size: SizeOption = 112,
    epochs: EpochsOption = 40,
    learning_rate: RateOption = 1e-3,
    batch_size: BatchOption = 64,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
) -> None:
    """Train an encoder on photographs of single cells whose types and attributes are known."""
    import torch

    from lymphoscope.cli.console import TerminalProgress
    from lymphoscope.encoders.architectures import Architecture
    from lymphoscope.encoders.supervised import SupervisedSettings
    from lymphoscope.encoders.trained import train_encoder
    from lymphoscope.training.machine import fastest_precision

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    where = torch.device(device)
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
            Architecture(architecture, hidden, layers, size),
            settings,
            leave_out=leave_out,
            device=where,
            progress=progress,
        )
    _print(trained)


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

"""The command line: parse, call, print. Heavy imports happen inside the commands, so that --help is quick."""

from __future__ import annotations

import typer

from lymphoscope._version import __version__
from lymphoscope.cli import cohort_commands, encoder_commands, model_commands

app = typer.Typer(
    name="lymphoscope",
    help="Reactive or malignant lymphocytosis, from photographs of blood cells and a small clinical table. "
    "Research use only: nothing printed here is a diagnosis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
model_commands.register(app)
encoder_commands.register(app)
cohort_commands.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lymphoscope {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    del version

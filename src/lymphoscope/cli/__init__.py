"""The command line: parse, call, print. Heavy imports happen inside the commands, so that --help is quick."""

from __future__ import annotations

import sys
from io import TextIOWrapper

import typer

from lymphoscope._version import __version__
from lymphoscope.cli import cohort_commands, model_commands

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


INTERRUPTED = 130
"""Exit status after Ctrl-C, by the shell's convention."""


def main() -> None:
    """Run the command line; what goes wrong is one clear message and exit status 1."""
    from lymphoscope.cli.console import errors
    from lymphoscope.errors import LymphoscopeError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal without an arrow or an umlaut is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except LymphoscopeError as error:
        errors.print(f"[bold red]Error:[/] {_escaped(str(error))}", soft_wrap=True)
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:  # of what no message of ours foresees, such as a disk that fills up under stdout
        where = f"{error.filename}: " if error.filename else ""
        errors.print(f"[bold red]Error:[/] {_escaped(f'{where}{error.strerror or error}.')}", soft_wrap=True)
        sys.exit(1)
    except SystemExit as left:
        if left.code == INTERRUPTED:
            errors.print("Stopped. The same command goes on where it was, or begins again.")
        raise


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)

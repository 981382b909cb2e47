"""The command `lymphoscope`. What takes time is imported within `main`, which knows what to say of Ctrl-C."""

from __future__ import annotations

import sys
from io import TextIOWrapper

INTERRUPTED = 130
"""Exit status after Ctrl-C, by the shell's convention."""


def main() -> None:
    """Run the command line; what goes wrong is one clear message and exit status 1."""
    try:
        _run()
    except KeyboardInterrupt:
        _stop()
    except SystemExit as left:  # the parser turns an interrupt of a command into this
        if left.code == INTERRUPTED:
            _stop()
        raise


def _run() -> None:
    from lymphoscope.cli.app import app
    from lymphoscope.errors import LymphoscopeError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal without an arrow or an umlaut is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except LymphoscopeError as error:
        _fail(str(error))
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:  # of what no message of ours foresees, such as a disk that fills up under stdout
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}.")


def _fail(message: str) -> None:
    from rich.markup import escape

    from lymphoscope.cli.console import errors

    errors.print(f"[bold red]Error:[/] {escape(message)}", soft_wrap=True)
    sys.exit(1)


def _stop() -> None:
    print("Stopped. The same command goes on where it was, or begins again.", file=sys.stderr)
    sys.exit(INTERRUPTED)

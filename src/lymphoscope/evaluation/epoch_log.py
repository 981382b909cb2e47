"""One line per finished epoch, written by the process that trains, read by the one that shows progress."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lymphoscope.training.curves import Epoch

EVERY_S = 0.5
"""How often new lines are looked for."""

Heard = Callable[[str, Epoch], None]


def write_epoch(path: Path, epoch: Epoch) -> None:
    """Append one epoch to a fold's log; a line is written by one call, so that readers see it whole."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(epoch.as_dict()) + "\n")


@contextmanager
def listening(folder: Path, heard: Heard) -> Iterator[None]:
    """While the block runs, call `heard` with the fold's name and every epoch that appears in `folder`."""
    over, seen, failures = threading.Event(), dict[Path, int](), list[Exception]()

    def listen() -> None:
        try:
            while not over.wait(EVERY_S):
                _tell_new(folder, seen, heard)
        except Exception as error:  # a thread has nobody to tell; whoever waits for it has
            failures.append(error)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failures:
        raise failures[0]
    _tell_new(folder, seen, heard)


def _tell_new(folder: Path, seen: dict[Path, int], heard: Heard) -> None:
    for path in sorted(folder.glob("*.jsonl")):
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # a line without its end is not finished
        for line in lines[seen.get(path, 0) :]:
            heard(path.stem, Epoch.from_dict(json.loads(line)))
            seen[path] = seen.get(path, 0) + 1

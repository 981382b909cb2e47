"""Progress: what is said while work goes on, and in one line when it is done."""

from __future__ import annotations

import pytest
from rich.console import Console

from lymphoscope.cli import console
from lymphoscope.cli.console import TerminalProgress, finished_line
from lymphoscope.cohort.progress import Noting


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (("net", 60, 28.04, "epochs, 1,240 cells/s"), "net: 60 epochs, 1,240 cells/s, 28 s"),
        (("net", 4, 2.21, "epochs"), "net: 4 epochs, 2.2 s"),
        (("measuring cells", 1260, 4.0), "measuring cells: 1,260 in 4.0 s (315/s)"),
        (("clinical", 10, 0.001), "clinical: 10, at once"),
        (("clinical", 10, 28.0), "clinical: 10 in 28.0 s (0.4/s)"),
    ],
)
def test_one_line_on_finished_work(line: tuple[str, int, float, str], wanted: str) -> None:
    assert finished_line(*line) == wanted


def test_the_time_left_is_known_of_slow_epochs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "errors", Console(stderr=True, force_terminal=True, width=100))
    progress, now = console.TerminalProgress(), 0.0
    monkeypatch.setattr(progress._bars, "get_time", lambda: now)
    progress.start("vgg19", 10)
    for epoch in range(1, 4):
        now = 400.0 * epoch
        progress.advance()
    (task,) = (each for each in progress._bars.tasks if each.visible)
    assert task.time_remaining == pytest.approx(7 * 400, rel=0.01)


def test_a_note_is_of_one_stage_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = TerminalProgress()
    assert isinstance(progress, Noting)
    with progress.shown():
        progress.start("net", 2)
        progress.advance(2)
        progress.note("epochs, 900 cells/s")
        progress.done()
        monkeypatch.setattr("time.monotonic", iter((0.0, 2.0)).__next__)
        progress.start("cells", 3)
        progress.advance(3)
        progress.done()
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("net: 2 epochs, 900 cells/s, ")
    assert second.startswith("cells: 3 in ")

"""An adapted encoder's folder: where it comes from, what it has seen, and who is told of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from lymphoscope.cli.app import app
from lymphoscope.cohort.cell_store import CellStore, open_store
from lymphoscope.cohort.cohort import UNLABELLED
from lymphoscope.cohort.read import ReadOptions, read_cohort
from lymphoscope.encoders import adapted as module
from lymphoscope.encoders.adapted import adapt_encoder, seen_in_adaptation
from lymphoscope.encoders.encoder import create_encoder
from lymphoscope.encoders.encoder_findings import AdaptedOnThesePatients
from lymphoscope.encoders.self_supervised import AdaptSettings
from lymphoscope.errors import InputError
from lymphoscope.files import sha256_file
from lymphoscope.pipeline.preparation import prepare

READING = ReadOptions(min_cells=4)
QUICK = AdaptSettings(epochs=2, batch_size=64, learning_rate=1e-3)


class Killed(Exception):
    """The training ends here."""


class Listening:
    """Progress that is written down, and may end everything at a step."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.notes: list[str] = []
        self.steps, self._what, self._kill_at = 0, "", kill_at

    def start(self, what: str, total: int) -> None:
        self._what, self.steps = what, 0

    def advance(self, n: int = 1) -> None:
        self.steps += n
        if self._what == "adapting" and self._kill_at is not None and self.steps >= self._kill_at:
            raise Killed

    def note(self, text: str) -> None:
        self.notes.append(text)

    def spare(self, n: int) -> None:
        pass

    def done(self) -> None:
        pass


@pytest.fixture(scope="module")
def store(tiny_cohort: Path, cache: Path) -> CellStore:
    return open_store(read_cohort(tiny_cohort, READING), cache, jobs=1)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_card_says_where_it_comes_from_and_what_is_no_longer_true(
    store: CellStore, tiny_encoder: Path, tmp_path: Path
) -> None:
    found = adapt_encoder(tiny_encoder, store, tmp_path / "out", QUICK, jobs=1)
    before, after = create_encoder(tiny_encoder), create_encoder(tmp_path / "out")
    assert before.card is not None and after.card is not None
    (step,) = after.card["adapted"]
    assert step["from"] == {"name": "tiny", "sha256": before.sha256} and after.sha256 != before.sha256
    assert (step["cohort"], step["cells"], step["patients"]) == (store.fingerprint, len(store), 30)
    assert step["settings"]["epochs"] == 2 and len(step["settings"]["losses"]) == 2
    assert step["moved"] == found.moved > 0
    assert set(step["same_answer"]) == {"cell_type", "cell_size"}
    assert after.card["limits"].startswith("Made for tests. Adapted to other cells since")
    assert after.card["validation"] == before.card["validation"]
    assert after.temperatures == before.temperatures and before.heads is not None and after.heads is not None
    kept = [(tmp_path / "out" / name).read_bytes() for name in ("heads.safetensors", "sources.txt")]
    assert kept == [(tiny_encoder / name).read_bytes() for name in ("heads.safetensors", "sources.txt")]
    for name, digest in after.card["sha256"].items():
        assert sha256_file(tmp_path / "out" / name) == digest
    assert not list(tmp_path.glob("*unfinished*"))


def test_how_far_it_went_is_measured_on_what_is_written(
    store: CellStore, tiny_encoder: Path, tmp_path: Path
) -> None:
    found = adapt_encoder(tiny_encoder, store, tmp_path / "out", QUICK, jobs=1)
    images = np.array(store.crops(32))
    first, then = (create_encoder(each).embed(images) for each in (tiny_encoder, tmp_path / "out"))
    moved = ((then - first) ** 2).sum(axis=1).mean() / first.var(axis=0).sum()
    assert found.moved == pytest.approx(float(moved), rel=1e-4)


def test_a_killed_adaptation_goes_on_and_ends_with_the_same_bytes(
    store: CellStore, tiny_encoder: Path, tmp_path: Path
) -> None:
    adapt_encoder(tiny_encoder, store, tmp_path / "a" / "out", QUICK, jobs=1)
    with pytest.raises(Killed):
        adapt_encoder(tiny_encoder, store, tmp_path / "b" / "out", QUICK, jobs=1, progress=Listening(4))
    assert not (tmp_path / "b" / "out").exists()
    listening = Listening()
    adapt_encoder(tiny_encoder, store, tmp_path / "b" / "out", QUICK, jobs=1, progress=listening)
    assert contents(tmp_path / "a" / "out") == contents(tmp_path / "b" / "out")
    assert listening.notes[0].startswith("epoch 2, ") and "images/s, loss" in listening.notes[-1]


def test_another_cohorts_checkpoint_is_not_taken_up(
    store: CellStore, tiny_encoder: Path, tmp_path: Path
) -> None:
    some = np.arange(40)
    adapt_encoder(tiny_encoder, store, tmp_path / "a" / "out", QUICK, cells=some, jobs=1)
    with pytest.raises(Killed):
        adapt_encoder(tiny_encoder, store, tmp_path / "b" / "out", QUICK, jobs=1, progress=Listening(4))
    adapt_encoder(tiny_encoder, store, tmp_path / "b" / "out", QUICK, cells=some, jobs=1)
    assert contents(tmp_path / "a" / "out") == contents(tmp_path / "b" / "out")


def test_it_knows_which_photographs_it_has_seen_also_when_adapted_twice(
    store: CellStore, tiny_encoder: Path, tmp_path: Path
) -> None:
    adapt_encoder(tiny_encoder, store, tmp_path / "once", QUICK, cells=np.arange(10, 30), jobs=1)
    adapt_encoder(tmp_path / "once", store, tmp_path / "twice", QUICK, cells=np.arange(50, 60), jobs=1)
    for name, expected in (("once", {*range(10, 30)}), ("twice", {*range(10, 30), *range(50, 60)})):
        seen = seen_in_adaptation(create_encoder(tmp_path / name), store.index.sha256)
        assert set(np.flatnonzero(seen)) == expected
    card = json.loads((tmp_path / "twice" / "card.json").read_text())
    assert [step["from"]["name"] for step in card["adapted"]] == ["tiny", "once"]
    assert card["limits"].count("Adapted to other cells since") == 1
    assert not seen_in_adaptation(create_encoder(tiny_encoder), store.index.sha256).any()
    assert not seen_in_adaptation(None, store.index.sha256).any()


@pytest.mark.parametrize("case", ["exists", "no card", "one cell"])
def test_what_cannot_be_adapted_is_refused(
    case: str, store: CellStore, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "adapt_network", None)  # refused before the work begins
    given: dict[str, Any] = {"source": tiny_encoder, "out": tmp_path / "out", "cells": None}
    words = {"exists": "exists already", "no card": "only an encoder with a card", "one cell": "1 cell"}[case]
    if case == "exists":
        given["out"].mkdir()
    elif case == "no card":
        given["source"] = tmp_path
    else:
        given["cells"] = np.arange(1)
    with pytest.raises(InputError, match=words):
        adapt_encoder(store=store, settings=QUICK, jobs=1, **given)


def adapt(*arguments: object) -> Result:
    small = ("--epochs", "1", "--batch-size", "64", "--device", "cpu", "--min-cells", "4", "--jobs", "1")
    return CliRunner().invoke(app, ["encoder", "adapt", *map(str, (*arguments, *small))])


@pytest.mark.parametrize("patients", ["all", "unlabelled"])
def test_whoever_measures_with_it_is_told_if_it_has_seen_the_scored_patients(
    patients: str, tiny_cohort: Path, tiny_encoder: Path, cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mine"
    chosen = (tiny_cohort, "-o", out, "--encoder", tiny_encoder, "--cache", cache, "--patients", patients)
    done = adapt(*chosen)
    assert done.exit_code == 0, (done.output, done.exception)
    everybody = patients == "all"
    assert ("180 cells of 30 patients" if everybody else "36 cells of 6 patients") in done.stdout
    assert ("are transductive" in done.stdout) is everybody

    prepared = prepare(tiny_cohort, READING, cache=cache, encoder=out, jobs=1)
    label, owner = prepared.cohort.patients.label, prepared.store.index.patient
    seen = seen_in_adaptation(prepared.encoder, prepared.store.index.sha256)
    assert np.array_equal(seen, np.ones(180, dtype=bool) if everybody else label[owner] == UNLABELLED)
    found = [each for each in prepared.findings if isinstance(each, AdaptedOnThesePatients)]
    if not everybody:
        assert found == []
        return
    (finding,) = found
    assert finding.code == "LYM502" and len(finding.patients) == 24
    assert "144 photographs of 24 labelled patients" in finding.message
    ignored = prepare(tiny_cohort, READING, cache=cache, encoder=out, ignore=["LYM502"], jobs=1)
    assert finding not in ignored.findings

    again = adapt(*chosen)
    assert isinstance(again.exception, InputError) and str(out) in str(again.exception)


def test_the_evaluation_says_it(tiny_cohort: Path, tiny_encoder: Path, cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    adapt(tiny_cohort, "-o", out, "--encoder", tiny_encoder, "--cache", cache)
    protocol = ("--folds", "2", "--repeats", "1", "--min-cells", "4", "--jobs", "1")
    recipes = ("--recipe", "clinical", "--recipe", "encoder-mean")
    given = (tiny_cohort, *recipes, "--encoder", out, "--cache", cache, *protocol)
    done = CliRunner().invoke(app, ["evaluate", *map(str, given)])
    assert done.exit_code == 0, (done.output, done.exception)
    said = " ".join(done.stdout.split())
    assert (
        "Beware: mine was adapted or matched to 144 photographs of 24 labelled patients of this cohort"
        in said
    )
    assert "are transductive. This concerns: encoder-mean." in said

"""`lymphoscope encoder train` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_up_cells import columns, made_up
from typer.testing import CliRunner, Result

from lymphoscope.cli.app import app
from lymphoscope.encoders.dinov2 import load_dinov2
from lymphoscope.errors import InputError

SMALL = (
    "--architecture",
    "vit",
    "--hidden",
    "32",
    "--layers",
    "1",
    "--size",
    "28",
    "--epochs",
    "2",
    "--batch-size",
    "16",
)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["encoder", "train", *map(str, arguments), "--device", "cpu"])

    return invoke


def test_a_user_trains_an_encoder(call, tmp_path: Path) -> None:
    cells, listed, out = made_up(tmp_path / "cells", 24, 12), tmp_path / "manifest.csv", tmp_path / "vit"
    listed.write_text("ID,source\nP1,a/003.jpg\nP1,b/000.jpg\n")
    done = call(cells, "-o", out, "--leave-out", listed, *SMALL, "--seed", "4")
    assert done.exit_code == 0, (done.output, done.exception)
    assert "23 cells to learn from, 11 held out; 2 of 2 named left out." in done.stdout
    assert "nucleus shape" in done.stdout and "macro F1" in done.stdout
    card = json.loads((out / "card.json").read_text())
    accuracy = card["validation"]["cell_type"]["accuracy"]
    last = done.stdout.splitlines()[-1]
    assert last == f"Encoder: {out}   cell type right in {accuracy:.1%} of 11 cells held out"
    assert "training: 4 steps, " in done.stderr and "images/s, loss" in done.stderr
    assert card["training"]["seed"] == 4 and card["architecture"]["hidden"] == 32
    assert load_dinov2(out).config.hidden_size == 32  # type: ignore[union-attr]

    again = call(cells, "-o", out, *SMALL)
    assert isinstance(again.exception, InputError) and str(out) in str(again.exception)


def test_what_is_wrong_ends_it(call, tmp_path: Path) -> None:
    cells = made_up(tmp_path / "cells", 9, 6)
    for wrong in (("--size", 29), ("--leave-out", cells / "train.parquet"), ("--learning-rate", -1)):
        done = call(cells, "-o", tmp_path / "vit", *SMALL, *wrong)
        assert isinstance(done.exception, InputError), wrong
    assert call(cells, "-o", tmp_path / "vit", "--architecture", "unet").exit_code == 2
    assert not (tmp_path / "vit").exists()


def test_its_card_and_its_onnx_file_are_written(
    call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, page, file = tmp_path / "kept", tmp_path / "card", tmp_path / "kept.onnx"
    small = ("--hidden", 16, "--layers", 1, "--size", 28, "--epochs", 1, "--batch-size", 16)
    cells, listed = made_up(tmp_path / "cells", 24, 12), tmp_path / "manifest.csv"
    listed.write_text("source\na/003.jpg\n")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "one.jpg").write_bytes(columns(1, "c", 3)["image"][0])
    small += ("--leave-out", listed, "--foreign", tmp_path / "theirs", "--foreign-scale", 1.5)
    assert call(cells, "-o", kept, *small).exit_code == 0
    assert json.loads((kept / "card.json").read_text())["controls"]["foreign"]["scale"] == 1.5

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["encoder", *map(str, arguments)])

    done = run("card", kept, "-o", page)
    assert done.exit_code == 0 and done.stdout == f"Card: {page / 'kept.md'}\n"
    text = (page / "kept.md").read_text("utf-8")
    assert "--epochs 1 " in text and "--leave-out CSV --foreign FOLDER --foreign-scale 1.5\n" in text
    done = run("export", kept, "-o", file)
    assert done.exit_code == 0, (done.output, done.exception)
    assert "uint8 RGB (n, 28, 28, 3)" in done.stdout and "cell_type, cell_size, nucleus_shape" in done.stdout
    assert f"ONNX: {file}" in done.stdout and file.stat().st_size > 10_000
    for again in (("card", kept, "-o", page), ("export", kept, "-o", file)):
        assert isinstance(run(*again).exception, InputError)
    assert isinstance(run("card", tmp_path / "nowhere", "-o", tmp_path / "x").exception, InputError)
    assert not (tmp_path / "x").exists()


def test_without_a_command_the_help_is_shown() -> None:
    shown = CliRunner().invoke(app, ["encoder"]).output
    assert all(command in shown for command in ("train", "card", "export"))

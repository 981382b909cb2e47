"""Heads beside torchmil's: equal logits at a tiny size, and a page that nobody can type in."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("torchmil.models")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SIZE = ["--patients", "8", "--features", "16", "--width", "0.1", "--rounds", "1"]


@pytest.fixture
def heads(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import mil_heads  # type: ignore[import-not-found]

    return mil_heads


def test_the_page_holds_what_was_measured(heads: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "mil_heads.md"
    assert heads.main([*SIZE, "--heads", "abmil", "--out", str(page)]) == 0
    record = json.loads(page.with_suffix(".json").read_text("utf-8"))
    figures = record["figures"]["abmil"]
    assert figures["torchmil_logits_apart"] < 1e-5 and figures["packed_seconds"] > 0
    text = page.read_text("utf-8")
    assert record["sha256"] in text and record["command"] in text
    assert f"| {figures['torchmil_ratio']:.2f} |" in text
    assert "--heads abmil --threads 1 --rounds 1 --patients 8" in record["command"]
    assert heads.main(["--check", str(page)]) == 0


def test_typed_numbers_are_noticed(heads: ModuleType, tmp_path: Path) -> None:
    page, source = tmp_path / "mil_heads.md", tmp_path / "mil_heads.json"
    figures = {"packed_seconds": 1.0, "torchmil_seconds": 3.0, "torchmil_ratio": 3.0}
    record = dict.fromkeys(("command", "cohort", "rounds", "load", "versions"), "")
    heads.write(page, {**record, "figures": {"clam": {**figures, "torchmil_logits_apart": 0.0}}})
    assert heads.check(page) == []
    right = source.read_text("utf-8")
    source.write_text(right.replace("3.0", "9.0"), "utf-8")
    assert len(heads.check(page)) == 2
    source.write_text(right, "utf-8")
    page.write_text(page.read_text("utf-8").replace("3.00", "9.00"), "utf-8")
    assert [str(page) in fault for fault in heads.check(page)] == [True]
    source.unlink()
    assert heads.main(["--check", str(page)]) == 1

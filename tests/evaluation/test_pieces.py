from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from small_models import Nearest, Spy, cohort

from lymphoscope.cohort.bags import Bags
from lymphoscope.cohort.splits import repeated_stratified
from lymphoscope.evaluation.evaluator import evaluate
from lymphoscope.evaluation.folds import out_of_fold
from lymphoscope.evaluation.pieces import bags_fingerprint, describe_model
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.files import write_json

BAGS, Y = cohort(30)
SPLITS = repeated_stratified(Y, folds=3, repeats=2, seed=1)


def fits(model: Spy, bags: Bags, y: np.ndarray, folder: Path, **options: object) -> int:
    """How many folds are really fitted."""
    Spy.calls = []
    out_of_fold(model, bags, y, SPLITS, pieces=folder, **{"seed": 0, **options})  # type: ignore[arg-type]
    return sum(kind == "fit" for kind, *_ in Spy.calls)


def test_a_finished_fold_is_not_computed_again(tmp_path: Path) -> None:
    assert fits(Spy(), BAGS, Y, tmp_path) == 6
    assert fits(Spy(), BAGS, Y, tmp_path) == 0
    assert len(list(tmp_path.iterdir())) == 6


def test_stale_pieces_are_never_used(tmp_path: Path) -> None:
    fits(Spy(), BAGS, Y, tmp_path)
    other_cells = Bags(BAGS.cells + 1e-9, BAGS.offsets, BAGS.clinical, BAGS.patient_ids, BAGS.columns)
    clinical = BAGS.clinical.copy()
    clinical[0, 0] += 1
    other_clinical = Bags(BAGS.cells, BAGS.offsets, clinical, BAGS.patient_ids, BAGS.columns)
    flipped = Y.copy()
    flipped[[np.argmax(Y), np.argmin(Y)]] = 0, 1
    assert fits(Spy(sharpness=2.0), BAGS, Y, tmp_path) == 6
    assert fits(Spy(), other_cells, Y, tmp_path) == 6
    assert fits(Spy(), other_clinical, Y, tmp_path) == 6
    assert fits(Spy(), BAGS, flipped, tmp_path) == 6
    assert fits(Spy(), BAGS, Y, tmp_path, seed=1) == 6
    assert fits(Spy(), BAGS, Y, tmp_path, wished_sensitivity=0.9) == 6 * 6
    assert fits(Spy(), BAGS, Y, tmp_path) == 0


def test_a_damaged_piece_is_computed_again_and_gives_the_same_numbers(tmp_path: Path) -> None:
    before = out_of_fold(Spy(), BAGS, Y, SPLITS, pieces=tmp_path)
    whole = sorted(tmp_path.iterdir())
    whole[0].write_bytes(whole[0].read_bytes()[:-40])
    whole[1].write_bytes(b"")
    whole[2].write_bytes(b"not a piece at all")
    middle = bytearray(whole[3].read_bytes())
    middle[len(middle) // 3] ^= 0xFF
    whole[3].write_bytes(bytes(middle))
    assert fits(Spy(), BAGS, Y, tmp_path) in (3, 4)  # a flipped bit in unused padding does no harm
    after = out_of_fold(Spy(), BAGS, Y, SPLITS, pieces=tmp_path)
    assert np.array_equal(before.probability, after.probability)


def test_keys_tell_models_and_cohorts_apart() -> None:
    assert describe_model(Nearest()) != describe_model(Spy())
    assert describe_model(Nearest(1.0)) != describe_model(Nearest(2.0))
    assert bags_fingerprint(BAGS, Y) == bags_fingerprint(*cohort(30))
    assert bags_fingerprint(BAGS, Y) != bags_fingerprint(*cohort(30, seed=1))


PROTOCOL = Protocol(folds=3, repeats=12, bootstrap=100)


def work(pieces: Path, result: Path, jobs: int = 1) -> None:
    """One evaluation from beginning to end, its numbers written to `result`."""
    found = evaluate(Nearest(), BAGS, Y, PROTOCOL, pieces=pieces, jobs=jobs)
    write_json(result, {**found.as_dict(), "p": found.out_of_fold.probability.tolist()})


def test_killed_at_20_random_moments_a_run_ends_with_the_numbers_of_an_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMALL_MODEL_SECONDS", "0.004")
    pieces, result, unbroken = tmp_path / "pieces", tmp_path / "result.json", tmp_path / "unbroken.json"
    work(tmp_path / "other", unbroken)
    moments = random.Random(0)
    processes = multiprocessing.get_context("fork")
    kills = 0
    while kills < 20:
        process = processes.Process(target=work, args=(pieces, result))
        process.start()
        time.sleep(moments.uniform(0.0, 0.06))
        if process.is_alive():
            os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        if result.exists():
            # It got to its end between two kills: it must be right, and the killing starts anew.
            assert result.read_bytes() == unbroken.read_bytes()
            result.unlink()
            for piece in pieces.glob("*.npz"):
                piece.unlink()
    work(pieces, result)
    assert result.read_bytes() == unbroken.read_bytes()
    assert len(list(pieces.glob("*.npz"))) == 36


def test_a_killed_run_of_several_processes_can_be_resumed_by_one(tmp_path: Path) -> None:
    pieces, result, unbroken = tmp_path / "pieces", tmp_path / "result.json", tmp_path / "unbroken.json"
    pieces.mkdir()
    work(tmp_path / "other", unbroken)
    code = "import sys; from pathlib import Path; from test_pieces import work; "
    code += "work(Path(sys.argv[1]), Path(sys.argv[2]), jobs=2)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(pieces), str(result)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), "SMALL_MODEL_SECONDS": "0.3"},
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not list(pieces.glob("*.npz")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
    left = {piece: piece.stat().st_mtime_ns for piece in pieces.glob("*.npz")}
    assert 0 < len(left) < 36
    assert not result.exists()
    work(pieces, result)
    assert result.read_bytes() == unbroken.read_bytes()
    assert left == {piece: piece.stat().st_mtime_ns for piece in left}

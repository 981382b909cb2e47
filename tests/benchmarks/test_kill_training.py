"""A training that is killed, a real process by SIGKILL, ends as if nothing had been."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kill_training.py"


def test_a_killed_training_goes_on_and_ends_with_the_same_bits(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    recipe = "cnn-clinical@smoke:members=2,snapshots=1"
    command = [
        sys.executable,
        str(SCRIPT),
        "--kills",
        "2",
        "--epochs",
        "6",
        "--side",
        "48",
        "--recipe",
        recipe,
    ]
    said = subprocess.run([*command, "--json", str(found)], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    rows = json.loads(found.read_text())["rows"]
    assert [(row["equal"], row["taken_up"], row["of"]) for row in rows] == [(True, True, 12)] * 2

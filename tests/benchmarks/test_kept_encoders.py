"""The transformer that rows of the table begin with is the one they name."""

from __future__ import annotations

import csv
from pathlib import Path

from lymphoscope.encoders.encoder import create_encoder
from lymphoscope.models.registry import create_model

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PLACE = BENCHMARKS / "encoders" / "vit-dev"


def test_the_rows_of_vit_dev_were_measured_with_the_weights_that_lie_here() -> None:
    create_encoder(PLACE)  # every file has the hash of its card
    sha256 = create_model("dinov2-adaptformer", weights=str(PLACE)).built_on()
    lines = (BENCHMARKS / "results" / "networks.csv").read_text(encoding="utf-8").splitlines()
    rows = [row for row in csv.DictReader(lines[2:]) if "weights=vit-dev" in row["recipe"]]
    assert rows and {row["encoder"] for row in rows} == {f"weights {sha256[:12]}"}

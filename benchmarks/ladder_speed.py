"""How long the reference ladder takes on 163 patients whose per-cell numbers are at hand.

Measured numbers are drawn as a synthetic cohort has them; the columns of the encoder are noise, since their
values do not change the time.

Wall time of 10 × 5 folds for every rung, and of `auto` separately, with `--jobs` processes; beside it the
machine's speed at a fixed piece of arithmetic in the same run, so that machines can be compared.

    python benchmarks/ladder_speed.py --jobs 2
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from lymphoscope.cohort.bags import Bags
from lymphoscope.cohort.synthetic.numbers import draw_numbers
from lymphoscope.cohort.synthetic.plan import SyntheticPlan
from lymphoscope.encoders.encoder import create_encoder
from lymphoscope.encoders.kept import SHIPPED
from lymphoscope.evaluation.ladder import AUTO, DEFAULT_LADDER, climb
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.files import write_json

LIMIT_S = 60.0


def yardstick() -> float:
    """Seconds for 40 products of 500 × 500 matrices in this process, one thread's worth of work."""
    a = np.random.default_rng(0).normal(size=(500, 500))
    began = time.process_time()
    for _ in range(40):
        a @ a
    return time.process_time() - began


def with_encoder_columns(bags: Bags) -> Bags:
    """The bags with as many columns more as the shipped encoder gives."""
    encoder = create_encoder(SHIPPED)
    columns = (*encoder.embedding_columns, *encoder.concept_columns)
    noise = np.random.default_rng(0).random((len(bags.cells), len(columns)))
    return replace(
        bags, cells=np.hstack([np.asarray(bags.cells), noise]), columns=(*(bags.columns or ()), *columns)
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--patients", type=int, default=163)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--with-auto", action="store_true")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    bags, labels = draw_numbers(SyntheticPlan(), options.patients, 0)
    bags = with_encoder_columns(bags)
    y = labels.astype(np.int64)
    protocol = Protocol(repeats=options.repeats)
    print(f"{options.patients} patients, {len(bags.cells)} cells, {bags.cells.shape[1]} columns")
    print(f"{protocol.sentence()}, {options.jobs} processes, yardstick {yardstick():.2f} s")
    began = time.perf_counter()
    ladder = climb(bags, y, protocol, jobs=options.jobs)
    whole = time.perf_counter() - began
    rows = [
        {
            "recipe": row.recipe,
            "fit_s": row.evaluation.out_of_fold.seconds,
            "balanced_accuracy": row.evaluation.overall.as_dict()["balanced_accuracy"],
        }
        for row in ladder.rows
    ]
    for row in rows:
        print(f"{row['recipe']:28s} {row['fit_s']:7.1f} s of fitting and predicting")
    verdict = "within" if whole <= LIMIT_S else "over"
    print(
        f"{'ladder of ' + str(len(DEFAULT_LADDER)):28s} {whole:7.1f} s wall time, {verdict} {LIMIT_S:.0f} s"
    )
    auto = None
    if options.with_auto:
        began = time.perf_counter()
        climb(bags, y, protocol, recipes=[AUTO], jobs=options.jobs)
        auto = time.perf_counter() - began
        print(f"{'auto':28s} {auto:7.1f} s wall time")
    if options.json:
        write_json(options.json, {"ladder_s": whole, "auto_s": auto, "rows": rows})


if __name__ == "__main__":
    main()

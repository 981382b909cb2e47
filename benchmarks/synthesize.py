"""How fast synthetic cells are painted, beside what merely encoding them would cost on the same cores.

python benchmarks/synthesize.py                      # the default cohort, two processes
python benchmarks/synthesize.py --patients 20 --test 0 --jobs 1
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import simplejpeg

from lymphoscope.cohort.synthetic import SyntheticPlan, draw_numbers, synthesize
from lymphoscope.cohort.synthetic.painter import encode
from lymphoscope.files import write_json


def encoding_rate(photographs: list[np.ndarray], seconds: float = 2.0) -> float:
    """Photographs encoded per second by one core, nothing painted or written."""
    start, n = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        encode(photographs[n % len(photographs)])
        n += 1
    return n / (time.perf_counter() - start)


def painting_rate(patients: int = 8) -> float:
    """Photographs painted, encoded and written per second of processor time by one process.

    Unlike the wall time of a whole cohort this hardly depends on what else the machine is doing.
    """
    plan = SyntheticPlan(patients=patients, test=0)
    with tempfile.TemporaryDirectory() as folder:
        synthesize(SyntheticPlan(patients=2, test=0, cells=1), Path(folder) / "warm", jobs=1)
        start = time.process_time()
        made = synthesize(plan, Path(folder) / "cohort", jobs=1)
        return made.cells / (time.process_time() - start)


def numbers_milliseconds(draws: int = 20) -> float:
    """Best wall time of drawing the per-cell numbers of 163 patients."""
    best = float("inf")
    for seed in range(draws):
        start = time.perf_counter()
        draw_numbers(SyntheticPlan(), 163, seed)
        best = min(best, time.perf_counter() - start)
    return 1000 * best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=163)
    parser.add_argument("--test", type=int, default=42)
    parser.add_argument("--cells", type=int, default=66)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plan = SyntheticPlan(patients=options.patients, test=options.test, cells=options.cells)
        made = synthesize(plan, Path(folder) / "cohort", jobs=options.jobs)
        files = sorted(made.cohort.rglob("*.jpg"))
        sizes = [path.stat().st_size for path in files]
        sample = [simplejpeg.decode_jpeg(path.read_bytes()) for path in files[:: max(1, len(files) // 64)]]
    row = {
        "cells": made.cells,
        "processes": options.jobs,
        "seconds": made.seconds,
        "cells per second": made.cells / made.seconds,
        "one process, cells per CPU second": painting_rate(),
        "encoding alone, per second and core": encoding_rate(sample),
        "median file, kB": float(np.median(sizes)) / 1000,
        "draw_numbers, 163 patients, ms": numbers_milliseconds(),
    }
    for name, value in row.items():
        print(f"{name:38s} {value:10.1f}")
    if options.json:
        write_json(options.json, row)


if __name__ == "__main__":
    main()

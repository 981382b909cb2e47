"""How many cells a second are measured, on one core and through `cell_numbers` on several.

    python benchmarks/morphology_speed.py COHORT --jobs 2 --json speed.json

Decoding the same JPEG files is timed in the same run, processor time only, as a yardstick for a machine
that is doing other things too: a quiet core decodes one of them in about 0.17 ms. The load average is
printed beside the figures.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg

from lymphoscope.cells.morphology import measure
from lymphoscope.cells.numbers import cell_numbers
from lymphoscope.cells.segmentation import segment
from lymphoscope.cells.summary import summarise
from lymphoscope.cohort.bags import Bags
from lymphoscope.cohort.cell_store import open_store
from lymphoscope.cohort.cohort import Cohort, Patients
from lymphoscope.files import write_json

CHALLENGE_PATIENTS, CHALLENGE_CELLS = 163, 13_453


def milliseconds(work: Callable[[Any], Any], inputs: Sequence[Any], repeats: int) -> float:
    """Processor time per input: for each input the least of `repeats`, averaged over the inputs."""
    least = [float("inf")] * len(inputs)
    for _ in range(repeats):
        for i, value in enumerate(inputs):
            start = time.thread_time_ns()
            work(value)
            least[i] = min(least[i], (time.thread_time_ns() - start) / 1e6)
    return float(np.mean(least))


def as_cohort(root: Path, images: Sequence[Path]) -> Cohort:
    """The photographs as a cohort with a single patient."""
    patients = Patients(("P0",), np.array([-1], np.int8), np.full((1, 3), np.nan), ("",), ("",))
    relative = tuple(path.relative_to(root) for path in images)
    return Cohort(root, patients, relative, np.zeros(len(images), np.int64), (), date(2020, 1, 1))


def cells_per_second(root: Path, images: Sequence[Path], jobs: int) -> float:
    """Wall clock, ingest left out, worker start included."""
    with tempfile.TemporaryDirectory() as cache:
        store = open_store(as_cohort(root, images), Path(cache), jobs=jobs)
        start = time.perf_counter()
        cell_numbers(store, jobs=jobs)
        return len(store) / (time.perf_counter() - start)


def summary_milliseconds(n_columns: int = 50) -> float:
    """Wall clock of summarising a cohort of the challenge's size, the least of five."""
    rng = np.random.default_rng(0)
    cuts = np.sort(rng.integers(0, CHALLENGE_CELLS + 1, CHALLENGE_PATIENTS - 1))
    offsets = np.concatenate([[0], cuts, [CHALLENGE_CELLS]])
    cells = rng.normal(size=(CHALLENGE_CELLS, n_columns)).astype(np.float32)
    bags = Bags(
        cells,
        offsets,
        np.full((CHALLENGE_PATIENTS, 3), np.nan),
        tuple(map(str, range(CHALLENGE_PATIENTS))),
        tuple(map(str, range(n_columns))),
    )
    times = []
    for _ in range(5):
        start = time.perf_counter()
        summarise(bags)
        times.append((time.perf_counter() - start) * 1e3)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="any folder with JPEG photographs below it")
    parser.add_argument("--cells", type=int, default=60, help="photographs for the figures per core")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    paths = sorted(arguments.folder.rglob("*.jpg"))
    if not paths:
        parser.error(f"{arguments.folder}: no JPEG photograph below it")
    some = paths[:: max(1, len(paths) // arguments.cells)][: arguments.cells]
    files = [path.read_bytes() for path in some]
    images = [simplejpeg.decode_jpeg(data) for data in files]
    decode = milliseconds(simplejpeg.decode_jpeg, files, arguments.repeats)
    outline = milliseconds(segment, images, arguments.repeats)
    whole = milliseconds(measure, images, arguments.repeats)
    figures = {
        "decode_ms": decode,
        "segment_ms": outline,
        "measure_ms": whole,
        "measure_in_decodes": whole / decode,
        "cells_per_second_and_core": 1e3 / (decode + whole),
        f"cells_per_second_{arguments.jobs}_jobs": cells_per_second(arguments.folder, paths, arguments.jobs),
        "summary_ms": summary_milliseconds(),
        "load_average": os.getloadavg()[0],
    }
    for name, value in figures.items():
        print(f"{name:28} {value:9.2f}")
    if arguments.json:
        write_json(arguments.json, {name: round(value, 3) for name, value in figures.items()})


if __name__ == "__main__":
    main()

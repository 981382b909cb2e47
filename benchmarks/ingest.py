"""How fast and how lean the cell store is filled, against bare reading and decoding of the same files.

Makes (or takes) a folder of JPEG photographs, then measures, each in a fresh process on the same cores:
bare read + simplejpeg decode, ingest, reopening, and the anonymous memory of the whole process tree while
ingesting. With `--tenfold` it does so again with ten times the photographs.

    python benchmarks/ingest.py --work ingest-work --tenfold --json ingest.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from lymphoscope.cohort.cell_store import open_store
from lymphoscope.cohort.cohort import Cohort, Patients
from lymphoscope.files import to_json
from process_memory import anonymous_mb, watched

CHALLENGE_CELLS = 13_453
CELLS_PER_PATIENT = 82
SIDE = 224
LEAST_RATIO, MOST_MEMORY_MB, MOST_REOPENING_S = 0.65, 500, 0.5


# --- photographs ------------------------------------------------------------------------------------------


def draw_cell(rng: np.random.Generator) -> np.ndarray:
    """A stand-in for a stained cell among red cells, with the grain that makes a JPEG of about 18 KB."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    image = np.full((SIDE, SIDE, 3), (225, 200, 205), dtype=np.float32)
    for k in range(12):
        centre = (112, 112) if k == 11 else rng.uniform(0, SIDE, 2)
        radius = rng.uniform(38, 52) if k == 11 else 24
        colour = np.array((110, 70, 150) if k == 11 else (215, 160, 165), dtype=np.float32)
        inside = 1 / (1 + np.exp((np.hypot(rows - centre[0], columns - centre[1]) - radius) / 1.5))
        image += inside[..., None] * (colour - image)
    grain = cv2.GaussianBlur(rng.normal(0, 1, (SIDE, SIDE, 3)).astype(np.float32), (0, 0), 0.8)
    return np.clip(image + 17 * grain, 0, 255).astype(np.uint8)


def jittered(base: np.ndarray, rng: np.random.Generator) -> bytes:
    """Another photograph of the same kind: turned by any angle, moved across the border, brightened."""
    angle, factor = rng.uniform(0, 360), rng.uniform(0.9, 1.2)
    turn = np.asarray(cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), angle, factor), dtype=np.float64)
    turn[:, 2] += rng.uniform(-SIDE / 2, SIDE / 2, 2)
    image = cv2.warpAffine(base, turn, (SIDE, SIDE), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_WRAP)
    image = cv2.convertScaleAbs(image, alpha=float(rng.uniform(0.85, 1.05)))
    return simplejpeg.encode_jpeg(image, quality=90)


def write_part(root: str, patients: range, n_cells: int, seed: int, source: list[str]) -> None:
    """Write the photographs of some patients."""
    rng = np.random.default_rng([seed, patients.start])
    if source:
        bases = [simplejpeg.decode_jpeg(Path(path).read_bytes()) for path in source]
        bases = [base for base in bases if base.shape == (SIDE, SIDE, 3)]
    else:
        bases = [draw_cell(rng) for _ in range(40)]
    for patient in patients:
        folder = Path(root) / f"P{patient}"
        folder.mkdir(parents=True, exist_ok=True)
        for k in range(min(CELLS_PER_PATIENT, n_cells - patient * CELLS_PER_PATIENT)):
            base = bases[int(rng.integers(len(bases)))]
            (folder / f"{k:06d}.jpg").write_bytes(jittered(base, rng))


def make_photographs(root: Path, n_cells: int, seed: int, source: Path | None, jobs: int) -> None:
    """Write `n_cells` photographs below `root`, unless they are there already."""
    done = root / "complete"
    if done.exists() and done.read_text() == str(n_cells):
        return
    shutil.rmtree(root, ignore_errors=True)
    rng = np.random.default_rng(seed)
    files = sorted(str(path) for path in source.rglob("*.jpg")) if source else []
    chosen = [str(path) for path in rng.permutation(files)[:400]]
    n_patients = -(-n_cells // CELLS_PER_PATIENT)
    step = max(1, -(-n_patients // (4 * jobs)))
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [
            pool.submit(write_part, str(root), range(s, min(s + step, n_patients)), n_cells, seed, chosen)
            for s in range(0, n_patients, step)
        ]
        for future in futures:
            future.result()
    done.write_text(str(n_cells))


def cohort_of(root: Path) -> Cohort:
    """The photographs below `root` as a cohort."""
    folders = sorted((p for p in root.iterdir() if p.is_dir()), key=lambda path: int(path.name[1:]))
    images, owner = [], []
    for i, folder in enumerate(folders):
        for name in sorted(os.listdir(folder)):  # noqa: PTH208 - names alone, a tenth of the time
            images.append(Path(folder.name, name))
            owner.append(i)
    n = len(folders)
    patients = Patients(
        ids=tuple(folder.name for folder in folders),
        label=np.arange(n, dtype=np.int8) % 2,
        clinical=np.full((n, 3), np.nan),
        split=("",) * n,
        date_layout=("",) * n,
    )
    return Cohort(root, patients, tuple(images), np.array(owner), (), date(2020, 1, 1))


# --- what is measured, each in a process of its own ---------------------------------------------------------


def decode_all(paths: list[str]) -> int:
    """Read and decode; nothing else."""
    total = 0
    for path in paths:
        with open(path, "rb", buffering=0) as stream:  # noqa: PTH123 - the barest way there is
            total += simplejpeg.decode_jpeg(stream.read()).shape[0]
    return total


def measure_bare(root: Path, jobs: int) -> dict[str, float]:
    """Bare read + decode by `jobs` processes that are already running."""
    cohort = cohort_of(root)
    paths = [str(root / path) for path in cohort.images]
    chunks = [paths[i : i + 256] for i in range(0, len(paths), 256)]
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(decode_all, [chunks[0][:8]] * (4 * jobs)))
        start = time.perf_counter()
        list(pool.map(decode_all, chunks))
        seconds = time.perf_counter() - start
    return {"cells": len(paths), "seconds": seconds}


def measure_ingest(root: Path, cache: Path, jobs: int) -> dict[str, float]:
    """Filling a new store, from the list of files to the last byte on disk."""
    cohort = cohort_of(root)
    before = anonymous_mb(os.getpid())
    start = time.perf_counter()
    store = open_store(cohort, cache, jobs=jobs)
    seconds = time.perf_counter() - start
    return {"cells": len(store), "seconds": seconds, "before_mb": before}


def measure_reopening(root: Path, cache: Path, jobs: int) -> dict[str, float]:
    """Opening a store that is up to date, findings included."""
    cohort = cohort_of(root)
    start = time.perf_counter()
    store = open_store(cohort, cache, jobs=jobs)
    seconds = time.perf_counter() - start
    return {"cells": len(store), "seconds": seconds, "findings": len(store.findings)}


MEASURES: dict[str, Callable[..., dict[str, float]]] = {
    "bare": measure_bare,
    "ingest": measure_ingest,
    "reopening": measure_reopening,
}


def in_fresh_process(measure: str, *arguments: object) -> dict[str, float]:
    """Run one measure in a new interpreter and watch the memory of its process tree."""
    output, peak = watched([sys.executable, __file__, "--measure", measure, *map(str, arguments)])
    return {**json.loads(output.splitlines()[-1]), "peak_mb": peak}


# --- the run ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """Figures of one number of cells."""

    cells: int
    mean_kb: float
    bare_per_s: float
    ingest_per_s: float
    ratio: float
    reopening_s: float
    ingest_s: float
    peak_mb: float
    store_mb: float


def measure_all(root: Path, work: Path, jobs: int, repeats: int) -> Result:
    """Bare decoding and ingest in turns, so that both meet the same load; medians of the repeats."""
    rates: list[tuple[float, float]] = []
    peaks, reopenings, seconds = [], [], []
    cache = work / "cache"
    for _ in range(repeats):
        shutil.rmtree(cache, ignore_errors=True)
        before = in_fresh_process("bare", root, jobs)
        ingest = in_fresh_process("ingest", root, cache, jobs)
        after = in_fresh_process("bare", root, jobs)
        bare = (before["seconds"] + after["seconds"]) / 2
        rates.append((before["cells"] / bare, ingest["cells"] / ingest["seconds"]))
        peaks.append(ingest["peak_mb"])
        seconds.append(ingest["seconds"])
        reopenings.append(in_fresh_process("reopening", root, cache, jobs)["seconds"])
    sizes = [path.stat().st_size for path in root.rglob("*.jpg")]
    stored = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    shutil.rmtree(cache, ignore_errors=True)
    return Result(
        cells=len(sizes),
        mean_kb=sum(sizes) / len(sizes) / 1e3,
        bare_per_s=statistics.median(bare for bare, _ in rates),
        ingest_per_s=statistics.median(full for _, full in rates),
        ratio=statistics.median(full / bare for bare, full in rates),
        reopening_s=statistics.median(reopenings),
        ingest_s=statistics.median(seconds),
        peak_mb=max(peaks),
        store_mb=stored / 1e6,
    )


def show(results: list[Result], jobs: int) -> None:
    """The table, and beside each aim whether it is reached."""
    print(f"{'cells':>8} {'KB each':>8} {'bare/s':>8} {'ingest/s':>9} {'ratio':>6} {'ingest s':>9} "
          f"{'reopen s':>9} {'peak MB':>8} {'store MB':>9}   ({jobs} jobs)")  # fmt: skip
    for r in results:
        print(f"{r.cells:8d} {r.mean_kb:8.1f} {r.bare_per_s:8.0f} {r.ingest_per_s:9.0f} {r.ratio:6.2f} "
              f"{r.ingest_s:9.2f} {r.reopening_s:9.3f} {r.peak_mb:8.0f} {r.store_mb:9.0f}")  # fmt: skip
    first = results[0]
    print(f"ratio     {first.ratio:.2f} (aim: at least {LEAST_RATIO})")
    print(f"reopening {first.reopening_s:.3f} s (aim: less than {MOST_REOPENING_S})")
    print(f"memory    {max(r.peak_mb for r in results):.0f} MB anonymous (aim: at most {MOST_MEMORY_MB})")
    for r in results[1:]:
        time_factor, memory_factor = r.ingest_s / first.ingest_s, r.peak_mb / first.peak_mb
        print(
            f"{r.cells / first.cells:.1f} times the cells: {time_factor:.1f} times the time, "
            f"{memory_factor:.2f} times the memory"
        )


def main() -> None:
    """Parse, measure, print."""
    if sys.argv[1:2] == ["--measure"]:
        name, *rest = sys.argv[2:]
        paths, jobs = [Path(text) for text in rest[:-1]], int(rest[-1])
        print(json.dumps(MEASURES[name](*paths, jobs)))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=CHALLENGE_CELLS)
    parser.add_argument("--source", type=Path, help="folder of 224 × 224 JPEG photographs to derive from")
    parser.add_argument(
        "--work", type=Path, help="folder for photographs and stores (kept); default: temporary"
    )
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tenfold", action="store_true", help="again with ten times the photographs, once")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        results = []
        for factor in (1, 10) if options.tenfold else (1,):
            root = work / f"photographs-{factor}"
            make_photographs(root, factor * options.cells, options.seed, options.source, options.jobs)
            repeats = options.repeats if factor == 1 else 1
            results.append(measure_all(root, work, options.jobs, repeats))
            show(results[-1:], options.jobs)
        if len(results) > 1:
            show(results, options.jobs)
    if options.json:
        options.json.write_text(to_json([vars(result) for result in results]))


if __name__ == "__main__":
    main()

"""How fast an encoder looks at cells, and how much of that is reading photographs.

In one run on the same threads: the network alone on crops in memory, in single and in half precision; the
decoding of photographs alone; and the whole way from the cell store to the cache. Medians of five.

    python benchmarks/encoder_speed.py COHORT --threads 2
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lymphoscope.cohort.cell_store import open_store
from lymphoscope.cohort.read import read_cohort
from lymphoscope.encoders.embeddings import embed_cells
from lymphoscope.encoders.encoder import create_encoder
from lymphoscope.encoders.kept import SHIPPED
from lymphoscope.training.machine import keep_memory

AIM = 600
"""Cells a second on two cores."""


def rate(cells: int, work: Callable[[], object], rounds: int) -> float:
    """Median cells a second."""
    work()
    spent = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return cells / statistics.median(spent)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--encoder", default=SHIPPED)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_memory()
    encoder = create_encoder(given.encoder)
    print(
        f"{encoder.name}, {given.threads} threads, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}"
    )
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(read_cohort(given.cohort), Path(folder) / "cache", jobs=given.threads)
        cells = min(len(store), 2048)
        crops = np.stack([store.crop(i, encoder.image_size) for i in range(cells)])
        alone = rate(cells, lambda: encoder.embed(crops), given.rounds)

        def in_half() -> None:
            with torch.autocast("cpu", torch.bfloat16):
                encoder.embed(crops)

        half = rate(cells, in_half, given.rounds)
        decoding = rate(
            cells, lambda: [store.crop(i, encoder.image_size) for i in range(cells)], given.rounds
        )

        def whole() -> None:
            place = Path(folder) / "fresh" / "store"
            embed_cells(replace(store, folder=place), encoder, jobs=given.threads)
            shutil.rmtree(place.parent)

        through = rate(len(store), whole, given.rounds)
        cached = rate(len(store), lambda: embed_cells(store, encoder, jobs=given.threads), given.rounds)
    print(f"network alone            {alone:8.0f} cells/s")
    print(f"network alone, bfloat16  {half:8.0f} cells/s   ({half / alone:.2f} x)")
    print(f"decoding, one thread     {decoding:8.0f} cells/s")
    verdict = "at least" if through >= AIM else "MISSES"
    print(f"store to cache           {through:8.0f} cells/s   ({through / alone:.2f} of the network alone)")
    print(f"from the cache           {cached:8.0f} cells/s")
    print(f"{verdict} {AIM} cells/s; 16,711 cells take {16_711 / through:.0f} s")


if __name__ == "__main__":
    main()

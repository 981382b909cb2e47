"""The most memory that one epoch of every recipe on photographs takes, on a cohort of the challenge's size.

163 patients, 13,453 crops of 112 pixels in a memory-mapped file. The first of five folds of a
cross-validation is computed in a fresh process, with one epoch of training: its patients are picked from the
file, trained on, and those held out predicted; counted is the anonymous memory of the process tree. Recipes
that are slow on processors learn from 8 cells a patient here; the size of a step, and with it the memory, is
the same. `frozen-resnet34` has a checkpoint that has learned nothing; `dinov2-adaptformer` is as large as the
weights that somebody brings, and left out.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/network_memory.py --json network_memory.json

Aim: at most 2,000 MB for cnn-clinical.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from lymphoscope.cohort.splits import repeated_stratified
from lymphoscope.evaluation.folds import out_of_fold
from lymphoscope.files import write_json
from network_trials import (
    CHALLENGE_PATIENTS,
    backbone_state,
    bags_of,
    begin,
    challenge_bag_sizes,
    image_model,
    network_of,
    network_recipes,
    parser_of,
    random_crops,
    verdict,
)
from process_memory import anonymous_mb, watched

AIMS_MB = {"cnn-clinical": 2000.0}
SIDE = 112
SLOW = ("vgg16", "vgg19", "resnet18", "resnet34")
FROZEN = "frozen-resnet34"


def checkpoint(recipe: str, folder: Path) -> str:
    """Weights with the names of a published checkpoint, drawn at random."""
    path = folder / f"{recipe}.safetensors"
    save_file(backbone_state(network_of(image_model(recipe))), path)
    return str(path)


def measure(recipe: str, patients: int, threads: int, folder: Path) -> dict[str, Any]:
    """One epoch in this process, as in the first fold."""
    torch.set_num_threads(threads)
    sizes = challenge_bag_sizes(patients)
    bags, y = bags_of(random_crops(folder, int(sizes.sum()), SIDE), sizes)
    fewer = {"cells_per_patient": 8} if recipe in SLOW else {}
    brought = {"weights": checkpoint(recipe, folder)} if recipe == FROZEN else {}
    model = image_model(recipe, epochs=1, **fewer, **brought)
    first = repeated_stratified(y, folds=5, repeats=1)[:1]
    before, start = anonymous_mb(os.getpid()), time.perf_counter()
    found = out_of_fold(model, bags, y, first, name=recipe)
    return {
        "before_mb": before,
        "seconds": time.perf_counter() - start,
        "images": found.histories[0][0].images,
        "batch": model.batch_size,
        "unit": model.unit,
    }


def main() -> None:
    """Parse, measure, print."""
    if sys.argv[1:2] == ["--measure"]:
        recipe, patients, threads, work = sys.argv[2:]
        print(json.dumps(measure(recipe, int(patients), int(threads), Path(work))))
        return
    parser = parser_of(__doc__, rounds=1)
    parser.add_argument("--recipe", action="append", help="repeatable; default: every network")
    parser.add_argument("--patients", type=int, default=CHALLENGE_PATIENTS)
    parser.add_argument("--work", type=Path, help="folder for pictures of noise (kept); default: temporary")
    options = parser.parse_args()
    begin(options.threads)
    sizes, rows = challenge_bag_sizes(options.patients), []
    print(
        f"\n{options.patients} patients, {sizes.sum()} cells of {SIDE} px; before: interpreter and libraries"
        f"\n\n{'recipe':26}{'a step':>13}{'images':>8}{'seconds':>9}{'before MB':>11}{'peak MB':>9}{'aim':>8}"
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.work or Path(temporary)
        random_crops(folder, int(sizes.sum()), SIDE)
        for recipe in options.recipe or [*network_recipes(), FROZEN]:
            arguments = [recipe, str(options.patients), str(options.threads), str(folder)]
            found = [
                watched([sys.executable, __file__, "--measure", *arguments], every_s=0.05)
                for _ in range(options.rounds)
            ]
            row = {"recipe": recipe, **json.loads(found[-1][0].splitlines()[-1])}
            row["peak_mb"] = max(peak for _, peak in found)
            rows.append(row)
            aim = AIMS_MB.get(recipe)
            words = "" if aim is None else f"{aim:8.0f}  {verdict(row['peak_mb'] <= aim)}"
            print(
                f"{recipe:26}{row['batch']:4d} {row['unit'] + 's':8}{row['images']:8d}{row['seconds']:9.1f}"
                f"{row['before_mb']:11.0f}{row['peak_mb']:9.0f}{words}",
                flush=True,
            )
    print(f"highest of {options.rounds} round(s); load average {os.getloadavg()[0]:.1f} after")
    if options.json:
        write_json(options.json, {"threads": options.threads, "cells": int(sizes.sum()), "rows": rows})


if __name__ == "__main__":
    main()

"""What a training step costs beyond the network itself.

The real loop (`lymphoscope.training.loop.train`: rows of uint8 crops picked from a memory-mapped file,
augmentation, forward, backward, optimiser, book-keeping) against bare forward, backward and optimiser steps
on normalised float tensors that lie in memory. Same network, batch size, precision and threads. A bare epoch
precedes and follows every real one, and each real one is compared with the mean of these two.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/training_step.py --threads 1 --json training_step.json

Aims: at most 10 % more time with flips and quarter turns, at most 30 % with all augmentation.
"""

from __future__ import annotations

import copy
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lymphoscope.files import write_json
from lymphoscope.training.curves import Epoch
from lymphoscope.training.loop import train
from network_trials import (
    PlainTraining,
    as_one_epoch,
    bags_of,
    begin,
    cell_data,
    float_batches,
    image_model,
    median,
    network_of,
    parser_of,
    random_crops,
    settings_of,
    verdict,
)

AIMS = {"flips": 0.10, "all": 0.30}
CELLS_PER_PATIENT = 64
"""Of the made-up patients; what a step of per-patient training takes of each."""


def measure(recipe: str, augmentation: str, n_batches: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Seconds per image of the real loop and of bare steps, in turns."""
    model = image_model(recipe, augmentation=augmentation)
    settings = replace(as_one_epoch(settings_of(model), rounds + 1), cells_per_patient=CELLS_PER_PATIENT)
    examples = n_batches * settings.batch_size
    n_patients = examples if settings.unit == "patient" else max(4, -(-examples // CELLS_PER_PATIENT))
    sizes = np.full(n_patients, CELLS_PER_PATIENT)
    bags, y = bags_of(random_crops(folder, int(sizes.sum()), model.image_size), sizes)
    data = cell_data(bags, model)
    network = network_of(model)
    plain = PlainTraining(copy.deepcopy(network), settings, torch.channels_last)
    batches = float_batches(data, y, settings, min(n_batches, 8), CELLS_PER_PATIENT)
    images = sum(len(each.images) for each in batches)
    seen: list[dict[str, float]] = []
    clocks = {"wall": time.perf_counter, "processor": time.process_time}

    def bare_epoch() -> dict[str, float]:
        start = {name: clock() for name, clock in clocks.items()}
        for batch in batches:
            plain.step(batch)
        return {name: (clock() - start[name]) / images for name, clock in clocks.items()}

    bare_epoch()
    before = bare_epoch()
    started = {name: clock() for name, clock in clocks.items()}

    def after(epoch: Epoch) -> None:
        nonlocal before, started
        spent = {name: (clock() - started[name]) / epoch.images for name, clock in clocks.items()}
        following = bare_epoch()
        row = {f"real_{name}": spent[name] for name in clocks}
        row |= {f"bare_{name}": (before[name] + following[name]) / 2 for name in clocks}
        seen.append(row)
        before, started = following, {name: clock() for name, clock in clocks.items()}

    nobody = np.empty(0, dtype=np.int64)
    train(
        network,
        data,
        y,
        np.arange(len(y)),
        nobody,
        settings,
        device=torch.device("cpu"),
        watch=after,
    )
    kept = seen[1:]  # the first epoch finds the crops on disk and the optimiser without state
    return {
        "recipe": recipe,
        "augmentation": augmentation,
        "precision": settings.precision,
        "images_per_epoch": int(sizes.sum()),
        "real_per_s": 1 / median(row["real_wall"] for row in kept),
        "bare_per_s": 1 / median(row["bare_wall"] for row in kept),
        "overhead": median(row["real_wall"] / row["bare_wall"] for row in kept) - 1,
        "overhead_processor": median(row["real_processor"] / row["bare_processor"] for row in kept) - 1,
        "rounds": [row["real_wall"] / row["bare_wall"] - 1 for row in kept],
    }


def main() -> None:
    """Parse, measure, print."""
    parser = parser_of(__doc__)
    parser.add_argument("--recipe", action="append", help="repeatable; default: cnn-clinical")
    parser.add_argument("--augmentation", action="append", choices=["none", "flips", "all"])
    parser.add_argument("--batches", type=int, default=16, help="per epoch of the real loop")
    parser.add_argument("--work", type=Path, help="folder for pictures of noise (kept); default: temporary")
    options = parser.parse_args()
    begin(options.threads)
    print(
        f"\n{'recipe':22}{'augmentation':>13}{'real img/s':>12}{'bare img/s':>12}{'overhead':>10}"
        f"{'by CPU time':>13}{'aim':>7}"
    )
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for recipe in options.recipe or ["cnn-clinical"]:
            for augmentation in options.augmentation or list(AIMS):
                folder = options.work or Path(temporary)
                row = measure(recipe, augmentation, options.batches, options.rounds, folder)
                rows.append(row)
                aim = AIMS.get(augmentation)
                words = "" if aim is None else f"{aim:7.0%}  {verdict(row['overhead'] <= aim)}"
                print(
                    f"{recipe:22}{augmentation:>13}{row['real_per_s']:12.0f}{row['bare_per_s']:12.0f}"
                    f"{row['overhead']:10.1%}{row['overhead_processor']:13.1%}{words}",
                    flush=True,
                )
    print(f"medians of {options.rounds} rounds; load average {os.getloadavg()[0]:.1f} after")
    if options.json:
        write_json(options.json, {"threads": options.threads, "rows": rows})


if __name__ == "__main__":
    main()

"""Per-patient training on packed patients against padded ones: time and memory.

Packed: the real loop, the cells of a batch's patients in one row after another, averaged by segments. Padded:
the usual way, every patient of a batch filled up to the largest one, and a mask over what was filled up. The
cohort has the challenge's numbers of cells (16 to 198 a patient, half of them at most 66, 13,453 in all).
Same network, batch size, augmentation, precision and threads. Each epoch runs in a fresh process, the two in
turns; memory is the process tree's anonymous peak less what was there before the first step.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/packed_patients.py --threads 1 --json packed_patients.json
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from lymphoscope.cohort.bags import IntArray
from lymphoscope.files import write_json
from lymphoscope.models.image_classifier import ImageClassifier
from lymphoscope.training import balancing
from lymphoscope.training.augmentation import augment
from lymphoscope.training.loop import train
from lymphoscope.training.machine import keep_memory
from lymphoscope.training.prediction import CellData
from lymphoscope.training.settings import TrainingSettings
from network_trials import (
    CHALLENGE_PATIENTS,
    PlainTraining,
    as_one_epoch,
    bags_of,
    begin,
    cell_data,
    challenge_bag_sizes,
    image_model,
    median,
    network_of,
    parser_of,
    precision,
    random_crops,
    settings_of,
)
from process_memory import anonymous_mb, watched


def packed_epoch(model: ImageClassifier, data: CellData, y: IntArray, settings: TrainingSettings) -> None:
    """One epoch of the real loop."""
    nobody, cpu = np.empty(0, dtype=np.int64), torch.device("cpu")
    train(network_of(model), data, y, np.arange(len(y)), nobody, settings, device=cpu)


def padded_epoch(model: ImageClassifier, data: CellData, y: IntArray, settings: TrainingSettings) -> None:
    """The same patients in the same order, each batch filled up to its largest patient."""
    keep_memory()
    plain = PlainTraining(network_of(model), settings, torch.channels_last)
    chance, order = torch.Generator().manual_seed(0), np.random.default_rng(0).permutation(len(y))
    for patients in balancing.batches(order, settings.batch_size):
        counts = data.counts[patients]
        place = np.arange(counts.max())
        filled = torch.from_numpy(place < counts[:, None])
        rows = torch.from_numpy(np.minimum(data.starts[patients][:, None] + place, len(data.cells) - 1))
        cells = data.cells[rows.flatten()] * filled.flatten()[:, None, None, None]
        images = augment(cells, settings.augmentation, settings.normalisation, chance)
        clinical = data.clinical[torch.from_numpy(patients)]
        with precision(settings.precision):
            features = plain.network.features(images, clinical.repeat_interleave(len(place), dim=0))
            by_cell = features.float().view(len(patients), len(place), -1) * filled[:, :, None]
            logits = plain.network.head(by_cell.sum(1) / filled.sum(1, keepdim=True), clinical)
        loss = cross_entropy(logits.float(), torch.from_numpy(y[patients]), plain.weights)
        plain.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        plain.optimiser.step()


EPOCHS = {"packed": packed_epoch, "padded": padded_epoch}


def measure(way: str, recipe: str, patients: int, batch: int, threads: int, folder: Path) -> dict[str, float]:
    """One epoch in this process."""
    torch.set_num_threads(threads)
    model = image_model(recipe, unit="patient", cells_per_patient=None)
    settings = replace(as_one_epoch(settings_of(model), 1), batch_size=batch)
    sizes = challenge_bag_sizes(patients)
    bags, y = bags_of(random_crops(folder, int(sizes.sum()), model.image_size), sizes)
    data = cell_data(bags, model)
    before, largest = anonymous_mb(os.getpid()), np.argsort(-sizes)[:batch]
    # The largest step first, so that both find the memory that they need.
    EPOCHS[way](
        model, replace(data, starts=data.starts[largest], counts=sizes[largest]), y[largest], settings
    )
    start = time.perf_counter()
    EPOCHS[way](model, data, y, settings)
    return {"seconds": time.perf_counter() - start, "before_mb": before}


def in_fresh_process(way: str, *arguments: object) -> dict[str, float]:
    """One epoch in a process of its own, and its memory."""
    output, peak = watched([sys.executable, __file__, "--measure", way, *map(str, arguments)])
    found = json.loads(output.splitlines()[-1])
    return {"seconds": found["seconds"], "mb": peak - found["before_mb"]}


def computed_cells(sizes: IntArray, batch: int) -> int:
    """Cells that go through the network in a padded epoch, the filling included."""
    order = np.random.default_rng(0).permutation(len(sizes))
    return sum(int(sizes[each].max()) * len(each) for each in balancing.batches(order, batch))


def main() -> None:
    """Parse, measure, print."""
    if sys.argv[1:2] == ["--measure"]:
        way, recipe, patients, batch, threads, work = sys.argv[2:]
        print(json.dumps(measure(way, recipe, int(patients), int(batch), int(threads), Path(work))))
        return
    parser = parser_of(__doc__)
    parser.add_argument("--recipe", default="cnn-clinical-pooled")
    parser.add_argument("--patients", type=int, default=CHALLENGE_PATIENTS)
    parser.add_argument("--batch", type=int, default=8, help="patients per step")
    parser.add_argument("--work", type=Path, help="folder for pictures of noise (kept); default: temporary")
    options = parser.parse_args()
    begin(options.threads)
    sizes = challenge_bag_sizes(options.patients)
    rounds: list[dict[str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.work or Path(temporary)
        random_crops(folder, int(sizes.sum()), image_model(options.recipe).image_size)
        for _ in range(options.rounds):
            arguments = (options.recipe, options.patients, options.batch, options.threads, folder)
            rounds.append({way: in_fresh_process(way, *arguments) for way in EPOCHS})
    print(f"\n{options.recipe}, {options.patients} patients, {sizes.sum()} cells, {options.batch} a batch\n")
    print(f"{'':10}{'seconds':>9}{'peak MB':>9}{'cells computed':>16}")
    figures: dict[str, Any] = {}
    for way, cells in (("packed", int(sizes.sum())), ("padded", computed_cells(sizes, options.batch))):
        row = {name: median(each[way][name] for each in rounds) for name in ("seconds", "mb")}
        figures[way] = {**row, "cells": cells}
        print(f"{way:10}{row['seconds']:9.1f}{row['mb']:9.0f}{cells:16d}")
    for name in ("seconds", "mb"):
        figures[f"{name}_ratio"] = median(each["packed"][name] / each["padded"][name] for each in rounds)
    print(
        f"\npacked takes {figures['seconds_ratio']:.2f} of the time and {figures['mb_ratio']:.2f} of the "
        f"memory of padded\nmedians of {options.rounds} rounds; load average {os.getloadavg()[0]:.1f} after"
    )
    if options.json:
        write_json(options.json, {"recipe": options.recipe, "threads": options.threads, **figures})


if __name__ == "__main__":
    main()

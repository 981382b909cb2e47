"""From photographs to normalised, augmented batches: the cell store against the usual way.

The usual way opens and decodes every file with Pillow in every epoch, crops, mirrors, turns, converts and
normalises image by image in Python, in a torch DataLoader with two persistent workers. Ours picks rows of
the store's memory-mapped crops and works on whole batches. Same photographs, batch size, changes (centre crop
of 112 pixels, mirroring, quarter turns, ImageNet's normalisation); the usual way has its two workers beside
the process that trains, ours has `--threads` threads. Beside it whole epochs of training with either, on the
same network, precision and threads. All take turns; the first round warms up and is not counted.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/data_path.py --threads 1 --json data_path.json

Aim: at least 5 times as fast.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ingest import cohort_of, make_photographs
from lymphoscope.cohort.cell_store import image_bags, open_store
from lymphoscope.files import write_json
from lymphoscope.training import balancing
from lymphoscope.training.augmentation import Normalisation, augment
from lymphoscope.training.loop import train
from lymphoscope.training.prediction import CellData
from lymphoscope.training.settings import TrainingSettings
from network_trials import (
    FloatBatch,
    PlainTraining,
    as_one_epoch,
    begin,
    cell_data,
    image_model,
    median,
    network_of,
    parser_of,
    settings_of,
    verdict,
)

AIM = 5.0
WORKERS = 2


class Photographs(Dataset[tuple[Tensor, int]]):
    """The usual data set: one file at a time, one change after another."""

    def __init__(self, paths: list[str], side: int, normalisation: Normalisation) -> None:
        self.paths, self.side = paths, side
        self.mean = torch.tensor(normalisation.mean).view(3, 1, 1)
        self.deviation = torch.tensor(normalisation.deviation).view(3, 1, 1)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        with Image.open(self.paths[i]) as file:
            image = file.convert("RGB")
        left, top = (image.width - self.side) // 2, (image.height - self.side) // 2
        image = image.crop((left, top, left + self.side, top + self.side))
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        turns = random.randrange(4)
        if turns:
            image = image.transpose(
                (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)[turns - 1]
            )
        values = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div_(255)
        return values.sub_(self.mean).div_(self.deviation), i


def usual_loader(paths: list[str], settings: TrainingSettings, side: int) -> DataLoader[Any]:
    """Shuffled batches from two workers that live as long as the loader."""
    return DataLoader(
        Photographs(paths, side, settings.normalisation),
        batch_size=settings.batch_size,
        shuffle=True,
        num_workers=WORKERS,
        persistent_workers=True,
    )


def store_batches(data: CellData, y: np.ndarray, settings: TrainingSettings, epoch: int) -> Iterable[Tensor]:
    """One epoch of batches as the training loop makes them."""
    rng, chance = np.random.default_rng(epoch), torch.Generator().manual_seed(epoch)
    cells = balancing.epoch_cells(data.counts, y, rng=rng)
    for rows in balancing.batches(cells, settings.batch_size):
        images = data.cells[torch.from_numpy(rows)]
        yield augment(images, settings.augmentation, settings.normalisation, chance)


def drawn(batches: Iterable[Any]) -> float:
    """Seconds until the last batch is there."""
    start = time.perf_counter()
    for _ in batches:
        pass
    return time.perf_counter() - start


class Trials:
    """Both ways, for batches alone and for whole epochs, on one cohort."""

    def __init__(self, root: Path, cache: Path, recipe: str, jobs: int) -> None:
        cohort = cohort_of(root)
        began = time.perf_counter()
        store = open_store(cohort, cache, jobs=jobs)
        model = image_model(recipe, augmentation="flips")
        bags = image_bags(cohort, store, model.image_size)
        self.y = cohort.patients.label.astype(np.int64)
        self.model = model
        self.settings = replace(as_one_epoch(settings_of(model), 1), cells_per_patient=None)
        self.data = cell_data(replace_missing(bags), model)
        self.once_s = time.perf_counter() - began
        self.owner = torch.from_numpy(bags.patient_of_cell)
        self.loader = usual_loader(
            [str(root / path) for path in cohort.images], self.settings, model.image_size
        )
        self.usual = PlainTraining(network_of(model), self.settings, torch.channels_last)
        self.epoch = 0

    def ours_batches(self) -> float:
        """Seconds of an epoch of batches from the store."""
        self.epoch += 1
        return drawn(store_batches(self.data, self.y, self.settings, self.epoch))

    def usual_batches(self) -> float:
        """The same the usual way."""
        return drawn(self.loader)

    def ours_epoch(self) -> float:
        """Seconds of an epoch of the real loop."""
        self.epoch += 1
        settings = replace(self.settings, seed=self.epoch)
        nobody, device = np.empty(0, dtype=np.int64), torch.device("cpu")
        everybody = np.arange(len(self.y))
        network = network_of(self.model)
        return train(network, self.data, self.y, everybody, nobody, settings, device=device)[0][0].seconds

    def usual_epoch(self) -> float:
        """The same training on batches made the usual way."""
        start, labels = time.perf_counter(), torch.from_numpy(self.y)
        for images, rows in self.loader:
            patients = self.owner[rows]
            given = images.contiguous(memory_format=torch.channels_last)
            self.usual.step(FloatBatch(given, self.data.clinical[patients], labels[patients], None))
        return time.perf_counter() - start


def replace_missing(bags: Any) -> Any:
    """Bags with made-up clinical values, since the photographs come without any."""
    clinical = np.random.default_rng(0).uniform(size=bags.clinical.shape)
    return replace(bags, clinical=clinical)


def main() -> None:
    """Parse, measure, print."""
    parser = parser_of(__doc__)
    parser.add_argument("--cells", type=int, default=3000, help="photographs of 224 pixels to make")
    parser.add_argument("--recipe", default="cnn-clinical")
    parser.add_argument("--source", type=Path, help="folder of 224 × 224 JPEG photographs to derive from")
    parser.add_argument("--work", type=Path, help="folder for photographs and store (kept)")
    options = parser.parse_args()
    begin(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        make_photographs(work / "photographs", options.cells, 0, options.source, WORKERS)
        trials = Trials(work / "photographs", work / "cache", options.recipe, WORKERS)
        works: dict[str, Callable[[], float]] = {
            "batches, store": trials.ours_batches,
            "batches, usual": trials.usual_batches,
            "epoch, store": trials.ours_epoch,
            "epoch, usual": trials.usual_epoch,
        }
        rounds = [{name: work_() for name, work_ in works.items()} for _ in range(options.rounds + 1)][1:]
    rows = {name: median(each[name] for each in rounds) for name in works}
    batches = median(each["batches, usual"] / each["batches, store"] for each in rounds)
    epoch = median(each["epoch, usual"] / each["epoch, store"] for each in rounds)
    print(f"\n{options.cells} photographs; store filled, crops cut and evened once: {trials.once_s:.2f} s\n")
    print(f"{'':32}{'seconds':>9}{'images/s':>10}")
    for name, seconds in rows.items():
        what = name if name.startswith("batches") else f"{name} ({options.recipe})"
        print(f"{what:32}{seconds:9.2f}{options.cells / seconds:10.0f}")
    print(f"\nbatches alone: {batches:5.1f} times as fast (aim: at least {AIM:g})  {verdict(batches >= AIM)}")
    print(f"whole epoch:   {epoch:5.1f} times as fast")
    print(f"medians of {options.rounds} rounds; load average {os.getloadavg()[0]:.1f} after")
    if options.json:
        figures = {"seconds": rows, "batches_ratio": batches, "epoch_ratio": epoch, "once_s": trials.once_s}
        write_json(options.json, {"cells": options.cells, "threads": options.threads, **figures})


if __name__ == "__main__":
    main()

"""What the benchmarks of networks share: made-up cohorts of cells, plain training steps, fair figures."""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lymphoscope.cohort.bags import Bags, IntArray
from lymphoscope.models.image_classifier import ImageClassifier
from lymphoscope.models.networks.base import CellNetwork, create_network
from lymphoscope.models.registry import create_model, list_models
from lymphoscope.training.augmentation import prepare
from lymphoscope.training.machine import keep_memory
from lymphoscope.training.packing import Packing
from lymphoscope.training.prediction import CellData
from lymphoscope.training.schedules import make_optimiser
from lymphoscope.training.settings import TrainingSettings
from results_row import code_hash

CHALLENGE_PATIENTS, CHALLENGE_CELLS, CHALLENGE_MALIGNANT = 163, 13_453, 113
SMALLEST_BAG, MEDIAN_BAG, LARGEST_BAG = 16, 66, 198


# --- the command line and the table -------------------------------------------------------------------------


def parser_of(description: str | None, **defaults: int) -> argparse.ArgumentParser:
    """A parser with the options that all have: threads, rounds and a file for the figures."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1, help="of torch, the same for both sides")
    parser.add_argument("--rounds", type=int, default=defaults.get("rounds", 5), help="medians are of these")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    return parser


def begin(threads: int) -> None:
    """Set the threads, have memory kept as in every training, and say what the machine is doing and runs."""
    torch.set_num_threads(threads)
    keep_memory()
    load = os.getloadavg()[0]
    machine = f"{threads} thread(s), load average {load:.1f} before"
    print(f"{machine}, torch {torch.__version__}, code {code_hash()}", flush=True)


def median(values: Iterable[float]) -> float:
    """As a plain float."""
    return float(statistics.median(values))


def verdict(holds: bool) -> str:
    """A word beside an aim."""
    return "reached" if holds else "MISSED"


# --- recipes ------------------------------------------------------------------------------------------------


def image_recipes() -> list[str]:
    """Names of the recipes that take photographs and need no weights of others."""
    names = [info.name for info in list_models() if info.cell_input == "images"]
    return [name for name in names if not needs_weights(name)]


def network_recipes() -> list[str]:
    """Those of them that train one network in the one loop: not clusters of cells, nor an adapted encoder."""
    return [name for name in image_recipes() if isinstance(create_model(name), ImageClassifier)]


def needs_weights(recipe: str) -> bool:
    """Whether a recipe stands still without a checkpoint that somebody brings."""
    model = create_model(recipe)
    if not isinstance(model, ImageClassifier) or model.weights is not None:
        return False
    with torch.device("meta"):
        network = create_network(model.network, model.width, model.image_size)
    return network.frozen_features or network.built_from_weights


def image_model(recipe: str, **overrides: Any) -> ImageClassifier:
    """The model of a recipe that takes photographs."""
    model = create_model(recipe, **overrides)
    if not isinstance(model, ImageClassifier):
        raise SystemExit(f"{recipe} is no network on photographs; allowed: {', '.join(network_recipes())}")
    return model


def network_of(model: ImageClassifier) -> CellNetwork:
    """Its network with fresh weights, its options and its head, the same in every call."""
    torch.manual_seed(model.random_state)
    return model._build()


def backbone_state(network: CellNetwork) -> dict[str, Tensor]:
    """Its backbone under the names of a published checkpoint; nothing where none is published."""
    return {
        start + name: value.contiguous()
        for start, part in (network.pretrained_parts() or {}).items()
        for name, value in part.state_dict().items()
    }


def settings_of(model: ImageClassifier) -> TrainingSettings:
    """How it trains: what it gives the loop itself."""
    return model._settings()


# --- cohorts ------------------------------------------------------------------------------------------------


def challenge_bag_sizes(patients: int, seed: int = 0) -> IntArray:
    """Cells of each patient, spread as in the challenge: 16 to 198, half of them at most 66, 82.5 on average.

    With 163 patients they are 13,453 in all, as there.
    """
    place = (np.arange(patients) + 0.5) / patients
    lower = SMALLEST_BAG + (MEDIAN_BAG - SMALLEST_BAG) * 2 * place
    upper = MEDIAN_BAG + (LARGEST_BAG - MEDIAN_BAG) * np.maximum(2 * place - 1, 0) ** 1.276
    sizes = np.round(np.where(place < 0.5, lower, upper)).astype(np.int64)
    sizes[0], sizes[-1] = SMALLEST_BAG, LARGEST_BAG
    excess = int(sizes.sum()) - round(patients * CHALLENGE_CELLS / CHALLENGE_PATIENTS)
    middle = np.arange(patients * 6 // 10, patients * 6 // 10 + abs(excess)) % patients
    np.subtract.at(sizes, middle, np.sign(excess))
    return np.random.default_rng(seed).permutation(sizes)


def random_crops(folder: Path, n: int, side: int, seed: int = 0) -> np.memmap[Any, Any]:
    """`n` pictures of noise, uint8 (n, side, side, 3), in a memory-mapped file as the cell store has them."""
    path = folder / f"noise-{n}-{side}-{seed}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        unfinished = path.with_suffix(".unfinished")
        crops = np.lib.format.open_memmap(unfinished, "w+", np.uint8, (n, side, side, 3))
        for start in range(0, n, 256):
            part = crops[start : start + 256]
            part[:] = rng.integers(0, 256, part.shape, dtype=np.uint8)
        crops.flush()
        unfinished.replace(path)
    return np.load(path, mmap_mode="r")


def bags_of(crops: np.ndarray, sizes: IntArray, seed: int = 0) -> tuple[Bags, IntArray]:
    """Patients with these cells, made-up clinical values and labels at the challenge's prevalence."""
    n, rng = len(sizes), np.random.default_rng(seed)
    clinical = np.stack([rng.uniform(30, 95, n), rng.integers(0, 2, n), rng.lognormal(2.5, 1, n)], axis=1)
    ids = tuple(str(i) for i in range(n))
    bags = Bags(crops[: sizes.sum()], np.concatenate([[0], np.cumsum(sizes)]), clinical, ids)
    y = (np.arange(n) < round(n * CHALLENGE_MALIGNANT / CHALLENGE_PATIENTS)).astype(np.int64)
    return bags, rng.permutation(y)


def cell_data(bags: Bags, model: ImageClassifier) -> CellData:
    """The bags as the training loop takes them from the model: shrunk and evened where it does so."""
    scaled = (bags.clinical - bags.clinical.mean(0)) / bags.clinical.std(0)
    return CellData(model._cells(bags), bags.offsets[:-1], bags.counts, torch.from_numpy(scaled).float())


# --- plain steps --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FloatBatch:
    """A batch that needs no more work: normalised photographs, clinical values and labels in memory.

    `owner` says which example each photograph belongs to, where examples are patients; else it is None.
    """

    images: Tensor
    clinical: Tensor
    labels: Tensor
    owner: Tensor | None


def float_batches(
    data: CellData, y: IntArray, settings: TrainingSettings, n: int, most: int
) -> list[FloatBatch]:
    """`n` batches of the size the settings ask for, of the first patients; `most` cells of each patient."""
    out = []
    for k in range(n):
        if settings.unit == "patient":
            patients = (k * settings.batch_size + np.arange(settings.batch_size)) % len(data.counts)
            parts = [data.rows_of(patients[i : i + 1], most)[0] for i in range(len(patients))]
            owner = torch.from_numpy(np.repeat(np.arange(len(patients)), [len(each) for each in parts]))
            rows = np.concatenate(parts)
        else:
            rows = (k * settings.batch_size + np.arange(settings.batch_size)) % len(data.cells)
            patients, owner = np.searchsorted(data.starts, rows, side="right") - 1, None
        images = prepare(data.cells[torch.from_numpy(rows)], settings.normalisation)
        out.append(FloatBatch(images, data.clinical[patients], torch.from_numpy(y[patients]), owner))
    return out


class PlainTraining:
    """Forward, backward, optimiser, on what lies in memory: nothing that could be left out."""

    def __init__(self, network: CellNetwork, settings: TrainingSettings, layout: torch.memory_format) -> None:
        self.network: Any = network.to(memory_format=layout).train()  # type: ignore[call-overload]
        self.settings, self.layout = settings, layout
        self.weights = torch.tensor([1.0, settings.positive_weight or 1.0])
        self.optimiser = make_optimiser(
            [parameter for parameter in network.parameters() if parameter.requires_grad],
            kind=settings.optimiser,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
        )

    def step(self, batch: FloatBatch) -> None:
        """One step."""
        with precision(self.settings.precision):
            logits = logits_of(self.network, batch)
        loss = cross_entropy(logits.float(), batch.labels, self.weights)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()


def logits_of(network: Any, batch: FloatBatch) -> Tensor:
    """Of every example of the batch."""
    if batch.owner is None:
        return network(batch.images, batch.clinical)
    features = network.features(batch.images, batch.clinical[batch.owner])
    return network.bags(features, Packing(torch.bincount(batch.owner)), batch.clinical)


def precision(name: str) -> AbstractContextManager[Any]:
    """Mixed precision where the settings ask for it."""
    return torch.autocast("cpu", torch.bfloat16) if name == "bfloat16" else nullcontext()


def seconds_of(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """How long a call takes by `clock`."""
    start = clock()
    work()
    return clock() - start


def as_one_epoch(settings: TrainingSettings, epochs: int) -> TrainingSettings:
    """The same training without anything between its epochs: no choice, no patience."""
    return replace(settings, epochs=epochs, select="last", patience=None)

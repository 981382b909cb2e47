"""Which encoder is best at equal cost: residual, ConvNeXt-like, small transformer, or with self-supervision?

All learn from the same labelled cells with the same changes of appearance. First a training step of each is
timed, in turns; then each gets as many epochs as cost what `--epochs` of the residual one cost. "views" is
the residual one with a self-supervised loss beside the labels: every cell is shown twice, changed
differently, and its two views are to be alike and those of different cells apart (SimCLR, Chen et al. 2020),
as a sum of both losses. Compared are accuracies on the cells held out, and what a regression on mean and
spread of a patient's embeddings makes of cohorts whose cells were left out of the training (`--leave-out`),
in one round of five folds, with 95 % intervals.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/encoder_trials.py DATA/pbc_cells --epochs 10 --folder trials \\
        --leave-out DATA/cohorts/dev_truth/manifest.csv --cohort DATA/cohorts/dev --out encoder_trials.md
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lymphoscope.encoders import supervised
from lymphoscope.encoders.architectures import DEFAULT_SIZES, Architecture
from lymphoscope.encoders.labelled_cells import LabelledCells, Task
from lymphoscope.encoders.multitask import MultitaskNetwork, masked_loss
from lymphoscope.encoders.steps import ShownSteps, torch_seed
from lymphoscope.encoders.supervised import APPEARANCE, AUGMENTATION, NORMALISATION, SupervisedSettings
from lymphoscope.encoders.trained import train_encoder
from lymphoscope.evaluation.evaluator import evaluate
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.files import write_text
from lymphoscope.models.registry import create_model
from lymphoscope.pipeline.preparation import default_cache, prepare
from lymphoscope.training.augmentation import augment
from lymphoscope.training.balancing import batches
from lymphoscope.training.contrastive import nt_xent
from lymphoscope.training.learner import Learner
from lymphoscope.training.machine import autocast, fastest_precision, keep_memory

VIEWS = "views"
TRIALS = {"residual": "residual", VIEWS: "residual", "convnext": "convnext", "vit": "vit"}
"""Names of the trials, and the architecture of each."""

TASKS = ("cell_type", "chromatin_density", "nucleus_shape", "cell_size", "cell_shape", "cytoplasm_colour")
_TEMPERATURE, _PROJECTION = 0.1, 64
_CPU = torch.device("cpu")


def epoch_with_views(
    learner: Learner,
    cells: LabelledCells,
    weights: Sequence[Tensor],
    settings: SupervisedSettings,
    epoch: int,
    device: torch.device,
    shown: ShownSteps,
) -> float:
    """One pass over the cells, each in two views; in the place of the one with labels alone."""
    order = np.random.default_rng([settings.seed, epoch, 1]).permutation(len(cells)).astype(np.int64)
    looks = np.random.default_rng([settings.seed, epoch, 3])
    colours = torch.Generator().manual_seed(torch_seed(settings.seed, epoch, 2))
    network, total = learner.network.train(), 0.0
    assert isinstance(network, MultitaskNetwork)
    for rows in batches(order, settings.batch_size):
        changed = [APPEARANCE.change(cells.images[rows], cells.masks[rows], looks) for _ in range(2)]
        batch = torch.from_numpy(np.concatenate(changed)).to(device)
        photographs = augment(batch, AUGMENTATION, NORMALISATION, colours)
        target = torch.from_numpy(np.concatenate([cells.targets[rows]] * 2)).to(device)
        with autocast(settings.engine, device):
            seen = network.embedder(photographs)
            logits = [head(seen) for head in network.heads.values()]
        first, second = (seen.float() @ _projection(seen.shape[1])).chunk(2)
        loss = masked_loss(logits, target, weights) + nt_xent(first, second, _TEMPERATURE)
        learner.step(loss)
        total += loss.item() * len(rows)
        shown.step(epoch, len(rows), loss.item())
    return total / len(cells)


def _projection(width: int) -> Tensor:
    """A fixed random projection, so that the comparison of views adds no weights."""
    chance = torch.Generator().manual_seed(0)
    return torch.randn((width, _PROJECTION), generator=chance) / width**0.5


def seconds_per_step(batch: int, rounds: int = 5) -> dict[str, float]:
    """Median seconds of a training step for `batch` cells, all trials in turns; the first round warms up."""
    keep_memory()
    images = torch.randint(0, 256, (batch, 112, 112, 3), dtype=torch.uint8)
    settings = SupervisedSettings(precision=fastest_precision(_CPU))
    learners: dict[str, Learner] = {}
    for name, kind in TRIALS.items():
        torch.manual_seed(0)
        embedder = Architecture(kind, *DEFAULT_SIZES[kind]).build()
        learners[name] = Learner(
            MultitaskNetwork(embedder, (Task("cell_type", ("a", "b")),)), settings.engine
        )
    times: dict[str, list[float]] = {name: [] for name in TRIALS}
    for _ in range(rounds + 1):
        for name, learner in learners.items():
            shown = torch.cat([images, images]) if name == VIEWS else images
            began = time.perf_counter()
            for _ in range(2):
                seen = augment(shown, AUGMENTATION, NORMALISATION, torch.Generator().manual_seed(0))
                with autocast(settings.engine, _CPU):
                    (logits,) = learner.network.train()(seen)
                learner.step(nn.functional.cross_entropy(logits.float(), torch.zeros(len(seen)).long()))
            times[name].append((time.perf_counter() - began) / 2)
    return {name: statistics.median(each[1:]) for name, each in times.items()}


def trained(name: str, epochs: int, options: argparse.Namespace) -> dict[str, Any]:
    """The card of a trial; trained unless its folder is there."""
    out = options.folder / f"{name}-{epochs}"
    if not out.exists():
        usual = supervised._epoch
        supervised._epoch = epoch_with_views if name == VIEWS else usual
        try:
            kind = TRIALS[name]
            settings = SupervisedSettings(epochs=epochs, precision=fastest_precision(_CPU), seed=options.seed)
            architecture = Architecture(kind, *DEFAULT_SIZES[kind])
            train_encoder(options.cells, out, architecture, settings, leave_out=options.leave_out)
        finally:
            supervised._epoch = usual
    return dict(json.loads((out / "card.json").read_text("utf-8"))) | {"folder": out}


def on_patients(cohort: Path, encoder: Path, options: argparse.Namespace) -> str:
    """AUC and balanced accuracy of `encoder-mean` on a cohort."""
    prepared = prepare(cohort, cache=options.cache or default_cache(), encoder=encoder, jobs=options.jobs)
    model = create_model("encoder-mean")
    bags = prepared.bags_for(model)[prepared.labelled]
    found = evaluate(model, bags, prepared.labels, Protocol(repeats=1), jobs=options.jobs).overall
    values = (found.auc, found.balanced_accuracy)
    return " | ".join(f"{x.estimate:.3f} [{x.low:.3f}, {x.high:.3f}]" for x in values if x)


def main() -> None:
    """Train, measure, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cells", type=Path, help="folder of labelled cells")
    parser.add_argument("--leave-out", type=Path, help="table of cells that are left out")
    parser.add_argument("--cohort", type=Path, action="append", default=[], help="repeatable")
    parser.add_argument("--epochs", type=int, default=10, help="of the residual one")
    parser.add_argument("--folder", type=Path, default=Path("trials"), help="encoders are kept here")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    times = seconds_per_step(64)
    heads = [f"{each.name} {number}" for each in options.cohort for number in ("AUC", "BA")]
    columns = ["trial", "step s", "epochs", "parameters", *(task.replace("_", " ") for task in TASKS), *heads]
    lines = [f"| {' | '.join(columns)} |", f"|---|{'--:|' * (len(columns) - 1)}"]
    for name in TRIALS:
        epochs = max(1, round(options.epochs * times["residual"] / times[name]))
        card = trained(name, epochs, options)
        row = [name, f"{times[name]:.3f}", str(epochs), f"{card['architecture']['parameters']:,}"]
        row += [f"{card['validation'][task]['accuracy']:.3f}" for task in TASKS]
        row += [on_patients(each, card["folder"], options) for each in options.cohort]
        lines.append(f"| {' | '.join(row)} |")
        print(lines[-1], flush=True)
    text = (
        f"Encoders at equal cost, one thread, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}, seed "
        f"{options.seed}. Accuracy on cells held out; `encoder-mean` on patients.\n\n"
        + "\n".join(lines)
        + "\n"
    )
    print(text)
    if options.out:
        write_text(options.out, text)


if __name__ == "__main__":
    main()

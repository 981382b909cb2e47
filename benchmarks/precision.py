"""Mixed precision and memory layout, recipe by recipe, against plain single precision.

Images per second of bare training steps (forward, backward, optimiser) and of prediction, on float tensors
in memory: plain single precision in torch's default layout, single precision in channels-last memory, and
bfloat16 mixed precision in channels-last memory, in turns. The package trains as the recipe's `precision`
says and predicts in single precision, both in channels-last memory.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/precision.py --threads 1 --json precision.json
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from lymphoscope.files import write_json
from lymphoscope.training.machine import fastest_precision
from lymphoscope.training.settings import Precision
from network_trials import (
    FloatBatch,
    PlainTraining,
    bags_of,
    begin,
    cell_data,
    float_batches,
    image_model,
    logits_of,
    median,
    network_of,
    network_recipes,
    parser_of,
    precision,
    settings_of,
)

VARIANTS: dict[str, tuple[Precision, torch.memory_format]] = {
    "float32": ("float32", torch.contiguous_format),
    "float32, channels last": ("float32", torch.channels_last),
    "bfloat16, channels last": ("bfloat16", torch.channels_last),
}
PLAIN = "float32"


class Variant:
    """One recipe's network in one precision and layout."""

    def __init__(self, recipe: str, name: str, images: int) -> None:
        kind, layout = VARIANTS[name]
        model = image_model(recipe)
        settings = replace(settings_of(model), precision=kind, unit="cell", batch_size=images)
        sizes = np.full(8, -(-images // 8))
        crops = np.random.default_rng(0).integers(
            0, 256, (int(sizes.sum()), model.image_size, model.image_size, 3), dtype=np.uint8
        )
        bags, y = bags_of(crops, sizes)
        batch = float_batches(cell_data(bags, model), y, settings, 1, 1)[0]
        self.kind = kind
        self.batch = FloatBatch(
            batch.images.contiguous(memory_format=layout), batch.clinical, batch.labels, None
        )
        self.training = PlainTraining(network_of(model), settings, layout)

    def train(self) -> None:
        """One training step."""
        self.training.network.train()
        self.training.step(self.batch)

    @torch.inference_mode()
    def predict(self) -> None:
        """One batch of predictions."""
        self.training.network.eval()
        with precision(self.kind):
            logits_of(self.training.network, self.batch)


def seconds(work: Callable[[], None], at_least: float) -> float:
    """Of one call, over as many as fill the time."""
    work()
    start, calls = time.perf_counter(), 0
    while not calls or time.perf_counter() - start < at_least:
        work()
        calls += 1
    return (time.perf_counter() - start) / calls


def measure(recipe: str, images: int, rounds: int, at_least: float) -> dict[str, Any]:
    """Images per second of every variant, and the median of its ratio to plain single precision."""
    variants = {name: Variant(recipe, name, images) for name in VARIANTS}
    found: dict[str, Any] = {"recipe": recipe, "chosen": settings_of(image_model(recipe)).precision}
    for task in ("train", "predict"):
        times = [
            {name: seconds(getattr(each, task), at_least) for name, each in variants.items()}
            for _ in range(rounds)
        ]
        found[task] = {
            name: {
                "per_s": images / median(row[name] for row in times),
                "ratio": median(row[PLAIN] / row[name] for row in times),
            }
            for name in VARIANTS
        }
    return found


def main() -> None:
    """Parse, measure, print."""
    parser = parser_of(__doc__)
    parser.add_argument("--recipe", action="append", help="repeatable; default: every network")
    parser.add_argument("--images", type=int, default=16, help="per step")
    parser.add_argument("--seconds", type=float, default=0.5, help="least time per variant and round")
    options = parser.parse_args()
    begin(options.threads)
    print(
        f"fastest precision by the package's own rule: {fastest_precision(torch.device('cpu'))}\n"
        f"\n{options.images} images a step; plain float32 in images/s, the others against it"
        f"\n\n{'':34}{'float32':>9}{'channels last':>16}{'bfloat16, c. last':>20}   the recipe trains in"
    )
    rows = []
    for recipe in options.recipe or network_recipes():
        row = measure(recipe, options.images, options.rounds, options.seconds)
        rows.append(row)
        for task in ("train", "predict"):
            plain, *others = (row[task][name] for name in VARIANTS)
            first, second = (f"{each['ratio']:.2f}×" for each in others)
            cells = f"{first:>16}{second:>20}"
            chosen = row["chosen"] if task == "train" else ""
            print(f"{recipe if task == 'train' else '':26}{task:8}{plain['per_s']:9.1f}{cells}   {chosen}",
                  flush=True)  # fmt: skip
    print(f"medians of {options.rounds} rounds; load average {os.getloadavg()[0]:.1f} after")
    if options.json:
        write_json(options.json, {"threads": options.threads, "images": options.images, "rows": rows})


if __name__ == "__main__":
    main()

"""Can every network learn a handful of patients by heart? One that cannot has a fault, not too few patients.

Ten or so patients of a cohort, half of each class, are trained on by every recipe's own network, loss,
optimiser and rate, through the package's own loop: without augmentation and balancing, for many epochs of the
same few cells, and from the cells alone: age, count and sex are missing, or three numbers would tell ten
patients apart. Said is the first epoch after which all of these patients are told rightly, and their balanced
accuracy in the last one, measured while the network is trained, so with dropout. Whoever adds a network can
ask the same of it.

    python benchmarks/overfit.py cohorts/dev --recipe cnn-enhanced
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lymphoscope.files import write_json
from lymphoscope.models.base import EpochClassifier
from lymphoscope.models.registry import create_model, with_budget
from lymphoscope.pipeline.preparation import default_cache, prepare
from network_trials import network_recipes

PLAIN: dict[str, Any] = {
    "augmentation": "none",
    "balance": "none",
    "snapshots": 1,
    "selection": "last",
    "schedule": "constant",
    "patience": None,
    "cells_per_patient": 8,
}


def learn(task: tuple[Path, Path, str, int, int]) -> dict[str, Any]:
    """Train one recipe's network on a few patients."""
    cohort, cache, recipe, patients, epochs = task
    torch.set_num_threads(1)
    prepared = prepare(cohort, cache=cache, jobs=1)
    model = create_model(with_budget(recipe, "fast"), **PLAIN, epochs=epochs)
    assert isinstance(model, EpochClassifier)
    y = prepared.labels
    few = np.concatenate([np.flatnonzero(y == label)[: patients // 2] for label in (0, 1)])
    bags = prepared.bags_for(model, jobs=1)[prepared.labelled][few]
    bags = replace(bags, clinical=np.full_like(bags.clinical, np.nan))
    began = time.perf_counter()
    model.fit(bags, y[few])
    curve = [epoch.training.balanced_accuracy for epoch in model.history_]
    right = [number for number, value in enumerate(curve, 1) if value == 1]
    return {
        "recipe": recipe,
        "first": right[0] if right else None,
        "last": curve[-1],
        "loss": model.history_[-1].training.loss,
        "seconds": time.perf_counter() - began,
    }


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--recipe", action="append", help="repeatable; default: every network on photographs")
    parser.add_argument("--patients", type=int, default=14, help="a fifth of them only calibrate")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=2, help="trainings at once, one thread each")
    parser.add_argument("--cache", type=Path, help="of photographs; default: this user's")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cache = options.cache or default_cache()
    recipes = options.recipe or network_recipes()
    for recipe in recipes:  # crops are cut once, here
        prepare(options.cohort, cache=cache, jobs=options.jobs).bags_for(create_model(recipe))
    tasks = [(options.cohort, cache, recipe, options.patients, options.epochs) for recipe in recipes]
    print(f"{'recipe':28}all right after   BA at the end   loss at the end   seconds")
    found = []
    with ProcessPoolExecutor(options.jobs) as pool:
        for each in pool.map(learn, tasks):
            found.append(each)
            first = "never" if each["first"] is None else f"{each['first']} epochs"
            print(
                f"{each['recipe']:28}{first:>15}{each['last']:16.3f}{each['loss']:18.4f}{each['seconds']:10.0f}",
                flush=True,
            )
    if options.json:
        write_json(options.json, found)


if __name__ == "__main__":
    main()

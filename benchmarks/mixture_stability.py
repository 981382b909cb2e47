"""How steady is the mixture of experts, and what steadies it?

Its authors note that validation accuracies "could vary greatly from one epoch to the next". Here the same
split is trained with several seeds: without any remedy, with each remedy alone, and with all of them. The
learning rate is that of the recipe's budget, since at the report's, a tenth of it, few epochs teach little;
the report's own is among the remedies. Said of each: how far the validation balanced accuracy jumps from
epoch to epoch (mean absolute difference), and how far balanced accuracy and AUC on the held-out fifth of the
patients lie apart between seeds (standard deviation). That fifth is the same for all seeds; which of the
other patients choose the epoch is drawn with the seed, as in every training.

    python benchmarks/mixture_stability.py cohorts/dev --seeds 5 --json stability.json
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lymphoscope.cohort.splits import stratified_holdout
from lymphoscope.files import write_json
from lymphoscope.models.base import EpochClassifier
from lymphoscope.models.registry import create_model
from lymphoscope.pipeline.preparation import default_cache, prepare
from lymphoscope.stats.metrics import auc, balanced_accuracy

NONE: dict[str, Any] = {"average": 0.0, "pretraining": 0, "expert_loss": 0.0}
"""None of the remedies that are settings; the small gate that begins undecided is part of the network."""

VARIANTS: dict[str, dict[str, Any]] = {
    "none": NONE,
    "average of the weights": NONE | {"average": 0.98},
    "pretrained clinical expert": NONE | {"pretraining": 300},
    "a loss for each expert": NONE | {"expert_loss": 1.0},
    "a gate of a quarter": NONE | {"gate_width": 4},
    "a quarter of the cells a step": NONE | {"cells_per_patient": 4},
    "all cells a step": NONE | {"cells_per_patient": None},
    "a third of the rate": NONE | {"learning_rate": 3e-4},
    "rate of the report": NONE | {"learning_rate": 1e-4},
    "all (the recipe)": {},
}


def trained(task: tuple[Path, Path, str, dict[str, Any], int, int]) -> dict[str, Any]:
    """One training: validation balanced accuracy of every epoch, and the scores on who was held out."""
    cohort, cache, recipe, settings, seed, threads = task
    torch.set_num_threads(threads)
    prepared = prepare(cohort, cache=cache, jobs=1)
    model = create_model(recipe, random_state=seed, **settings)
    assert isinstance(model, EpochClassifier)
    bags, y = prepared.bags_for(model, jobs=1)[prepared.labelled], prepared.labels
    (split,) = stratified_holdout(y, round(len(y) / 5), seed=0)
    model.fit(bags[split.train], y[split.train])
    probability = model.predict_proba(bags[split.test])[:, 1]
    truth, decided = y[split.test], (probability >= model.threshold_).astype(int)
    curve: list[float] = []
    for epoch in model.history_:
        assert epoch.validation is not None  # a recipe that chooses its epoch holds patients out for it
        curve.append(epoch.validation.balanced_accuracy)
    return {
        "jump": float(np.mean([abs(b - a) for a, b in pairwise(curve)])),
        "ba": float(balanced_accuracy(truth, decided)),
        "auc": float(auc(truth, probability)),
        "curve": curve,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--recipe", default="mixture-of-experts@fast")
    parser.add_argument("--variant", choices=[*VARIANTS], action="append", help="repeatable; default: all")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2, help="trainings at once, one thread each")
    parser.add_argument("--cache", type=Path, help="of photographs; default: this user's")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cache = options.cache or default_cache()
    prepare(options.cohort, cache=cache, jobs=options.jobs).bags_for(create_model(options.recipe))
    found: dict[str, list[dict[str, Any]]] = {}
    print(f"{'':28} jump from epoch to epoch      BA: mean, sd over seeds   AUC: mean, sd")
    for variant in options.variant or VARIANTS:
        tasks = [
            (options.cohort, cache, options.recipe, VARIANTS[variant], seed, 1)
            for seed in range(options.seeds)
        ]
        with ProcessPoolExecutor(options.jobs) as pool:
            found[variant] = list(pool.map(trained, tasks))
        jump, ba, area = (np.array([run[key] for run in found[variant]]) for key in ("jump", "ba", "auc"))
        print(
            f"{variant:28} {jump.mean():.3f} (largest of a seed {jump.max():.3f})   "
            f"{ba.mean():.3f}, {ba.std(ddof=1):.3f}            {area.mean():.3f}, {area.std(ddof=1):.3f}",
            flush=True,
        )
    if options.json:
        write_json(options.json, found)


if __name__ == "__main__":
    main()

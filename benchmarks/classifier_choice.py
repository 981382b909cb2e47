"""What is gained by choosing a classifier on the folds that are then reported, as the report of SCAN did?

In every outer fold clusters are learned and all of scikit-learn's classifiers compared in inner folds of the
training patients, and the best is kept, as the recipe does. Said are the balanced accuracy of that best one
on the very inner folds that chose it, which is how the report scores itself, and that of its predictions for
the outer fold's patients, whom nobody has looked at. The difference is optimism, apart from what a quarter
more patients to learn from are worth, which works against it. Every seed deals other folds, and begins
clusters and classifiers anew; what they scatter by stands beside the mean.

    python benchmarks/classifier_choice.py cohorts/dev --seeds 5 --jobs 2
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lymphoscope.cohort.splits import repeated_stratified
from lymphoscope.models.registry import create_model
from lymphoscope.models.scan_clusters import ScanClusters
from lymphoscope.pipeline.preparation import default_cache, prepare
from lymphoscope.stats.metrics import balanced_accuracy


def one_fold(task: tuple[Path, Path, str, int, int, int]) -> dict[str, Any]:
    """The choice within the training patients of one fold, and what it says of the others."""
    cohort, cache, recipe, folds, fold, seed = task
    torch.set_num_threads(1)
    prepared = prepare(cohort, cache=cache, jobs=1)
    model = create_model(recipe, random_state=seed)
    assert isinstance(model, ScanClusters)
    bags, y = prepared.bags_for(model, jobs=1)[prepared.labelled], prepared.labels
    split = repeated_stratified(y, folds=folds, repeats=1, seed=seed)[fold]
    taught = y[split.train]
    model.fit(bags[split.train], taught)
    compared = model.comparison_
    best = compared.best(taught)
    said = compared.calibrations(taught)[best].probability(compared.scores[best])
    return {
        "classifier": compared.names[best],
        "where_chosen": float(balanced_accuracy(taught, said >= taught.mean())),
        "test": split.test,
        "decision": model.predict(bags[split.test]),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--recipe", default="scan-clusters@fast")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2, help="folds at once, one thread each")
    parser.add_argument("--cache", type=Path, help="of photographs; default: this user's")
    options = parser.parse_args()
    cache = options.cache or default_cache()
    prepared = prepare(options.cohort, cache=cache, jobs=options.jobs)
    prepared.bags_for(create_model(options.recipe))
    print(
        f"{options.recipe}, {len(prepared.labels)} patients, {options.folds} folds, {options.seeds} seeds\n"
    )
    print("seed   BA where chosen   of patients not seen   optimism   kept")
    gains = []
    with ProcessPoolExecutor(options.jobs) as pool:
        for seed in range(options.seeds):
            folds = range(options.folds)
            tasks = [(options.cohort, cache, options.recipe, options.folds, fold, seed) for fold in folds]
            found = list(pool.map(one_fold, tasks))
            own, honest = both(found, prepared.labels)
            gains.append(own - honest)
            kept = ", ".join(each["classifier"] for each in found)
            print(f"{seed:4} {own:17.3f} {honest:22.3f} {gains[-1]:+10.3f}   {kept}", flush=True)
    print(f"\noptimism {np.mean(gains):+.3f}, standard deviation over seeds {np.std(gains, ddof=1):.3f}")


def both(found: list[dict[str, Any]], y: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Balanced accuracy on the folds that chose, in the mean, and of patients whom nobody had looked at."""
    decision = np.empty(len(y), dtype=np.int64)
    for each in found:
        decision[each["test"]] = each["decision"]
    own = float(np.mean([each["where_chosen"] for each in found]))
    return own, float(balanced_accuracy(y, decision))


if __name__ == "__main__":
    main()

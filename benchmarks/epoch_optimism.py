"""What is gained by choosing the epoch on the patients that are scored, as the reports did?

The labels of a cohort's patients are shuffled, so that nothing can be learned and an honest balanced accuracy
is 0.5 (on one cohort a little less: whoever is tested is missing from the training patients, which tilts the
two in opposite directions). The same recipe is then evaluated with both rules on the same folds. What the
reports' rule shows above the honest one is luck, of which new patients see nothing. With `--true` the labels
are left as they are and only the folds and seeds change: there the two rules also differ in that the honest
one trains on a fifth fewer patients, by which it calibrates.

    python benchmarks/epoch_optimism.py cohorts/dev --recipe cnn-clinical@fast --shuffles 10
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from lymphoscope.evaluation.evaluator import evaluate
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.files import write_json
from lymphoscope.models.base import SCORED_FOLD
from lymphoscope.models.registry import create_model
from lymphoscope.pipeline.preparation import default_cache, prepare
from results_row import code_hash

RULES = ("inner", SCORED_FOLD)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--recipe", default="cnn-clinical@fast")
    parser.add_argument("--shuffles", type=int, default=10, help="or rounds with the true labels")
    parser.add_argument("--true", action="store_true", help="leave the labels as they are")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--cache", type=Path, help="of photographs; default: this user's")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    prepared = prepare(options.cohort, cache=options.cache or default_cache(), jobs=options.jobs)
    models = {rule: create_model(options.recipe, selection=rule, snapshots=1) for rule in RULES}
    bags = prepared.bags_for(models["inner"], jobs=options.jobs)[prepared.labelled]
    scores = np.empty((options.shuffles, len(RULES)))
    print(f"code {code_hash()}; round, honest, reports' rule", flush=True)
    for number in range(options.shuffles):
        y = prepared.labels
        if not options.true:
            y = np.random.default_rng(np.random.SeedSequence([number])).permutation(y)
        protocol = Protocol(repeats=1, seed=number, bootstrap=100)
        for k, rule in enumerate(RULES):
            found = evaluate(models[rule], bags, y, protocol, jobs=options.jobs, name=rule).overall
            if found.balanced_accuracy is None:
                raise SystemExit("too few patients of a class")
            scores[number, k] = found.balanced_accuracy.estimate
        print(f"{number + 1:3d}  " + "  ".join(f"{x:.3f}" for x in scores[number]), flush=True)
    labels = "true labels" if options.true else "shuffled labels"
    print(f"{options.recipe}, {len(bags)} patients, {options.shuffles} rounds, {labels}: balanced accuracy")
    gains = {"honest": scores[:, 0], "reports' rule": scores[:, 1], "difference": scores[:, 1] - scores[:, 0]}
    for name, values in gains.items():
        print(f"{name:14s} {values.mean():+.3f} ± {values.std(ddof=1) / np.sqrt(len(values)):.3f}")
    if options.json:
        write_json(options.json, {name: values.tolist() for name, values in gains.items()})


if __name__ == "__main__":
    main()

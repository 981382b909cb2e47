"""What do clusters gain that have seen the cells of the patients who are scored, though not their labels?

The same recipe of clusters is evaluated on the same folds twice: inductive, clusters learned from the
training patients' cells alone, and transductive, from those of the test patients as well. Seeds differ
between repeats and folds, not between the two. The differences in balanced accuracy and AUC, transductive
minus inductive, are paired by patient, with bootstrap intervals over patients; with several repeats, how a
network happens to begin is in the spread between them. Every fold that is finished is kept in `--pieces`, so
that a run that was stopped goes on there.

    python benchmarks/transductive_clusters.py cohorts/dev --repeats 2 --json transductive.json
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np

from lymphoscope.evaluation.evaluator import compare, evaluate
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.evaluation.results import Evaluation
from lymphoscope.files import write_json
from lymphoscope.models.clusters.parts import CollapseWarning
from lymphoscope.models.registry import create_model
from lymphoscope.pipeline.preparation import default_cache, prepare
from lymphoscope.stats.intervals import Interval

NAMES = ("inductive", "transductive")


def in_words(found: Interval | None, sign: str = "") -> str:
    """ "0.712 (0.603 to 0.802)", with the sign shown where `sign` is "+"."""
    if found is None:
        return "not measured"
    value, low, high = (f"{each:{sign}.3f}" for each in (found.estimate, found.low, found.high))
    return f"{value} ({low} to {high})"


def by_repeat(found: Evaluation) -> np.ndarray:
    """Balanced accuracy of each repeat, (n_repeats,)."""
    seen = found.out_of_fold
    right = seen.decision == seen.y
    return np.asarray((right[:, seen.y == 1].mean(axis=1) + right[:, seen.y == 0].mean(axis=1)) / 2)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--recipe", default="scan-clusters@fast")
    parser.add_argument("--classifiers", nargs="+", help="to choose from; default: all of scikit-learn's")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--cache", type=Path, help="of photographs; default: this user's")
    parser.add_argument("--pieces", type=Path, help="folder for finished folds")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore", CollapseWarning)
    chosen = {} if options.classifiers is None else {"classifiers": tuple(options.classifiers)}
    prepared = prepare(options.cohort, cache=options.cache or default_cache(), jobs=options.jobs)
    protocol = Protocol(folds=options.folds, repeats=options.repeats)
    bags = prepared.bags_for(create_model(options.recipe))[prepared.labelled]
    found = {
        name: evaluate(
            create_model(options.recipe, transductive=name == "transductive", **chosen),
            bags,
            prepared.labels,
            protocol,
            jobs=options.jobs,
            pieces=options.pieces,
            name=name,
        )
        for name in NAMES
    }
    print(f"{options.recipe}, {len(bags)} patients, {len(bags.cells)} cells, {protocol.sentence()}")
    for name, each in found.items():
        overall, repeats = each.overall, ", ".join(f"{x:.3f}" for x in by_repeat(each))
        print(f"{name:13} balanced accuracy {in_words(overall.balanced_accuracy)}, by repeat {repeats}")
        print(f"{'':13} AUC {in_words(overall.auc)}; {each.out_of_fold.seconds:.0f} s")
    difference = compare(found["inductive"], found["transductive"])
    print(f"{'difference':13} balanced accuracy {in_words(difference.balanced_accuracy, '+')}")
    print(f"{'':13} AUC {in_words(difference.auc, '+')}")
    print(difference.sentence)
    if options.json:
        rows = {name: each.as_dict() for name, each in found.items()}
        write_json(
            options.json, {"recipe": options.recipe, **chosen, **rows, "difference": difference.as_dict()}
        )


if __name__ == "__main__":
    main()

"""With labels drawn at random there is nothing to learn: does every recipe then score 0.5?

Labels are shuffled between patients many times, and each recipe is evaluated on each shuffle. Its mean
balanced accuracy must lie within 3 standard errors of 0.5. So that this check is known to notice what it is
for, it is repeated with planted leaks, where it must fail:

- copies: every patient stands in the cohort twice, under two names;
- selection: of 300 random columns those that go best with the labels are picked before the folds are made.

Each shuffle takes other patients from a large pool. On one fixed cohort (`--fixed`) the mean lies below 0.5,
and rightly so: whoever is in the test fold is missing from the training patients, so that the two differ in
opposite directions from the cohort's mean (Jamalabadi et al. 2016, "below-chance" rates). New patients have
no such tie to the training patients, and with them the expectation is 0.5.

    python benchmarks/permutations.py --permutations 50 --jobs 2
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from lymphoscope.cohort.bags import Bags, IntArray, segment_mean
from lymphoscope.cohort.synthetic.numbers import draw_numbers
from lymphoscope.cohort.synthetic.plan import SyntheticPlan
from lymphoscope.evaluation.evaluator import evaluate
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.evaluation.resampling import resample, run_tasks
from lymphoscope.files import write_json

ALLOWED_STANDARD_ERRORS = 3.0
POOL = 20
CHUNK = 10

Change = Callable[[Bags, IntArray], tuple[Bags, IntArray]]


def honest(bags: Bags, y: IntArray) -> tuple[Bags, IntArray]:
    """Nothing is changed."""
    return bags, y


def copies(bags: Bags, y: IntArray) -> tuple[Bags, IntArray]:
    """Every patient twice, under two names."""
    twice = np.repeat(np.arange(len(y)), 2)
    return resample(bags, twice), y[twice]


def selection(bags: Bags, y: IntArray) -> tuple[Bags, IntArray]:
    """The ten of 300 random columns whose patient means differ most between all patients' labels."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(len(bags.cells), 300)) + rng.normal(size=(len(y), 300))[bags.patient_of_cell]
    means = segment_mean(noise, bags.offsets)
    gap = np.abs(means[y == 1].mean(0) - means[y == 0].mean(0))
    best = np.argsort(gap)[-10:]
    names = tuple(f"nucleus_random_{k}" for k in range(10))
    return replace(bags, cells=noise[:, best].astype(np.float32), columns=names), y


def shuffles(
    recipe: str,
    change: Change,
    patients: int,
    cells: int,
    repeats: int,
    fixed: bool,
    numbers: tuple[int, ...],
) -> list[tuple[float, float]]:
    """Balanced accuracy and AUC of some shuffles, each a mean over repeats."""
    pool, labels = draw_numbers(SyntheticPlan(cells=cells), patients if fixed else POOL * patients, 0)
    scores = []
    for number in numbers:
        rng = np.random.default_rng(np.random.SeedSequence([number]))
        chosen = np.arange(patients) if fixed else rng.choice(len(pool), patients, replace=False)
        # The share of malignant patients is the cohort's own, whoever was chosen.
        shuffled = rng.permutation(labels[:patients].astype(np.int64))
        bags, y = change(pool[chosen], shuffled)
        found = evaluate(recipe, bags, y, Protocol(repeats=repeats, seed=number, bootstrap=100)).overall
        if found.balanced_accuracy is None or found.auc is None:
            raise SystemExit("too few patients of a class")
        scores.append((found.balanced_accuracy.estimate, found.auc.estimate))
    return scores


def standard_errors(scores: np.ndarray) -> float:
    """How far the mean lies from 0.5."""
    return float((scores.mean() - 0.5) / (scores.std(ddof=1) / np.sqrt(len(scores))))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--permutations", type=int, default=50)
    parser.add_argument("--patients", type=int, default=163)
    parser.add_argument("--cells", type=int, default=16, help="median cells per patient")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--recipes", nargs="+", default=["clinical", "morphology", "morphology-clinical"])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--fixed", action="store_true", help="shuffle the labels of one fixed cohort")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    plan = [(recipe, honest, False) for recipe in options.recipes]
    plan += [("clinical-forest", copies, True), ("morphology", selection, True)]
    print(f"{'recipe':28s} {'leak':10s} mean BA  standard error  distance  mean AUC  distance")
    rows, wrong = [], 0
    for recipe, change, leaks in plan:
        chunks = np.array_split(np.arange(options.permutations), max(1, options.permutations // CHUNK))
        tasks = [
            (recipe, change, options.patients, options.cells, options.repeats, options.fixed, tuple(each))
            for each in chunks
        ]
        scores = np.array([pair for found in run_tasks(shuffles, tasks, options.jobs) for pair in found])
        mean, error = scores[:, 0].mean(), scores[:, 0].std(ddof=1) / np.sqrt(len(scores))
        distance = standard_errors(scores[:, 0])
        passed = abs(distance) <= ALLOWED_STANDARD_ERRORS
        wrong += passed == leaks
        verdict = "as it must" if passed != leaks else "WRONG"
        print(
            f"{recipe:28s} {change.__name__:10s} {mean:7.4f} {error:15.4f} {distance:+9.1f} "
            f"{scores[:, 1].mean():9.4f} {standard_errors(scores[:, 1]):+9.1f}  "
            f"{'passes' if passed else 'fails'}, {verdict}",
            flush=True,
        )
        rows.append({"recipe": recipe, "leak": change.__name__, "mean": float(mean), "error": float(error)})
    if options.json:
        write_json(options.json, rows)
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()

"""How strong the planted effects of a default synthetic cohort are, measured as a user would measure them.

For each seed a cohort is painted, read, decoded, segmented and measured, and recipes are cross-validated on
its labelled patients. With `--numbers` the per-cell numbers are drawn without pixels instead: seconds, not
minutes. Every finished seed is kept in `--folder`, so that a stopped run goes on where it was.

    python benchmarks/synthetic_effects.py --seeds 20 --jobs 2 --folder effects
    python benchmarks/synthetic_effects.py --seeds 20 --numbers
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from lymphoscope.cells.numbers import cell_numbers
from lymphoscope.cohort.bags import Bags, IntArray
from lymphoscope.cohort.cell_store import number_bags, open_store
from lymphoscope.cohort.read import read_cohort
from lymphoscope.cohort.synthetic import SyntheticPlan, draw_numbers, synthesize
from lymphoscope.evaluation.folds import out_of_fold
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.files import write_json
from lymphoscope.stats.metrics import auc, balanced_accuracy

RECIPES = ("clinical", "morphology", "morphology-clinical")
OVERLAP_LIMIT = 10.47
TARGETS = {
    "clinical BA": "0.83 ± 0.02",
    "morphology BA": "0.85 ± 0.02",
    "bag size AUC": "0.80",
    "overlap patients": "96",
    "overlap malignant": "46",
    "reactive above 10.47": "0",
}


def painted_bags(plan: SyntheticPlan, jobs: int) -> tuple[Bags, IntArray]:
    """Per-cell numbers of the labelled patients of a painted cohort, by way of its files."""
    with tempfile.TemporaryDirectory() as folder:
        made = synthesize(plan, Path(folder) / "cohort", jobs=jobs)
        cohort = read_cohort(made.cohort)
        store = open_store(cohort, Path(folder) / "cache", jobs=jobs)
        numbers = cell_numbers(store, jobs=jobs)
        bags = number_bags(cohort, store, numbers.values, numbers.columns)
        labelled = np.flatnonzero(cohort.patients.label >= 0)
        return bags[labelled], cohort.patients.label[labelled].astype(np.int64)


def effects(bags: Bags, y: IntArray, repeats: int, jobs: int) -> dict[str, float]:
    """What the recipes and the bag sizes make of one cohort."""
    zone = bags.clinical[:, 2] <= OVERLAP_LIMIT
    splits = Protocol(repeats=repeats).splits(y)
    row = {}
    for recipe in RECIPES:
        out = out_of_fold(recipe, bags, y, splits, jobs=jobs)
        row[f"{recipe} BA"] = float(np.mean([balanced_accuracy(y, d) for d in out.decision]))
        row[f"{recipe} AUC"] = auc(y, out.mean_probability)
        row[f"{recipe} BA, overlap"] = float(
            np.mean([balanced_accuracy(y[zone], d[zone]) for d in out.decision])
        )
        row[f"{recipe} AUC, overlap"] = auc(y[zone], out.mean_probability[zone])
    row["bag size AUC"] = auc(y, bags.counts)
    row["bag size AUC, overlap"] = auc(y[zone], bags.counts[zone])
    row["overlap patients"] = float(zone.sum())
    row["overlap malignant"] = float(zone[y == 1].sum())
    row["reactive above 10.47"] = float((~zone[y == 0]).sum())
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=2, help="of the 5-fold cross-validation")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--numbers", action="store_true", help="draw per-cell numbers, paint nothing")
    parser.add_argument("--folder", type=Path, help="keep finished seeds here, and go on from them")
    parser.add_argument("--json", type=Path, help="write the rows")
    options = parser.parse_args()
    rows = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        kept = options.folder and options.folder / f"{seed:04d}.json"
        if kept and kept.exists():
            rows.append(json.loads(kept.read_text("utf-8")))
            continue
        started = time.monotonic()
        plan = SyntheticPlan(test=0, seed=seed)
        if options.numbers:
            bags, label = draw_numbers(plan, plan.patients, seed)
            y = label.astype(np.int64)
        else:
            bags, y = painted_bags(plan, options.jobs)
        rows.append(effects(bags, y, options.repeats, options.jobs))
        if kept:
            write_json(kept, rows[-1])
        print(f"seed {seed}: {len(bags.cells)} cells, {time.monotonic() - started:.0f} s", flush=True)
    print(f"\n{'':34s} {'mean':>7s} {'± SE':>7s} {'lowest':>7s} {'highest':>7s}  target")
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
        numbers = f"{values.mean():7.3f} {error:7.3f} {values.min():7.3f} {values.max():7.3f}"
        print(f"{name:34s} {numbers}  {TARGETS.get(name, '')}")
    if options.json:
        write_json(options.json, rows)


if __name__ == "__main__":
    main()

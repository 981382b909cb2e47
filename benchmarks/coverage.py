"""Do the 95 % intervals that `evaluate` prints hold the true value in 95 of 100 cohorts?

For each of many synthetic cohorts (per-cell numbers, no pixels) a recipe is evaluated as a user would,
fitting included. The truth is what the same recipe, fitted on the whole cohort, reaches on a huge population
from the same source. Counted is how often the printed interval holds the truth.

The population's cells are condensed to two per patient with the same mean and spread, which is all that the
recipes measured here look at; that this changes no prediction is checked for every recipe at the start.
Results are kept per cohort in `--folder` (one JSON file each), so that a stopped run goes on where it was.

    python benchmarks/coverage.py --cohorts 1000 --jobs 2 --folder coverage
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lymphoscope.cohort.bags import Bags, IntArray, segment_mean, segment_std
from lymphoscope.cohort.synthetic.numbers import draw_numbers
from lymphoscope.cohort.synthetic.plan import SyntheticPlan
from lymphoscope.evaluation.evaluator import compare, evaluate, in_zone
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.evaluation.resampling import as_model, derived_seed, fit, malignancy, one_thread, run_tasks
from lymphoscope.evaluation.results import Zone
from lymphoscope.files import atomic_path, write_json
from lymphoscope.stats.metrics import auc, balanced_accuracy, brier, sensitivity, specificity

ZONES: tuple[Zone, Zone] = ("overall", "overlap")
POPULATION_SEED = 987_654_321
PART = 5_000
METRICS = ("balanced_accuracy", "sensitivity", "specificity", "auc", "brier")


@dataclass(frozen=True)
class Setting:
    """What one cohort is and how it is evaluated."""

    recipes: tuple[str, ...]
    patients: int
    population: int
    protocol: Protocol
    folder: Path
    pieces: Path | None


def condensed(bags: Bags) -> Bags:
    """Two cells per patient, m ± s / 2, with the mean m and the unbiased spread s of all its cells."""
    n = bags.counts[:, None]
    mean = segment_mean(bags.cells, bags.offsets)
    spread = segment_std(bags.cells, bags.offsets) * np.sqrt(n / (n - 1.5))
    cells = np.stack([mean - spread / 2, mean + spread / 2], axis=1).reshape(2 * len(bags), -1)
    offsets = 2 * np.arange(len(bags) + 1)
    return Bags(cells.astype(np.float32), offsets, bags.clinical, bags.patient_ids, bags.columns)


def population(setting: Setting) -> tuple[Bags, IntArray]:
    """The huge population: drawn once, in parts so that its cells never lie in memory at once, then read."""
    kept = setting.folder / f"population-{setting.population}.npz"
    if not kept.exists():
        cells, clinical, labels = [], [], []
        for k, start in enumerate(range(0, setting.population, PART)):
            size = min(PART, setting.population - start)
            bags, y = draw_numbers(SyntheticPlan(), size, POPULATION_SEED + k)
            cells.append(condensed(bags).cells)
            clinical.append(bags.clinical)
            labels.append(y)
        kept.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(kept) as target, target.open("wb") as stream:
            np.savez(
                stream,
                cells=np.concatenate(cells),
                clinical=np.concatenate(clinical),
                y=np.concatenate(labels),
                columns=np.array(bags.columns),
            )
    with np.load(kept) as stored:
        n = len(stored["y"])
        ids = tuple(str(i) for i in range(n))
        bags = Bags(
            stored["cells"], 2 * np.arange(n + 1), stored["clinical"], ids, tuple(stored["columns"].tolist())
        )
        return bags, stored["y"].astype(np.int64)


def check_condensing(recipe: str) -> None:
    """Fail if the recipe tells condensed patients from whole ones."""
    bags, y = draw_numbers(SyntheticPlan(), 300, POPULATION_SEED)
    model = fit(as_model(recipe), bags, y.astype(np.int64), 0)
    gap = np.abs(malignancy(model, bags) - malignancy(model, condensed(bags))).max()
    if gap > 1e-4:
        raise SystemExit(f"{recipe} looks at more than mean and spread (gap {gap:.2g}): measure it otherwise")


def one_cohort(setting: Setting, people: tuple[Bags, IntArray], number: int) -> None:
    """Evaluate every recipe on cohort `number` and write what was printed beside the truth."""
    target = setting.folder / f"{number:05d}.json"
    if target.exists():
        return
    bags, labels = draw_numbers(SyntheticPlan(), setting.patients, number)
    y = labels.astype(np.int64)
    evaluations, truths = {}, {}
    for recipe in setting.recipes:
        evaluations[recipe] = evaluate(recipe, bags, y, setting.protocol, pieces=setting.pieces)
        truths[recipe] = truth(recipe, bags, y, setting, people)
    rows = [
        {"recipe": recipe, "zone": zone, "metric": metric, "truth": truths[recipe][zone][metric], **interval}
        for recipe, evaluation in evaluations.items()
        for zone, result in zip(ZONES, (evaluation.overall, evaluation.overlap), strict=True)
        for metric in METRICS
        if (value := result.metric(metric)) is not None
        for interval in [value.as_dict()]
    ]
    for first, second in zip(setting.recipes, setting.recipes[1:], strict=False):
        for zone in ZONES:
            found = compare(evaluations[first], evaluations[second], zone)
            for metric, value in (("balanced_accuracy", found.balanced_accuracy), ("auc", found.auc)):
                if value is not None:
                    real = truths[second][zone][metric] - truths[first][zone][metric]
                    name = f"{second} minus {first}"
                    rows.append(
                        {"recipe": name, "zone": zone, "metric": metric, "truth": real, **value.as_dict()}
                    )
    write_json(target, rows)


def truth(
    recipe: str, bags: Bags, y: IntArray, setting: Setting, people: tuple[Bags, IntArray]
) -> dict[str, dict[str, float]]:
    """What the recipe, fitted on the whole cohort, reaches on the population."""
    model = as_model(recipe)
    population_bags, real = people
    with one_thread(model):
        fitted = fit(model, bags, y, derived_seed(setting.protocol.seed))
        p = malignancy(fitted, population_bags)
    called = (p >= fitted.threshold_).astype(np.int64)
    out: dict[str, dict[str, float]] = {}
    for zone in ZONES:
        inside = in_zone(population_bags.clinical[:, 2], zone, setting.protocol.overlap_limit)
        out[zone] = {
            "balanced_accuracy": balanced_accuracy(real[inside], called[inside]),
            "sensitivity": sensitivity(real[inside], called[inside]),
            "specificity": specificity(real[inside], called[inside]),
            "auc": auc(real[inside], p[inside]),
            "brier": brier(real[inside], p[inside]),
        }
    return out


def chunk(setting: Setting, numbers: tuple[int, ...]) -> int:
    """Several cohorts in one process, so that the population is read once."""
    people = population(setting)
    for number in numbers:
        one_cohort(setting, people, number)
    return len(numbers)


def table(folder: Path) -> list[dict[str, object]]:
    """Coverage of every recipe, zone and metric over the cohorts found in `folder`."""
    rows = [row for path in sorted(folder.glob("*.json")) for row in json.loads(path.read_text())]
    keys = dict.fromkeys((row["recipe"], row["zone"], row["metric"]) for row in rows)
    out: list[dict[str, object]] = []
    for key in keys:
        mine = [row for row in rows if (row["recipe"], row["zone"], row["metric"]) == key]
        low, high, real, estimate = (
            np.array([row[name] for row in mine], dtype=float)
            for name in ("low", "high", "truth", "estimate")
        )
        out.append(
            {
                "recipe": key[0],
                "zone": key[1],
                "metric": key[2],
                "cohorts": len(mine),
                "coverage": float(np.mean((low <= real) & (real <= high))),
                "truth below": float(np.mean(real < low)),
                "truth above": float(np.mean(real > high)),
                "mean truth": float(real.mean()),
                "bias": float((estimate - real).mean()),
                "error sd": float((estimate - real).std()),
                "mean width": float((high - low).mean()),
            }
        )
    return out


def show(rows: list[dict[str, object]]) -> None:
    """Print the table; a star marks coverage outside 93 to 97 %."""
    print(f"{'recipe':32s} {'zone':8s} {'metric':18s} cohorts coverage  below  above  truth   bias", end="")
    print("  error sd  width")
    for row in rows:
        star = " " if 0.93 <= float(str(row["coverage"])) <= 0.97 else "*"
        print(
            f"{row['recipe']:32s} {row['zone']:8s} {row['metric']:18s} {row['cohorts']:7d} "
            f"{row['coverage']:7.3f}{star} {row['truth below']:6.3f} {row['truth above']:6.3f} "
            f"{row['mean truth']:6.3f} {row['bias']:+6.3f} {row['error sd']:8.4f} {row['mean width']:7.4f}"
        )


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cohorts", type=int, default=1000)
    parser.add_argument("--patients", type=int, default=163)
    parser.add_argument("--recipes", nargs="+", default=["clinical", "morphology"])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--population", type=int, default=25_000)
    parser.add_argument(
        "--max-cells", type=int, default=None, help="cells per patient, cohorts and population"
    )
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", type=Path, required=True, help="where finished cohorts are kept")
    parser.add_argument("--pieces", type=Path, default=None, help="also keep finished folds, in this folder")
    parser.add_argument("--json", type=Path, default=None, help="also write the table here")
    parser.add_argument("--only-show", action="store_true")
    options = parser.parse_args()
    setting = Setting(
        tuple(options.recipes),
        options.patients,
        options.population,
        Protocol(folds=options.folds, repeats=options.repeats),
        options.folder,
        options.pieces,
    )
    if not options.only_show:
        for recipe in setting.recipes:
            check_condensing(recipe)
        population(setting)
        todo = [n for n in range(options.cohorts) if not (options.folder / f"{n:05d}.json").exists()]
        chunks = [tuple(todo[i : i + 10]) for i in range(0, len(todo), 10)]
        began, done = time.perf_counter(), 0
        for finished in run_tasks(chunk, [(setting, each) for each in chunks], options.jobs):
            done += finished
            rate = done / (time.perf_counter() - began)
            print(f"{done} of {len(todo)} cohorts, {rate:.2f}/s", file=sys.stderr, flush=True)
    rows = table(options.folder)
    show(rows)
    if options.json:
        write_json(options.json, rows)


if __name__ == "__main__":
    main()

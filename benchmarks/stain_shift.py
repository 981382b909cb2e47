"""What becomes of a network's answers when patients are stained and lit otherwise than those it learned
from?

For every seed a synthetic cohort is painted once for each shift: the same patients and cells, but the
stain, warmth and exposure of the test patients moved by so many standard deviations between patients. A
recipe learns from the labelled patients, which no shift touches, once for each way of preparing
photographs, and predicts the test patients of every shift. Printed are means over the seeds: AUC,
balanced accuracy at the model's own threshold, and rank correlation with what the same model said at
shift 0. The morphology recipe, whose numbers are measured against each photograph's background, and that
on the encoder, which has seen many stains, are the references. No clinical values take part, as they would
hide the difference; cells differ more than by default, so that a small network learns something.

    python benchmarks/stain_shift.py > benchmarks/results/stain_shift.txt
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from lymphoscope.cohort.synthetic import SyntheticPlan, synthesize
from lymphoscope.models.registry import create_model
from lymphoscope.pipeline.preparation import Prepared, prepare
from lymphoscope.stats.metrics import auc, balanced_accuracy

REFERENCES = ("morphology", "encoder-mean")
MEASURES = ("AUC", "balanced accuracy", "rank correlation")
WAYS: dict[str, dict[str, object]] = {
    "as they are": {"evened": False},
    "stain normalised": {"evened": False, "stain": "normalised"},
    "evened": {"evened": True},
    "stain normalised, evened": {"evened": True, "stain": "normalised"},
}


def painted(options: argparse.Namespace, seed: int, folder: Path) -> tuple[list[Prepared], list[np.ndarray]]:
    """The cohort of this seed at every shift, and the true labels of its test patients."""
    prepared, truths = [], []
    for shift in options.shifts:
        plan = SyntheticPlan(
            patients=options.patients,
            test=options.test,
            cells=options.cells,
            seed=seed,
            prevalence=0.5,
            morphology_effect=1.2,
            bag_size_slope=0.0,
            bag_size_spread=0.0,
            stain_shift=shift,
            dirt=False,
        )
        made = synthesize(plan, folder / f"cohort-{shift:g}", jobs=1)
        one = prepare(made.cohort, cache=folder / "cache", jobs=1)
        rows = (made.truth / "test_truth.csv").read_text("utf-8").splitlines()[1:]
        label = dict(row.split(",") for row in rows)
        ids = [one.cohort.patients.ids[i] for i in one.unlabelled]
        prepared.append(one)
        truths.append(np.array([int(label[each]) for each in ids]))
    return prepared, truths


def scores(
    name: str, settings: dict[str, object], cohorts: list[Prepared], truths: list[np.ndarray]
) -> np.ndarray:
    """`MEASURES` of the test patients at every shift, (3, n_shifts), fitted once on the labelled patients."""
    model = create_model(name, **settings)
    bags = [each.bags_for(model, jobs=1) for each in cohorts]
    model.fit(bags[0][cohorts[0].labelled], cohorts[0].labels)
    new = [each[one.unlabelled] for each, one in zip(bags, cohorts, strict=True)]
    said = [model.predict_proba(each)[:, 1] for each in new]
    return np.array(
        [
            [auc(truth, p) for truth, p in zip(truths, said, strict=True)],
            [balanced_accuracy(truth, model.predict(each)) for truth, each in zip(truths, new, strict=True)],
            [spearmanr(said[0], p).statistic for p in said],
        ]
    )


def main() -> None:
    """Paint, learn, predict and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipe", default="cnn-enhanced@fast")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--patients", type=int, default=80, help="to learn from")
    parser.add_argument("--test", type=int, default=80, help="to predict")
    parser.add_argument("--cells", type=int, default=12, help="per patient")
    parser.add_argument("--image-size", type=int, default=80)
    parser.add_argument("--shifts", type=float, nargs="+", default=[0.0, 1.0, 2.0])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    cheap = {"epochs": options.epochs, "image_size": options.image_size}
    models: dict[str, tuple[str, dict[str, object]]] = {name: (name, {}) for name in REFERENCES}
    models |= {way: (options.recipe, {**cheap, **settings}) for way, settings in WAYS.items()}
    found = np.empty((options.seeds, len(models), len(MEASURES), len(options.shifts)))
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            cohorts, truths = painted(options, seed, Path(folder))
            for i, (name, settings) in enumerate(models.values()):
                found[seed, i] = scores(name, settings, cohorts, truths)
    print(
        f"{options.recipe}, {options.epochs} epochs, {options.image_size} pixels; {options.seeds} seeds of ",
        end="",
    )
    print(
        f"{options.patients} patients to learn from and {options.test} to predict, {options.cells} cells each"
    )
    for k, measure in enumerate(MEASURES):
        print(f"\n{measure:28}", *(f"shift {shift:<4g}" for shift in options.shifts))
        for way, means in zip(models, found[:, :, k].mean(axis=0), strict=True):
            print(f"{way:28}", *(f"{mean:<10.3f}" for mean in means))
    print(f"\n{time.monotonic() - started:.0f} seconds, one thread")


if __name__ == "__main__":
    main()

"""Does an encoder do better once it has gone on learning, without labels, from a cohort's own cells?

Three times the same regression on a patient's mean embedding, on the same folds:

    frozen        the encoder as it is
    in the folds  adapted anew in every fold, on the training patients' cells alone
    on everybody  adapted once on the cells of all labelled patients, held-out ones included: transductive

The differences in balanced accuracy and AUC, overall and in the overlap zone, are paired by patient, with
bootstrap intervals over patients. "in the folds" minus "frozen" is what adaptation does for a patient who
comes later; "on everybody" minus "in the folds" is what it flatters. Settings of the adaptation are those
given here, and nothing is chosen by these numbers. Finished folds are kept in `--pieces`.

An encoder that has learned from cells of a cohort before flatters all three; the program says so.

    python benchmarks/adapt_encoder.py cohorts/dev --encoder TWIN --repeats 2 --json adapted.json
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lymphoscope.encoders.adapted import adapt_encoder
from lymphoscope.encoders.encoder import create_encoder
from lymphoscope.encoders.kept import SHIPPED
from lymphoscope.encoders.self_supervised import AdaptSettings
from lymphoscope.evaluation.evaluator import compare, evaluate
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.evaluation.results import Evaluation
from lymphoscope.files import write_json
from lymphoscope.models.registry import create_model
from lymphoscope.pipeline.preparation import Prepared, default_cache, prepare
from lymphoscope.stats.intervals import Interval
from lymphoscope.training.machine import fastest_precision

FROZEN, IN_FOLDS, EVERYBODY = "frozen", "in the folds", "on everybody"


def in_words(found: Interval | None, sign: str = "") -> str:
    """ "0.712 (0.603 to 0.802)", with the sign shown where `sign` is "+"."""
    if found is None:
        return "not measured"
    value, low, high = (f"{each:{sign}.3f}" for each in (found.estimate, found.low, found.high))
    return f"{value} ({low} to {high})"


def measured(prepared: Prepared, recipe: str, name: str, options: Any, **settings: Any) -> Evaluation:
    """A recipe on the cohort's labelled patients."""
    model = create_model(recipe, **settings)
    return evaluate(
        model,
        prepared.bags_for(model, jobs=options.jobs)[prepared.labelled],
        prepared.labels,
        Protocol(folds=options.folds, repeats=options.repeats),
        jobs=options.jobs,
        pieces=None if options.pieces is None else options.pieces / name.replace(" ", "-"),
        name=name,
    )


def three(cohort: Path, options: Any, place: Path) -> dict[str, Evaluation]:
    """The evaluations of one cohort, by name."""
    suffix = "-clinical" if options.clinical else ""
    cache = options.cache or default_cache()
    plain = prepare(cohort, cache=cache, encoder=options.encoder, jobs=options.jobs)
    settings = AdaptSettings(
        epochs=options.epochs,
        batch_size=options.batch_size,
        anchor=options.anchor,
        precision=fastest_precision(torch.device("cpu")),
    )
    for finding in plain.seen_by(options.encoder):
        print(f"{cohort.name}: {finding.message}; its numbers are not held out")
    cells = np.flatnonzero(np.isin(plain.bags.patient_of_cell, plain.labelled))
    adapt_encoder(options.encoder, plain.store, place, settings, cells=cells, jobs=options.jobs)
    seen = prepare(cohort, cache=cache, encoder=place, jobs=options.jobs)
    same = {"epochs": options.epochs, "batch_size": options.batch_size, "anchor": options.anchor}
    same |= {"encoder": options.encoder, "device": "cpu"}
    same |= {"image_size": create_encoder(options.encoder).image_size}
    return {
        FROZEN: measured(plain, f"encoder-mean{suffix}", FROZEN, options),
        IN_FOLDS: measured(plain, f"encoder-adapted-mean{suffix}", IN_FOLDS, options, **same),
        EVERYBODY: measured(seen, f"encoder-mean{suffix}", EVERYBODY, options),
    }


def printed(cohort: Path, found: dict[str, Evaluation]) -> dict[str, Any]:
    """Print one cohort's numbers and give them as plain values."""
    print(f"\n{cohort.name}")
    for name, each in found.items():
        zone = None if each.overlap is None else each.overlap.balanced_accuracy
        print(f"{name:13} balanced accuracy {in_words(each.overall.balanced_accuracy)}, AUC "
              f"{in_words(each.overall.auc)}; overlap zone {in_words(zone)}; "
              f"{each.out_of_fold.seconds:.0f} s")  # fmt: skip
    rows: dict[str, Any] = {name: each.as_dict() for name, each in found.items()}
    for better, base in ((IN_FOLDS, FROZEN), (EVERYBODY, IN_FOLDS)):
        difference = compare(found[base], found[better])
        print(f"{better} minus {base}: balanced accuracy {in_words(difference.balanced_accuracy, '+')}, "
              f"AUC {in_words(difference.auc, '+')}")  # fmt: skip
        rows[f"{better} minus {base}"] = difference.as_dict()
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cohorts", type=Path, nargs="+")
    parser.add_argument("--encoder", default=SHIPPED)
    parser.add_argument("--clinical", action="store_true", help="with age, count and sex in the regression")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--anchor", type=float, default=1.0)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--cache", type=Path, help="of photographs; default: this user's")
    parser.add_argument("--pieces", type=Path, help="folder for finished folds")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    protocol = Protocol(folds=options.folds, repeats=options.repeats)
    print(f"{options.encoder}, {options.epochs} epochs, anchor {options.anchor}; {protocol.sentence()}")
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, cohort in enumerate(options.cohorts):
            found = three(cohort, options, Path(folder) / f"adapted-{number}")
            rows[cohort.name] = printed(cohort, found)
    if options.json:
        settings = {name: getattr(options, name) for name in ("encoder", "epochs", "batch_size", "anchor")}
        write_json(options.json, {"settings": settings, "cohorts": rows})


if __name__ == "__main__":
    main()

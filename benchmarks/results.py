"""The table of results: every recipe on every cohort given, measured on patients it has not seen.

Each row is computed in a fresh process and kept as JSON in a folder, so that a killed run goes on where it
was. The table is written as CSV and Markdown; both carry the SHA-256 of the rows and the command.

    lymphoscope synthesize cohorts/default
    lymphoscope synthesize cohorts/strong --effect 2
    python benchmarks/results.py --cohort cohorts/dev --cohort cohorts/default --cohort cohorts/strong \\
        --learned dev=0.6 --learned strong=0.9
    python benchmarks/results.py --check benchmarks/results/networks.md

Recipes on photographs run with `--budget`; the reference ladder stands above them, on the same folds. VGG,
ResNet-34 and DINOv2 are measured on a single hold-out of a fifth of the patients, because five folds of them
take too long; their rows say so, and cannot be compared with the others closely. Recipes that need weights
which somebody brings are listed, not measured, unless `--recipe NAME:weights=PATH` brings them. Where the
setting `selection=scored-fold` chooses the epoch on the very patients that are scored, the row says
"optimistic". The order of the rows is that of the recipes, never of the results.

Time is that of training (of fitting and predicting, for recipes without epochs), summed over the folds; wall
time is that of the row. Memory is the anonymous memory of the row's process tree at its highest.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lymphoscope.evaluation.evaluator import evaluate
from lymphoscope.evaluation.ladder import DEFAULT_LADDER
from lymphoscope.evaluation.pieces import describe_model
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.files import sha256_json, write_json
from lymphoscope.models.base import EpochClassifier
from lymphoscope.models.registry import create_model, list_models, public_name, recipe_info, with_budget
from lymphoscope.pipeline.preparation import Prepared, default_cache, prepare
from lymphoscope.stats.intervals import Interval
from network_trials import image_recipes, needs_weights
from process_memory import watched
from results_table import Row, Table, check, versions_text, write

HOLDOUT = ("vgg16", "vgg19", "resnet34", "dinov2-adaptformer")
"""Recipes that are measured on a single hold-out."""

HOLDOUT_SHARE = 0.2
MADE_BY = ("training", "models", "evaluation", "stats")
"""Packages whose code decides what a row says."""


# --- one row, in a process of its own -----------------------------------------------------------------------


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Evaluate one recipe on one cohort, whose photographs are in the cache already."""
    prepared = prepare(Path(request["folder"]), cache=Path(request["cache"]), jobs=request["jobs"])
    model = create_model(request["recipe"])
    bags = prepared.bags_for(model, jobs=request["jobs"])[prepared.labelled]
    protocol = Protocol(**request["protocol"])
    began = time.perf_counter()
    found = evaluate(model, bags, prepared.labels, protocol, jobs=request["jobs"], name=request["recipe"])
    histories = [history for history in found.out_of_fold.histories if history]
    chosen = [settings["epoch"] for settings in found.out_of_fold.settings if "epoch" in settings]
    trained = [epoch.seconds for history in histories for epoch in history]
    return {
        "malignant": found.overall.n_malignant,
        "reactive": found.overall.n_reactive,
        **_interval("ba", found.overall.balanced_accuracy),
        **_interval("auc", found.overall.auc),
        "zone_malignant": found.overlap.n_malignant,
        "zone_reactive": found.overlap.n_reactive,
        **_interval("zone_auc", found.overlap.auc),
        "train_s": round(sum(trained) if histories else found.out_of_fold.seconds, 2),
        "wall_s": round(time.perf_counter() - began, 2),
        "optimistic": found.out_of_fold.optimistic,
        "epochs": " ".join(map(str, chosen)),
        "of_epochs": max((len(history) for history in histories), default=None),
    }


def _interval(name: str, interval: Interval | None) -> dict[str, float | None]:
    values = (None, None, None)
    if interval is not None:
        values = tuple(round(float(each), 4) for each in (interval.estimate, interval.low, interval.high))
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


# --- all rows -----------------------------------------------------------------------------------------------


def request_of(
    recipe: str, prepared: Prepared, folder: Path, cache: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """What a row depends on, as plain values."""
    protocol = Protocol(folds=options.folds, repeats=1, seed=options.seed)
    single = is_slow(recipe)
    if single:
        size = max(2, round(HOLDOUT_SHARE * len(prepared.labelled)))
        protocol = replace(protocol, kind="holdout", test_size=size)
    model = create_model(recipe)
    brought = isinstance(model, EpochClassifier) and model.weights is not None
    return {
        **({"weights": model.check_network().weights_sha256} if brought else {}),
        "recipe": recipe,
        "model": describe_model(model),
        "folder": str(folder),
        "cohort": folder.name,
        "fingerprint": prepared.store.fingerprint,
        "protocol": protocol.as_dict(),
        "cache": str(cache),
        "jobs": 1 if single else options.cores,
        "threads": options.cores if single else 1,
        "versions": versions(),
    }


def row_of(request: dict[str, Any], rows: Path, learned: dict[str, float]) -> Row:
    """The row of a request: from the folder if it is there, else measured and left there."""
    key = sha256_json({name: value for name, value in request.items() if name not in ("folder", "cache")})
    kept = rows / f"{request['cohort']}-{public_name(request['recipe']).replace(':', '-')}-{key[:12]}.json"
    if kept.exists():
        found = json.loads(kept.read_text())
    else:
        command = [sys.executable, __file__, "--row", json.dumps(request)]
        threads = {"OMP_NUM_THREADS": str(request["threads"]), "OMP_WAIT_POLICY": "PASSIVE"}
        load = os.getloadavg()[0]
        output, peak = watched(command, env=threads, every_s=0.05)
        found = json.loads(output.splitlines()[-1])
        found |= {"peak_mb": round(peak), "code": code_hash(), "load": round(load, 1)}
        write_json(kept, found)
    low, optimistic = found["auc_low"], found.pop("optimistic")
    network = recipe_info(request["recipe"]).cell_input == "images"
    aim = learned.get(request["cohort"]) if network else None
    return Row(
        recipe=public_name(request["recipe"]),
        cohort=request["cohort"],
        protocol=protocol_text(request["protocol"]) + (", optimistic" if optimistic else ""),
        status="measured",
        learned="" if aim is None or low is None else ("yes" if low > aim else "no"),
        seed=request["protocol"]["seed"],
        jobs=request["jobs"],
        threads=request["threads"],
        fingerprint=request["fingerprint"][:12],
        versions=versions_text(request["versions"]),
        **found,
    )


def protocol_text(protocol: dict[str, Any]) -> str:
    """A few words for the table."""
    if protocol["kind"] == "holdout":
        return f"hold-out of {protocol['test_size']}"
    return f"{protocol['folds']} folds"


def recipes_of(options: argparse.Namespace) -> list[str]:
    """Names with budgets: those asked for, or the ladder and every recipe on photographs."""
    names = options.recipe
    if not names:
        photographs = sorted(image_recipes(), key=is_slow)
        waiting = [info.name for info in list_models() if needs_weights(info.name)]
        names = [*(name for _, name in DEFAULT_LADDER), *photographs, *waiting]
    return [
        with_budget(name, options.budget if options.budget in recipe_info(name).budgets else None)
        for name in names
    ]


def all_rows(options: argparse.Namespace, learned: dict[str, float]) -> Iterator[Row]:
    """Every recipe on every cohort, the slow ones last; one that fails says so in its row."""
    cache, recipes = options.cache or default_cache(), recipes_of(options)
    ready: dict[Path, Prepared] = {}
    for folder in options.cohort:
        ready[folder] = prepare(folder, cache=cache, jobs=options.cores)
        ready[folder].require_no_errors()
        ready[folder].require_labels()
    pairs = [(recipe, folder) for folder in options.cohort for recipe in recipes]
    for recipe, folder in sorted(pairs, key=lambda pair: is_slow(pair[0])):
        request = request_of(recipe, ready[folder], folder, cache, options)
        if needs_weights(recipe):
            yield empty_row(request, "needs weights")
            continue
        # Crops are cut here, so that a row's time and memory are its own.
        ready[folder].bags_for(create_model(recipe), jobs=options.cores)
        try:
            yield row_of(request, options.rows, learned)
        except SystemExit as failure:
            print(failure, file=sys.stderr)
            yield empty_row(request, "failed")


def is_slow(recipe: str) -> bool:
    """Whether a recipe is measured on a single hold-out."""
    return recipe_info(recipe).name in HOLDOUT


def in_order(rows: Iterable[Row], options: argparse.Namespace) -> Table:
    """The rows there are, by cohort and then by recipe as they were asked for."""
    cohorts = [folder.name for folder in options.cohort]
    recipes = [public_name(name) for name in recipes_of(options)]
    ordered = sorted(rows, key=lambda row: (cohorts.index(row.cohort), recipes.index(row.recipe)))
    return Table(tuple(ordered), command_text(options))


def empty_row(request: dict[str, Any], status: str) -> Row:
    """A row without numbers."""
    return Row(
        recipe=public_name(request["recipe"]),
        cohort=request["cohort"],
        protocol="" if status == "needs weights" else protocol_text(request["protocol"]),
        status=status,
        seed=request["protocol"]["seed"],
        fingerprint=request["fingerprint"][:12],
        versions=versions_text(request["versions"]),
    )


# --- what the table says of its making ----------------------------------------------------------------------


def versions() -> dict[str, str]:
    """Of what computes the rows."""
    names = ("lymphoscope", "torch", "numpy", "scikit-learn")
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
    }


def code_hash() -> str:
    """Twelve hexadecimal digits of the SHA-256 of the code that decides what a row says."""
    import lymphoscope

    root, digest = Path(lymphoscope.__file__).parent, hashlib.sha256()
    for package in MADE_BY:
        for path in sorted((root / package).rglob("*")):
            if path.suffix in (".py", ".yaml"):
                digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def command_text(options: argparse.Namespace) -> str:
    """The command, with cohorts named so that it means something elsewhere."""
    words = ["python", "benchmarks/results.py"]
    for folder in options.cohort:
        words += ["--cohort", _shown(folder)]
    for name in options.recipe or ():
        words += ["--recipe", public_name(name)]
    for pair in options.learned or ():
        words += ["--learned", pair]
    for name in ("budget", "folds", "seed", "cores"):
        words += [f"--{name}", str(getattr(options, name))]
    return " ".join(word if word.startswith("$") else shlex.quote(word) for word in words)


def _shown(folder: Path) -> str:
    data = os.environ.get("LYMPHOSCOPE_DATA")
    place = folder.resolve()
    if data and place.is_relative_to(Path(data).resolve()):
        return f"$LYMPHOSCOPE_DATA/{place.relative_to(Path(data).resolve())}"
    return f"cohorts/{place.name}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, measure, write; or check a table. The exit status says whether all is well."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["--row"]:
        print(json.dumps(measure(json.loads(given[1]))))
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(__file__).parent / "results" / "networks"
    parser.add_argument("--cohort", type=Path, action="append", default=[], help="cohort folder (repeatable)")
    parser.add_argument("--recipe", action="append", help="repeatable; default: the ladder and all networks")
    parser.add_argument("--budget", default="fast", help="of recipes that have budgets")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cores", type=int, default=2, help="processes for folds, threads for hold-outs")
    parser.add_argument(
        "--learned",
        action="append",
        metavar="COHORT=AUC",
        help="a recipe has learned when its lower bound is above",
    )
    parser.add_argument(
        "--rows", type=Path, default=Path("results-rows"), help="folder that keeps finished rows"
    )
    parser.add_argument("--cache", type=Path, help="of photographs; default: this user's")
    parser.add_argument("--out", type=Path, default=default, help="file to write, without .csv and .md")
    parser.add_argument("--check", type=Path, metavar="FILE", help="verify a table instead")
    options = parser.parse_args(given)
    if options.check:
        faults = check(options.check)
        print("\n".join(faults) or f"{options.check}: hash, schema and text are right")
        return int(bool(faults))
    if not options.cohort or len({folder.name for folder in options.cohort}) < len(options.cohort):
        parser.error("name cohorts with --cohort, each folder with a name of its own")
    learned = {name: float(value) for name, _, value in (x.partition("=") for x in options.learned or ())}
    rows: list[Row] = []
    for row in all_rows(options, learned):
        print(row.line(), flush=True)
        rows.append(row)
        write(options.out, in_order(rows, options))  # what there is so far can be read, and checked
    old = {row.code for row in rows if row.code} - {code_hash()}
    if old:
        print(
            f"some rows were measured by other code ({', '.join(sorted(old))}); delete them to measure anew"
        )
    print(f"{options.out}.csv, {options.out}.md: {len(rows)} rows")
    return int(any(row.status == "failed" for row in rows))


if __name__ == "__main__":
    sys.exit(main())

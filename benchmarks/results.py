"""The table of results: every recipe on every cohort given, measured on patients it has not seen.

Each row is computed in a fresh process and written to the table at once; a row that is there already is not
measured again, and rows that are not asked for stay, so that the table can be made in pieces. It is written
as CSV and Markdown; both carry the SHA-256 of the rows and the last command.

    lymphoscope synthesize cohorts/default --test 0 --cells 24
    lymphoscope synthesize cohorts/strong --test 0 --cells 40 --patients 300 --effect 3
    lymphoscope synthesize cohorts/strong-1000 --test 0 --cells 24 --patients 1000 --effect 3 --seed 2
    python benchmarks/results.py --cohort cohorts/dev --cohort cohorts/default --cohort cohorts/strong \\
        --learned dev=0.6 --learned strong=0.9
    python benchmarks/results.py --cohort cohorts/strong-1000 --learned strong-1000=0.9 --hold-out \\
        --recipe clinical --recipe encoder-mean \\
        --recipe resnet34@fast:cells_per_patient=4,image_size=64,shrink=1
    python benchmarks/results.py --check benchmarks/results/networks.md

Recipes on photographs run with `--budget`; the reference ladder stands above them, on the same folds. The
encoder of a cohort made of cells that the shipped one has seen is named with `--encoder COHORT=FOLDER`, also
for recipes that go on training it; rows where it has seen more than one in a thousand of them, which is what
may look alike by chance, say "encoder not held out". VGG and
ResNet-34 are measured on a single hold-out of two fifths of the patients, because five folds of them take too
long; their rows say so, and cannot be compared with the others closely. `--all-folds` takes the time, and
`--hold-out` measures others on the same patients. A single hold-out of 300 patients leaves an AUC of 0.95 an
interval that begins below 0.9; `strong-1000` has more patients, painted with the same effects.
Recipes that need weights which somebody brings are listed, not measured, unless `--recipe NAME:weights=PATH`
brings them; `benchmarks/encoders/vit-dev` is a small transformer that has seen no cell of `dev`.
Where the setting `selection=scored-fold` chooses the epoch on the very patients that are scored, the row says
"optimistic"; of weights that have learned nothing it says "untrained". The order of the rows is that of the
recipes, never of the results.

A row is known by what was asked, not by the code that answered, so that a change of code measures nothing by
itself; the page counts the rows of each code. `--again` measures those of other code than today's, all that
the table has of a cohort or the recipes named.

Time is that of training (of fitting and predicting, for recipes without epochs), summed over the folds; wall
time is that of the row. Memory is the anonymous memory of the row's process tree at its highest.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import results_row
from lymphoscope.encoders.kept import SHIPPED
from lymphoscope.evaluation.ladder import DEFAULT_LADDER
from lymphoscope.evaluation.pieces import describe_model
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.files import sha256_json
from lymphoscope.models.base import EpochClassifier
from lymphoscope.models.named_settings import public_name, with_settings
from lymphoscope.models.registry import (
    create_model,
    list_models,
    recipe_info,
    with_budget,
)
from lymphoscope.pipeline.preparation import Prepared, default_cache, prepare
from network_trials import image_recipes, needs_weights
from process_memory import watched
from results_row import code_hash, versions
from results_table import CLINICAL, OPTIMISTIC, Row, Table, check, read, versions_text, write

HOLDOUT = ("vgg16", "vgg19", "resnet34")
"""Recipes that are measured on a single hold-out, unless all folds are asked for."""

SINGLE = "hold-out"
HOLDOUT_SHARE = 0.4
"""An interval counts those tested by the share of all that were trained on, so that 0.4 of them count as 0.24
of all and a fifth as 0.16; five folds count as 0.8."""


# --- all rows -----------------------------------------------------------------------------------------------


def request_of(
    recipe: str, prepared: Prepared, folder: Path, cache: Path, single: bool, options: argparse.Namespace
) -> dict[str, Any]:
    """What a row depends on, as plain values; `single`: on one hold-out."""
    protocol = Protocol(folds=options.folds, repeats=1, seed=options.seed)
    if single:
        size = max(2, round(HOLDOUT_SHARE * len(prepared.labelled)))
        protocol = replace(protocol, kind="holdout", test_size=size)
    model = create_model(recipe)
    on_numbers = recipe_info(recipe).cell_input == "numbers"
    begins = model.begins_with() is not None
    return {
        **({"weights": model.built_on()} if begins else {}),
        "recipe": recipe,
        "model": describe_model(model),
        "folder": str(folder),
        "cohort": folder.name,
        "fingerprint": prepared.store.fingerprint,
        "encoder": prepared.encoder.as_dict() if prepared.encoder and on_numbers else {},
        "encoder_at": encoder_of(folder, options),
        "protocol": protocol.as_dict(),
        "cache": str(cache),
        "jobs": 1 if single else options.cores,
        "threads": options.cores if single else 1,
        "versions": versions(),
    }


def row_of(request: dict[str, Any], learned: dict[str, float]) -> Row:
    """Measure the row of a request, in a fresh process."""
    command = [sys.executable, results_row.__file__, json.dumps(request)]
    threads = {"OMP_NUM_THREADS": str(request["threads"]), "OMP_WAIT_POLICY": "PASSIVE"}
    load = os.getloadavg()[0]
    output, peak = watched(command, env=threads, every_s=0.05)
    found = json.loads(output.splitlines()[-1])
    found |= {"peak_mb": round(peak), "code": code_hash(), "load": round(load, 1)}
    marks = {name: found.pop(name) for name in ("optimistic", "untrained")}
    marks["encoder not held out"] = found.pop("seen_before")
    row = Row(
        recipe=public_name(request["recipe"]),
        cohort=request["cohort"],
        protocol=", ".join([protocol_text(request["protocol"]), *(name for name in marks if marks[name])]),
        status="measured",
        seed=request["protocol"]["seed"],
        jobs=request["jobs"],
        threads=request["threads"],
        fingerprint=request["fingerprint"][:12],
        versions=versions_text(request["versions"]),
        encoder=encoder_text(request),
        key=key_of(request),
        **found,
    )
    return judged(row, learned)


def judged(row: Row, learned: dict[str, float]) -> Row:
    """The row of a network or a head with what the aim of its cohort says; as it is where there is no aim.

    And that of the clinical values alone, beside which a yes of those that see them too must be read. Of rows
    whose scored patients chose the epoch nothing is said.
    """
    aim, info = learned.get(row.cohort), recipe_info(row.recipe)
    trained = info.cell_input == "images" or info.estimator == "MilClassifier" or row.recipe == CLINICAL
    if aim is None or row.auc_low is None or not trained:
        return row
    if OPTIMISTIC in row.protocol:
        return replace(row, learned="")
    return replace(row, learned="yes" if row.auc_low > aim else "no")


def key_of(request: dict[str, Any]) -> str:
    """What a row depends on, and on which machine's folders it does not: of weights the hash counts."""
    elsewhere = ("folder", "cache", "encoder_at")
    plain = {name: value for name, value in request.items() if name not in elsewhere}
    plain["recipe"] = public_name(request["recipe"])
    if "weights" in request:
        parameters = request["model"]["parameters"]
        left = {name: value for name, value in parameters.items() if name not in ("weights", "encoder")}
        plain["model"] = request["model"] | {"parameters": left}
    return sha256_json(plain)[:16]


def encoder_text(request: dict[str, Any]) -> str:
    """Name and hash of the encoder that gave the numbers, or hash of the weights that training began with."""
    encoder = request["encoder"]
    if encoder:
        return f"{encoder['name']} {encoder['sha256'][:12]}"
    return f"weights {request['weights'][:12]}" if request.get("weights") else ""


def encoder_of(folder: Path, options: argparse.Namespace) -> str:
    """The encoder that was named for a cohort, or the shipped one."""
    named = dict(pair.split("=", 1) for pair in options.encoder)
    return str(named.get(folder.name, SHIPPED))


def protocol_text(protocol: dict[str, Any]) -> str:
    """A few words for the table."""
    if protocol["kind"] == "holdout":
        return f"{SINGLE} of {protocol['test_size']}"
    return f"{protocol['folds']} folds"


def recipes_of(options: argparse.Namespace) -> list[str]:
    """Names with budgets: those asked for, or the ladder and every recipe on photographs."""
    names = options.recipe
    if not names:
        photographs = sorted(image_recipes(), key=is_slow)
        waiting = [info.name for info in list_models() if needs_weights(info.name)]
        numbers = [info.name for info in list_models() if info.cell_input == "numbers"]
        names = [*(name for _, name in DEFAULT_LADDER), *numbers, *photographs, *waiting]
    names = list(dict.fromkeys(names))
    return [
        with_budget(name, options.budget if options.budget in recipe_info(name).budgets else None)
        for name in names
    ]


def all_rows(options: argparse.Namespace, learned: dict[str, float]) -> Iterator[Row]:
    """Every recipe asked for on every cohort, the slow ones last; one that fails says so in its row."""
    cache = options.cache or default_cache()
    kept = {row.key: row for row in known_rows(options) if row.key}
    ready: dict[Path, Prepared] = {}
    for folder in options.cohort:
        encoder = encoder_of(folder, options)
        ready[folder] = prepare(folder, cache=cache, encoder=encoder, jobs=options.cores)
        ready[folder].require_no_errors()
        ready[folder].require_labels()
    for recipe, folder, single in sorted(asked(options), key=lambda each: is_slow(each[0])):
        request = request_of(recipe, ready[folder], folder, cache, single, options)
        if needs_weights(recipe):
            yield empty_row(request, "needs weights")
            continue
        known = kept.get(key_of(request))
        if known and not (options.again and known.code != code_hash()):
            yield judged(known, learned)
            continue
        # Crops are cut here, so that a row's time and memory are its own.
        ready[folder].bags_for(create_model(recipe), jobs=options.cores)
        try:
            yield row_of(request, learned)
        except SystemExit as failure:
            print(failure, file=sys.stderr)
            yield empty_row(request, "failed")


def asked(options: argparse.Namespace) -> list[tuple[str, Path, bool]]:
    """Recipe, folder of the cohort, and whether a single hold-out is to do."""
    if options.recipe or not options.again:
        return [
            (
                on_encoder(recipe, encoder_of(folder, options)),
                folder,
                options.hold_out or (is_slow(recipe) and not options.all_folds),
            )
            for folder in options.cohort
            for recipe in recipes_of(options)
        ]
    folders = {folder.name: folder for folder in options.cohort}
    found = []
    for row in known_rows(options):
        if row.cohort not in folders or row.status == "needs weights":
            continue
        if "weights=" in row.recipe or "encoder=" in row.recipe:
            print(
                f"{row.cohort} {row.recipe}: left; --again --recipe names it, with the place of its weights"
            )
            continue
        found.append((row.recipe, folders[row.cohort], row.protocol.startswith(SINGLE)))
    return list(dict.fromkeys(found))


def on_encoder(recipe: str, encoder: str) -> str:
    """The recipe beginning with the encoder of the cohort, where it would begin with the shipped one."""
    model = create_model(recipe)
    if encoder == SHIPPED or model.begins_with() != SHIPPED:
        return recipe
    return with_settings(recipe, {"weights" if isinstance(model, EpochClassifier) else "encoder": encoder})


def is_slow(recipe: str) -> bool:
    """Whether a recipe is measured on a single hold-out."""
    return recipe_info(recipe).name in HOLDOUT


def known_rows(options: argparse.Namespace) -> list[Row]:
    """What the table holds already."""
    path = options.out.with_name(f"{options.out.name}.csv")
    return list(read(path)[0].rows) if path.exists() else []


def in_order(rows: Iterable[Row], options: argparse.Namespace) -> Table:
    """These rows and those that the table holds besides, by cohort and then as the program lists recipes."""
    rows = list(rows)
    replaced = {(row.recipe, row.cohort, row.tested) for row in rows}
    rows += [row for row in known_rows(options) if (row.recipe, row.cohort, row.tested) not in replaced]
    cohorts = list(
        dict.fromkeys([*(folder.name for folder in options.cohort), *sorted(r.cohort for r in rows)])
    )
    ladder = [name for _, name in DEFAULT_LADDER]
    order = list(dict.fromkeys([*ladder, *(info.name for info in list_models())]))

    def place(row: Row) -> tuple[int, int, str, str]:
        return cohorts.index(row.cohort), order.index(recipe_info(row.recipe).name), row.recipe, row.protocol

    return Table(tuple(sorted(rows, key=place)), command_text(options))


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
        encoder=encoder_text(request),
    )


# --- what the table says of its making ----------------------------------------------------------------------


def command_text(options: argparse.Namespace) -> str:
    """The command, with cohorts named so that it means something elsewhere."""
    words = ["python", "benchmarks/results.py"]
    for folder in options.cohort:
        words += ["--cohort", _shown(folder)]
    for pair in options.encoder:
        words += ["--encoder", public_name(pair)]
    for name in options.recipe or ():
        words += ["--recipe", public_name(name)]
    for pair in options.learned or ():
        words += ["--learned", pair]
    for name in ("budget", "folds", "seed", "cores"):
        words += [f"--{name}", str(getattr(options, name))]
    for name in ("all_folds", "hold_out", "again"):
        words += [f"--{name.replace('_', '-')}"] * getattr(options, name)
    return " ".join(word if word.startswith("$") else shlex.quote(word) for word in words)


def _shown(folder: Path) -> str:
    data = os.environ.get("LYMPHOSCOPE_DATA")
    place = folder.resolve()
    if data and place.is_relative_to(Path(data).resolve()):
        return f"$LYMPHOSCOPE_DATA/{place.relative_to(Path(data).resolve())}"
    return f"cohorts/{place.name}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, measure, write; or check a table. The exit status says whether all is well."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(__file__).parent / "results" / "networks"
    parser.add_argument("--cohort", type=Path, action="append", default=[], help="cohort folder (repeatable)")
    parser.add_argument("--recipe", action="append", help="repeatable; default: all there are")
    parser.add_argument("--budget", default="fast", help="of recipes that have budgets")
    parser.add_argument("--folds", type=int, default=5)
    several = parser.add_mutually_exclusive_group()
    several.add_argument("--all-folds", action="store_true", help="folds for the slow recipes too")
    several.add_argument("--hold-out", action="store_true", help="one hold-out for the others too")
    parser.add_argument("--again", action="store_true", help="rows of these cohorts that other code measured")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cores", type=int, default=2, help="processes for folds, threads for hold-outs")
    parser.add_argument(
        "--learned",
        action="append",
        metavar="COHORT=AUC",
        help="a recipe has learned when its lower bound is above",
    )
    parser.add_argument(
        "--encoder",
        action="append",
        default=[],
        metavar="COHORT=FOLDER",
        help="the encoder of a cohort, where it is not the shipped one",
    )
    parser.add_argument("--cache", type=Path, help="of photographs; default: this user's")
    parser.add_argument("--out", type=Path, default=default, help="file to write, without .csv and .md")
    parser.add_argument("--check", type=Path, metavar="FILE", help="verify a table instead")
    options = parser.parse_args(arguments)
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
            f"some rows were measured by other code ({', '.join(sorted(old))}); `--again` measures them anew"
        )
    print(f"{options.out}.csv, {options.out}.md: {len(rows)} rows")
    return int(any(row.status == "failed" for row in rows))


if __name__ == "__main__":
    sys.exit(main())

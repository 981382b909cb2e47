"""`lymphoscope evaluate`: the ladder, or the recipes asked for, on one protocol."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lymphoscope.cohort.bags import Bags
from lymphoscope.cohort.progress import Progress
from lymphoscope.errors import InputError
from lymphoscope.evaluation.fold_curves import training_record
from lymphoscope.evaluation.ladder import DEFAULT_LADDER, Inputs, Ladder, climb, default_ladder
from lymphoscope.evaluation.optimism import honest_recipe
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.files import sha256_json, write_json
from lymphoscope.models.named_settings import public_name
from lymphoscope.models.registry import create_model, recipe_info
from lymphoscope.pipeline import page
from lymphoscope.pipeline.preparation import Prepared, require_new, require_outside
from lymphoscope.pipeline.tracking import require_tracking, tracking


def evaluate_cohort(
    prepared: Prepared,
    protocol: Protocol,
    recipes: Sequence[str] = (),
    *,
    jobs: int = 1,
    out: Path | None = None,
    track: Path | None = None,
    progress: Progress | None = None,
) -> Ladder:
    """Evaluate `recipes`, or the reference ladder if none is named; compare each with those before it.

    On the reference ladder that is the first before it of every kind that looks at less; named recipes are
    compared with all before them.

    Finished folds, and networks in training, are kept in the cache until the end: what was killed goes on
    there when the same is asked again.

    Parameters
    ----------
    out : file for the numbers as JSON, with the curves of networks; must not exist yet.
    track : folder for TensorBoard to watch networks in while they are trained.
    """
    require_tracking(track)
    if track is not None:
        require_outside(prepared.cohort, track)
    if out is not None:
        require_outside(prepared.cohort, out)
        require_new(out)
    prepared.require_no_errors()
    prepared.require_labels()
    ladder = [(recipe_inputs(name), name) for name in dict.fromkeys(recipes)]
    _require_names_apart([name for _, name in ladder])
    ladder = ladder or list(default_ladder(prepared.bags))
    pieces = prepared.store.folder / f"evaluation-{sha256_json([protocol.as_dict(), ladder])[:16]}"
    with tracking(track) as epochs:
        found = climb(
            prepared.labelled_bags,
            prepared.labels,
            protocol,
            recipes=ladder,
            split_column=prepared.labelled_split,
            jobs=jobs,
            pieces=pieces,
            progress=progress,
            track=epochs,
            bags_for=lambda model: prepared.bags_for(model, jobs=jobs, progress=progress)[prepared.labelled],
            every_pair=bool(recipes),
        )
    if out is not None:
        curves = {row.recipe: training_record(row.evaluation.out_of_fold) for row in found.rows}
        trained = {recipe: record for recipe, record in curves.items() if record}
        facts = {
            "cohort": prepared.store.fingerprint,
            "cells_left_out": prepared.left_out.n if prepared.left_out else 0,
            "cautions": list(page.cautions(prepared, found)),
            "weights_sha256": {row.recipe: sha256 for row in found.rows if (sha256 := row.model.built_on())},
        }
        write_json(out, {**facts, **found.as_dict(), "training": trained})
    shutil.rmtree(pieces, ignore_errors=True)
    return found


def _require_names_apart(recipes: Sequence[str]) -> None:
    """Raise an `InputError` where results could not tell two recipes apart, since they name no folders."""
    often = Counter(public_name(name) for name in recipes)
    alike = [name for name in recipes if often[public_name(name)] > 1]
    if alike:
        raise InputError(
            "two recipes would have the same name in the results, which name no folders",
            found=" and ".join(alike[:2]),
            allowed="files of different names",
            remedy="Rename one of the files, or evaluate the recipes one after the other.",
        )


def ladder_with(recipe: str, bags: Bags) -> tuple[tuple[Inputs, str], ...]:
    """The reference ladder's recipes, with `recipe` on top where it is none of them.

    A recipe that chooses its epoch on the patients that are scored stands above the same recipe without.
    """
    ladder = default_ladder(bags)
    known = {name for _, name in ladder}
    added = [name for name in dict.fromkeys((honest_recipe(recipe), recipe)) if name not in known]
    return (*ladder, *((recipe_inputs(name), name) for name in added))


def recipe_inputs(recipe: str) -> Inputs:
    """What a recipe looks at, as the ladder sorts it."""
    known = {name: inputs for inputs, name in DEFAULT_LADDER}
    if recipe in known:
        return known[recipe]
    if recipe_info(recipe).cell_input == "none":
        return "clinical"
    model = create_model(recipe)
    return "both" if getattr(model, "takes_clinical", True) else "images"

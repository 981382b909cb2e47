"""The model that the user keeps: fitted on all labelled patients, with its threshold and its refits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lymphoscope.cohort.bags import IntArray
from lymphoscope.cohort.progress import Progress
from lymphoscope.evaluation.epoch_progress import Track, training_shown
from lymphoscope.evaluation.folds import CHECKPOINT
from lymphoscope.evaluation.resampling import Watch, derived_seed, fit, inner_folds, one_thread
from lymphoscope.evaluation.triage import bootstrap_refits, choose_referral_threshold
from lymphoscope.models.base import BagClassifier, EpochClassifier
from lymphoscope.models.bundle import Bundle
from lymphoscope.models.registry import create_model
from lymphoscope.models.transductive import is_transductive
from lymphoscope.pipeline.fitted_on import known_by
from lymphoscope.pipeline.plan import RunPlan
from lymphoscope.pipeline.preparation import Prepared
from lymphoscope.pipeline.run_folder import COHORT, RunFolder

FIT, REFIT, REFERRAL = 10, 11, 12
"""Streams of random numbers: the final fit, its refits, its referral threshold."""


def fit_final(
    folder: RunFolder,
    prepared: Prepared,
    plan: RunPlan,
    jobs: int,
    progress: Progress | None,
    track: Track | None,
) -> Bundle:
    """The model that the user keeps; what it chose is fixed in its refits."""
    recipe, y, seed = create_model(plan.kept), prepared.labels, plan.protocol.seed
    everybody = prepared.bags_for(recipe)
    bags = everybody[prepared.labelled]
    wished = plan.protocol.wished_sensitivity
    with _shown(recipe, y, plan.recipe_name, progress, track) as (watch, watch_inner):
        with one_thread(recipe):
            checkpoint = folder / "pieces" / f"final{CHECKPOINT}"
            model = fit(
                recipe,
                bags,
                y,
                derived_seed(seed, FIT),
                watch=watch,
                checkpoint=checkpoint,
                unlabelled=everybody[prepared.unlabelled] if is_transductive(recipe) else None,
            )
        threshold = choose_referral_threshold(
            recipe, bags, y, wished, seed=derived_seed(seed, REFERRAL), fitted=model, watch=watch_inner
        )
    refits: tuple[BagClassifier, ...] = ()
    if plan.has_refits:
        refits = bootstrap_refits(model.settled(), bags, y, plan.refits, derived_seed(seed, REFIT), jobs=jobs)
    metadata = {
        "referral_threshold": threshold,
        "wished_sensitivity": wished,
        "min_cells": plan.reading.min_cells,
        "overlap_limit": plan.protocol.overlap_limit,
        "cell_columns": list(prepared.bags.columns or ()),
        "encoder": prepared.encoder and prepared.encoder.as_dict(),
        "leave_out_cells": prepared.leave_out,
        "cohort": folder.read(COHORT),
        "photographs": known_by(prepared),
        "labels_note": plan.labels_note,
    }
    return Bundle(plan.recipe_name, model, refits, metadata)


@contextmanager
def _shown(
    recipe: BagClassifier, y: IntArray, name: str, progress: Progress | None, track: Track | None
) -> Iterator[tuple[Watch | None, Watch | None]]:
    """What is told of the epochs of the last training, and of those that its threshold takes."""
    if not isinstance(recipe, EpochClassifier):
        yield None, None
        return
    epochs = recipe.all_epochs * (1 if recipe.holds_out_each else 1 + inner_folds(y))
    with training_shown(progress, track, name, "all patients", epochs) as watches:
        yield watches

"""From networks' curves to what the report says of their training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from lymphoscope.evaluation.epoch_progress import fold_name, training_name
from lymphoscope.evaluation.ladder import Ladder
from lymphoscope.evaluation.out_of_fold import OutOfFold
from lymphoscope.models.base import SCORED_FOLD
from lymphoscope.models.registry import create_model
from lymphoscope.pipeline.page import row_titles
from lymphoscope.report.training_content import Balancing, FoldCurves, Training
from lymphoscope.stats.comparison import OPTIMISTIC
from lymphoscope.training.balancing import BalanceCounts
from lymphoscope.training.curves import MEASURES, Epoch, by_member, curve

RULES = {
    "inner": "Kept was the epoch with the lowest loss on validation patients: some of the training patients, "
    "set aside. Patients that are scored were not looked at.",
    "last": "Kept was the last epoch. Validation patients are some of the training patients, set aside; "
    "patients that are scored were not looked at.",
    SCORED_FOLD: f"Optimistic: {OPTIMISTIC}. They are the validation patients here, and the epoch with the "
    "best balanced accuracy on them was kept. Expect less of patients that nobody has looked at.",
}
"""Which epoch was kept, by the selection that a recipe has."""

SNAPSHOTS = (
    "The learning rate falls and rises again; the networks that end its cycles were kept, and are averaged. "
    "Validation patients are some of the training patients, set aside; patients that are scored were not "
    "looked at."
)
MEMBERS = " In every fold several networks are averaged, and each sets aside other training patients."

_EVENED = "Classes were evened out within the training patients"
BALANCING = {
    "oversample": f"{_EVENED}: {{by}} of the smaller class were repeated.",
    "undersample": f"{_EVENED}: of the larger class as many {{by}} were drawn for every epoch as the smaller "
    "one has.",
    "weighted-sampler": f"{_EVENED}: {{by}} were drawn with replacement, both classes equally often.",
    "class-weights": "Classes were weighed, not made equal in number: in the loss an example of a reactive "
    "patient counted {reactive} times, one of a malignant patient {malignant} times (mean of the folds).",
}
"""What was done about classes of unequal size, by the balance that a recipe has."""


def training(found: Ladder) -> tuple[Training, ...]:
    """How the ladder's networks learned, for the page."""
    titles = row_titles(found)
    return tuple(
        _training(row.evaluation.out_of_fold, titles[row.recipe])
        for row in found.rows
        if any(row.evaluation.out_of_fold.histories)
    )


def _training(found: OutOfFold, title: str) -> Training:
    model = create_model(found.recipe)
    settings = model.get_params(deep=False)
    # What heads on numbers have no choice of is no parameter of theirs.
    settings |= {name: getattr(model, name, "patient") for name in ("unit", "balance_by")}
    rule = RULES[settings["selection"]] if settings["snapshots"] == 1 else SNAPSHOTS
    if settings["members"] > 1:
        rule += MEMBERS
    if not all(history[0].validation for history in found.histories):
        rule += " Where too few patients were left to set any aside, the last epoch was kept."
    return Training(
        recipe=found.recipe,
        title=title,
        rule=rule,
        folds=tuple(
            _fold_curves(fold_name(*split), member)
            for split, history in zip(found.splits, found.histories, strict=True)
            for member in by_member(history)
        ),
        optimistic=found.optimistic,
        balancing=_balancing(settings, found.balancing),
    )


def _fold_curves(fold: str, history: Sequence[Epoch]) -> FoldCurves:
    """Of one member."""
    return FoldCurves(
        training_name(fold, history[0]),
        tuple(epoch.number for epoch in history if epoch.kept),
        training=_curves(history, "training"),
        validation=_curves(history, "validation") if history[0].validation else {},
    )


def _curves(history: Sequence[Epoch], of: str) -> dict[str, tuple[float, ...]]:
    return {name: tuple(curve(history, name, of).tolist()) for name in MEASURES}


def _balancing(settings: Mapping[str, Any], counts: Sequence[BalanceCounts | None]) -> Balancing | None:
    """Mean of the folds; None where nothing was balanced."""
    known = [each for each in counts if each is not None]
    if not known:
        return None
    by_patient = settings["unit"] == "patient" or settings["balance_by"] == "patient"
    counted = _mean(known, "patients_before" if by_patient else "cells_after")
    even, weight = [sum(counted) / (2 * each) for each in counted], settings["positive_weight"] or 1.0
    how = BALANCING[settings["balance"]].format(
        by="patients" if by_patient else "cells",
        reactive=f"{even[0]:.2f}",
        malignant=f"{even[1] * weight:.2f}",
    )
    if weight != 1 and settings["balance"] != "class-weights":
        how += f" Besides, in the loss malignant ones counted {weight:g} times."
    if most := settings["cells_per_patient"]:
        how += f" Of each patient at most {most} cells were drawn."
    return Balancing(
        how=how,
        patients_before=_mean(known, "patients_before"),
        patients_after=_mean(known, "patients_after"),
        cells_before=_mean(known, "cells_before"),
        cells_after=_mean(known, "cells_after"),
    )


def _mean(counts: Sequence[BalanceCounts], name: str) -> tuple[float, float]:
    """Mean numbers of the reactive and the malignant class."""
    pairs = [getattr(each, name) for each in counts]
    return fmean(pair[0] for pair in pairs), fmean(pair[1] for pair in pairs)

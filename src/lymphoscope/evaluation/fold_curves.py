"""The curves of every fold's training as plain values, without times: two equal runs give equal ones."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from lymphoscope.evaluation.out_of_fold import OutOfFold
from lymphoscope.training.curves import MEASURES, Epoch, Measured

COLUMNS = (
    *("recipe", "optimistic", "repeat", "fold", "member", "epoch", "learning_rate", "of"),
    *MEASURES,
    "chosen",
)
"""Of the table: `optimistic` says whether the scored patients chose the epoch; `member` counts the networks
that the recipe averages, from 0; `of` is "training" or "validation"; `chosen` says whether the weights of the
epoch were kept."""


def curve_rows(found: OutOfFold) -> list[tuple[Any, ...]]:
    """Two rows per epoch of every fold, in the order of `COLUMNS`; none for a recipe without epochs."""
    named = found.recipe, found.optimistic
    return [
        (*named, repeat, fold, epoch.member, epoch.number, epoch.learning_rate, of, *values, epoch.kept)
        for (repeat, fold), history in zip(found.splits, found.histories, strict=True)
        for epoch in history
        for of, measured in (("training", epoch.training), ("validation", epoch.validation))
        if measured is not None
        for values in [[getattr(measured, name) for name in MEASURES]]
    ]


def training_record(found: OutOfFold) -> list[dict[str, Any]]:
    """Per fold its curves with the epochs that were kept, and what balancing did; nothing without epochs."""
    return [
        {
            "repeat": repeat,
            "fold": fold,
            "epochs": [_plain(epoch) for epoch in history],
            "balancing": None if counts is None else asdict(counts),
        }
        for (repeat, fold), history, counts in zip(
            found.splits, found.histories, found.balancing, strict=True
        )
        if history
    ]


def _plain(epoch: Epoch) -> dict[str, Any]:
    return {
        "member": epoch.member,
        "number": epoch.number,
        "learning_rate": epoch.learning_rate,
        "training": _known(epoch.training),
        "validation": None if epoch.validation is None else _known(epoch.validation),
        "chosen": epoch.kept,
    }


def _known(measured: Measured) -> dict[str, float | None]:
    """Measured values; None for what cannot be measured without patients of a class."""
    return {name: value if math.isfinite(value := getattr(measured, name)) else None for name in MEASURES}

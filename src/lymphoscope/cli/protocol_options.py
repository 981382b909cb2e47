"""How patients are held out: the options of run and evaluate, and the protocol that they make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from lymphoscope.evaluation.protocol import Protocol

PANEL = "Evaluation"

Kind = Literal["repeated-cv", "holdout", "column"]
KindOption = Annotated[
    Kind,
    typer.Option(
        "--protocol",
        help="How patients are held out; column: by the table's own split.",
        rich_help_panel=PANEL,
    ),
]
FoldsOption = Annotated[
    int | None, typer.Option(min=2, show_default="5", help="Folds.", rich_help_panel=PANEL)
]
RepeatsOption = Annotated[
    int | None,
    typer.Option(
        min=1, show_default="10, or 1 with networks", help="Repeats of the folds.", rich_help_panel=PANEL
    ),
]
TestSizeOption = Annotated[
    int | None, typer.Option(min=2, show_default="33", help="Patients of a hold-out.", rich_help_panel=PANEL)
]
OverlapOption = Annotated[
    float, typer.Option(help="Highest count (10⁹/L) of the overlap zone.", rich_help_panel=PANEL)
]
SensitivityOption = Annotated[
    float,
    typer.Option(help="Sensitivity that the referral threshold is chosen for.", rich_help_panel=PANEL),
]

_USED: dict[Kind, tuple[str, ...]] = {
    "repeated-cv": ("--folds", "--repeats"),
    "holdout": ("--test-size",),
    "column": (),
}
"""Options that a kind of protocol has a use for."""


def protocol_of(
    kind: Kind,
    folds: int | None,
    repeats: int | None,
    test_size: int | None,
    recipes: list[str],
    *,
    seed: int,
    overlap_limit: float,
    wished_sensitivity: float = 0.95,
) -> Protocol:
    """The protocol; None is its default, which for repeats depends on the recipes.

    Raises
    ------
    InputError : a number was given that this kind has no use for, or one is out of range.
    """
    from lymphoscope.evaluation.protocol import Protocol

    _require_used(kind, {"--folds": folds, "--repeats": repeats, "--test-size": test_size})
    return Protocol(
        kind=kind,
        folds=folds or Protocol.folds,
        repeats=repeats or _repeats(recipes),
        test_size=test_size or Protocol.test_size,
        seed=seed,
        overlap_limit=overlap_limit,
        wished_sensitivity=wished_sensitivity,
    )


def _require_used(kind: Kind, given: dict[str, int | None]) -> None:
    from lymphoscope.errors import InputError

    for option, value in given.items():
        if value is not None and option not in _USED[kind]:
            users = [other for other, options in _USED.items() if option in options]
            raise InputError(
                f"{option} has no meaning with --protocol {kind}",
                found=f"{option} {value}",
                allowed=" and ".join(_USED[kind]) or "no numbers: the split is the table's",
                remedy=f"Leave it out, or choose --protocol {users[0]}.",
            )


def _repeats(recipes: list[str]) -> int:
    """Ten rounds of folds where recipes are quick, one where networks are trained."""
    from lymphoscope.models.base import EpochClassifier
    from lymphoscope.models.registry import create_model

    models = [create_model(name) for name in recipes]
    slow = any(isinstance(model, EpochClassifier) or model.cell_input == "images" for model in models)
    return 1 if slow else 10

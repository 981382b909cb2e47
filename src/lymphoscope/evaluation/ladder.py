"""The reference ladder: rules, clinical values, images, both, measured alike on the same folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy.typing as npt

from lymphoscope.cohort.bags import Bags
from lymphoscope.cohort.progress import Progress
from lymphoscope.evaluation.epoch_progress import Track
from lymphoscope.evaluation.evaluator import compare, evaluate
from lymphoscope.evaluation.optimism import measured_optimism
from lymphoscope.evaluation.pieces import bags_fingerprint
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.evaluation.results import Evaluation, Zone
from lymphoscope.models.base import BagClassifier
from lymphoscope.models.named_settings import public_name
from lymphoscope.models.patient_space import has_numbers, require_numbers
from lymphoscope.models.registry import create_model, recipe_info
from lymphoscope.stats.comparison import Comparison

Inputs = Literal["rules", "clinical", "images", "both"]

DEFAULT_LADDER: tuple[tuple[Inputs, str], ...] = (
    ("rules", "rule-chakroun-2021"),
    ("rules", "rule-2008"),
    ("rules", "rule-muscara-2019"),
    ("clinical", "clinical"),
    ("images", "morphology"),
    ("images", "encoder-mean"),
    ("both", "morphology-clinical"),
    ("both", "morphology-clinical-late"),
    ("both", "encoder-mean-clinical"),
    ("both", "concept-clinical"),
)

AUTO: tuple[Inputs, str] = ("both", "auto")

BESIDE = {
    "encoder-mean": "morphology",
    "encoder-mean-clinical": "morphology-clinical",
    "concept-clinical": "encoder-mean-clinical",
}
"""Recipes that are compared with another one of the same inputs: what an encoder adds to measured morphology,
and what is lost by looking at its words instead of its numbers."""

ZONES: tuple[Zone, Zone] = ("overall", "overlap")


def default_ladder(bags: Bags) -> tuple[tuple[Inputs, str], ...]:
    """The reference ladder, without its rungs on an encoder's numbers where `bags` hold none."""
    return tuple((kind, name) for kind, name in DEFAULT_LADDER if has_numbers(create_model(name), bags))


@dataclass(frozen=True, eq=False)
class LadderRow:
    """One recipe on the ladder.

    Attributes
    ----------
    inputs : what it looks at.
    evaluation : its numbers.
    model : its unfitted model, which knows where weights lie; the name in `evaluation` does not.
    comparisons : this recipe against others on the same folds, overall and in the overlap zone; the
        difference is this one minus the other. Others are the first recipes of the rungs below, and the one
        that `BESIDE` names; for a recipe that is not on the reference ladder, also the first rule and the
        first that looks at the same. Untrained ones are compared with none.
    """

    inputs: Inputs
    evaluation: Evaluation
    model: BagClassifier
    comparisons: tuple[Comparison, ...]

    @property
    def recipe(self) -> str:
        """The recipe's name."""
        return self.evaluation.recipe

    def versus(self, other: str, zone: Zone = "overall") -> Comparison | None:
        """The comparison with recipe `other`, or None if there is none."""
        return next((each for each in self.comparisons if (each.first, each.zone) == (other, zone)), None)

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "inputs": self.inputs,
            **self.evaluation.as_dict(),
            "comparisons": [each.as_dict() for each in self.comparisons],
        }


@dataclass(frozen=True, eq=False)
class Ladder:
    """Every rung, lowest first.

    Attributes
    ----------
    protocol : shared by all rows.
    rows : in the order shown.
    optimism : what recipes gain that choose the epoch on the patients that are scored, against the same
        recipes without, where both are on the ladder.
    """

    protocol: Protocol
    rows: tuple[LadderRow, ...]
    optimism: tuple[Comparison, ...] = ()

    def row(self, recipe: str) -> LadderRow:
        """The row of `recipe`; ValueError if it is not on the ladder."""
        for each in self.rows:
            if each.recipe == recipe:
                return each
        raise ValueError(f"no rung {recipe!r}; allowed: {', '.join(each.recipe for each in self.rows)}")

    @property
    def sentences(self) -> tuple[str, ...]:
        """Whether each learned recipe can be told apart from those below it, in plain words."""
        below = [each.sentence for row in self.rows for each in row.comparisons]
        return (*below, *(each.sentence for each in self.optimism))

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "protocol": self.protocol.as_dict(),
            "rows": [row.as_dict() for row in self.rows],
            "optimism": [each.as_dict() for each in self.optimism],
            "sentences": list(self.sentences),
        }


def climb(
    bags: Bags,
    y: npt.ArrayLike,
    protocol: Protocol = Protocol(),  # noqa: B008 - frozen
    *,
    recipes: Sequence[tuple[Inputs, str]] = DEFAULT_LADDER,
    with_auto: bool = False,
    refer: Sequence[str] = (),
    refits: int = 0,
    split_column: Sequence[str] | None = None,
    jobs: int = 1,
    pieces: Path | None = None,
    progress: Progress | None = None,
    track: Track | None = None,
    bags_for: Callable[[BagClassifier], Bags] | None = None,
    every_pair: bool = False,
) -> Ladder:
    """Evaluate every rung of the ladder on the same folds and compare each with those below.

    Parameters
    ----------
    bags, y : labelled patients with per-cell numbers, and 0 or 1 for each.
    with_auto : add the recipe `auto` on top; it takes several times as long as all others together.
    refer : recipes for which referral thresholds are chosen inside the folds, and `refits` made.
    track : told of every epoch of networks, while they are trained.
    bags_for : the same patients as a model of photographs takes them.
    every_pair : compare each with all of those below instead.
    """
    steps = [*recipes, AUTO] if with_auto else list(recipes)
    fingerprint = None if pieces is None else bags_fingerprint(bags, y)
    rows: list[LadderRow] = []
    models = {recipe: create_model(recipe) for _, recipe in steps}
    for recipe, model in models.items():
        require_numbers(recipe, model, bags)
    for inputs, recipe in steps:
        model = models[recipe]
        photographs = model.cell_input == "images" and bags_for is not None
        evaluation = evaluate(
            model,
            bags_for(model) if photographs and bags_for else bags,
            y,
            protocol,
            split_column=split_column,
            jobs=jobs,
            pieces=pieces,
            progress=progress,
            track=track,
            refer=recipe in refer,
            refits=refits if recipe in refer and not recipe_info(recipe).budgets else 0,
            fingerprint=None if photographs else fingerprint,
            name=public_name(recipe),
        )
        below = [row.evaluation for row in rows] if every_pair else _others(rows, inputs, recipe)
        comparisons = tuple(
            compare(other, evaluation, zone)
            for other in below
            for zone in ZONES
            if not (evaluation.out_of_fold.untrained or other.out_of_fold.untrained)
        )
        rows.append(LadderRow(inputs, evaluation, model, comparisons))
    return Ladder(protocol, tuple(rows), measured_optimism([row.evaluation for row in rows], ZONES))


def _others(below: Sequence[LadderRow], inputs: Inputs, recipe: str) -> list[Evaluation]:
    """What a new recipe is compared with: each lower kind of input's first recipe, and that of `BESIDE`.

    One that is no part of the reference ladder is compared with its first rule and its first recipe that
    looks at the same, too.
    """
    if inputs == "rules":
        return []
    first = {row.inputs: row.evaluation for row in reversed(below)}
    reference = {name: kind for kind, name in DEFAULT_LADDER}
    same = [name for name, kind in reference.items() if kind == inputs and recipe not in reference]
    wished = [BESIDE.get(recipe), *same[:1]]
    beside = [row.evaluation for row in below if row.recipe in wished]
    wanted = {"clinical": ("rules",), "images": ("clinical",), "both": ("clinical", "images")}[inputs]
    if recipe not in reference and inputs != "clinical":
        wanted = ("rules", *wanted)
    return [*(first[kind] for kind in wanted if kind in first), *beside]

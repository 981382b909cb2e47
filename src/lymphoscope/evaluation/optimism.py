"""The reports' own rule, the epoch that does best on the patients that are scored, and what it gains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lymphoscope.evaluation.evaluator import compare, patients_in_words
from lymphoscope.evaluation.results import Evaluation, Zone
from lymphoscope.models.registry import create_model, with_settings
from lymphoscope.stats.comparison import Comparison


def is_optimistic(name: str) -> bool:
    """Whether the recipe of this name chooses its epoch on the patients that are scored."""
    return bool(getattr(create_model(name), "optimistic", False))


def honest_recipe(name: str) -> str:
    """The same recipe with its epoch chosen within the training patients; `name` itself if it is honest."""
    if not is_optimistic(name):
        return name
    plain = _without_setting(name, "selection")
    return with_settings(plain, {"selection": "inner"}) if is_optimistic(plain) else plain


def measured_optimism(found: Sequence[Evaluation], zones: Sequence[Zone]) -> tuple[Comparison, ...]:
    """For every optimistic recipe that was also measured honestly: the first minus the second, per zone."""
    by_name = {each.recipe: each for each in found}
    pairs = [(by_name.get(honest_recipe(each.recipe)), each) for each in found if each.out_of_fold.optimistic]
    return tuple(_gain(honest, each, zone) for honest, each in pairs if honest for zone in zones)


def _gain(honest: Evaluation, optimistic: Evaluation, zone: Zone) -> Comparison:
    found = compare(honest, optimistic, zone)
    difference = found.balanced_accuracy
    if difference is None:
        return found
    unclear = not found.told_apart
    return replace(
        found,
        sentence="Choosing the epoch on the patients that are scored moves "
        f"the balanced accuracy of {honest.recipe} by {difference.estimate:+.3f} on "
        f"{patients_in_words(found.n_malignant, found.n_reactive, zone)}, {difference.level:.0%} interval "
        f"{difference.low:+.3f} to {difference.high:+.3f}: "
        + (
            "these patients cannot tell it from nothing."
            if unclear
            else "that is optimism, which no new patient will see."
        ),
    )


def _without_setting(name: str, setting: str) -> str:
    recipe, _, text = name.partition(":")
    kept = [pair for pair in text.split(",") if pair and pair.partition("=")[0].strip() != setting]
    return f"{recipe}:{','.join(kept)}" if kept else recipe

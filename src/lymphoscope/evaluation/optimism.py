"""The reports' own rule, the epoch that does best on the patients that are scored, and what it gains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lymphoscope.evaluation.evaluator import compare, patients_in_words
from lymphoscope.evaluation.results import Evaluation, Zone
from lymphoscope.models.named_settings import named_settings, with_settings
from lymphoscope.models.registry import create_model
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
    honest = [each for each in found if not each.out_of_fold.optimistic]
    pairs = [
        (each, chosen)
        for chosen in found
        if chosen.out_of_fold.optimistic
        for each in honest
        if same_model(each.recipe, honest_recipe(chosen.recipe))
    ]
    return tuple(_gain(first, second, zone) for first, second in pairs for zone in zones)


def same_model(first: str, second: str) -> bool:
    """Whether two names of recipes, however they are written, stand for the same settings."""
    a, b = create_model(first), create_model(second)
    return type(a) is type(b) and a.get_params(deep=False) == b.get_params(deep=False)


def _gain(honest: Evaluation, optimistic: Evaluation, zone: Zone) -> Comparison:
    found = compare(honest, optimistic, zone)
    difference = found.balanced_accuracy
    if difference is None:
        return found
    return replace(
        found,
        sentence="Choosing the epoch on the patients that are scored moves "
        f"the balanced accuracy of {honest.recipe} by {difference.estimate:+.3f} on "
        f"{patients_in_words(found.n_malignant, found.n_reactive, zone)}, {difference.level:.0%} interval "
        f"{difference.low:+.3f} to {difference.high:+.3f}: "
        + (
            "these patients cannot tell it from nothing."
            if not found.told_apart
            else "that is optimism, which no new patient will see."
            if difference.estimate > 0
            else "here the patients held out within the training patients chose the better one."
        ),
    )


def _without_setting(name: str, setting: str) -> str:
    kept = {key: value for key, value in named_settings(name).items() if key != setting}
    return with_settings(name.partition(":")[0], kept)

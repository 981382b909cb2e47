"""From what was measured to what the report says: results of the evaluation in the page's own words."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from lymphoscope.cells.columns import CONCEPT_PREFIX
from lymphoscope.cohort.findings import Finding, counted
from lymphoscope.encoders.encoder import Encoder
from lymphoscope.encoders.encoder_findings import AdaptedOnThesePatients
from lymphoscope.encoders.known_cells import CellsLearnedFrom
from lymphoscope.evaluation import ladder as measured
from lymphoscope.evaluation.probes import Probe
from lymphoscope.evaluation.results import Evaluation, ZoneResult
from lymphoscope.evaluation.sample_size import SampleSize, Swing
from lymphoscope.evaluation.triage import TriageSummary
from lymphoscope.models.auto import looks_at_an_encoder
from lymphoscope.models.base import BagClassifier, EpochClassifier
from lymphoscope.models.clusters.parts import COLLAPSED
from lymphoscope.models.registry import create_model, recipe_info
from lymphoscope.models.transductive import is_transductive
from lymphoscope.pipeline.left_out import LeftOut
from lymphoscope.pipeline.preparation import Prepared
from lymphoscope.report import content as page
from lymphoscope.report.concept_words import answer_words
from lymphoscope.stats.comparison import TRANSDUCTIVE, UNTRAINED, Comparison

_SEEN_BEFORE = {
    CellsLearnedFrom: "What recipes built on it say of these patients is not held out, and flatters them",
    AdaptedOnThesePatients: "This concerns",
}
"""Findings on an encoder that has seen these cells, and what comes of it for recipes built on it."""


def ladder(found: measured.Ladder, chosen: str) -> page.Ladder:
    """The ladder's page; `chosen` is the recipe whose predictions the page shows."""
    titles = row_titles(found)
    return page.Ladder(
        rungs=tuple(_rung(row, titles[row.recipe], row.recipe == chosen) for row in found.rows),
        overlap_limit=found.protocol.overlap_limit,
        comparisons=tuple(
            comparison for row in found.rows for comparison in _comparisons(row.comparisons, titles)
        ),
        optimism=tuple(_comparisons(found.optimism, titles)),
    )


def decision_quality(summary: TriageSummary) -> page.DecisionQuality:
    """How the decision did, for the page."""
    return page.DecisionQuality(
        n_malignant=summary.n_malignant,
        n_reactive=summary.n_reactive,
        sensitivity=summary.sensitivity,
        share_referred=summary.share_referred,
        tests_saved=summary.tests_saved,
        share_cannot_say=summary.share_cannot_say,
    )


def calibration(evaluation: Evaluation) -> page.Calibration:
    """Predicted against observed, for the page."""
    zone = evaluation.overall
    return page.Calibration(
        bins=tuple(
            page.CalibrationBin(each.predicted, each.observed, round(each.n))
            for each in zone.reliability
            if round(each.n)  # over repeats, fewer than half a patient may be in one
        ),
        slope=zone.calibration_slope,
        intercept=zone.calibration_intercept,
    )


def proof(found: SampleSize, comparisons: Sequence[Comparison]) -> page.Proof:
    """What the patients can prove, for the page.

    The difference that they would show is half the width of its interval, which is narrow between recipes
    that mostly agree and wide between others.
    """
    widths = [
        0.5 * (each.balanced_accuracy.high - each.balanced_accuracy.low)
        for each in comparisons
        if each.balanced_accuracy is not None and each.zone == "overall"
    ]
    return page.Proof(
        found.n_malignant,
        found.n_reactive,
        found.sensitivity_without_miss,
        found.needed,
        (min(widths), max(widths)) if widths else None,
    )


def swing(found: Swing) -> page.Swing:
    """The swing of a small test set, for the page."""
    return page.Swing(
        found.n_malignant,
        found.n_reactive,
        found.balanced_accuracy,
        found.one_miss,
        found.one_false_alarm,
    )


def probes(found: Sequence[Probe]) -> tuple[page.Probe, ...]:
    """The shortcut probes, for the page."""
    return tuple(
        page.Probe(each.name.capitalize(), each.auc, each.auc_overlap, warns=each.warns) for each in found
    )


def weights(model: BagClassifier) -> tuple[tuple[str, str], ...]:
    """Which published weights a fitted model began with, and what was trained; nothing without."""
    if not isinstance(model, EpochClassifier) or model.weights is None:
        return ()
    known = f"SHA-256 {model.weights_sha256_}" if model.weights_sha256_ else "untrained"
    facts = [("Weights before training", f"{Path(model.weights).name}, {known}")]
    return (*facts, *((("Trained", model.tuned),) if model.tuned else ()))


def cells_told(encoder: Encoder | None, left_out: LeftOut | None) -> tuple[tuple[str, str], ...]:
    """Which encoder described the cells, and which of them were left out; nothing without."""
    told = () if encoder is None else (("Encoder", f"{encoder.name}, SHA-256 {encoder.sha256}"),)
    return (*told, *(() if left_out is None else (("Cells", left_out.sentence()),)))


def coefficients(model: BagClassifier) -> tuple[tuple[str, float], ...]:
    """What a fitted model weighs, in words, the largest first; nothing of one that cannot be read so."""
    found: dict[str, float] = getattr(model, "coefficients_", {})
    often = Counter(_weighed(name) for name in found)
    in_order = sorted(found.items(), key=lambda each: -abs(each[1]))
    return tuple((_weighed(name, asked=often[_weighed(name)] > 1), weight) for name, weight in in_order)


def _weighed(name: str, *, asked: bool = False) -> str:
    """In words; with the question if it is `asked` for, because answers to several sound alike."""
    if not name.startswith(CONCEPT_PREFIX):
        return {"lymphocyte_count": "logarithm of the count", "sex": "sex (male)"}.get(name, name)
    task, _, answer = name.removeprefix(CONCEPT_PREFIX).partition("=")
    return f"share of cells: {answer_words(task, answer)}" + (f" ({task.replace('_', ' ')})" if asked else "")


def caveats(model: BagClassifier) -> tuple[str, ...]:
    """Why what a fitted model says may not be believed as it stands, in sentences."""
    found = []
    if isinstance(model, EpochClassifier) and model.untrained:
        found.append(f"The model is untrained: {UNTRAINED}.")
    if is_transductive(model):
        found.append(f"The model is transductive: {TRANSDUCTIVE}.")
    return tuple(found)


def cells_seen(model: BagClassifier, seen_by: Callable[..., tuple[Finding, ...]]) -> tuple[Finding, ...]:
    """What the encoders that a model looks at, or that its training begins with, have seen of these cells.

    Parameters
    ----------
    seen_by : of a cohort, as `Prepared.seen_by`.
    """
    found = seen_by() if looks_at_an_encoder(model) else ()
    if (source := model.begins_with()) is not None:
        found = (*found, *seen_by(source))
    return tuple(dict.fromkeys(found))


def not_held_out(prepared: Prepared, models: Iterable[tuple[str, BagClassifier]]) -> tuple[str, ...]:
    """Why numbers of these models flatter, in sentences, where an encoder has seen these cells before.

    It is the one whose embeddings or concepts a model looks at, or the one that its training begins with.

    Parameters
    ----------
    models : each with its name.
    """
    seen_by = functools.cache(prepared.seen_by)
    concerned: dict[Finding, list[str]] = {}
    for name, model in models:
        for finding in cells_seen(model, seen_by):
            concerned.setdefault(finding, []).append(name)
    return tuple(
        f"{finding.message} {words}: {', '.join(names)}."
        for kind, words in _SEEN_BEFORE.items()
        for finding, names in concerned.items()
        if isinstance(finding, kind)
    )


def cautions(prepared: Prepared, found: measured.Ladder) -> tuple[str, ...]:
    """Why numbers of a ladder may not be believed as they stand, in sentences."""
    smoke = [sentence for row in found.rows for sentence in barely_trained(row.recipe)]
    collapsed = [sentence for row in found.rows for sentence in collapsed_clusters(row)]
    return (*not_held_out(prepared, ((row.recipe, row.model) for row in found.rows)), *smoke, *collapsed)


def collapsed_clusters(row: measured.LadderRow) -> tuple[str, ...]:
    """That clusters of cells had collapsed in some fold, where they had."""
    settings = row.evaluation.out_of_fold.settings
    n = sum(bool(each.get(COLLAPSED)) for each in settings)
    if not n:
        return ()
    return (
        f"In {n} of {counted(len(settings), 'fold')} the clusters of cells of {row.recipe} had collapsed: "
        "there most cells are in a few, and the answers rest more on the clinical values than on cells.",
    )


def barely_trained(recipe: str) -> tuple[str, ...]:
    """That a network was trained for seconds, where its name says so."""
    if recipe.partition(":")[0].partition("@")[2] != "smoke":
        return ()
    return (
        f"{recipe} was trained for seconds, to see that it works: its numbers say nothing of what it can "
        "learn. Train it with --budget fast or paper.",
    )


def row_titles(found: measured.Ladder) -> dict[str, str]:
    """Title by name of recipe; optimistic, untrained and transductive ones say so.

    Where several share a title, their settings tell them apart.
    """
    titles = {row.recipe: recipe_info(row.recipe).title + _mark(row) for row in found.rows}
    often = Counter(titles.values())
    return {recipe: _told_apart(recipe, title, often[title]) for recipe, title in titles.items()}


def clinical_values_left_out(model: BagClassifier, recipe: str) -> bool:
    """Whether a model does not see age, count and sex, though its recipe does as it is."""
    usual = create_model(recipe_info(recipe).name)
    takes = [getattr(each, "takes_clinical", None) for each in (usual, model)]
    return takes == [True, False]


def set_otherwise(model: BagClassifier, recipe: str) -> tuple[str, ...]:
    """What settings have made of a recipe that its summary does not say, in sentences."""
    found = []
    head = getattr(model, "head", None)
    if head and model.cell_input == "images":
        found.append(f"Here a head of multiple-instance learning, “{head}”, makes a patient of its cells.")
    if clinical_values_left_out(model, recipe):
        found.append("Here age, count and sex are left out.")
    return tuple(found)


def _told_apart(recipe: str, title: str, often: int) -> str:
    name, _, settings = recipe.partition(":")
    own = ", ".join(filter(None, [name.partition("@")[2], settings]))
    return f"{title} [{own}]" if often > 1 and own else title


def _mark(row: measured.LadderRow) -> str:
    found = row.evaluation.out_of_fold
    marks = {
        "optimistic": found.optimistic,
        "untrained": found.untrained,
        "transductive": found.transductive,
        "clinical values left out": clinical_values_left_out(row.model, row.recipe),
    }
    return "".join(f" ({mark})" for mark, holds in marks.items() if holds)


def _rung(row: measured.LadderRow, title: str, chosen: bool) -> page.Rung:
    overlap = row.evaluation.overlap
    training = row.evaluation.overall.training_balanced_accuracy
    return page.Rung(
        recipe=row.recipe,
        title=title,
        inputs=row.inputs,
        overall=_scores(row.evaluation.overall),
        overlap=None if overlap.balanced_accuracy is None else _scores(overlap),
        training_balanced_accuracy=None if training is None else training.estimate,
        chosen=chosen,
        optimistic=row.evaluation.out_of_fold.optimistic,
    )


def _scores(zone: ZoneResult) -> page.Scores:
    return page.Scores(
        n_malignant=zone.n_malignant,
        n_reactive=zone.n_reactive,
        balanced_accuracy=zone.balanced_accuracy,
        sensitivity=zone.sensitivity,
        specificity=zone.specificity,
        auc=zone.auc,
        brier=zone.brier,
        calibration_slope=zone.calibration_slope,
        calibration_intercept=zone.calibration_intercept,
    )


def _comparisons(found: Sequence[Comparison], titles: dict[str, str]) -> list[page.Comparison]:
    """One line per pair of recipes, overall and overlap zone side by side."""
    overlap = {(each.first, each.second): each for each in found if each.zone == "overlap"}
    return [
        page.Comparison(
            titles[each.first],
            titles[each.second],
            each.balanced_accuracy,
            overlap[each.first, each.second].balanced_accuracy,
        )
        for each in found
        if each.zone == "overall" and each.balanced_accuracy is not None
    ]

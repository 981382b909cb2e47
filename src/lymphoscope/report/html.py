"""The report: one HTML file that needs no network, no script and no colour, and prints on A4."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lymphoscope.cells.cell_findings import NotALymphocyte
from lymphoscope.cohort.findings import Finding, Severity
from lymphoscope.evaluation.probes import WARN_ABOVE
from lymphoscope.files import write_bytes
from lymphoscope.report import (
    cluster_section,
    concept_section,
    concept_words,
    figures,
    patient_table,
    training_figures,
    wording,
)
from lymphoscope.report.content import ReportContent, Rung
from lymphoscope.report.glossary import GLOSSARY
from lymphoscope.report.training_content import Training
from lymphoscope.stats.intervals import Interval

_SEVERITIES = (
    (Severity.ERROR, "Errors: these stop a run"),
    (Severity.WARNING, "Warnings: look at these before you trust the numbers"),
    (Severity.INFO, "For information"),
)

# What the templates may call; numbers and pictures are turned into text in one place each.
_TOOLS = SimpleNamespace(
    axis_bar=patient_table.axis_bar,
    cell_alt=patient_table.cell_alt,
    clinical_line=patient_table.clinical_line,
    data_uri=patient_table.data_uri,
    interval_bar=patient_table.interval_bar,
    mark=patient_table.decision_mark,
    missed=patient_table.was_missed,
    decimal=wording.decimal,
    known_range=wording.known_range,
    interval_text=wording.interval_text,
    list_some=wording.list_some,
    percent=wording.percent,
    percent_range=wording.percent_range,
    percent_text=wording.percent_text,
    plural=wording.plural,
    probability=wording.probability,
    probability_text=wording.probability_text,
    shares_text=patient_table.shares_text,
    range_text=wording.range_text,
    signed=wording.signed,
    signed_range=wording.signed_range,
    told_apart=wording.told_apart,
    alike_word=concept_words.alike_word,
    flagged_text=concept_section.flagged_text,
    share_line=concept_section.share_line,
    short_range=concept_section.short_range,
)


def write_report(content: ReportContent, path: Path) -> None:
    """Write the page to `path`, atomically; the same content gives the same bytes."""
    write_bytes(path, to_bytes(render_report(content)))


def render_report(content: ReportContent) -> str:
    """The page as text."""
    values = {name: getattr(content, name) for name in content.__dataclass_fields__}
    values |= _patients(content) | _figures(content)
    return environment().get_template("report.html.j2").render(
        **values,
        style=style(),
        headline=wording.headline(values["unlabelled"], fitted_elsewhere=bool(content.fitted_on)),
        level=wording.level_text(_ladder_intervals(content)),
        has_intervals=wording.any_range(row.probability for row in content.patients),
        any_optimistic=any(rung.optimistic for rung in content.ladder.rungs) if content.ladder else False,
        patient_level=wording.level_text(row.probability for row in content.patients),
        trust=list(trust_lines(content)),
        findings_by_severity=group_findings(content.findings),
        input_names=figures.INPUT_NAMES,
        conclusion=wording.ladder_conclusion(content.ladder) if content.ladder else "",
        names=wording.short_names(content.ladder) if content.ladder else {},
        optimism=_optimism(content),
        sorted_cells=cluster_section.drawn(content.clusters) if content.clusters else None,
        described=concept_section.drawn(content.concepts) if content.concepts else None,
        trained=[_training(each, f"training-{i}") for i, each in enumerate(content.training)],
        glossary=GLOSSARY,
        warn_above=WARN_ABOVE,
    )  # fmt: skip


def to_bytes(page: str) -> bytes:
    """UTF-8; a file name that is no valid text is spelled out rather than refused."""
    return page.encode("utf-8", "backslashreplace")


@cache
def environment() -> Environment:
    """The templates; whatever a user's file holds is escaped, and a forgotten value is an error."""
    made = Environment(
        loader=PackageLoader("lymphoscope.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["tools"] = _TOOLS
    return made


@cache
def style() -> Markup:
    """The page's style sheet."""
    return Markup(files("lymphoscope.report").joinpath("style.css").read_text("utf-8"))  # noqa: S704


def group_findings(findings: Sequence[Finding]) -> list[tuple[str, str, list[Finding]]]:
    """(severity, heading, findings by code) for each severity that occurs, worst first."""
    grouped = []
    for severity, heading in _SEVERITIES:
        found = sorted((f for f in findings if f.severity == severity), key=lambda f: f.code)
        if found:
            grouped.append((str(severity), heading, found))
    return grouped


def _patients(content: ReportContent) -> dict[str, Any]:
    """Rows of the two tables, and how many cells each may show: the unlabelled come first."""
    unlabelled = [row for row in content.patients if not row.labelled]
    labelled = [row for row in content.patients if row.labelled]
    groups = patient_table.group_by_decision(unlabelled)
    # Cells that explain the decision come before those that show what the cells look like.
    left, shown = patient_table.CROP_BYTES_LIMIT, []
    for strips in (patient_table.evidence_strips, patient_table.portrait_strips):
        for rows in (unlabelled, labelled):
            shown.append(patient_table.cells_per_side(rows, left, strips))
            left -= patient_table.crop_bytes(rows, shown[-1], strips)
    sides, sides_labelled, portrait_sides, portrait_sides_labelled = shown
    return {
        "unlabelled": unlabelled,
        "groups": groups,
        "share_bar": patient_table.share_bar(groups),
        "sides": sides,
        "portrait_sides": portrait_sides,
        "portrait_sides_labelled": portrait_sides_labelled,
        "has_portraits": any(row.portrait for row in content.patients),
        "sides_cut": sides < patient_table.longest_strip(unlabelled),
        "labelled": labelled,
        "own_thresholds": any(row.threshold for row in labelled),
        "labelled_groups": patient_table.group_by_label(labelled),
        "sides_labelled": sides_labelled,
        "sides_labelled_cut": sides_labelled < patient_table.longest_strip(labelled),
        "missed": [row for row in labelled if patient_table.was_missed(row)],
        "n_malignant": sum(row.label == 1 for row in labelled),
        "anchor": {row.id: f"patient-{i}" for i, row in enumerate(content.patients)},
    }


def chosen_rung(content: ReportContent) -> Rung | None:
    """The rung whose recipe made the predictions, if it was measured."""
    rungs = content.ladder.rungs if content.ladder else ()
    return next((rung for rung in rungs if rung.chosen), None)


def _ladder_intervals(content: ReportContent) -> Iterator[Interval | None]:
    for rung in content.ladder.rungs if content.ladder else ():
        yield rung.overall.balanced_accuracy


def _figures(content: ReportContent) -> dict[str, Markup]:
    drawn = {"ladder_figure": Markup(), "calibration_figure": Markup(), "swing_figure": Markup()}
    ladder, rung = content.ladder, chosen_rung(content)
    if ladder and ladder.rungs:
        alt = "; ".join(
            f"{r.title}: {wording.interval_text(r.overall.balanced_accuracy)}, overlap zone "
            f"{wording.interval_text(r.overlap.balanced_accuracy if r.overlap else None)}"
            for r in ladder.rungs
        )
        drawn["ladder_figure"] = figures.inline_svg(
            figures.ladder_figure(ladder), f"Balanced accuracy of each rung. {alt}"
        )
    if content.calibration:
        alt = "; ".join(
            f"predicted {b.predicted:.2f}, true {b.observed.estimate:.2f} of {b.n} patients"
            for b in content.calibration.bins
        )
        drawn["calibration_figure"] = figures.inline_svg(
            figures.calibration_figure(content.calibration), f"Calibration. {alt}"
        )
    if content.swing and rung and rung.overall.balanced_accuracy:
        whole, n_whole = rung.overall.balanced_accuracy, rung.overall.n_malignant + rung.overall.n_reactive
        alt = (
            f"Balanced accuracy: whole cohort {wording.interval_text(whole)}; "
            f"small test set {wording.interval_text(content.swing.balanced_accuracy)}"
        )
        drawn["swing_figure"] = figures.inline_svg(figures.swing_figure(whole, n_whole, content.swing), alt)
    return drawn


def _optimism(content: ReportContent) -> list[str]:
    ladder = content.ladder
    names = wording.short_names(ladder) if ladder else {}
    return [wording.optimism_sentence(pair, names) for pair in (ladder.optimism if ladder else ())]


def _training(training: Training, name: str) -> dict[str, Any]:
    """One network's part of the page, with its figures drawn."""
    kept = ", ".join(wording.decimal(value) for value in training.kept("balanced_accuracy"))
    alt = f"Curves per epoch of {training.title}. Balanced accuracy at the epochs that were kept: {kept}"
    drawn: dict[str, Any] = {
        "recipe": training.recipe,
        "title": training.title,
        "rule": training.rule,
        "folds": training.folds,
        "curves": figures.inline_svg(training_figures.curves_figure(training, name), alt),
        "caption": wording.curves_caption(training, training_figures.THIN_LINES),
        "balancing": training.balancing,
        "balancing_figure": Markup(),
    }
    counts = training.balancing
    if counts and counts.changes:
        alt = (
            f"Patients, reactive and malignant: before {_pair(counts.patients_before)}, after "
            f"{_pair(counts.patients_after)}; cells: before {_pair(counts.cells_before)}, after "
            f"{_pair(counts.cells_after)}"
        )
        svg = training_figures.balancing_figure(counts, f"{name}-balancing")
        drawn["balancing_figure"] = figures.inline_svg(svg, alt)
    return drawn


def _pair(counts: tuple[float, float]) -> str:
    return f"{counts[0]:.0f} and {counts[1]:.0f}"


def trust_lines(content: ReportContent) -> Iterator[Markup]:
    """At most seven lines that say how far the answer can be trusted, each with where to read on."""
    if content.threshold == 0:
        text = (
            f"Too few malignant patients to choose a threshold for a sensitivity of "
            f"{wording.percent(content.wished_sensitivity)}, so everybody is referred."
        )
        yield _link(text, "decision")
    yield _link(_decision_line(content), "decision")
    rung = chosen_rung(content)
    if rung:
        overlap = rung.overlap.balanced_accuracy if rung.overlap else None
        text = (
            f"Balanced accuracy {wording.interval_text(rung.overall.balanced_accuracy)}; where the count "
            f"alone does not decide, {wording.interval_text(overlap)}. 0.5 is guessing, 1 is perfect."
        )
        yield _link(text, "ladder")
    suspicious = [probe.name for probe in content.probes if probe.warns]
    if suspicious:
        names = wording.list_some(suspicious, 4)
        yield _link(f"Beware of a shortcut: the label can partly be guessed from: {names}.", "probes")
    yield from _data_lines(content)


def _data_lines(content: ReportContent) -> Iterator[Markup]:
    """What is known of the data that the answer rests on."""
    others = {
        patient
        for finding in content.findings
        if finding.code == NotALymphocyte.code
        for patient in finding.patients
    }
    named = [row.id for row in content.patients if row.id in others]
    if named:
        text = f"More than half of the cells are taken for other kinds in: {wording.list_some(named, 4)}."
        yield _link(text, "findings")
    grave = [finding for finding in content.findings if finding.severity is not Severity.INFO]
    counts = [
        f"{len(found)} {severity}{'s' if len(found) > 1 else ''}"
        for severity, _, found in group_findings(grave)
    ]
    titles = wording.list_some(list(dict.fromkeys(finding.title for finding in grave)), 4)
    text = (
        f"The data came with {' and '.join(counts)}: {titles}."
        if grave
        else "No fault was found in the data."
    )
    if content.ignored:
        codes = ", ".join(sorted({finding.code for finding in content.ignored}))
        text = f"{text if grave else ''} Faults were found that were to be ignored: {codes}.".strip()
    yield _link(text, "findings")


def _decision_line(content: ReportContent) -> str:
    quality = content.quality
    if content.fitted_on:
        return (
            "How well the model does on patients like these cannot be seen here: it was measured on the "
            f"cohort “{content.fitted_on}”, in the report of the run that fitted it."
        )
    if quality is None:
        return "How well the tool does on patients like these was not measured: too few labelled patients."
    return (
        f"Among {quality.n_malignant} malignant patients held out of training, "
        f"{wording.percent_text(quality.sensitivity)} were referred; "
        f"{wording.percent_text(quality.tests_saved)} of all patients were spared the test."
        + _not_the_rule(content)
    )


def _not_the_rule(content: ReportContent) -> str:
    """Why these numbers are not those of the rule that new patients get, where they are not."""
    if not content.without_threshold or content.threshold == 0:
        return ""
    whom = wording.percent(content.without_threshold)
    return (
        f" But for {whom} of them no threshold could be chosen, so that all were referred; new patients have "
        "a threshold."
    )


def _link(text: str, section: str) -> Markup:
    return Markup('{} <a href="#{}" class="more">More</a>').format(text, section)

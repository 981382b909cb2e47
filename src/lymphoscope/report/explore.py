"""A cohort to look at: one page, and each figure as a file of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from lymphoscope.files import write_bytes
from lymphoscope.report import explore_figures as draw
from lymphoscope.report import explore_pictures
from lymphoscope.report.explore_content import ExploreContent
from lymphoscope.report.figures import house_style, inline_svg, to_png, to_svg
from lymphoscope.report.html import environment, group_findings, style, to_bytes
from lymphoscope.report.wording import plural


@dataclass(frozen=True)
class Plate:
    """One figure of the page.

    Attributes
    ----------
    name : of its files, without number and suffix.
    caption : what to look for.
    missing : a sentence about what could not be shown, may be empty.
    wide : whether it takes the page's whole width.
    svg, png : None where there is nothing to draw; `missing` then says why.
    """

    name: str
    title: str
    caption: str
    missing: str
    wide: bool
    svg: str | None
    png: bytes | None


@dataclass(frozen=True)
class _Kind:
    name: str
    title: str
    caption: str
    draw: Callable[[ExploreContent], Figure | str]
    needs: tuple[int, ...] = ()
    wide: bool = False


_KINDS = (
    _Kind("class-counts", "Classes", "Unequal classes are why balanced accuracy is used.", draw.class_counts),
    _Kind("sex-counts", "Sexes", "", draw.sex_counts, (draw.SEX,)),
    _Kind("sex-by-class", "Sex by class", "", draw.sex_by_class, (draw.SEX,)),
    _Kind("age-histogram", "Ages", "Bars are five years wide.", draw.age_histogram, (draw.AGE,)),
    _Kind("age-by-class", "Age by class",
          "Each dot is a patient; the box spans the middle half, its line and number are the median.",
          draw.age_by_class, (draw.AGE,)),
    _Kind("age-by-sex", "Age by sex", "", draw.age_by_sex, (draw.AGE, draw.SEX)),
    _Kind("count-by-class", "Lymphocyte count by class",
          "Where the classes overlap, the count alone does not decide.", draw.count_by_class, (draw.COUNT,)),
    _Kind("count-histogram", "Lymphocyte counts", "", draw.count_histogram, (draw.COUNT,)),
    _Kind("images-per-patient", "Photographs per patient",
          "A class with more photographs is a shortcut for a model: it can count instead of look. "
          "The dashed line is the median.", draw.images_per_patient, wide=True),
    _Kind("train-against-test", "Train against test",
          "Where the two differ, a score on the test patients says less about the training patients.",
          draw.train_against_test, (draw.AGE, draw.SEX, draw.COUNT), wide=True),
    _Kind("resampling", "Over- and under-sampling",
          "What drawing the smaller class repeatedly, or leaving out part of the larger one, does to the "
          "patients learned from in one pass. Patients held out are never resampled.",
          draw.resampling, wide=True),
    _Kind("sample-cells", "Sample cells", "Drawn from different patients.",
          explore_pictures.sample_cells, wide=True),
    _Kind("segmentation", "Segmentation, good and bad",
          "Solid line: nucleus. Dashed line: cell. Numbers of refused cells are marked as not measured, "
          "not dropped.", explore_pictures.segmentation, wide=True),
)  # fmt: skip
_VALUES = {draw.AGE: "age", draw.SEX: "sex", draw.COUNT: "a lymphocyte count above 0"}


def write_explore(content: ExploreContent, folder: Path) -> Path:
    """Write `explore.html` and `figures/NN-name.svg` and `.png` into `folder`; return the page's path.

    Files of these names are replaced, others left alone; the same content gives the same bytes.
    """
    plates = draw_plates(content)
    for number, plate in enumerate(plates, start=1):
        if plate.svg is not None and plate.png is not None:
            stem = folder / "figures" / f"{number:02d}-{plate.name}"
            write_bytes(stem.with_suffix(".svg"), to_bytes('<?xml version="1.0"?>\n' + plate.svg))
            write_bytes(stem.with_suffix(".png"), plate.png)
    page = folder / "explore.html"
    write_bytes(page, to_bytes(_render(content, plates)))
    return page


def draw_plates(content: ExploreContent) -> tuple[Plate, ...]:
    """Every figure, in the page's order; those that cannot be drawn say why."""
    with house_style():
        return tuple(_plate(kind, content) for kind in _KINDS)


def _plate(kind: _Kind, content: ExploreContent) -> Plate:
    drawn = kind.draw(content)
    if isinstance(drawn, str):
        return Plate(kind.name, kind.title, "", drawn, kind.wide, None, None)
    svg = to_svg(drawn, kind.name)
    drawn.set_layout_engine("none")  # the layout just found is kept; finding it again would cost a third more
    png = to_png(drawn)
    return Plate(kind.name, kind.title, kind.caption, _left_out(kind, content), kind.wide, svg, png)


def _left_out(kind: _Kind, content: ExploreContent) -> str:
    """How many patients the figure could not show, for want of which value."""
    parts = []
    for column in kind.needs:
        values = content.clinical[:, column]
        # A count of 0 or below has no place on a logarithmic axis.
        n = int((~(values > 0) if column == draw.COUNT else np.isnan(values)).sum())
        if n:
            parts.append(f"{plural(n, 'patient')} without {_VALUES[column]}")
    return f"Not shown: {', '.join(parts)}." if parts else ""


def headline(content: ExploreContent) -> str:
    """What the cohort holds, in one sentence."""
    label = np.asarray(content.label)
    n_images = int(np.sum(content.n_images))
    return (
        f"{plural(len(label), 'patient')}: {int((label == 1).sum())} malignant, {int((label == 0).sum())} "
        f"reactive, {int((label == -1).sum())} unlabelled; {plural(n_images, 'cell photograph')}."
    )


def facts(content: ExploreContent) -> list[tuple[str, str]]:
    """Medians and what is missing, as pairs (name, text)."""
    rows = []
    for column, name, unit in (
        (draw.AGE, "Age", "years"),
        (draw.COUNT, "Lymphocyte count", "× 10⁹/L"),
    ):
        rows.append((name, _range_text(content.clinical[:, column], unit)))
    sex = content.clinical[:, draw.SEX]
    text = f"{int((sex == 0).sum())} female, {int((sex == 1).sum())} male"
    rows.append(("Sex", text + _missing_text(int(np.isnan(sex).sum()))))
    n_images = np.asarray(content.n_images, dtype=np.float64)
    text = _range_text(n_images, "per patient")
    none = int((n_images == 0).sum())
    rows.append(("Photographs", text + (f"; {plural(none, 'patient')} without any" if none else "")))
    return rows


def _range_text(values: draw.Floats, unit: str) -> str:
    known = values[np.isfinite(values)]
    if not len(known):
        return "not known for any patient"
    text = f"median {np.median(known):.3g} {unit}, from {known.min():.3g} to {known.max():.3g}"
    return text + _missing_text(len(values) - len(known))


def _missing_text(n: int) -> str:
    return f"; missing in {plural(n, 'patient')}" if n else ""


def _render(content: ExploreContent, plates: tuple[Plate, ...]) -> str:
    shown = [
        (plate, inline_svg(plate.svg, f"{plate.title}. {plate.caption}") if plate.svg else Markup())
        for plate in plates
    ]
    return environment().get_template("explore.html.j2").render(
        style=style(),
        name=content.name,
        labels_note=content.labels_note,
        headline=headline(content),
        facts=facts(content),
        plates=shown,
        findings_by_severity=group_findings(content.findings),
    )  # fmt: skip

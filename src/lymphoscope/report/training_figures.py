"""Figures of networks' training: curves per epoch, and classes before and after balancing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from lymphoscope.report.figures import (
    DARK,
    INK,
    LIGHT,
    LINE,
    MUTED,
    PAGE_WIDTH,
    house_style,
    new_figure,
    to_svg,
)
from lymphoscope.report.training_content import MEASURES, Balancing, Curves, FoldCurves, Training

THIN_LINES = 10
"""Folds whose own lines are drawn: more would hide one another and fill the file."""

_GREY = "#98a2ac"
_DASHES = (0, (4, 2))
_MOST_LOSS = 3.0
"""Loss is shown up to this multiple of its middle value where a few epochs stand far above all others."""


def curves_figure(training: Training, name: str) -> str:
    """Loss, balanced accuracy, sensitivity and specificity per epoch: a thin line a fold, a thick mean."""
    with house_style():
        figure = new_figure(PAGE_WIDTH, 118)
        panels = figure.subplots(2, 2, sharex=True)
        for axes, (measure, title) in zip(panels.flat, MEASURES.items(), strict=True):
            _panel(axes, training.folds, measure)
            axes.set_title(title)
        for axes in panels[1]:
            axes.set_xlabel("Epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        figure.legend(handles=_legend(training.folds), loc="outside upper left", ncols=4, handlelength=3)
        return to_svg(figure, name)


def balancing_figure(balancing: Balancing, name: str) -> str:
    """Patients and cells of each class in one epoch, before and after."""
    with house_style():
        figure = new_figure(130, 52)
        panels = figure.subplots(1, 2)
        for axes, title, before, after in (
            (panels[0], "Patients", balancing.patients_before, balancing.patients_after),
            (panels[1], "Cells", balancing.cells_before, balancing.cells_after),
        ):
            axes.set_title(title)
            _bars(axes, before, -0.19, {"facecolor": LIGHT, "hatch": "////"})
            _bars(axes, after, 0.19, {"facecolor": DARK})
            axes.set_xticks([0, 1], ["reactive", "malignant"])
            axes.tick_params(axis="x", length=0)
            axes.set_ylim(0, 1.15 * max(*before, *after, 1))
            axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
        handles = [
            Patch(facecolor=LIGHT, edgecolor=INK, hatch="////", label="before"),
            Patch(facecolor=DARK, edgecolor=INK, label="after"),
        ]
        figure.legend(handles=handles, loc="outside right upper")
        return to_svg(figure, name)


def mean_curve(folds: Sequence[Curves], measure: str) -> npt.NDArray[np.float64]:
    """Mean over the folds that were still trained at each epoch, shape (longest,); NaN where none is."""
    longest = max((len(curves.get(measure, ())) for curves in folds), default=0)
    values = np.full((len(folds), longest), np.nan)
    for row, curves in zip(values, folds, strict=True):
        row[: len(curves.get(measure, ()))] = curves.get(measure, ())
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(0)
    return np.divide(total, known.sum(0), out=np.full(longest, np.nan), where=known.any(0))


def _panel(axes: Axes, folds: Sequence[FoldCurves], measure: str) -> None:
    shown = folds[:THIN_LINES]
    several = len(folds) > 1
    marker = "." if max(len(fold.training["loss"]) for fold in folds) < 6 else ""
    for of, colour, dashes, order in (("training", _GREY, _DASHES, 2), ("validation", INK, "-", 3)):
        curves = [getattr(fold, of) for fold in folds]
        if several:
            for each in curves[: len(shown)]:
                _line(axes, each.get(measure, ()), color=colour, linestyle=dashes, linewidth=0.6, alpha=0.75)
        _line(axes, mean_curve(curves, measure), color=colour, linestyle=dashes, linewidth=2.2, zorder=order,
              marker=marker)  # fmt: skip
    for fold in shown:
        values = (fold.validation or fold.training).get(measure, ())
        chosen = [epoch for epoch in fold.chosen if epoch <= len(values) and math.isfinite(values[epoch - 1])]
        axes.plot(chosen, [values[epoch - 1] for epoch in chosen], "o", color=INK, markersize=4.5,
                  markerfacecolor=LIGHT, markeredgewidth=1.0, zorder=4, clip_on=False)  # fmt: skip
    axes.grid(color=LINE, linewidth=0.5)
    axes.set_axisbelow(True)
    if measure == "loss":
        _loss_limits(axes, folds)
        return
    axes.set_ylim(-0.03, 1.03)
    if measure == "balanced_accuracy":
        axes.axhline(0.5, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)


def _line(axes: Axes, values: Sequence[float] | npt.NDArray[np.float64], **style: object) -> None:
    axes.plot(np.arange(1, len(values) + 1), values, **style)  # type: ignore[arg-type]


def _loss_limits(axes: Axes, folds: Sequence[FoldCurves]) -> None:
    """From 0, and not so high that a first epoch gone wild flattens all others."""
    curves = [curve for fold in folds for curve in (fold.training, fold.validation)]
    values = np.concatenate([np.asarray(curve.get("loss", ()), dtype=np.float64) for curve in curves])
    values = values[np.isfinite(values)]
    if not len(values) or values.max() <= 0:
        return
    cut = _MOST_LOSS * float(np.median(values))
    if values.max() <= cut:
        axes.set_ylim(0, 1.05 * values.max())
        return
    axes.set_ylim(0, cut)
    axes.text(1, 1.02, f"cut; highest {values.max():.3g}", transform=axes.transAxes, ha="right", color=MUTED,
              fontsize=7.5)  # fmt: skip


def _bars(axes: Axes, counts: tuple[float, float], shift: float, style: dict[str, str]) -> None:
    bars = axes.bar([place + shift for place in (0, 1)], counts, width=0.34, edgecolor=INK, **style)  # type: ignore[arg-type]
    axes.bar_label(
        bars, [f"{count:,.0f}".replace(",", "\u202f") for count in counts], padding=2, fontsize=7.5
    )


def _legend(folds: Sequence[FoldCurves]) -> list[Line2D]:
    several = len(folds) > 1
    handles = [
        Line2D([], [], color=INK, linewidth=2.2, label="validation" + (", mean" if several else "")),
        Line2D([], [], color=_GREY, linewidth=2.2, linestyle=_DASHES,
               label="training" + (", mean" if several else "")),
    ]  # fmt: skip
    if several:
        handles.append(Line2D([], [], color=MUTED, linewidth=0.6, label="one training"))
    handles.append(
        Line2D(
            [],
            [],
            color=INK,
            marker="o",
            markersize=4.5,
            markerfacecolor=LIGHT,
            linestyle="none",
            label="kept epoch",
        )
    )
    return handles

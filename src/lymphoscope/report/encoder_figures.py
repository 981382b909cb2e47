"""Figures of an encoder's card: which cells it takes for which, and whether its probabilities are right."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from lymphoscope.report.figures import (
    DARK,
    INK,
    LIGHT,
    LINE,
    MUTED,
    PAGE_WIDTH,
    house_style,
    new_figure,
    to_png,
)
from lymphoscope.stats.intervals import wilson

_SHADES = LinearSegmentedColormap.from_list("cells", [LIGHT, DARK])
_DARK_FROM = 0.5
"""Share of a row from which what is written on it is light."""

_GREY = "#98a2ac"
_ACROSS = 4
"""Panels of the reliability figure in a row."""


def confusion_figure(classes: Sequence[str], confusion: Sequence[Sequence[int]], description: str) -> bytes:
    """Cells by true and told class as a PNG; shades are shares of the true class, numbers are cells.

    Parameters
    ----------
    description : kept in the file.
    """
    counts = np.asarray(confusion, dtype=np.int64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [words(each) for each in classes]
    with house_style():
        figure = new_figure(min(PAGE_WIDTH, 48 + 15 * len(names)), 32 + 9 * len(names))
        axes = figure.subplots()
        axes.pcolormesh(shares, cmap=_SHADES, vmin=0, vmax=1, edgecolors=LINE, linewidth=0.6)
        for (row, column), n in np.ndenumerate(counts):
            if n:
                colour = LIGHT if shares[row, column] > _DARK_FROM else INK
                axes.text(column + 0.5, row + 0.5, f"{n:,}", ha="center", va="center", color=colour)
        middle = np.arange(len(names)) + 0.5
        axes.set_xticks(middle, names, rotation=35, ha="right", rotation_mode="anchor")
        axes.set_yticks(
            middle, [f"{each} ({n:,})" for each, n in zip(names, counts.sum(axis=1), strict=True)]
        )
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.invert_yaxis()
        axes.set(xlabel="Told", ylabel="Is (cells held out)")
        return to_png(figure, description=description)


def reliability_figure(calibration: Mapping[str, Mapping[str, Any]], description: str) -> bytes:
    """Of every task, how often it is right at each confidence, as a PNG; larger dots are more cells.

    Bars are 95 % intervals; the dashed line is where confidence and share are the same.

    Parameters
    ----------
    calibration : by task, as a card holds it.
    description : kept in the file.
    """
    down = math.ceil(len(calibration) / _ACROSS)
    with house_style():
        figure = new_figure(PAGE_WIDTH, 14 + 46 * down)
        panels = figure.subplots(down, _ACROSS, sharex=True, sharey=True, squeeze=False)
        for axes, (task, found) in zip(panels.flat, calibration.items(), strict=False):
            _reliability(axes, found["reliability"])
            axes.set_title(words(task), fontsize=7.5)
        for axes in panels.flat[len(calibration) :]:
            axes.set_visible(False)
        figure.supxlabel("Mean confidence of the cells of a bin", fontsize=8, color=INK)
        figure.supylabel("Share told correctly", fontsize=8, color=INK)
        return to_png(figure, description=description)


def _reliability(axes: Axes, bins: Sequence[Sequence[float]]) -> None:
    """A dot a bin, with Wilson's interval: a bin of few cells must not look like a finding."""
    axes.plot([0, 1], [0, 1], color=MUTED, linestyle=(0, (4, 2)), linewidth=0.8, zorder=1)
    total = sum(cells for cells, _, _ in bins)
    for cells, confidence, right in bins:
        interval = wilson(round(cells * right), int(cells))
        axes.plot([confidence] * 2, [interval.low, interval.high], color=_GREY, linewidth=1.0, zorder=2)
        size = 5 + 60 * cells / total
        axes.scatter(confidence, right, s=size, color=DARK, linewidth=0, zorder=3, clip_on=False)
    axes.set(xlim=(0.2, 1.02), ylim=(0, 1.02), xticks=[0.25, 0.5, 0.75, 1], yticks=[0, 0.5, 1])


def words(name: str) -> str:
    """The name of a task, an answer or a setting as it is read."""
    return name.replace("_", " ")

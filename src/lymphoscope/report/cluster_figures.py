"""Figures of clusters of cells: shares by class, a map, and the classifiers that use them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from lymphoscope.models.clusters.views import ClassifierScore, ClassShare
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
from lymphoscope.stats.intervals import Interval

_MARKERS = "os^DvP<X>ph"
_SHADES = ((INK, INK), (LIGHT, INK), ("#98a2ac", "#98a2ac"), ("#d7dde3", INK))
"""Filled, open, grey and pale; with the markers no two of 44 clusters look the same."""


def shares_figure(shares: Sequence[ClassShare], name: str) -> str:
    """Mean share of each cluster among the cells of reactive and of malignant patients, in that order."""
    with house_style():
        figure = new_figure(PAGE_WIDTH, 62)
        axes = figure.subplots()
        places = np.arange(len(shares), dtype=np.float64)
        _bars(axes, places - 0.2, [each.reactive for each in shares], {"facecolor": LIGHT, "hatch": "////"})
        _bars(axes, places + 0.2, [each.malignant for each in shares], {"facecolor": DARK})
        axes.set_xticks(places, [str(each.cluster + 1) for each in shares])
        axes.tick_params(axis="x", length=0)
        axes.set(xlabel="Cluster", ylabel="Mean share of a patient's cells")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_ylim(bottom=0)
        handles = [
            Patch(facecolor=LIGHT, edgecolor=INK, hatch="////", label="reactive"),
            Patch(facecolor=DARK, edgecolor=INK, label="malignant"),
        ]
        figure.legend(handles=handles, loc="outside upper right", ncols=2)
        return to_svg(figure, name)


def map_figure(places: npt.NDArray[np.float64], cluster: npt.NDArray[np.int64], name: str) -> str:
    """Cells in two dimensions, each cluster with a marker of its own and its number at its middle.

    Parameters
    ----------
    places : (n_cells, 2), as `cell_map` gives them.
    cluster : of each cell, (n_cells,).
    """
    with house_style():
        figure = new_figure(150, 120)
        axes = figure.subplots()
        numbers = np.unique(cluster)
        for i, number in enumerate(numbers):
            fill, edge = _SHADES[i % len(_SHADES)]
            axes.plot(*places[cluster == number].T, _MARKERS[i % len(_MARKERS)], color=fill,
                      markersize=_mark_size(len(places)), markeredgecolor=edge, markeredgewidth=0.5,
                      linestyle="none", rasterized=True, label=str(number + 1))  # fmt: skip
        for number in numbers:
            own = places[cluster == number]
            x, y = own[((own - np.median(own, axis=0)) ** 2).sum(axis=1).argmin()]
            axes.text(x, y, str(number + 1), ha="center", va="center", fontsize=8,
                      weight="bold", bbox={"facecolor": LIGHT, "edgecolor": MUTED, "pad": 1.2})  # fmt: skip
        axes.set(xticks=[], yticks=[])
        if len(numbers):
            figure.legend(title="Cluster", loc="outside right upper", markerscale=1.5, handletextpad=0.2)
        axes.spines[:].set_visible(True)
        return to_svg(figure, name)


def _mark_size(n: int) -> float:
    """In points: smaller where there are many, so that a crowd stays a crowd of single cells."""
    return float(np.clip(100.0 / np.sqrt(max(n, 1)), 2.2, 5.0))


def classifiers_figure(found: Sequence[ClassifierScore], name: str) -> str:
    """Balanced accuracy of every classifier in inner folds with its interval; the chosen one is filled."""
    with house_style():
        figure = new_figure(PAGE_WIDTH, 22 + 4.6 * max(len(found), 1))
        axes = figure.subplots()
        axes.axvline(0.5, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)))
        for y, each in enumerate(found):
            ends = (each.balanced_accuracy.low, each.balanced_accuracy.high)
            axes.plot(ends, [y, y], color=INK, linewidth=1.2)
            axes.plot([each.balanced_accuracy.estimate], [y], "o", color=INK, markersize=5,
                      markerfacecolor=INK if each.chosen else LIGHT)  # fmt: skip
            axes.plot(each.by_own_rule, [y] * len(each.by_own_rule), "|", color=MUTED, markersize=5)
        axes.set_yticks(range(len(found)), [each.name for each in found])
        for label, each in zip(axes.get_yticklabels(), found, strict=True):
            label.set_fontweight("bold" if each.chosen else "normal")
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.set_xlabel("Balanced accuracy in inner folds (0.5 is guessing)")
        axes.grid(axis="x", color=LINE, linewidth=0.5)
        axes.set_axisbelow(True)
        return to_svg(figure, name)


def _bars(
    axes: Axes, places: npt.NDArray[np.float64], values: Sequence[Interval], style: dict[str, str]
) -> None:
    heights = [each.estimate for each in values]
    reach = np.nan_to_num(
        [
            [each.estimate - each.low for each in values],
            [each.high - each.estimate for each in values],
        ]
    )
    axes.bar(places, heights, width=0.38, yerr=reach, edgecolor=INK, ecolor=MUTED, capsize=1.5, **style)  # type: ignore[arg-type]

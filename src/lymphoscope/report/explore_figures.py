"""Figures that show a cohort before anything is learned from it.

Each takes the content and gives a figure, or a sentence that says why there is none. Every class has its own
hatch and marker besides its shade, so that the figures survive a black-and-white printer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from lymphoscope.report.explore_content import ExploreContent
from lymphoscope.report.figures import INK, LINE, MUTED, PAGE_WIDTH, new_figure

Floats = npt.NDArray[np.float64]
Drawing = Figure | str
HALF = 88.0
"""Width in mm of a figure that shares the page's width with another."""


@dataclass(frozen=True)
class Look:
    """How one group of patients is drawn, everywhere."""

    title: str
    fill: str
    hatch: str
    marker: str
    dot: str


MALIGNANT = Look("Malignant", "#2f4f6f", "", "o", "#2f4f6f")
REACTIVE = Look("Reactive", "#ffffff", "////", "s", "#ffffff")
UNLABELLED = Look("Unlabelled", "#dfe3e8", "--", "^", "#dfe3e8")
TRAIN = Look("Train", "#ffffff", "////", "s", "#ffffff")
TEST = Look("Test", "#59636e", "", "o", "#59636e")
FEMALE = Look("Female", "#ffffff", "\\\\\\\\", "s", "#ffffff")
MALE = Look("Male", "#59636e", "", "o", "#59636e")
ALL = Look("Patients", "#b7c1cc", "", "o", "#b7c1cc")

AGE, SEX, COUNT = 0, 1, 2
COUNT_AXIS = "Lymphocytes, 10⁹/L (log axis)"
NO_COUNT = "No patient's lymphocyte count is known."
Groups = list[tuple[Look, npt.NDArray[np.bool_]]]


def by_class(content: ExploreContent) -> Groups:
    """The classes that occur, malignant first."""
    looks = ((MALIGNANT, 1), (REACTIVE, 0), (UNLABELLED, -1))
    groups = [(look, np.asarray(content.label) == value) for look, value in looks]
    return [(look, mask) for look, mask in groups if mask.any()]


def by_sex(content: ExploreContent) -> Groups:
    """The sexes that occur."""
    groups = [(look, content.clinical[:, SEX] == value) for look, value in ((FEMALE, 0.0), (MALE, 1.0))]
    return [(look, mask) for look, mask in groups if mask.any()]


def by_split(content: ExploreContent) -> Groups:
    """Train and test, where the cohort says which is which."""
    split = np.asarray(content.split, dtype=object)
    groups = [(look, split == look.title.lower()) for look in (TRAIN, TEST)]
    return [(look, np.asarray(mask, dtype=bool)) for look, mask in groups if np.any(mask)]


def class_counts(content: ExploreContent) -> Drawing:
    """How many patients of each class."""
    groups = by_class(content)
    if not groups:
        return "There are no patients."
    return _bars([(look, int(mask.sum())) for look, mask in groups], "Patients")


def sex_counts(content: ExploreContent) -> Drawing:
    """How many patients of each sex."""
    groups = by_sex(content)
    if not groups:
        return "No patient's sex is known."
    return _bars([(look, int(mask.sum())) for look, mask in groups], "Patients")


def sex_by_class(content: ExploreContent) -> Drawing:
    """Sexes within each class, side by side."""
    sexes, classes = by_sex(content), by_class(content)
    if not sexes:
        return "No patient's sex is known."
    figure = new_figure(HALF, 62)
    axes = figure.subplots()
    width = 0.8 / len(sexes)
    for i, (look, sex) in enumerate(sexes):
        at = np.arange(len(classes)) + (i - (len(sexes) - 1) / 2) * width
        _labelled_bars(
            axes, at, [int((sex & mask).sum()) for _, mask in classes], [look] * len(classes), width
        )
        axes.bar([0], [0], color=look.fill, edgecolor=INK, hatch=look.hatch, label=look.title)
    axes.set_xticks(range(len(classes)), [look.title for look, _ in classes])
    axes.legend(loc="upper right", ncols=2)
    return _finish(axes, "Patients", headroom=1.3)


def age_histogram(content: ExploreContent) -> Drawing:
    """Ages of all patients."""
    age = content.clinical[:, AGE]
    age = age[np.isfinite(age)]
    if not len(age):
        return "No patient's age is known."
    figure = new_figure(HALF, 62)
    axes = figure.subplots()
    _histograms(axes, [(ALL, age)], _age_edges(age))
    axes.set_xlabel("Age in years")
    return _finish(axes, "Patients")


def age_by_class(content: ExploreContent) -> Drawing:
    """Ages per class: every patient and the quartiles."""
    return _spread(content.clinical[:, AGE], by_class(content), "Age in years", "No patient's age is known.")


def age_by_sex(content: ExploreContent) -> Drawing:
    """Ages per sex: every patient and the quartiles."""
    return _spread(
        content.clinical[:, AGE], by_sex(content), "Age in years", "Age and sex are never known together."
    )


def count_by_class(content: ExploreContent) -> Drawing:
    """Lymphocyte counts per class on a logarithmic axis."""
    drawn = _spread(_positive_count(content), by_class(content), COUNT_AXIS, NO_COUNT)
    if isinstance(drawn, Figure):
        drawn.axes[0].set_yscale("log")
        _plain_numbers(drawn.axes[0].yaxis)
    return drawn


def count_histogram(content: ExploreContent) -> Drawing:
    """Lymphocyte counts of all patients on a logarithmic axis."""
    count = _positive_count(content)
    count = count[np.isfinite(count)]
    if not len(count):
        return NO_COUNT
    figure = new_figure(HALF, 72)
    axes = figure.subplots()
    _histograms(axes, [(ALL, count)], np.geomspace(count.min() * 0.95, count.max() * 1.05, 16))
    axes.set_xscale("log")
    _plain_numbers(axes.xaxis)
    axes.set_xlabel(COUNT_AXIS)
    return _finish(axes, "Patients")


def images_per_patient(content: ExploreContent) -> Drawing:
    """Photographs per patient, by class."""
    n_images = np.asarray(content.n_images, dtype=np.float64)
    groups = by_class(content)
    if not len(n_images) or n_images.max() == 0:
        return "There are no photographs."
    edges = np.linspace(0, _round_up(n_images.max()), 16)
    figure = new_figure(PAGE_WIDTH, 62)
    panels = figure.subplots(1, len(groups), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (look, mask) in zip(panels, groups, strict=True):
        _histograms(axes, [(look, n_images[mask])], edges)
        median = float(np.median(n_images[mask]))
        axes.axvline(median, color="#ffffff", linewidth=2.6)
        axes.axvline(median, color="#000000", linewidth=1.2, linestyle=(0, (3, 2)))
        axes.set_title(f"{look.title} (median {median:g})")
        axes.set_xlabel("Photographs per patient")
        _finish(axes, "Patients" if axes is panels[0] else "")
    return figure


def train_against_test(content: ExploreContent) -> Drawing:
    """Whether the test patients look like the training patients."""
    groups = by_split(content)
    if len(groups) < 2:
        return "The cohort does not say which patients are for training and which for testing."
    figure = new_figure(PAGE_WIDTH, 104)
    panels = figure.subplots(2, 2).ravel()
    columns = (
        ("Age in years", content.clinical[:, AGE]),
        (COUNT_AXIS, _positive_count(content)),
        ("Photographs per patient", np.asarray(content.n_images, dtype=np.float64)),
        ("Sex", content.clinical[:, SEX]),
    )
    for axes, (name, values) in zip(panels, columns, strict=True):
        axes.set_xlabel(name)
        if not all(np.isfinite(values[mask]).any() for _, mask in groups):
            axes.text(0.5, 0.5, "not known in both", transform=axes.transAxes, ha="center", color=MUTED)
            axes.set(xticks=[], yticks=[])
            continue
        _shares(axes, values, groups, name)
    panels[0].legend(loc="upper left")
    return figure


def resampling(content: ExploreContent) -> Drawing:
    """Class counts as they are, with the smaller class drawn repeatedly, and with the larger cut down."""
    groups = [(look, int(mask.sum())) for look, mask in by_class(content) if look is not UNLABELLED]
    if len(groups) < 2:
        return "This needs labelled patients of both classes."
    counts = [n for _, n in groups]
    figure = new_figure(PAGE_WIDTH, 62)
    panels = figure.subplots(1, 3, sharey=True)
    after = (
        ("As they are", counts),
        ("Smaller class over-sampled", [max(counts)] * 2),
        ("Larger class under-sampled", [min(counts)] * 2),
    )
    for axes, (title, heights) in zip(panels, after, strict=True):
        _labelled_bars(axes, np.arange(2), heights, [look for look, _ in groups])
        axes.set_xticks(range(2), [look.title for look, _ in groups])
        axes.set_title(title)
        _finish(axes, "Patients" if axes is panels[0] else "", headroom=1.15)
    return figure


def _bars(heights: Sequence[tuple[Look, int]], y_label: str) -> Figure:
    figure = new_figure(HALF, 62)
    axes = figure.subplots()
    _labelled_bars(axes, np.arange(len(heights)), [n for _, n in heights], [look for look, _ in heights])
    axes.set_xticks(range(len(heights)), [look.title for look, _ in heights])
    axes.set_xlim(-0.7, max(len(heights), 2) - 0.3)
    return _finish(axes, y_label, headroom=1.15)


def _labelled_bars(
    axes: Axes,
    at: npt.ArrayLike,
    heights: Sequence[int],
    looks: Sequence[Look],
    width: float = 0.6,
) -> None:
    for x, height, look in zip(np.asarray(at, dtype=np.float64), heights, looks, strict=True):
        axes.bar([x], [height], width=width, color=look.fill, edgecolor=INK, hatch=look.hatch, linewidth=0.8)
        axes.annotate(str(height), (x, height), (0, 2), textcoords="offset points", ha="center")


def _histograms(axes: Axes, groups: Sequence[tuple[Look, Floats]], edges: Floats) -> None:
    for look, values in groups:
        axes.hist(values, bins=list(edges), color=look.fill, edgecolor=INK, hatch=look.hatch, linewidth=0.8)


def _shares(axes: Axes, values: Floats, groups: Groups, name: str) -> None:
    """Share of each group per bin, the groups' bars side by side."""
    known = values[np.isfinite(values)]
    if name == "Sex":
        edges = np.array([-0.5, 0.5, 1.5])
        axes.set_xticks([0, 1], ["female", "male"])
    elif name == COUNT_AXIS:
        edges = np.geomspace(known.min() * 0.95, known.max() * 1.05, 11)
        axes.set_xscale("log")
        _plain_numbers(axes.xaxis)
    else:
        edges = np.linspace(0, _round_up(known.max()), 11)
    for i, (look, mask) in enumerate(groups):
        inside = values[mask & np.isfinite(values)]
        share = np.histogram(inside, edges)[0] / len(inside)
        left, right = (_within(edges, part + 0.45 * i, name == COUNT_AXIS) for part in (0.05, 0.5))
        axes.bar(left, share, right - left, align="edge", color=look.fill, edgecolor=INK, hatch=look.hatch,
                 linewidth=0.7, label=f"{look.title} ({int(mask.sum())})")  # fmt: skip
    axes.set_ylabel("Share of patients")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:.0f} %"))
    axes.grid(axis="y", color=LINE, linewidth=0.5)
    axes.set_axisbelow(True)


def _within(edges: Floats, part: float, logarithmic: bool) -> Floats:
    """The point that lies at `part` of the way through each bin, as the axis shows it."""
    if logarithmic:
        return edges[:-1] * (edges[1:] / edges[:-1]) ** part
    return edges[:-1] + part * np.diff(edges)


def _spread(values: Floats, groups: Groups, y_label: str, missing: str) -> Drawing:
    """One column per group: every patient as a dot, median and quartiles as a box."""
    shown = [(look, values[mask & np.isfinite(values)]) for look, mask in groups]
    shown = [(look, inside) for look, inside in shown if len(inside)]
    if not shown:
        return missing
    figure = new_figure(HALF, 72)
    axes = figure.subplots()
    scatter = np.random.default_rng(0)
    for x, (look, inside) in enumerate(shown):
        low, middle, high = np.quantile(inside, (0.25, 0.5, 0.75))
        axes.plot(x - 0.22 + scatter.uniform(-0.13, 0.13, len(inside)), inside, linestyle="none",
                  marker=look.marker, markersize=3, color=INK, markerfacecolor=look.dot,
                  markeredgewidth=0.5)  # fmt: skip
        axes.bar([x + 0.2], [high - low], bottom=[low], width=0.26, color=look.fill, hatch=look.hatch,
                 edgecolor=INK, linewidth=0.8)  # fmt: skip
        for colour, width in (("#ffffff", 4.0), (INK, 2.0)):
            axes.plot([x + 0.05, x + 0.35], [middle, middle], color=colour, linewidth=width,
                      solid_capstyle="butt")  # fmt: skip
        axes.annotate(f"{middle:.3g}", (x + 0.36, middle), (3, -3), textcoords="offset points")
    axes.set_xticks(range(len(shown)), [f"{look.title}\n({len(inside)})" for look, inside in shown])
    axes.set_xlim(-0.6, max(len(shown), 2) - 0.3)
    axes.set_ylabel(y_label)
    axes.grid(axis="y", color=LINE, linewidth=0.5)
    axes.set_axisbelow(True)
    return figure


def _positive_count(content: ExploreContent) -> Floats:
    """Counts that have a logarithm; NaN for the others."""
    count = content.clinical[:, COUNT]
    return np.where(count > 0, count, np.nan)


def _plain_numbers(axis: Axis) -> None:
    """5, 10, 20 on a logarithmic axis instead of powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _finish(axes: Axes, y_label: str, headroom: float = 1.05) -> Figure:
    """Whole numbers of patients from 0 up; axes that share their scale get the highest one's."""
    axes.set_ylabel(y_label)
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    shared = axes.get_shared_y_axes().get_siblings(axes)
    axes.set_ylim(0, max([1.0, *(other.dataLim.y1 for other in shared)]) * headroom)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.grid(axis="y", color=LINE, linewidth=0.5)
    axes.set_axisbelow(True)
    return figure


def _age_edges(age: Floats) -> Floats:
    low, high = 5 * np.floor(age.min() / 5), 5 * (np.floor(age.max() / 5) + 1)
    return np.arange(low, high + 1, 5.0)


def _round_up(value: float) -> float:
    step = 10.0 ** np.floor(np.log10(max(value, 1.0))) / 2
    return float(step * (np.floor(value / step) + 1))

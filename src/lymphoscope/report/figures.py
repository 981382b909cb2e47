"""Figures of the report: readable from a black-and-white printer, and the same bytes every time."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lymphoscope.report.content import Calibration, Inputs, Ladder, Rung, Scores, Swing
from lymphoscope.report.wording import decimal, short_name
from lymphoscope.stats.intervals import Interval

INK, MUTED, LINE = "#1c2126", "#59636e", "#c9d1d9"
DARK, LIGHT = "#2f4f6f", "#ffffff"
MM = 1 / 25.4
PAGE_WIDTH = 180.0
"""Width of a figure that fills an A4 page between its margins, in mm."""

# Typed Any because matplotlib names every key it knows, and not the same ones in every version.
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.0,
    "axes.titlesize": 9.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "text.color": INK,
    "text.parse_math": False,
    "text.usetex": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "svg.fonttype": "none",
    "svg.image_inline": True,
}
_NO_METADATA: Any = {"Date": None, "Creator": None, "Format": None, "Type": None}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw with matplotlib's defaults and this page's style, whatever the user's own settings are."""
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        # A title in a script that the measuring font lacks still prints: the reader's own font draws it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def new_figure(width_mm: float, height_mm: float) -> Figure:
    """An empty figure of that size."""
    return Figure(figsize=(width_mm * MM, height_mm * MM), layout="constrained")


def to_svg(figure: Figure, name: str) -> str:
    """`figure` as a standalone SVG text that holds no date and only ids that begin with `name`."""
    out = io.StringIO()
    mpl.rcParams["svg.hashsalt"] = name
    figure.savefig(out, format="svg", metadata=_NO_METADATA)
    text = re.sub(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>|<style.*?</style>", "",
                  out.getvalue(), flags=re.DOTALL)  # fmt: skip
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'((?:xlink:)?href=")#|(url\()#', lambda m: f"{m[1] or m[2]}#{name}-", text)
    text = text.replace("<svg ", '<svg stroke-linejoin="round" stroke-linecap="butt" ', 1)
    return re.sub(r"\n\s*\n+", "\n", text).strip() + "\n"


def to_png(figure: Figure, dots_per_inch: int = 150, *, description: str | None = None) -> bytes:
    """`figure` as the bytes of a PNG without date or program name, and with a description if one is given."""
    out = io.BytesIO()
    FigureCanvasAgg(figure)
    metadata: Any = {"Software": None} | ({} if description is None else {"Description": description})
    figure.savefig(out, format="png", dpi=dots_per_inch, metadata=metadata)
    return out.getvalue()


def inline_svg(svg: str, alt: str) -> Markup:
    """`svg` for standing inside an HTML page, with what a screen reader says instead."""
    labelled = svg.replace("<svg ", f'<svg class="figure" role="img" aria-label="{escape(alt)}" ', 1)
    return Markup(labelled)  # noqa: S704 - matplotlib escapes every text it draws


# Shape says what a rung looks at, so that colour is never needed.
_MARKER: dict[Inputs, tuple[str, str]] = {
    "rules": ("s", LIGHT),
    "clinical": ("^", LIGHT),
    "images": ("D", LIGHT),
    "both": ("o", INK),
}
INPUT_NAMES: dict[Inputs, str] = {
    "rules": "published rule",
    "clinical": "clinical values",
    "images": "images only",
    "both": "images and clinical values",
}


def _dot_and_interval(
    axes: Axes, y: float, interval: Interval | None, marker: str, fill: str, *, optimistic: bool = False
) -> None:
    if interval is None or not math.isfinite(interval.estimate):
        axes.text(0.02, y, "not measured", transform=axes.get_yaxis_transform(), va="center", color=MUTED)
        return
    ends = (interval.low, interval.high)
    dashes = (0, (2, 1.5)) if optimistic else "-"
    axes.plot(ends, [y, y], color=INK, linewidth=1.3, linestyle=dashes, solid_capstyle="butt")
    for end in ends:
        axes.plot([end, end], [y - 0.14, y + 0.14], color=INK, linewidth=1.3)
    axes.plot([interval.estimate], [y], marker=marker, markersize=6, color=INK, markerfacecolor=fill,
              linestyle="none", zorder=3)  # fmt: skip


def _patients(scores: Sequence[Scores | None]) -> str:
    for score in scores:
        if score is not None:
            return f"{score.n_malignant} malignant, {score.n_reactive} reactive"
    return "not measured"


def _lowest(rungs: Sequence[Rung]) -> float:
    ends = [
        s.balanced_accuracy.low for r in rungs for s in (r.overall, r.overlap) if s and s.balanced_accuracy
    ]
    return min([0.45, *(end - 0.03 for end in ends if math.isfinite(end))])


def ladder_figure(ladder: Ladder) -> str:
    """Balanced accuracy of every rung with its interval, overall and in the overlap zone side by side."""
    rungs = ladder.rungs
    with house_style():
        figure = new_figure(PAGE_WIDTH, 24 + 8.5 * max(len(rungs), 1))
        panels = figure.subplots(1, 2, sharey=True)
        columns: tuple[tuple[str, list[Scores | None]], ...] = (
            ("All tested patients", [rung.overall for rung in rungs]),
            (f"Overlap zone: count ≤ {decimal(ladder.overlap_limit)}", [rung.overlap for rung in rungs]),
        )
        for axes, (title, scores) in zip(panels, columns, strict=True):
            axes.set_title(f"{title}\n", pad=2)
            axes.text(0, 1.02, _patients(scores), transform=axes.transAxes, color=MUTED, fontsize=7.5)
            axes.axvline(0.5, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)))
            for y, (rung, score) in enumerate(zip(rungs, scores, strict=True)):
                interval = score.balanced_accuracy if score else None
                _dot_and_interval(axes, y, interval, *_MARKER[rung.inputs], optimistic=rung.optimistic)
            axes.set_xlim(_lowest(rungs), 1.015)  # so that a mark at 1 is whole
            axes.set_xlabel("Balanced accuracy (0.5 is guessing)")
            axes.grid(axis="x", color=LINE, linewidth=0.5)
            axes.set_axisbelow(True)
            axes.tick_params(axis="y", length=0)
        panels[0].set_ylim(len(rungs) - 0.4, -0.6)
        panels[0].set_yticks(range(len(rungs)), [_tick(rung) for rung in rungs])
        for label, rung in zip(panels[0].get_yticklabels(), rungs, strict=True):
            label.set_fontweight("bold" if rung.chosen else "normal")
        return to_svg(figure, "ladder")


def _tick(rung: Rung) -> str:
    """The rung's name, broken once near its middle where it is long."""
    title = short_name(rung)
    spaces = [i for i, letter in enumerate(title) if letter == " "]
    if len(title) > 26 and spaces:
        middle = min(spaces, key=lambda i: abs(i - len(title) / 2))
        title = f"{title[:middle]}\n{title[middle + 1 :]}"
    return title


def calibration_figure(calibration: Calibration) -> str:
    """Share truly malignant against predicted probability, and how many patients each point stands for."""
    with house_style():
        figure = new_figure(92, 96)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        upper.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        for group in calibration.bins:
            ends = (group.observed.low, group.observed.high)
            upper.plot([group.predicted] * 2, ends, color=INK, linewidth=1.3)
            upper.plot([group.predicted], [group.observed.estimate], "o", color=INK, markersize=5)
        upper.plot(
            [group.predicted for group in calibration.bins],
            [group.observed.estimate for group in calibration.bins],
            color=INK, linewidth=0.7,
        )  # fmt: skip
        upper.set(xlim=(-0.03, 1.03), ylim=(-0.02, 1.02), ylabel="Share truly malignant")
        upper.grid(color=LINE, linewidth=0.5)
        lower.bar([g.predicted for g in calibration.bins], [g.n for g in calibration.bins], width=0.035,
                  facecolor=LIGHT, edgecolor=INK, hatch="////")  # fmt: skip
        most = max((g.n for g in calibration.bins), default=1)
        for group in calibration.bins:
            lower.text(group.predicted, group.n + 0.06 * most, str(group.n), ha="center", fontsize=7)
        lower.set(ylim=(0, 1.35 * most), xlabel="Predicted probability of malignancy", ylabel="Patients")
        return to_svg(figure, "calibration")


def swing_figure(whole: Interval, n_whole: int, swing: Swing) -> str:
    """The interval from the whole cohort above the range in which one small test set would land by luck."""
    n_test = swing.n_malignant + swing.n_reactive
    rows = (
        (f"This cohort, {n_whole} labelled patients", whole, "o", INK),
        (f"One test set of {n_test} patients", swing.balanced_accuracy, "o", LIGHT),
    )
    with house_style():
        figure = new_figure(PAGE_WIDTH, 32)
        axes = figure.subplots()
        for y, (_, interval, marker, fill) in enumerate(rows):
            _dot_and_interval(axes, y, interval, marker, fill)
        axes.set_yticks(range(len(rows)), [row[0] for row in rows])
        axes.tick_params(axis="y", length=0)
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel="Balanced accuracy")
        axes.set_xlim(min([0.5, *(row[1].low - 0.03 for row in rows if math.isfinite(row[1].low))]), 1.0)
        axes.grid(axis="x", color=LINE, linewidth=0.5)
        axes.set_axisbelow(True)
        return to_svg(figure, "swing")

"""The table of patients: who comes first, how an interval is drawn, how many cells fit on the page."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape
from PIL import Image

from lymphoscope.report.concept_content import DescribedCell
from lymphoscope.report.content import CellCrop, Decision, PatientRow
from lymphoscope.report.wording import describe_clinical, percent, probability_text, signed
from lymphoscope.stats.intervals import Interval

CROP_SIDE = 72
"""Side of a cell on the page, in pixels: about 200 dots per inch at the printed 9 mm."""

CROP_BYTES_LIMIT = 6_000_000
"""Bytes of JPEG that one page may hold; base64 makes them a third larger, so the page stays below 10 MB."""

_BAR_WIDTH, _BAR_HEIGHT, _BAR_MARGIN = 150, 22, 6


def crop_jpeg(image: npt.NDArray[np.uint8], side: int = CROP_SIDE, quality: int = 80) -> bytes:
    """The whole of `image`, uint8 (H, W, 3), scaled to `side` × `side` px, as the bytes of a JPEG."""
    small = Image.fromarray(np.asarray(image)).convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, format="JPEG", quality=quality, optimize=True)
    return out.getvalue()


def strongest_cells(evidence: npt.ArrayLike, k: int) -> tuple[list[int], list[int]]:
    """Indices of the at most `k` cells that weigh most for and against malignancy, heaviest first.

    Only a positive weight speaks for and only a negative one against; a cell of weight 0 or NaN is in
    neither list. Equal weights keep their order.
    """
    weight = np.nan_to_num(np.asarray(evidence, dtype=np.float64), nan=0.0)
    order = np.argsort(-weight, kind="stable")
    speaks_for = [int(i) for i in order if weight[i] > 0][:k]
    order = np.argsort(weight, kind="stable")
    speaks_against = [int(i) for i in order if weight[i] < 0][:k]
    return speaks_for, speaks_against


SortKey = tuple[tuple[int, int, str], ...]


def natural_key(text: str) -> SortKey:
    """Sort key that puts P2 before P10; works for any text."""
    key = []
    for part in re.split(r"([0-9]+)", text):
        digits = part.lstrip("0")
        # Length before digits is the order of numbers, without turning an endless id into a number.
        numeric = part.isascii() and part.isdecimal()
        key.append((0, len(digits), digits) if numeric else (1, 0, part.casefold()))
    return tuple(key)


@dataclass(frozen=True)
class RowGroup:
    """Patients that stand under one heading of the table."""

    title: str
    rows: tuple[PatientRow, ...]
    decision: Decision | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids in natural order, for looking one up."""
        return tuple(sorted((row.id for row in self.rows), key=natural_key))


DECISION_TITLES: dict[Decision, str] = {
    "advised": "Flow cytometry advised",
    "cannot say": "The tool cannot say",
    "not advised": "Flow cytometry not advised",
}


def _estimate(row: PatientRow) -> float:
    return row.probability.estimate if row.probability else math.inf


def group_by_decision(rows: Iterable[PatientRow]) -> tuple[RowGroup, ...]:
    """Always three groups, by descending probability; a patient without one stands first."""
    ordered = sorted(rows, key=lambda row: (-_estimate(row), natural_key(row.id)))
    return tuple(
        RowGroup(title, tuple(row for row in ordered if row.decision == decision), decision)
        for decision, title in DECISION_TITLES.items()
    )


def group_by_label(rows: Iterable[PatientRow]) -> tuple[RowGroup, ...]:
    """Malignant patients by ascending, reactive ones by descending probability: surprises come first."""
    ordered = sorted(rows, key=lambda row: (_estimate(row), natural_key(row.id)))
    return (
        RowGroup("Malignant", tuple(row for row in ordered if row.label == 1)),
        RowGroup("Reactive", tuple(row for row in reversed(ordered) if row.label == 0)),
    )


def was_missed(row: PatientRow) -> bool:
    """Whether a malignant patient would have been spared the test."""
    return row.label == 1 and row.decision == "not advised"


Strips = Callable[[PatientRow], tuple[Sequence[CellCrop | DescribedCell], ...]]
"""The strips of cells of one kind that a patient has."""


def evidence_strips(row: PatientRow) -> tuple[Sequence[CellCrop], ...]:
    """Cells for and against malignancy."""
    return row.cells_for, row.cells_against


def portrait_strips(row: PatientRow) -> tuple[Sequence[DescribedCell], ...]:
    """The most and the least typical cells."""
    return (row.portrait.typical, row.portrait.untypical) if row.portrait else ()


def longest_strip(rows: Iterable[PatientRow], strips: Strips = evidence_strips) -> int:
    """The most cells that any patient brings for one side."""
    return max((len(strip) for row in rows for strip in strips(row)), default=0)


def crop_bytes(rows: Iterable[PatientRow], per_side: int, strips: Strips = evidence_strips) -> int:
    """Bytes of JPEG when each patient shows at most `per_side` cells a side."""
    return sum(len(cell.jpeg) for row in rows for strip in strips(row) for cell in strip[:per_side])


def cells_per_side(
    rows: Sequence[PatientRow], limit: int = CROP_BYTES_LIMIT, strips: Strips = evidence_strips
) -> int:
    """How many cells a side each patient may show so that all crops stay within `limit` bytes."""
    fits = (k for k in range(longest_strip(rows, strips), 0, -1) if crop_bytes(rows, k, strips) <= limit)
    return next(fits, 0)


def data_uri(jpeg: bytes) -> Markup:
    """`jpeg` as an address that needs no network."""
    return Markup("data:image/jpeg;base64,") + Markup(base64.b64encode(jpeg).decode("ascii"))  # noqa: S704


def cell_alt(cell: CellCrop) -> str:
    """What a screen reader says instead of showing the cell."""
    side = "for" if cell.evidence > 0 else "against"
    return f"Cell {cell.name}, weight {signed(cell.evidence)}, {side} malignancy".replace("Cell ,", "Cell,")


SOURCES = {"cells": "the cells", "clinical": "age, count and sex"}
"""What people call where a decision came from."""


def shares_text(row: PatientRow) -> str:
    """ "Decided by the cells (63 %), and by age, count and sex (37 %)"."""
    parts = [f"by {SOURCES.get(name, name)} ({percent(share)})" for name, share in row.shares.items()]
    return f"Decided {', and '.join(parts)}"


def decision_mark(decision: Decision) -> Markup:
    """A small square: filled, half filled or open, so that decisions differ without colour."""
    filling = {
        "advised": '<rect x="1" y="1" width="10" height="10" fill="currentColor"/>',
        "cannot say": '<path d="M1 11 L11 1 L11 11 Z" fill="currentColor"/>',
        "not advised": "",
    }[decision]
    return Markup(  # noqa: S704 - constant text only
        '<svg class="mark" viewBox="0 0 12 12" aria-hidden="true">'
        f'{filling}<rect x="1" y="1" width="10" height="10" fill="none" stroke="currentColor" '
        'stroke-width="1.5"/></svg>'
    )


def _x(probability: float) -> str:
    inner = _BAR_WIDTH - 2 * _BAR_MARGIN
    return f"{_BAR_MARGIN + inner * min(max(probability, 0.0), 1.0):.1f}"


def _interval_parts(interval: Interval, middle: float) -> list[str]:
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return []
    low, high = _x(interval.low), _x(interval.high)
    return [
        f'<line class="interval" x1="{low}" x2="{high}" y1="{middle}" y2="{middle}"/>',
        *(
            f'<line class="end" x1="{end}" x2="{end}" y1="{middle - 4}" y2="{middle + 4}"/>'
            for end in (low, high)
        ),
    ]


def interval_bar(row: PatientRow, threshold: float) -> Markup:
    """A patient's probability on a line from 0 to 1: dot, interval, and the threshold as a dashed line."""
    cut = threshold if row.threshold is None else row.threshold
    middle = _BAR_HEIGHT / 2
    parts = [
        f'<line class="axis" x1="{_x(0)}" x2="{_x(1)}" y1="{middle}" y2="{middle}"/>',
        f'<line class="cut" x1="{_x(cut)}" x2="{_x(cut)}" y1="1" y2="{_BAR_HEIGHT - 1}"/>',
    ]
    text = "No probability"
    if row.probability is not None and math.isfinite(row.probability.estimate):
        parts += _interval_parts(row.probability, middle)
        dot = "open" if row.decision == "not advised" else "half" if row.decision == "cannot say" else "full"
        at = _x(row.probability.estimate)
        parts.append(f'<circle class="dot {dot}" cx="{at}" cy="{middle}" r="4.5"/>')
        text = f"Probability {probability_text(row.probability)}"
    label = escape(f"{text}; threshold {cut:.2f}")
    return Markup(  # noqa: S704 - numbers and escaped text only
        f'<svg class="bar" viewBox="0 0 {_BAR_WIDTH} {_BAR_HEIGHT}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )


def axis_bar(threshold: float | None) -> Markup:
    """The scale that stands once in the table's head: 0, 1, and the threshold where all rows share it."""
    label = "Scale from 0 to 1" + ("" if threshold is None else f", threshold at {threshold:.2f}")
    parts = [
        f'<text x="{_x(value)}" y="20" text-anchor="{anchor}">{value}</text>'
        for value, anchor in ((0, "start"), (1, "end"))
        if threshold is None or abs(threshold - value) > 0.12
    ]
    if threshold is not None:
        anchor = "start" if threshold < 0.12 else "end" if threshold > 0.88 else "middle"
        at = _x(threshold)
        parts.append(f'<text class="strong" x="{at}" y="20" text-anchor="{anchor}">{threshold:.2f}</text>')
        parts.append(f'<line class="cut" x1="{at}" x2="{at}" y1="0" y2="8"/>')
    return Markup(  # noqa: S704 - numbers only
        f'<svg class="bar" viewBox="0 0 {_BAR_WIDTH} 24" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )


def share_bar(groups: Sequence[RowGroup]) -> Markup:
    """One bar for the whole cohort, split by decision: filled, hatched, open."""
    total = max(sum(len(group.rows) for group in groups), 1)
    width, height, at = 720.0, 16, 1.0
    parts = []
    for group in groups:
        if group.rows:
            share = (width - 2) * len(group.rows) / total
            kind = str(group.decision).replace(" ", "-")
            parts.append(
                f'<rect class="{kind}" x="{at:.1f}" y="1" width="{share:.1f}" height="{height - 2}"/>'
            )
            at += share
    label = "; ".join(f"{group.decision}: {len(group.rows)}" for group in groups)
    return Markup(  # noqa: S704 - numbers and the three decisions only
        f'<svg class="share" viewBox="0 0 {width:.0f} {height}" role="img" aria-label="{label}" '
        'preserveAspectRatio="none"><defs><pattern id="share-hatch" width="5" height="5" '
        'patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="5" height="5" '
        'fill="#fff"/><line x1="0" y1="0" x2="0" y2="5" stroke="#59636e" stroke-width="2"/></pattern>'
        f"</defs>{''.join(parts)}</svg>"
    )


def clinical_line(row: PatientRow) -> str:
    """Age, sex and count in one line."""
    return describe_clinical(row.age, row.sex, row.count)

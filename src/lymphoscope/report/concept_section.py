"""What the cells look like, drawn: one patient's shares, and the classes compared."""

from __future__ import annotations

import math
from typing import Any

from markupsafe import Markup, escape

from lymphoscope.cohort.findings import counted
from lymphoscope.report import wording
from lymphoscope.report.concept_content import ConceptComparison, ConceptRow, Portrait, Trait
from lymphoscope.report.concept_words import p_text
from lymphoscope.stats.intervals import Interval

SURE = 0.05
"""Corrected p-value below which a difference is called one."""

_WIDTH, _HEIGHT, _MARGIN = 220, 20, 8


def share_line(trait: Trait) -> Markup:
    """A share on a line from 0 to 1, as small as a word: dot and interval."""
    x = {name: f"{3 + 44 * getattr(trait.share, name):.1f}" for name in ("estimate", "low", "high")}
    return Markup(  # noqa: S704 - numbers only
        '<svg class="trait" viewBox="0 0 50 8" aria-hidden="true"><path d="M3 4H47"/>'
        f'<path class="i" d="M{x["low"]} 4H{x["high"]}"/><circle cx="{x["estimate"]}" cy="4" r="3"/></svg>'
    )


def short_range(share: Interval) -> str:
    """Only the interval of a share, in per cent and as short as can be: "83–99"."""
    return f"{100 * share.low:.0f}–{100 * share.high:.0f}"


def flagged_text(portrait: Portrait) -> str:
    """ "taken for 2 neutrophils, 1 platelet"."""
    kinds = ", ".join(counted(k, kind) for kind, k in portrait.flagged.items())
    return f"taken for {kinds}"


def drawn(found: ConceptComparison) -> dict[str, Any]:
    """What the template needs, with bars drawn."""
    sure = sum(row.difference.adjusted < SURE for row in found.rows)
    return {
        "found": found,
        "rows": [_row(row) for row in found.rows],
        "axis": _axis(),
        "level": wording.level_text(row.difference.effect for row in found.rows),
        "verdict": _verdict(found, sure),
    }


def _verdict(found: ConceptComparison, sure: int) -> str:
    """What the table says, in a sentence that counts what was asked."""
    asked = f"Of {wording.plural(found.n_compared, 'concept')} compared"
    if not sure:
        return f"{asked}, none differs between the two kinds by more than chance may."
    names = wording.list_some([row.words for row in found.rows if row.difference.adjusted < SURE], 4)
    if sure == len(found.rows) < found.n_compared:
        return f"{asked}, at least {sure} differ by more than chance; most of all: {names}."
    return f"{asked}, {sure} {'differs' if sure == 1 else 'differ'} by more than chance: {names}."


def _row(row: ConceptRow) -> dict[str, Any]:
    found = row.difference
    number = wording.percent if row.is_share else wording.decimal
    return {
        "words": row.words[:1].upper() + row.words[1:],
        "malignant": number(found.malignant),
        "reactive": number(found.reactive),
        "effect": wording.signed(found.effect.estimate),
        "range": f"{wording.signed(found.effect.low)} to {wording.signed(found.effect.high)}",
        "bar": _bar(found.effect, found.adjusted < SURE),
        "p": p_text(found.adjusted),
        "sure": found.adjusted < SURE,
    }


def _x(effect: float) -> str:
    inner = _WIDTH - 2 * _MARGIN
    return f"{_MARGIN + inner * (effect + 1) / 2:.1f}"


def _bar(effect: Interval, sure: bool) -> Markup:
    """An effect on a line from −1 to 1: dot (filled where it is more than chance) and interval."""
    y = _HEIGHT / 2
    parts = [
        f'<line class="axis" x1="{_x(-1)}" x2="{_x(1)}" y1="{y}" y2="{y}"/>',
        f'<line class="cut" x1="{_x(0)}" x2="{_x(0)}" y1="1" y2="{_HEIGHT - 1}"/>',
    ]
    if math.isfinite(effect.low) and math.isfinite(effect.high):
        parts.append(
            f'<line class="interval" x1="{_x(effect.low)}" x2="{_x(effect.high)}" y1="{y}" y2="{y}"/>'
        )
    kind = "full" if sure else "open"
    parts.append(f'<circle class="dot {kind}" cx="{_x(effect.estimate)}" cy="{y}" r="4.5"/>')
    return _svg(parts, f"Effect {wording.interval_text(effect)}", _HEIGHT)


def _axis() -> Markup:
    """The scale that stands once in the table's head."""
    parts = [
        f'<text x="{_x(-1)}" y="12" text-anchor="start">◂ reactive</text>',
        f'<text x="{_x(1)}" y="12" text-anchor="end">malignant ▸</text>',
    ]
    return _svg(parts, "Scale from −1, reactive have more, to 1, malignant have more", 16)


def _svg(parts: list[str], label: str, height: float) -> Markup:
    return Markup(  # noqa: S704 - numbers and escaped text only
        f'<svg class="bar effect" viewBox="0 0 {_WIDTH} {height:.0f}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )

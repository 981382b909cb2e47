"""The page of all per-cell numbers, made from their columns."""

from __future__ import annotations

from itertools import groupby

from lymphoscope.cells.columns import COLUMNS, MORPHOLOGY_VERSION, Column

INTRODUCTION = f"""\
# Per-cell numbers

Every cell is described by {len(COLUMNS)} numbers (version {MORPHOLOGY_VERSION}). They are measured on the
photograph's 224 × 224 frame; `px` is a pixel of that frame. Stain is optical density (OD) against the
photograph's own empty background, and colour is CIE L\\*a\\*b\\* after white balance against it, so neither
follows the colour of the slide or the lamp; what does is kept apart in the `background_*` columns, which are
meant as a control. *Nuclear stain* is OD red + 0.7 × OD green.

A cell that could not be segmented has `segmented` = 0 and no other number; it is reported as finding
[LYM301](findings.md#lym301). With a scale, `lymphoscope.cells.morphology.to_micrometres` turns lengths and
areas into µm and µm². A cell with next to no cytoplasm (fewer than 10 pixels) has the numbers of the pixels
just outside its nucleus in the colour and texture columns of the cytoplasm.
How the outlines are found, and how good they are: [segmentation](../explanation/segmentation.md).

This page is written from the program by `python docs/generate.py`.
"""

GROUPS = {
    "segmented": "Found or not",
    "nucleus": "Nucleus",
    "chromatin": "Chromatin: texture of the nucleus",
    "cell": "Whole cell",
    "cytoplasm": "Cytoplasm",
    "profile": "Profile: rings outward from the nucleus's edge",
    "neighbours": "Neighbours",
    "background": "Background and stain (controls)",
}


def page() -> str:
    """The page's Markdown text."""
    parts = [INTRODUCTION]
    for group, columns in groupby(COLUMNS, key=lambda column: column.group):
        parts += [f"## {GROUPS[group]}\n", "| column | unit | meaning |", "|---|---|---|"]
        parts += [_row(column) for column in columns]
        parts.append("")
    return "\n".join(parts)


def _row(column: Column) -> str:
    unit = column.unit.replace("*", "\\*") or "–"
    return f"| `{column.name}` | {unit} | {column.meaning.replace('*', chr(92) + '*')} |"

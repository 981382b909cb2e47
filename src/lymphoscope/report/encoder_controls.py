"""What an encoder's card says of the controls: background, stain, and cells of another laboratory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lymphoscope.encoders.labelled_cells import CELL_TYPE
from lymphoscope.report.encoder_figures import words

Card = Mapping[str, Any]


def controls(card: Card) -> str:
    """Whether it reads what it must not: a paragraph a control."""
    measured = card.get("controls", {})
    told = {"Background": _background, "Stain": _stain, "Another laboratory": _foreign}
    names = ("background", "stain", "foreign")
    known = card["validation"].get(CELL_TYPE)
    unable = known and known["accuracy_interval"][0] <= known["majority_accuracy"]
    warning = (
        "It does not tell types of cells better than always giving the most frequent answer, so what follows "
        "says little: who sees nothing is misled by nothing.\n\n"
    )
    return (warning if unable else "") + "\n\n".join(
        f"**{title}.** {sentence(measured[name]) if measured.get(name) else 'That was not measured.'}"
        for name, (title, sentence) in zip(names, told.items(), strict=True)
    )


def _background(found: Card) -> str:
    if not found["cells"]:
        return "No cell could be painted over, so that is not known."
    excess = (found["mean_recall"] - found["chance_recall"]) / max(1 - found["chance_recall"], 1e-9)
    meaning = _first(
        excess,
        (0.1, "So it reads next to nothing from what lies around a cell."),
        (0.3, "So it reads a little from what lies around a cell, or from size and outline of the patch."),
        (np.inf, "So it reads much from what lies around a cell: where that differs, it will be wrong."),
    )
    return (
        f"{found['cells']:,} cells were painted over with the mean colour around them. The type of "
        f"{found['accuracy']:.1%} of them is still told correctly, where always saying the most frequent "
        f"one is right of {found['majority']:.1%}; in the mean over types {found['mean_recall']:.1%}, where "
        f"guessing gives {found['chance_recall']:.1%}. {meaning} The patch keeps the cell's size and "
        "outline, so a little is left even for a network that looks at nothing but cells."
    )


def _stain(found: Card) -> str:
    meaning = _first(
        -found["cosine_5_percent"],
        (-0.8, "So another stain moves an embedding little beside what sets cells apart."),
        (-0.4, "So another stain moves some embeddings noticeably, though less than another cell does."),
        (np.inf, "So another stain moves embeddings much: compare no patients of different stains with it."),
    )
    return (
        f"{found['cells']:,} cells were each recoloured {found['stains']} times, as stains and exposures "
        "differ. Between a cell and itself recoloured the embeddings, less their mean, have a cosine of "
        f"{_number(found['cosine_median'])} in the middle and of {_number(found['cosine_5_percent'])} at "
        f"the worst twentieth; between different cells {_number(found['cosine_of_different_cells'])} (1 is "
        f"the same, 0 unrelated). {meaning}"
    )


def _foreign(found: Card) -> str:
    text = (
        f"{found['cells']:,} cells of another laboratory, whose types nobody has told, lie "
        f"{_spread_and_told(found, found['cells'])}"
    )
    if "matched" in found:  # older cards lack it
        text += (
            f" Their pixels are {found['distance']:.2f} spreads from the colours that it has learned from. "
            "With their colours brought to these (`lymphoscope encoder match`), the cells lie "
            f"{_spread_and_told(found['matched'], found['cells'])}"
        )
    return text


def _spread_and_told(found: Card, cells: int) -> str:
    meaning = _first(
        found["spread_over_own"],
        (0.5, "So it sees them much more alike than they are: models on top have little to go by."),
        (0.8, "So it tells them apart, though less finely than its own."),
        (1.25, "So it tells them apart about as finely as its own."),
        (
            np.inf,
            "So it sees differences among them that it does not see among its own; they may be of light.",
        ),
    )
    told = sorted(found["told"].items(), key=lambda each: -each[1])
    shares = ", ".join(f"{words(name)} {n / cells:.0%}" for name, n in told if n)
    apart = f"{found['spread_over_own']:.2f} times as far apart as its own."
    return f"{apart} {meaning} It takes them for: {shares}."


def _first(value: float, *meanings: tuple[float, str]) -> str:
    """What is said of a value: the first whose limit it does not exceed."""
    return next(text for limit, text in meanings if value <= limit)


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")

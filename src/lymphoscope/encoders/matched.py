"""An encoder matched to the colours of a laboratory, as a folder of its own with a card that says so.

Nothing is learned: a map of colours is put before the network (`colours.ColourMap`), twelve numbers that are
measured on photographs whose labels are never looked at. Since they are those of the patients who may be
scored, the folder lists the photographs, as that of an adapted encoder does.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lymphoscope.cohort.bags import IntArray
from lymphoscope.cohort.cell_store import CellStore
from lymphoscope.cohort.findings import counted
from lymphoscope.cohort.progress import Progress
from lymphoscope.encoders.adapted import folder_with_card, write_adapted
from lymphoscope.encoders.architectures import ConvolutionalEmbedder
from lymphoscope.encoders.colours import Colours
from lymphoscope.encoders.kept import COLOUR_MAP, COLOURS, card_architecture, put_colours, read_embedder
from lymphoscope.errors import InputError

LIMITS = (
    "Matched to other colours since: what stands here under validation, calibration and controls was "
    "measured before, on photographs in the colours that it has learned from. How well it tells matched ones "
    "is not known."
)


@dataclass(frozen=True)
class MatchedEncoder:
    """What a matching has brought.

    Attributes
    ----------
    folder : where it is.
    cells, patients : whose colours were measured.
    distance : how far pixels were moved, in spreads of the pixels that the encoder has learned from.
    """

    folder: Path
    cells: int
    patients: int
    distance: float


def match_encoder(
    source: str | Path,
    store: CellStore,
    out: Path,
    *,
    cells: IntArray | None = None,
    jobs: int = 2,
    progress: Progress | None = None,
) -> MatchedEncoder:
    """Write an encoder that sees a store's photographs in the colours it has learned from, as a new folder.

    Weights, heads, temperatures and the lists of cells that it has seen are kept. One that was matched before
    is matched anew.

    Parameters
    ----------
    source : "pbc-small", or a folder that `lymphoscope encoder train` or `adapt` wrote.
    cells : which of the store's are measured, ascending; all of them if not given.

    Raises
    ------
    InputError : `out` exists; no such encoder, or its card does not know the colours of its cells; no cells.
    """
    if os.path.lexists(out):
        raise InputError("an encoder is written to a new folder; this exists already", file=out)
    folder = folder_with_card(source)
    chosen = np.arange(len(store)) if cells is None else cells
    if len(chosen) == 0:
        raise InputError("there are no cells whose colours could be measured", found=counted(0, "cell"))
    embedder, card = read_embedder(folder)
    learned = card["preprocessing"].get(COLOURS)
    if learned is None or not isinstance(embedder, ConvolutionalEmbedder):
        raise InputError(
            "this encoder cannot be matched to a laboratory's colours",
            file=folder,
            found=f"a {card['architecture']['kind']}" + ("" if learned else " whose card lacks its colours"),
            allowed="residual and convnext, trained by a `lymphoscope encoder train` that measures colours",
        )
    crops = store.crops(card_architecture(card).image_size, jobs=jobs, progress=progress)
    theirs = Colours.of(crops if cells is None else crops[chosen])
    wanted = Colours.from_dict(learned)
    preprocessing = card["preprocessing"] | {COLOUR_MAP: theirs.map_to(wanted).tolist()}
    card = card | {"preprocessing": preprocessing}
    put_colours(embedder, card)
    card["architecture"] = card["architecture"] | {"tensors_sha256": embedder.sha256()}
    patients, distance = len(np.unique(store.index.patient[chosen])), theirs.distance(wanted)
    card["matched"] = {
        "cohort": store.fingerprint,
        "cells": len(chosen),
        "patients": patients,
        "colours": theirs.as_dict(),
        "distance": distance,
    }
    limits = str(card.get("limits", ""))
    card["limits"] = limits if LIMITS in limits else f"{limits} {LIMITS}".strip()
    write_adapted(out, folder, embedder, card, store.index.sha256[chosen])
    return MatchedEncoder(out, len(chosen), patients, distance)

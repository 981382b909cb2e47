"""From an encoder's concepts to what the report says of each patient's cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from lymphoscope.cells.columns import EMBEDDING_PREFIX
from lymphoscope.cells.concepts import CELL_TYPE, Task, concepts, not_lymphocytes
from lymphoscope.cells.portrait import agreement, by_typicality, of_cells, telling, trait_shares
from lymphoscope.cohort.bags import Bags
from lymphoscope.cohort.cell_store import CellStore
from lymphoscope.report.concept_content import DescribedCell, Portrait, Trait
from lymphoscope.report.concept_words import answer_words, short_type
from lymphoscope.report.patient_table import crop_jpeg
from lymphoscope.report.wording import probability

CROP = 112
"""Side of the square around the cell that a strip shows, in pixels of the 224 px photograph."""


def portraits(store: CellStore, bags: Bags, strip: int) -> Callable[[int], Portrait | None]:
    """A function that gives the portrait of each patient of `bags`; None of one without cells or an encoder.

    Parameters
    ----------
    bags : numbers of the store's cells.
    strip : cells shown per side.
    """
    columns = bags.columns or ()
    told = concepts(bags.cells, columns)
    at = [i for i, name in enumerate(columns) if name.startswith(EMBEDDING_PREFIX)]

    def portrait(i: int) -> Portrait | None:
        first, last = int(bags.offsets[i]), int(bags.offsets[i + 1])
        if not told or first == last:
            return None
        own = of_cells(told, slice(first, last))
        order = by_typicality(np.asarray(bags.cells[first:last])[:, at]) if at else np.empty(0, np.int64)
        near, far = order[: min(strip, -(-len(order) // 2))], order[::-1][: min(strip, len(order) // 2)]
        return Portrait(
            traits=tuple(
                Trait(answer_words(each.task, each.answer), each.share) for each in trait_shares(own)
            ),
            alike=agreement(own),
            typical=tuple(_described(store, own, first, int(cell)) for cell in near),
            untypical=tuple(_described(store, own, first, int(cell)) for cell in far),
            flagged=_flagged(own),
        )

    return portrait


def _described(store: CellStore, own: dict[str, Task], first: int, cell: int) -> DescribedCell:
    """Cell number `cell` of the patient whose cells begin at `first` and of which `own` tells."""
    kind, words = "", []
    if CELL_TYPE in own:
        types = own[CELL_TYPE]
        likeliest = int(types.likeliest[cell])
        kind = types.answers[likeliest]
        words.append((answer_words(CELL_TYPE, kind), float(types.probability[cell, likeliest])))
    words += [(answer_words(task, answer), p) for task, answer, p in telling(own, cell)]
    return DescribedCell(
        crop_jpeg(store.crop(first + cell, CROP)),
        short_type(kind),
        ", ".join(f"{what} {probability(p)}" for what, p in words),
        store.index.path[first + cell].rpartition("/")[2],
    )


def _flagged(own: dict[str, Task]) -> dict[str, int]:
    """How many cells of each type are surely no lymphocytes, the commonest first."""
    flagged = not_lymphocytes(own)
    if flagged is None:
        return {}
    types = own[CELL_TYPE]
    return dict(Counter(types.answers[k] for k in types.likeliest[flagged]).most_common())

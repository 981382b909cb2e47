"""Embeddings of all cells of a cohort: computed once for each photograph and encoder, resumable."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.bags import IntArray
from lymphoscope.cohort.cell_store import CellStore
from lymphoscope.cohort.kept_rows import KeptRows
from lymphoscope.cohort.progress import Noting, Progress
from lymphoscope.encoders.encoder import Encoder, Numbers
from lymphoscope.encoders.labelled_cells import Image
from lymphoscope.training.machine import keep_memory

_PART = 256
"""Cells that are decoded, embedded and written at a time: what a kill can lose."""


def embed_cells(
    store: CellStore,
    encoder: Encoder,
    *,
    half: bool = False,
    jobs: int = 2,
    progress: Progress | None = None,
) -> Numbers:
    """Embedding of every cell of a store, float32 (n_cells, width), in the store's order.

    They are kept beside the stores of this cache by the photograph's SHA-256 and the encoder's, which covers
    weights and preprocessing; photographs that were embedded before are not decoded.

    Parameters
    ----------
    half : keep 16 bits a number: half the disk, and three decimal digits.
    jobs : threads that decode.
    """
    kind = np.float16 if half else np.float32
    folder = store.folder.parent / f"embeddings-{encoder.sha256[:16]}-{np.dtype(kind).name}"
    digests = store.index.digest
    kept = KeptRows(folder, encoder.width, kind)
    for cells, embeddings in _embed(store, encoder, kept.missing(digests), jobs, progress):
        kept.add(digests[cells], embeddings)
    return np.asarray(kept.look_up(digests), dtype=np.float32)


def _embed(
    store: CellStore, encoder: Encoder, cells: IntArray, jobs: int, progress: Progress | None
) -> Iterator[tuple[IntArray, Numbers]]:
    """Some cells and their embeddings at a time; the next ones are decoded meanwhile."""
    if len(cells) == 0:
        return
    keep_memory()
    if progress is not None:
        progress.start(f"embedding cells ({encoder.name})", len(cells))
    began, done = time.perf_counter(), 0
    for part, images in _decoded(store, encoder.image_size, cells, jobs):
        yield part, encoder.embed(images)
        done += len(part)
        if progress is not None:
            progress.advance(len(part))
            if isinstance(progress, Noting):
                progress.note(f"cells, {done / (time.perf_counter() - began):,.0f}/s")
    if progress is not None:
        progress.done()


def _decoded(store: CellStore, size: int, cells: IntArray, jobs: int) -> Iterator[tuple[IntArray, Image]]:
    """Parts of `cells` with their crops; one part is decoded ahead of the one waited for."""
    cuts = [*range(0, len(cells), _PART), len(cells)]
    parts = [cells[start:stop] for start, stop in pairwise(cuts)]
    with ThreadPoolExecutor(max(1, jobs)) as workers, ThreadPoolExecutor(1) as ahead:

        def decode(part: IntArray) -> Image:
            crops: list[npt.NDArray[np.uint8]] = list(
                workers.map(lambda i: store.crop(i, size), part.tolist())
            )
            return np.stack(crops)

        waiting = ahead.submit(decode, parts[0])
        for part, following in zip(parts, [*parts[1:], None], strict=True):
            images = waiting.result()
            if following is not None:
                waiting = ahead.submit(decode, following)
            yield part, images

"""`lymphoscope explore`: what a cohort looks like, before anything is learned from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lymphoscope.cells.segmentation import segment
from lymphoscope.cohort.bags import IntArray
from lymphoscope.files import atomic_directory
from lymphoscope.pipeline.preparation import Prepared, require_new, require_outside
from lymphoscope.report.explore import write_explore
from lymphoscope.report.explore_content import ExploreContent, SampleCells, SegmentationExample

CELLS_PER_CLASS, GOOD, BAD = 24, 8, 8
CROP = 112


def explore_cohort(prepared: Prepared, out: Path, *, seed: int = 0, labels_note: str = "") -> Path:
    """Write the figures and explore.html to the new folder `out`, or nothing; returns the page's path.

    Parameters
    ----------
    seed : of the cells that are shown.
    """
    require_outside(prepared.cohort, out)
    require_new(out)
    rng = np.random.default_rng(seed)
    patients = prepared.cohort.patients
    content = ExploreContent(
        name=prepared.cohort.root.name,
        label=patients.label,
        split=patients.split,
        clinical=patients.clinical,
        n_images=prepared.bags.counts,
        samples=tuple(_samples(prepared, label, rng) for label in (1, 0)),
        segmentation=_segmentations(prepared, rng),
        findings=prepared.findings,
        labels_note=labels_note,
    )
    with atomic_directory(out) as folder:
        page = write_explore(content, folder)
    return out / page.name


def _samples(prepared: Prepared, label: int, rng: np.random.Generator) -> SampleCells:
    """Cells of as many different patients of the class as there are."""
    bags = prepared.bags
    owners = np.flatnonzero((prepared.cohort.patients.label == label) & (bags.counts > 0))
    chosen: list[int] = []
    while len(owners) and len(chosen) < CELLS_PER_CLASS:
        some = rng.permutation(owners)[: CELLS_PER_CLASS - len(chosen)]
        chosen.extend(int(rng.integers(bags.offsets[i], bags.offsets[i + 1])) for i in some)
    return SampleCells(label, tuple(prepared.store.crop(cell, CROP) for cell in chosen))


def _segmentations(prepared: Prepared, rng: np.random.Generator) -> tuple[SegmentationExample, ...]:
    """Some cells whose segmentation was accepted, and some where it was not."""
    accepted = np.asarray(prepared.bags.select_columns(["segmented"]).cells)[:, 0] == 1
    chosen = [*_some(np.flatnonzero(accepted), GOOD, rng), *_some(np.flatnonzero(~accepted), BAD, rng)]
    examples = []
    for cell in chosen:
        image = prepared.store.decode(cell)
        found = segment(image)
        examples.append(SegmentationExample(image, found.nucleus, found.cell, found.ok, found.reason))
    return tuple(examples)


def _some(cells: IntArray, n: int, rng: np.random.Generator) -> list[int]:
    return sorted(int(cell) for cell in rng.permutation(cells)[:n])

from __future__ import annotations

from pathlib import Path

import numpy as np

from lymphoscope.cells.masked_crops import mask_background, masked_crops
from lymphoscope.cells.segmentation import segment
from lymphoscope.cohort.cell_store import open_store
from lymphoscope.cohort.read import read_cohort
from lymphoscope.cohort.synthetic import SyntheticPlan, synthesize


def test_what_is_not_the_cell_is_black_and_the_cell_is_as_it_was(tmp_path: Path) -> None:
    made = synthesize(SyntheticPlan(patients=4, test=0, cells=4), tmp_path / "cohort", jobs=1)
    cohort = read_cohort(made.cohort)
    store = open_store(cohort, tmp_path / "cache", jobs=1)
    crops = masked_crops(store, 112, jobs=1)
    assert crops.shape == (len(store), 112, 112, 3)
    frame = store.decode(0)
    found = segment(frame)
    inside = found.cell[56:168, 56:168]
    assert found.ok
    assert inside.any()
    assert np.array_equal(crops[0][inside], frame[56:168, 56:168][inside])
    assert not crops[0][~inside].any()


def test_they_are_made_once(tmp_path: Path) -> None:
    made = synthesize(SyntheticPlan(patients=4, test=0, cells=2), tmp_path / "cohort", jobs=1)
    store = open_store(read_cohort(made.cohort), tmp_path / "cache", jobs=1)
    masked_crops(store, 64, jobs=1)
    (path,) = store.folder.glob("masked-64-*.npy")
    before = path.stat().st_mtime_ns
    assert np.array_equal(masked_crops(store, 64, jobs=1), np.load(path))
    assert path.stat().st_mtime_ns == before


def test_a_picture_without_a_cell_stays_whole() -> None:
    empty = np.full((224, 224, 3), 220, dtype=np.uint8)
    assert np.array_equal(mask_background(empty), empty)

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lymphoscope.cells.masked_crops import masked_crops
from lymphoscope.cells.normalised_crops import normalised_crops, stain_tables
from lymphoscope.cells.stain import background_colour
from lymphoscope.cells.stain_normalisation import REFERENCE, WHITE, measure_stain, patient_stain, stain_table
from lymphoscope.cohort.cell_store import CellStore, open_store
from lymphoscope.cohort.read import read_cohort
from lymphoscope.cohort.synthetic import SyntheticPlan, synthesize


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> CellStore:
    folder = tmp_path_factory.mktemp("stain")
    plan = SyntheticPlan(patients=4, test=2, cells=4, stain_shift=3.0, bag_size_spread=0.0)
    made = synthesize(plan, folder / "cohort", jobs=1)
    return open_store(read_cohort(made.cohort), folder / "cache", jobs=1)


def test_every_background_is_the_references(store: CellStore) -> None:
    frames = normalised_crops(store, 224, jobs=1)
    assert (frames.shape, frames.dtype) == ((len(store), 224, 224, 3), np.uint8)
    found = np.stack([background_colour(frame) for frame in frames])
    assert np.abs(found - REFERENCE[WHITE]).max() <= 3
    before = np.stack([background_colour(store.decode(i)) for i in range(len(store))])
    assert np.abs(before - REFERENCE[WHITE]).max() > 6


def test_a_smaller_crop_is_the_middle_of_the_larger(store: CellStore) -> None:
    assert np.array_equal(
        normalised_crops(store, 112, jobs=1), normalised_crops(store, 224, jobs=1)[:, 56:168, 56:168]
    )


def test_stain_is_the_patients_and_light_the_photographs(store: CellStore) -> None:
    tables = stain_tables(store, jobs=1)
    first = np.flatnonzero(store.index.patient == store.index.patient[0])
    stains = np.stack([measure_stain(store.decode(i)) for i in first])
    assert len(first) > 1
    for cell, stain in zip(first, stains, strict=True):
        assert np.array_equal(tables[cell], stain_table(stain[WHITE], patient_stain(stains)))
        assert not np.array_equal(tables[cell], stain_table(stain[WHITE], stain))


def test_what_is_not_the_cell_can_be_black_besides(store: CellStore) -> None:
    both = normalised_crops(store, 64, segmented=True, jobs=1)
    masked, plain = masked_crops(store, 64, jobs=1), normalised_crops(store, 64, jobs=1)
    outside = (both == 0).all(axis=3)
    assert np.array_equal(both[~outside], plain[~outside])
    assert 0.05 < outside.mean() < 0.9
    assert (outside == (masked == 0).all(axis=3)).mean() > 0.999
    assert not np.array_equal(both, masked)


def test_they_are_made_once_and_each_kind_by_itself(store: CellStore) -> None:
    one = np.array(normalised_crops(store, 48, jobs=1))
    normalised_crops(store, 48, segmented=True, jobs=1)
    kept = sorted(store.folder.glob("normalised-48-*.npy"))
    before = [path.stat().st_mtime_ns for path in kept]
    assert len(kept) == 2
    assert np.array_equal(normalised_crops(store, 48, jobs=1), one)
    assert [path.stat().st_mtime_ns for path in kept] == before


def test_workers_do_not_change_them(store: CellStore, tmp_path: Path) -> None:
    tables = stain_tables(store, jobs=1)
    assert np.array_equal(stain_tables(store, jobs=2), tables)

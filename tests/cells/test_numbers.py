"""Numbers of a whole store: cached by content, resumable, never dropping a cell."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from planted_cells import PlantedCell

from lymphoscope.cells import numbers as module
from lymphoscope.cells.morphology import MORPHOLOGY_COLUMNS, measure
from lymphoscope.cells.numbers import cell_numbers
from lymphoscope.files import sha256_bytes


@dataclass
class Store:
    """A store of photographs in memory that counts what is decoded."""

    folder: Path
    photographs: list[np.ndarray]
    decoded: list[int] = field(default_factory=list)
    fail_after: int | None = None

    @property
    def index(self) -> SimpleNamespace:
        digests = b"".join(bytes.fromhex(sha256_bytes(each.tobytes())) for each in self.photographs)
        return SimpleNamespace(
            digest=np.frombuffer(digests, dtype=np.uint8).reshape(-1, 32),
            path=[Path(f"P{i}/{i:06d}.jpg") for i in range(len(self))],
        )

    def __len__(self) -> int:
        return len(self.photographs)

    def picture(self, i: int, /) -> bytes:
        if self.fail_after is not None and len(self.decoded) >= self.fail_after:
            raise KeyboardInterrupt
        self.decoded.append(i)
        return cv2.imencode(".png", self.photographs[i][..., ::-1])[1].tobytes()


@dataclass
class Told:
    """Progress that remembers what it was told."""

    total: int = 0
    advanced: int = 0
    finished: bool = False

    def start(self, what: str, total: int) -> None:
        self.total = total

    def advance(self, n: int = 1) -> None:
        self.advanced += n

    def done(self) -> None:
        self.finished = True


def photographs(n: int) -> list[np.ndarray]:
    plain = PlantedCell(red_cells=())
    return [replace(plain, nucleus_axes=(18 + i % 15,) * 2).photograph(seed=i) for i in range(n)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache" / "cohort", photographs(5))


def test_numbers_are_those_of_each_photograph(store: Store) -> None:
    found = cell_numbers(store, jobs=1)
    assert found.columns == MORPHOLOGY_COLUMNS
    assert found.values.dtype == np.float32
    assert np.array_equal(found.values, np.stack([measure(p) for p in store.photographs]))
    assert found.findings == ()


def test_nothing_is_measured_twice(store: Store) -> None:
    first = cell_numbers(store, jobs=1)
    store.decoded.clear()
    told = Told()
    again = cell_numbers(store, jobs=1, progress=told)
    assert store.decoded == []
    assert told.total == 0
    assert np.array_equal(first.values, again.values)


def test_another_cohort_in_the_same_cache_shares_photographs(store: Store) -> None:
    first = cell_numbers(store, jobs=1)
    other = Store(store.folder.with_name("other"), [store.photographs[3], *photographs(7)[5:]])
    found = cell_numbers(other, jobs=1)
    assert other.decoded == [1, 2]
    assert np.array_equal(found.values[0], first.values[3])


def test_duplicates_are_measured_once(store: Store) -> None:
    store.photographs = [store.photographs[0], store.photographs[1], store.photographs[0]]
    found = cell_numbers(store, jobs=1)
    assert sorted(store.decoded) == [0, 1]
    assert np.array_equal(found.values[0], found.values[2])


def test_an_interrupted_run_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 1)
    monkeypatch.setattr(module, "_PART", 1)
    whole = np.stack([measure(p) for p in store.photographs])
    store.fail_after = 3
    with pytest.raises(KeyboardInterrupt):
        cell_numbers(store, jobs=1)
    kept = len(store.decoded) - 1  # joblib asks for the next chunk before it hands back the last
    store.fail_after = None
    store.decoded.clear()
    assert np.array_equal(cell_numbers(store, jobs=1).values, whole)
    assert len(store.decoded) <= 5 - kept + 1
    assert not list(store.folder.parent.rglob("*.tmp"))


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", b"no numbers"])
def test_a_damaged_part_is_measured_again(store: Store, content: bytes) -> None:
    first = cell_numbers(store, jobs=1)
    for part in store.folder.parent.rglob("*.npy"):
        part.write_bytes(content)
    assert np.array_equal(cell_numbers(store, jobs=1).values, first.values)


def test_processes_give_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WORTH_A_PROCESS", 2)
    monkeypatch.setattr(module, "_CHUNK", 4)
    some = photographs(12)
    told = Told()
    in_processes = cell_numbers(Store(tmp_path / "a" / "cohort", some), jobs=2, progress=told)
    alone = cell_numbers(Store(tmp_path / "b" / "cohort", some), jobs=1)
    assert in_processes.values.tobytes() == alone.values.tobytes()
    assert (told.total, told.advanced, told.finished) == (12, 12, True)


def test_photographs_of_another_size_are_measured_on_the_frame(store: Store) -> None:
    small = PlantedCell(size=112, nucleus_axes=(14, 14), cell_radius=19, red_cells=()).photograph()
    store.photographs = [small]
    values = cell_numbers(store, jobs=1).values[0]
    area = values[MORPHOLOGY_COLUMNS.index("nucleus_area_px")]
    assert area == pytest.approx(np.pi * 28**2, rel=0.1)


def test_cells_that_cannot_be_measured_are_found_and_kept(store: Store) -> None:
    store.photographs[1] = np.full((224, 224, 3), 250, dtype=np.uint8)
    store.photographs[3] = np.ascontiguousarray(PlantedCell().photograph()[:, 95:])
    found = cell_numbers(store, jobs=1)
    assert found.values.shape == (5, len(MORPHOLOGY_COLUMNS))
    assert found.values[1, 0] == 0
    by_code = {finding.code: finding for finding in found.findings}
    assert by_code["LYM301"].files == ("P1/000001.jpg",)
    assert "1 of 5 cells (20.0%)" in by_code["LYM301"].message


@pytest.mark.parametrize(("radius", "found"), [(28, False), (44, False), (15, True), (70, True)])
def test_cells_of_another_size_are_found(store: Store, radius: int, found: bool) -> None:
    cell = PlantedCell(nucleus_axes=(0.7 * radius, 0.7 * radius), cell_radius=radius, red_cells=())
    store.photographs = [cell.photograph()] * 3
    codes = [finding.code for finding in cell_numbers(store, jobs=1).findings]
    assert ("LYM305" in codes) == found


def test_an_empty_store(store: Store) -> None:
    store.photographs = []
    assert cell_numbers(store).values.shape == (0, len(MORPHOLOGY_COLUMNS))

"""Rows kept by the hash of a photograph: what was written is found again, in any order and company."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lymphoscope.cohort.kept_rows import KeptRows
from lymphoscope.files import sha256_bytes

NAMES = st.lists(st.integers(0, 12), max_size=20)


def digests(names: list[int]) -> np.ndarray:
    """The SHA-256 of a made-up photograph for each name; those of the same name are the same."""
    data = b"".join(bytes.fromhex(sha256_bytes(str(name).encode())) for name in names)
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, 32)


def rows(names: list[int], columns: int = 3) -> np.ndarray:
    made = [np.random.default_rng(name).normal(size=columns) for name in names]
    return np.array(made, dtype=np.float32).reshape(len(names), columns)


def fill(kept: KeptRows, names: list[int]) -> list[int]:
    """Add what is missing of `names`, as users of the class do; what was missing."""
    missing = kept.missing(digests(names))
    kept.add(digests(names)[missing], rows([names[i] for i in missing]))
    return [names[i] for i in missing]


@given(parts=st.lists(NAMES, max_size=5), asked=NAMES, half=st.booleans())
def test_everything_added_is_found_also_by_whoever_comes_later(
    parts: list[list[int]], asked: list[int], half: bool
) -> None:
    kind = np.float16 if half else np.float32
    with tempfile.TemporaryDirectory() as folder:
        kept = KeptRows(Path(folder), 3, kind)
        for names in parts:
            fill(kept, names)
        known = {name for names in parts for name in names}
        for reader in (kept, KeptRows(Path(folder), 3, kind)):
            wanted = [name for name in asked if name in known]
            found = reader.look_up(digests(wanted))
            assert found.dtype == kind and np.array_equal(found, rows(wanted).astype(kind))
            missing = [asked[i] for i in reader.missing(digests(asked))]
            assert missing == list(dict.fromkeys(name for name in asked if name not in known))


@given(names=NAMES)
def test_missing_names_each_content_once_and_where_it_comes_first(names: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        missing = KeptRows(Path(folder), 3).missing(digests(names))
    assert missing.dtype == np.int64
    assert missing.tolist() == sorted(names.index(name) for name in {*names})


@given(names=st.lists(st.integers(0, 12), min_size=1, max_size=8, unique=True), data=st.data())
def test_a_changed_byte_costs_its_part_and_no_other(names: list[int], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        kept = KeptRows(Path(folder), 3)
        for name in names:
            fill(kept, [name])
        parts = sorted(Path(folder).iterdir())
        assert len(parts) == len(names)
        path = data.draw(st.sampled_from(parts))
        content = bytearray(path.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        again = KeptRows(Path(folder), 3)
        lost = fill(again, names)
        assert len(lost) == 1
        assert np.array_equal(again.look_up(digests(names)), rows(names))


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    fill(KeptRows(tmp_path / "rows", 3), [1, 2, 3])
    return tmp_path / "rows"


def test_nothing_is_written_before_there_is_something(tmp_path: Path) -> None:
    kept = KeptRows(tmp_path / "rows", 3)
    assert kept.look_up(digests([])).shape == (0, 3)
    assert not (tmp_path / "rows").exists()


def test_what_was_never_kept_cannot_be_looked_up(filled: Path) -> None:
    with pytest.raises(KeyError):
        KeptRows(filled, 3).look_up(digests([1, 9]))


@pytest.mark.parametrize(("columns", "kind"), [(4, np.float32), (3, np.float16)])
def test_rows_of_another_shape_are_not_taken(filled: Path, columns: int, kind: type) -> None:
    assert len(KeptRows(filled, columns, kind).missing(digests([1, 2, 3]))) == 3


def test_files_of_others_are_passed_over(filled: Path) -> None:
    (filled / "notes.npy").write_bytes(b"x")
    (filled / "folder.npy").mkdir()
    np.save(filled / "0123.npy", np.zeros(3))
    assert len(KeptRows(filled, 3).missing(digests([1, 2, 3, 4]))) == 1


def test_two_writers_do_not_lose_each_others_rows(filled: Path) -> None:
    one, two = KeptRows(filled, 3), KeptRows(filled, 3)
    fill(one, [4, 5])
    fill(two, [5, 6])
    later = KeptRows(filled, 3)
    assert np.array_equal(later.look_up(digests([1, 4, 5, 6])), rows([1, 4, 5, 6]))

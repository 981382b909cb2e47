"""What bad files, killed processes and full disks get."""

from __future__ import annotations

import fcntl
import os
import pickle
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from photographs import encoded, jpeg, make_cohort, photograph, png_that_declares

from lymphoscope.cohort import cell_ingest
from lymphoscope.cohort.cell_store import CellStore, image_bags, open_store
from lymphoscope.cohort.findings import Finding
from lymphoscope.cohort.image_inspection import Inspection
from lymphoscope.errors import LymphoscopeError

GOOD = [jpeg(photograph(seed)) for seed in range(6)]


@pytest.fixture
def inspected(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Contents that are looked at."""
    seen: list[bytes] = []
    original = cell_ingest.inspect_image

    def spy(data: bytes) -> Inspection:
        seen.append(data)
        return original(data)

    monkeypatch.setattr(cell_ingest, "inspect_image", spy)
    return seen


def by_code(store: CellStore) -> dict[str, Finding]:
    assert len({finding.code for finding in store.findings}) == len(store.findings)
    return {finding.code: finding for finding in store.findings}


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"", "LYM202"),
        (b"not a picture at all, just a note", "LYM203"),
        (GOOD[1][:-400], "LYM204"),
        (GOOD[1][:5000] + GOOD[1][5600:], "LYM205"),
        (png_that_declares(60_000, 60_000), "LYM206"),
        (encoded(PIL.Image.fromarray(np.zeros((9, 9), dtype=np.float32)), "TIFF"), "LYM207"),
    ],
)
def test_a_bad_file_is_an_error_and_the_rest_is_used(
    tmp_path: Path, bad: bytes, code: str, recwarn: pytest.WarningsRecorder
) -> None:
    cohort = make_cohort(tmp_path / "cohort", {"P1": [GOOD[0], bad, GOOD[2]], "P2": [bad + b" "]})
    store = open_store(cohort, tmp_path / "cache")
    finding = by_code(store)[code]
    assert finding.severity == "error"
    assert "P1/000001.jpg" in finding.files
    assert "P1" in finding.patients
    assert finding.remedy
    assert store.index.path.tolist() == ["P1/000000.jpg", "P1/000002.jpg"]
    assert np.array_equal(store.index.patient, [0, 0])
    assert by_code(store)["LYM208"].patients == ("P2",)
    assert by_code(open_store(cohort, tmp_path / "cache")) == by_code(store)
    assert len(recwarn) == 0


def test_a_bomb_is_named_with_its_size_and_the_limit(tmp_path: Path) -> None:
    bomb = png_that_declares(60_000, 60_000)
    finding = by_code(open_store(make_cohort(tmp_path / "c", {"P1": [bomb]}), tmp_path / "cache"))["LYM206"]
    assert "60000 × 60000" in finding.message
    assert "16.8 million pixels" in finding.remedy


def test_a_huge_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = make_cohort(tmp_path / "c", {"P1": [GOOD[0], GOOD[1] + bytes(10**6)]})
    monkeypatch.setattr(cell_ingest, "MAX_FILE_BYTES", 10**6)
    store = open_store(cohort, tmp_path / "cache")
    assert by_code(store)["LYM206"].files == ("P1/000001.jpg",)
    assert len(store) == 1


def test_what_cannot_be_opened_is_reported_and_tried_again(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "c", {"P1": GOOD[:4]})
    paths = [cohort.root / path for path in cohort.images]
    for path in paths[1:]:
        path.unlink()
    paths[1].symlink_to(tmp_path / "nowhere")
    os.mkfifo(paths[2])
    paths[3].mkdir()
    store = open_store(cohort, tmp_path / "cache")
    assert len(by_code(store)["LYM201"].files) == 3
    assert len(store) == 1
    (tmp_path / "nowhere").write_bytes(GOOD[1])
    later = open_store(cohort, tmp_path / "cache")
    assert len(by_code(later)["LYM201"].files) == 2
    assert len(later) == 2


def test_symbolic_links_are_followed(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "c", {"P1": GOOD[:2]})
    real = tmp_path / "real.jpg"
    (cohort.root / cohort.images[1]).rename(real)
    (cohort.root / cohort.images[1]).symlink_to(real)
    assert len(open_store(cohort, tmp_path / "cache")) == 2


def test_a_read_only_cohort_is_read_and_left_alone(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "c", {"P1": GOOD[:2]})
    folders = [cohort.root, cohort.root / "P1"]
    for folder in folders:
        folder.chmod(0o555)
    before = [(path, path.stat().st_mtime_ns) for path in sorted(cohort.root.rglob("*"))]
    try:
        store = open_store(cohort, tmp_path / "cache", verify=True)
        store.crops(16)
        after = [(path, path.stat().st_mtime_ns) for path in sorted(cohort.root.rglob("*"))]
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert len(store) == 2
    assert after == before


def test_a_damaged_or_foreign_index_is_made_anew(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "c", {"P1": GOOD[:3]})
    first = open_store(cohort, tmp_path / "cache")
    pixels = first.decode(1)
    for junk in (b"", b"PK\x03\x04 no archive", b"\x80\x04\x95pickle"):
        (first.folder / "index.npz").write_bytes(junk)
        again = open_store(cohort, tmp_path / "cache")
        assert again.fingerprint == first.fingerprint
        assert np.array_equal(again.decode(1), pixels)
    next(first.folder.glob("*.blob")).unlink()
    assert np.array_equal(open_store(cohort, tmp_path / "cache").decode(1), pixels)


def test_a_full_disk_is_one_error_and_what_was_done_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inspected: list[bytes]
) -> None:
    cohort = make_cohort(tmp_path / "c", {"P1": GOOD})
    monkeypatch.setattr(cell_ingest, "CHUNK_FILES", 1)
    monkeypatch.setattr(cell_ingest, "PIECE_FILES", 1)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    three = sum(len(content) + 28 * 28 for content in GOOD[:3]) + 100
    resource.setrlimit(resource.RLIMIT_FSIZE, (three, limit[1]))
    try:
        with pytest.raises(LymphoscopeError, match="could not be written"):
            open_store(cohort, tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    folder = next((tmp_path / "cache").iterdir())
    assert sorted(p.name for p in folder.iterdir()) == [
        "cells-000000.blob",
        "lock",
        *(f"piece-{i:06d}.npz" for i in range(3)),
    ]
    inspected: list[bytes] = []
    original = cell_ingest.inspect_image
    monkeypatch.setattr(
        cell_ingest, "inspect_image", lambda data: (inspected.append(data), original(data))[1]
    )
    store = open_store(cohort, tmp_path / "cache")
    assert len(inspected) == 3
    assert len(store) == 6
    assert sorted(path.name for path in folder.iterdir()) == ["cells-000000.blob", "index.npz", "lock"]


def test_a_full_disk_while_cutting_crops_leaves_nothing(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "c", {"P1": GOOD})
    store = open_store(cohort, tmp_path / "cache")
    before = sorted(store.folder.iterdir())
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        with pytest.raises(LymphoscopeError, match="could not be written"):
            store.crops(112)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert sorted(store.folder.iterdir()) == before


def flip_a_byte(path: Path, *, keep_time: bool) -> None:
    status = path.stat()
    with path.open("r+b") as stream:
        stream.seek(status.st_size // 2)
        byte = stream.read(1)[0]
        stream.seek(status.st_size // 2)
        stream.write(bytes([byte ^ 1]))
    times = (status.st_atime_ns, status.st_mtime_ns if keep_time else status.st_mtime_ns + 1)
    os.utime(path, ns=times)


def test_a_flipped_byte_among_the_crops_is_noticed_when_they_are_opened(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "c", {"P1": GOOD})
    store = open_store(cohort, tmp_path / "cache")
    right = image_bags(cohort, store, 64).cells.copy()
    flip_a_byte(next(store.folder.glob("crops-64-*.npy")), keep_time=False)
    assert np.array_equal(image_bags(cohort, store, 64).cells, right)


def test_verify_mends_crops_that_changed_behind_the_clock_and_what_was_cut_from_them(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "c", {"P1": GOOD})
    store = open_store(cohort, tmp_path / "cache")
    whole, part = store.crops(224).copy(), store.crops(64).copy()
    arrays = sorted(store.folder.glob("crops-*"))
    times = [path.stat().st_mtime_ns for path in arrays]
    open_store(cohort, tmp_path / "cache", verify=True)
    assert [path.stat().st_mtime_ns for path in arrays] == times  # what is whole is kept
    flip_a_byte(next(store.folder.glob("crops-224-*.npy")), keep_time=True)
    mended = open_store(cohort, tmp_path / "cache", verify=True)
    assert not list(store.folder.glob("crops-*"))
    assert np.array_equal(mended.crops(224), whole)
    assert np.array_equal(mended.crops(64), part)


@pytest.mark.parametrize("seal", [b"", b"[]", b"{}", b"\xff", b'{"sha256": "", "size": 1, "mtime_ns": 1}'])
def test_crops_whose_seal_is_lost_are_cut_anew(tmp_path: Path, seal: bytes) -> None:
    cohort = make_cohort(tmp_path / "c", {"P1": GOOD[:2]})
    store = open_store(cohort, tmp_path / "cache")
    right = store.crops(16).copy()
    beside = next(store.folder.glob("crops-16-*.json"))
    written = beside.read_bytes()
    beside.write_bytes(seal)
    assert np.array_equal(store.crops(16), right)
    assert beside.read_bytes() != written  # another time of writing
    assert sorted(path.suffix for path in store.folder.glob("crops-*")) == [".json", ".npy"]


def test_a_cache_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "c", {"P1": GOOD[:1]})
    (tmp_path / "cache").write_bytes(b"a file where a folder is wanted")
    with pytest.raises(LymphoscopeError, match="cannot be brought up to date"):
        open_store(cohort, tmp_path / "cache")


def test_two_processes_do_not_fill_one_store_at_a_time(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "c", {"P1": GOOD})
    first = open_store(cohort, tmp_path / "cache")
    (first.folder / "index.npz").unlink()
    with (first.folder / "lock").open("r+") as lock, ThreadPoolExecutor(1) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = pool.submit(open_store, cohort, tmp_path / "cache")
        with pytest.raises(TimeoutError):
            second.result(timeout=0.5)
        assert not (first.folder / "index.npz").exists()
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert second.result(timeout=60).fingerprint == first.fingerprint


# Forks one child per moment from a process that has decoded nothing yet; each is killed at its moment.
_KILLER = """
import os, pickle, signal, sys
from pathlib import Path
from lymphoscope.cohort import cell_ingest
from lymphoscope.cohort.cell_store import open_store

cell_ingest.CHUNK_FILES, cell_ingest.PIECE_FILES = 2, 4
cohort, caches = pickle.load(sys.stdin.buffer)

def mortal(function, left):
    def call(*arguments, **options):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call

for moment, cache in enumerate(caches, start=1):
    child = os.fork()
    if child == 0:
        left = [moment]
        for owner, name in [
            (os, "pwrite"), (os, "fsync"), (cell_ingest, "save_table"), (Path, "replace"), (Path, "unlink")
        ]:
            setattr(owner, name, mortal(getattr(owner, name), left))
        open_store(cohort, cache, jobs=1)
        os._exit(0)
    killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    print(int(killed), flush=True)
    if not killed:
        break
"""


def test_a_kill_at_any_write_loses_at_most_the_piece_in_hand(tmp_path: Path, inspected: list[bytes]) -> None:
    files = {name: [jpeg(photograph(100 * k + i)) for i in range(5)] for k, name in enumerate("AB")}
    cohort = make_cohort(tmp_path / "c", files)
    unbroken = open_store(cohort, tmp_path / "unbroken")
    caches = [tmp_path / f"cache{moment}" for moment in range(1, 40)]
    done = subprocess.run(
        [sys.executable, "-c", _KILLER], input=pickle.dumps((cohort, caches)), capture_output=True, check=True
    )
    killed = [line == b"1" for line in done.stdout.split()]
    moments = killed.index(False)
    assert moments > 15
    for cache in caches[:moments]:
        pieces = len(list(cache.glob("*/piece-*.npz")))
        inspected.clear()
        resumed = open_store(cohort, cache)
        committed = 10 if (resumed.folder / "index.npz").exists() and not inspected else min(4 * pieces, 10)
        assert len(inspected) == 10 - committed
        assert resumed.fingerprint == unbroken.fingerprint
        assert all(np.array_equal(resumed.decode(i), unbroken.decode(i)) for i in range(10))
        assert sorted(path.suffix for path in resumed.folder.iterdir()) == ["", ".blob", ".npz"]

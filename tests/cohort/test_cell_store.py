from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from photographs import jpeg, make_cohort, photograph

from lymphoscope.cohort import cell_ingest, cell_store
from lymphoscope.cohort.cell_store import CellStore, image_bags, number_bags, open_store
from lymphoscope.cohort.cohort import Cohort
from lymphoscope.errors import InputError

FILES = {
    "P1": [jpeg(photograph(seed)) for seed in range(3)],
    "P10": [],
    "P100": [jpeg(photograph(seed)) for seed in range(10, 15)],
}


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return make_cohort(tmp_path / "cohort", FILES)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def read_files(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Paths of the files that are opened."""
    seen: list[bytes] = []
    original = cell_ingest._read

    def spy(path: bytes) -> Any:
        seen.append(path)
        return original(path)

    monkeypatch.setattr(cell_ingest, "_read", spy)
    return seen


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Contents that are inspected, which decodes them."""
    seen: list[bytes] = []
    original: Callable[..., Any] = cell_ingest.inspect_image

    def spy(data: bytes) -> Any:
        seen.append(data)
        return original(data)

    monkeypatch.setattr(cell_ingest, "inspect_image", spy)
    return seen


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


def assert_same(first: CellStore, second: CellStore) -> None:
    assert first.fingerprint == second.fingerprint
    assert first.findings == second.findings
    assert first.index.path.tolist() == second.index.path.tolist()
    assert np.array_equal(first.index.phash, second.index.phash)
    assert all(np.array_equal(first.decode(i), second.decode(i)) for i in range(len(first)))


def test_index_holds_every_photograph_in_order(cohort: Cohort, cache: Path) -> None:
    store = open_store(cohort, cache)
    contents = [content for files in FILES.values() for content in files]
    assert len(store) == len(store.index) == 8
    assert store.index.path.tolist() == [str(path) for path in cohort.images]
    assert store.index.patient.tolist() == [0, 0, 0, 2, 2, 2, 2, 2]
    assert store.index.sha256.tolist() == [hashlib.sha256(content).hexdigest() for content in contents]
    assert store.index.n_bytes.tolist() == [len(content) for content in contents]
    assert set(store.index.width.tolist()) == set(store.index.height.tolist()) == {224}
    assert (set(store.index.format), set(store.index.mode)) == ({"JPEG"}, {"RGB"})
    assert not store.index.exif.any()
    assert store.index.border_lab.shape == (8, 3)
    assert store.findings == ()


def test_decode_gives_the_pixels_of_the_file(cohort: Cohort, cache: Path) -> None:
    store = open_store(cohort, cache)
    for i, path in enumerate(cohort.images):
        assert np.array_equal(store.decode(i), simplejpeg.decode_jpeg((cohort.root / path).read_bytes()))


def test_crops_are_centre_crops_of_the_frame_derived_once(cohort: Cohort, cache: Path) -> None:
    store = open_store(cohort, cache)
    small = store.crops(112)
    assert isinstance(small, np.memmap)
    assert (small.shape, small.dtype) == ((8, 112, 112, 3), np.uint8)
    assert np.array_equal(small[4], store.decode(4)[56:168, 56:168])
    written = {path.name: path.stat().st_mtime_ns for path in store.folder.glob("crops-*")}
    assert np.array_equal(store.crops(224)[3], store.decode(3))
    from_frames = store.crops(100)
    assert np.array_equal(from_frames[3], store.decode(3)[62:162, 62:162])
    again = open_store(cohort, cache)
    assert np.array_equal(again.crops(112), small)
    assert {name: (store.folder / name).stat().st_mtime_ns for name in written} == written


@pytest.mark.parametrize("size", [0, 225])
def test_crops_of_an_impossible_size_are_refused(cohort: Cohort, cache: Path, size: int) -> None:
    with pytest.raises(ValueError, match="allowed: 1 to 224"):
        open_store(cohort, cache).crops(size)


def test_bags_hold_all_patients_also_those_without_cells(cohort: Cohort, cache: Path) -> None:
    store = open_store(cohort, cache)
    bags = image_bags(cohort, store, 64)
    assert bags.patient_ids == ("P1", "P10", "P100")
    assert bags.counts.tolist() == [3, 0, 5]
    assert np.array_equal(bags[2].cells, store.crops(64)[3:])
    values = np.arange(16, dtype=np.float32).reshape(8, 2)
    numbers = number_bags(cohort, store, values, ("a_px", "b_px"))
    assert numbers.columns == ("a_px", "b_px")
    assert numbers[2].cells.tolist() == values[3:].tolist()
    with pytest.raises(ValueError, match="allowed: \\(8, 1\\)"):
        number_bags(cohort, store, values, ("a_px",))


def test_reopening_reads_no_file(cohort: Cohort, cache: Path, read_files: list[bytes]) -> None:
    first = open_store(cohort, cache)
    assert len(read_files) == 8
    before = snapshot(cache)
    assert_same(open_store(cohort, cache), first)
    assert len(read_files) == 8
    assert snapshot(cache) == before


def test_verify_reads_every_file_and_decodes_none(
    cohort: Cohort, cache: Path, read_files: list[bytes], decoded: list[bytes]
) -> None:
    first = open_store(cohort, cache)
    assert_same(open_store(cohort, cache, verify=True), first)
    assert (len(read_files), len(decoded)) == (16, 8)


def test_verify_finds_a_change_that_kept_size_and_time(cohort: Cohort, cache: Path) -> None:
    path = cohort.root / cohort.images[0]
    other = jpeg(photograph(99))
    size = max(len(other), path.stat().st_size)
    path.write_bytes(path.read_bytes().ljust(size, b"\0"))
    open_store(cohort, cache)
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(other.ljust(size, b"\0"))
    os.utime(path, ns=times)
    fooled, verified = open_store(cohort, cache), open_store(cohort, cache, verify=True)
    assert not np.array_equal(fooled.decode(0), verified.decode(0))
    assert np.array_equal(verified.decode(0), simplejpeg.decode_jpeg(other))


def test_verify_mends_a_damaged_blob(cohort: Cohort, cache: Path, decoded: list[bytes]) -> None:
    first = open_store(cohort, cache)
    pixels = first.decode(2)
    blob = next(first.folder.glob("*.blob"))
    data = bytearray(blob.read_bytes())
    at = int(first._offset[2] + first._length[2] // 2)
    data[at : at + 50] = bytes(50)
    blob.write_bytes(data)
    mended = open_store(cohort, cache, verify=True)
    assert np.array_equal(mended.decode(2), pixels)
    assert len(decoded) == 9


def test_renamed_and_moved_files_are_not_decoded_again(
    cohort: Cohort, cache: Path, read_files: list[bytes], decoded: list[bytes]
) -> None:
    first = open_store(cohort, cache)
    (cohort.root / "P100").rename(cohort.root / "Q")
    images = tuple(Path(str(path).replace("P100", "Q")) for path in cohort.images)
    moved = open_store(replace(cohort, images=images), cache)
    assert (len(read_files), len(decoded)) == (13, 8)
    assert moved.fingerprint == first.fingerprint
    assert moved.index.path.tolist() == [str(path) for path in images]


def test_only_changed_and_new_files_are_read(
    cohort: Cohort, cache: Path, tmp_path: Path, read_files: list[bytes]
) -> None:
    open_store(cohort, cache)
    files = {**FILES, "P10": [jpeg(photograph(20))], "P1": [jpeg(photograph(21)), *FILES["P1"][1:]]}
    (cohort.root / cohort.images[0]).unlink()
    for patient, contents in files.items():
        for k, content in enumerate(contents):
            path = cohort.root / patient / f"{k:06d}.jpg"
            if not path.exists():
                path.write_bytes(content)
    images = tuple(Path(p) / f"{k:06d}.jpg" for p, contents in files.items() for k in range(len(contents)))
    owner = np.repeat([0, 1, 2], [3, 1, 5])
    changed = open_store(replace(cohort, images=images, image_patient=owner), cache)
    assert sorted(os.fsdecode(path)[-12:] for path in read_files[8:]) == ["0/000000.jpg", "1/000000.jpg"]
    fresh = open_store(make_cohort(tmp_path / "other", files), tmp_path / "other cache")
    assert_same(changed, fresh)


def test_a_removed_photograph_leaves_the_store(cohort: Cohort, cache: Path, read_files: list[bytes]) -> None:
    first = open_store(cohort, cache)
    pixels = first.decode(7)
    (cohort.root / cohort.images[3]).unlink()
    kept = [i for i in range(8) if i != 3]
    smaller = replace(
        cohort, images=tuple(cohort.images[i] for i in kept), image_patient=cohort.image_patient[kept]
    )
    store = open_store(smaller, cache)
    assert len(store) == 7
    assert len(read_files) == 8
    blob = next(store.folder.glob("*.blob"))
    assert FILES["P100"][0][-500:] not in blob.read_bytes()
    assert np.array_equal(store.decode(6), pixels)
    assert np.array_equal(first.decode(7), pixels), "a store that is open goes on working"


def test_part_of_a_cohort_does_not_forget_the_rest(
    cohort: Cohort, cache: Path, read_files: list[bytes]
) -> None:
    whole = open_store(cohort, cache)
    part = replace(cohort, images=cohort.images[:3], image_patient=cohort.image_patient[:3])
    assert len(open_store(part, cache)) == 3
    assert_same(open_store(cohort, cache), whole)
    assert len(read_files) == 8


def test_fingerprint_is_of_the_content(cohort: Cohort, cache: Path, tmp_path: Path) -> None:
    store = open_store(cohort, cache)
    elsewhere = make_cohort(tmp_path / "elsewhere", FILES)
    for path in elsewhere.images:
        os.utime(elsewhere.root / path, (1, 1))
    assert open_store(elsewhere, cache).fingerprint == store.fingerprint
    older = np.array([[71.0, 1, 8.5], *cohort.patients.clinical[1:]])
    others = [
        replace(cohort, patients=replace(cohort.patients, clinical=older)),
        replace(cohort, patients=replace(cohort.patients, label=np.array([1, 0, 1], dtype=np.int8))),
        replace(cohort, patients=replace(cohort.patients, split=("train", "", ""))),
        replace(cohort, image_patient=np.array([0, 0, 0, 1, 2, 2, 2, 2])),
        make_cohort(tmp_path / "third", {**FILES, "P1": [jpeg(photograph(50)), *FILES["P1"][1:]]}),
    ]
    prints = {open_store(other, cache).fingerprint for other in others}
    assert len(prints | {store.fingerprint}) == len(others) + 1


def test_missing_values_do_not_upset_the_fingerprint(cohort: Cohort, cache: Path) -> None:
    quiet, signed = np.full((3, 3), np.nan), np.full((3, 3), -np.nan)
    first, second = (
        open_store(replace(cohort, patients=replace(cohort.patients, clinical=table)), cache).fingerprint
        for table in (quiet, signed)
    )
    assert first == second


def test_number_of_threads_does_not_matter(cohort: Cohort, tmp_path: Path) -> None:
    stores = [open_store(cohort, tmp_path / f"cache{jobs}", jobs=jobs) for jobs in (1, 3)]
    assert_same(*stores)
    blobs = [next(store.folder.glob("*.blob")).read_bytes() for store in stores]
    assert blobs[0] == blobs[1]


def test_a_store_can_be_pickled(cohort: Cohort, cache: Path) -> None:
    store = open_store(cohort, cache)
    assert_same(pickle.loads(pickle.dumps(store)), store)


def test_progress_counts_every_file(cohort: Cohort, cache: Path) -> None:
    told: list[tuple[str, int]] = []

    class Teller:
        def start(self, what: str, total: int) -> None:
            told.append((what, total))

        def advance(self, n: int = 1) -> None:
            told.append(("", n))

        def done(self) -> None:
            told.append(("done", 0))

    open_store(cohort, cache, progress=Teller()).crops(32, progress=Teller())
    assert [what for what, _ in told if what] == [
        "reading photographs",
        "done",
        "cutting crops of 32 pixels",
        "done",
    ]
    assert sum(n for what, n in told if not what) == 16


def test_a_cohort_without_photographs_has_an_empty_store(tmp_path: Path, cache: Path) -> None:
    empty = make_cohort(tmp_path / "cohort", {"P1": [], "P2": []})
    store = open_store(empty, cache)
    assert len(store) == 0
    assert store.findings == ()
    assert image_bags(empty, store).counts.tolist() == [0, 0]
    with pytest.raises(IndexError):
        store.decode(0)


def test_a_cache_inside_the_cohort_is_refused(cohort: Cohort) -> None:
    before = snapshot(cohort.root)
    with pytest.raises(InputError, match="never written to"):
        open_store(cohort, cohort.root / "cache")
    assert snapshot(cohort.root) == before


def test_names_that_are_no_text_are_kept(tmp_path: Path, cache: Path) -> None:
    cohort = make_cohort(tmp_path / "cohort", {"P1": [jpeg(photograph(0))]})
    odd = Path("P1") / os.fsdecode("caf\u00e9 \u7d30".encode() + b"\xff\xfe.jpg")
    (cohort.root / cohort.images[0]).rename(cohort.root / odd)
    store = open_store(replace(cohort, images=(odd,)), cache)
    assert store.index.path.tolist() == [str(odd)]
    assert len(store.fingerprint) == 64
    assert len(open_store(replace(cohort, images=(odd,)), cache)) == 1


def test_store_folder_says_which_cohort_it_is(cohort: Cohort, cache: Path, tmp_path: Path) -> None:
    folder = cell_store.store_folder(cohort.root, cache)
    assert folder.name.startswith("cohort-")
    link = tmp_path / "link"
    link.symlink_to(cohort.root)
    assert cell_store.store_folder(link, cache) == folder
    assert cell_store.store_folder(tmp_path / "other" / "cohort", cache) != folder

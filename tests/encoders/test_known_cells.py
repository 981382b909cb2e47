"""The list of the cells that an encoder has learned from: written with it, read, and found in a cohort."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from made_up_cells import TINY, columns, made_up, quick, write
from safetensors.numpy import save_file

from lymphoscope.cohort.cell_store import CellStore, open_store
from lymphoscope.cohort.findings import Finding
from lymphoscope.cohort.image_frames import centre_crop
from lymphoscope.cohort.read import read_cohort
from lymphoscope.encoders.encoder import create_encoder
from lymphoscope.encoders.known_cells import CellsLearnedFrom, KnownCells, find_known, known_cells, read_known
from lymphoscope.encoders.labelled_cells import read_labelled_cells
from lymphoscope.encoders.trained import train_encoder
from lymphoscope.files import sha256_json

LEARNED = ["trainset/P1/", "testset/"]
"""Where the photographs of the cohort lie that an encoder is said to have learned from."""


def found(root: Path, cache: Path, known: KnownCells) -> tuple[Finding, ...]:
    cohort = read_cohort(root)
    return find_known(cohort, open_store(cohort, cache, jobs=1), known, 112, "mine", jobs=1)


def photographs(root: Path) -> dict[str, np.ndarray]:
    paths = sorted(root.rglob("*.jpg"))
    return {str(path.relative_to(root)): simplejpeg.decode_jpeg(path.read_bytes()) for path in paths}


def learned(root: Path) -> dict[str, np.ndarray]:
    return {name: x for name, x in photographs(root).items() if name.startswith(tuple(LEARNED))}


def listed(cells: dict[str, np.ndarray]) -> KnownCells:
    return known_cells(np.stack([centre_crop(each, 112) for each in cells.values()]))


def test_an_encoder_carries_its_cells_in_the_order_of_their_names(tmp_path: Path) -> None:
    backwards = columns(24, "a", 1)
    backwards["source"].reverse()
    cells = write(tmp_path / "cells", backwards, columns(12, "b", 2))
    train_encoder(cells, tmp_path / "out", TINY, quick())
    known = create_encoder(tmp_path / "out").known
    training = read_labelled_cells(cells, size=28).training
    order = np.argsort(training.sources)
    expected = known_cells(training.images[order])
    assert known is not None and len(known) == 24 and known.thumbnails.shape == (24, 10, 10)
    np.testing.assert_array_equal(known.hashes, expected.hashes)
    np.testing.assert_array_equal(known.thumbnails, expected.thumbnails)


def test_an_encoder_that_came_without_the_list_is_still_read(tmp_path: Path) -> None:
    out = train_encoder(made_up(tmp_path / "cells", 24, 12), tmp_path / "out", TINY, quick()).folder
    before = create_encoder(out)
    card = json.loads((out / "card.json").read_text())
    del card["sha256"]["cells.safetensors"]
    (out / "card.json").write_text(json.dumps(card))
    assert create_encoder(out).known is None
    assert create_encoder(out).sha256 == before.sha256, "embeddings that are kept stay valid"


def test_nine_thousand_cells_take_a_megabyte() -> None:
    n = 9000
    known = KnownCells(np.zeros(n, dtype=np.uint64), np.zeros((n, 10, 10), dtype=np.uint8))
    assert len(known.as_bytes()) < 1_000_000


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cells.safetensors"
    for side, n in ((10, 2), (8, 3)):
        arrays = {
            "hashes": np.zeros(n, dtype=np.uint64),
            "thumbnails": np.zeros((3, side, side), dtype=np.uint8),
        }
        save_file(arrays, path)
        with pytest.raises(ValueError, match="no list of cells"):
            read_known(path)


def test_the_cells_of_a_cohort_are_known_again_and_no_others(tiny_cohort: Path, cache: Path) -> None:
    cells = learned(tiny_cohort)
    (finding,) = found(tiny_cohort, cache, listed(cells))
    assert isinstance(finding, CellsLearnedFrom) and sorted(finding.files) == sorted(cells)
    folders = {name.split("/")[1] for name in cells}
    assert set(finding.patients) == folders
    assert finding.message == (
        f"{len(cells)} of 180 cells, of {len(folders)} patients, show cells that the encoder mine learned "
        "from, or look just like them."
    )
    others = listed({name: x for name, x in photographs(tiny_cohort).items() if name not in cells})
    (rest,) = found(tiny_cohort, cache, others)
    assert not set(rest.files) & set(finding.files) and len(rest.files) + len(finding.files) == 180


@pytest.mark.parametrize("side", [160, 200, 224])
def test_cells_cut_out_and_saved_again_are_known(
    tiny_cohort: Path, cache: Path, tmp_path: Path, side: int
) -> None:
    cells = learned(tiny_cohort)
    root = tmp_path / "cohort"
    shutil.copytree(tiny_cohort, root)
    for name, image in photographs(tiny_cohort).items():
        cut = centre_crop(image, side)[:, ::-1]
        (root / name).write_bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(cut), quality=50))
    (finding,) = found(root, cache, listed(cells))
    assert sorted(finding.files) == sorted(cells)


def test_a_cohort_of_other_cells_has_no_finding(tiny_cohort: Path, cache: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 112, 112, 3), dtype=np.uint8)
    assert found(tiny_cohort, cache, known_cells(noise)) == ()


def test_photographs_are_decoded_once_whatever_the_encoder(
    tiny_cohort: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = listed(learned(tiny_cohort))
    first = found(tiny_cohort, cache, known)

    def decode(store: CellStore, i: int) -> None:
        raise AssertionError(f"photograph {i} is decoded again")

    monkeypatch.setattr(CellStore, "decode", decode)
    again = found(tiny_cohort, cache, known)
    assert sha256_json([each.as_dict() for each in again]) == sha256_json([x.as_dict() for x in first])

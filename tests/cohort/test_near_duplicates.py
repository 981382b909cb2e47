from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from photographs import jpeg, photograph

from lymphoscope.cohort import near_duplicates
from lymphoscope.cohort.image_frames import luminance, perceptual_hashes, reduce_frame
from lymphoscope.cohort.near_duplicates import (
    KNOWN_RADIUS,
    group_alike,
    look_alike,
    match_alike,
    turned_hashes,
)

Image = np.ndarray[Any, np.dtype[np.uint8]]


def reencoded(image: Image) -> Image:
    return np.asarray(simplejpeg.decode_jpeg(jpeg(image, 40)))


ALTERED: dict[str, Callable[[Image], Image]] = {
    "re-encoded": reencoded,
    "brighter": lambda x: np.clip(x.astype(int) + 15, 0, 255).astype(np.uint8),
    "darker": lambda x: (x * 0.8).astype(np.uint8),
    "scaled": lambda x: cv2.resize(cv2.resize(x, (150, 150)), (224, 224), interpolation=cv2.INTER_CUBIC),
    "stained": lambda x: (x * np.array([1.0, 0.92, 0.97])).astype(np.uint8),
    "mirrored": lambda x: reencoded(x[:, ::-1]),
    "upside down": lambda x: reencoded(x[::-1]),
    "turned left": lambda x: reencoded(np.rot90(x)),
    "turned right": lambda x: reencoded(np.rot90(x, -1)),
    "half a turn": lambda x: reencoded(np.rot90(x, 2)),
    "transposed": lambda x: reencoded(x.transpose(1, 0, 2)),
    "transposed the other way": lambda x: reencoded(np.rot90(x.transpose(1, 0, 2), 2)),
}


def thumbnail(image: Image) -> Image:
    return luminance(reduce_frame(image)[None])[0]


def perceptual_hash(small: Image) -> int:
    return int(perceptual_hashes(small[None])[0])


def grouped(images: list[Image]) -> list[int]:
    small = [thumbnail(np.ascontiguousarray(image)) for image in images]
    return group_alike(perceptual_hashes(np.stack(small)), lambda i: small[i]).tolist()


@pytest.mark.parametrize("name", ALTERED)
def test_altered_copies_are_found_among_other_cells(name: str) -> None:
    cells = [photograph(seed) for seed in range(40)]
    copies = [ALTERED[name](cell) for cell in cells[:10]]
    groups = grouped([*cells, *copies])
    assert groups[:10] == groups[40:]
    assert sorted(groups[:10]) == list(range(10))
    assert set(groups[10:40]) == {-1}


def test_many_copies_of_one_cell_are_one_group() -> None:
    cell = photograph(1)
    groups = grouped([ALTERED[name](cell) for name in ALTERED] * 20 + [photograph(2)])
    assert groups == [0] * (len(groups) - 1) + [-1]


def test_blank_pictures_are_like_no_other() -> None:
    blank = np.full((224, 224, 3), 210, dtype=np.uint8)
    assert perceptual_hash(thumbnail(blank)) == 0
    assert grouped([blank, blank, blank]) == [-1, -1, -1]


def matched(images: list[Image], known: list[Image]) -> list[int]:
    ours, theirs = (np.array([thumbnail(np.ascontiguousarray(x)) for x in each]) for each in (images, known))
    return match_alike(perceptual_hashes(ours), ours, perceptual_hashes(theirs), theirs).tolist()


@pytest.mark.parametrize("name", ALTERED)
def test_altered_copies_are_matched_with_the_known_cell(name: str) -> None:
    cells = [photograph(seed) for seed in range(40)]
    copies = [ALTERED[name](cell) for cell in cells[:10]]
    others = [photograph(seed) for seed in range(100, 120)]
    assert matched([*copies, *others], cells[::-1]) == [39 - i for i in range(10)] + [-1] * 20


@settings(max_examples=12)
@given(st.permutations(range(8)), st.integers(1, 8), st.integers(0, 7))
def test_whatever_is_known_is_matched_however_it_lies(order: list[int], n_known: int, turn: int) -> None:
    cells = [photograph(seed) for seed in order]
    lying = [np.rot90(cell if turn < 4 else cell.transpose(1, 0, 2), turn) for cell in cells]
    assert matched(lying, cells[:n_known]) == [*range(n_known), *[-1] * (8 - n_known)]


def test_blank_pictures_match_nothing_and_no_pictures_match_none() -> None:
    blank = np.full((224, 224, 3), 210, dtype=np.uint8)
    assert matched([blank, photograph(1)], [blank, blank]) == [-1, -1]
    small, none = thumbnail(photograph(1))[None], np.empty((0, 28, 28), dtype=np.uint8)
    hashes, no_hashes = perceptual_hashes(small), np.empty(0, dtype=np.uint64)
    assert match_alike(hashes, small, no_hashes, none).tolist() == [-1]
    assert match_alike(no_hashes, none, hashes, small).tolist() == []


def test_a_known_hash_that_collides_by_chance_is_told_apart() -> None:
    small = np.stack([thumbnail(photograph(seed)) for seed in (1, 2)])
    seven = np.array([7], dtype=np.uint64)
    assert match_alike(seven, small[:1], seven, small[1:]).tolist() == [-1]
    assert match_alike(seven, small[:1], seven, small[:1]).tolist() == [0]


def test_all_eight_turns_of_a_hash_are_those_of_the_picture() -> None:
    small = thumbnail(photograph(6))
    views = [np.rot90(each, k) for each in (small, small.T) for k in range(4)]
    turned = near_duplicates._every_turn(np.array([perceptual_hash(small)], dtype=np.uint64))
    hashes = [perceptual_hash(np.ascontiguousarray(view)) for view in views]
    assert sorted(int(each[0]) for each in turned) == sorted(hashes) and len(set(hashes)) == 8


def test_hashes_that_collide_by_chance_are_told_apart() -> None:
    small = [thumbnail(photograph(seed)) for seed in (1, 2)]
    assert group_alike(np.array([7, 7], dtype=np.uint64), lambda i: small[i]).tolist() == [-1, -1]
    assert not look_alike(*small)
    assert look_alike(small[0], np.rot90(small[0]))


def test_brightness_and_contrast_change_no_bit() -> None:
    small = thumbnail(photograph(5))
    assert perceptual_hash(small // 2) ^ perceptual_hash(small // 2 + 60) == 0


def test_turned_hashes_are_the_hashes_of_turned_pictures() -> None:
    small = thumbnail(photograph(6))
    turns = [
        small[:, ::-1],
        small[::-1],
        np.rot90(small, 2),
        small.T,
        np.rot90(small, 2).T,
        np.rot90(small),
    ]
    expected = {perceptual_hash(np.ascontiguousarray(view)) for view in turns}
    from_bits = {int(h[0]) for h in turned_hashes(np.array([perceptual_hash(small)], dtype=np.uint64))}
    other_turn = perceptual_hash(np.ascontiguousarray(np.rot90(small, -1)))
    assert from_bits in (
        expected,
        expected - {perceptual_hash(np.ascontiguousarray(turns[-1]))} | {other_turn},
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(0, 80), radius=st.sampled_from([0, 3, 7, 10]))
def test_banded_search_finds_exactly_the_near_pairs(seed: int, n: int, radius: int) -> None:
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 2**64, max(n // 4, 1), dtype=np.uint64)
    flips = (np.uint64(1) << rng.integers(0, 64, (n, 9), dtype=np.uint64)) * (rng.random((n, 9)) < 0.6)
    hashes = rng.choice(base, n) ^ np.bitwise_xor.reduce(flips, axis=1)
    found = {
        pair
        for a, b in near_duplicates._near_pairs(hashes, hashes, radius)
        for pair in zip(a.tolist(), b.tolist(), strict=True)
    }
    distance = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    assert found == set(zip(*(axis.tolist() for axis in np.nonzero(distance <= radius)), strict=True))
    assert radius <= KNOWN_RADIUS


def test_blocks_cover_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "_BLOCK", 7)
    hashes = np.zeros(23, dtype=np.uint64)
    pairs = [
        pair
        for a, b in near_duplicates._near_pairs(hashes, hashes, 0)
        for pair in zip(a.tolist(), b.tolist(), strict=True)
    ]
    assert sorted(set(pairs)) == [(a, b) for a in range(23) for b in range(23)]

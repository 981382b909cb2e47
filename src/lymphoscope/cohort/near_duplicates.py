"""Photographs that show the same cell although their files differ: re-encoded, brightened, scaled, mirrored.

Candidates come from the perceptual hash by multi-index hashing (Norouzi, Punjani & Fleet, CVPR 2012): of
four bands of 16 bits, one must agree to within one bit if the hashes differ in at most seven, and to within
two if they differ in at most eleven. A candidate counts only if the thumbnails correlate, so that a chance
resemblance of hashes reports nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.bags import IntArray
from lymphoscope.cohort.image_frames import Image

Hashes = npt.NDArray[np.uint64]
Standardised = npt.NDArray[np.float32]

HASH_RADIUS = 7
"""Differing bits up to which two upright hashes are candidates."""

MIRRORED_HASH_RADIUS = 3
"""The same for mirrored and turned copies, which are exact turns or none at all."""

LEAST_CORRELATION = 0.95
"""Correlation of two thumbnails from which on they show the same cell."""

KNOWN_RADIUS = 10
"""Differing bits up to which a hash and a known one are candidates, in every orientation."""

KNOWN_CORRELATION = 0.987
"""Correlation of a thumbnail with a known one from which on they show the same cell.

Of 2,650 cells of PBC, scaled by 2 % and saved again at quality 50, all lie above 0.994 with thumbnails of
10 × 10 pixels, moved by a pixel all above 0.990; different cells that are candidates lie below 0.984.
"""

# Bits of the odd vertical and of the odd horizontal frequencies.
_ODD_DOWN, _ODD_ACROSS = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x5555555555555555)

_BANDS, _BAND_BITS = 4, 16
_BLOCK = 1 << 16
_CACHED_THUMBNAILS = 1024


def group_alike(hashes: Hashes, thumbnail_of: Callable[[int], Image]) -> npt.NDArray[np.int32]:
    """Group the pictures that look alike, upright or mirrored or turned by quarters.

    Parameters
    ----------
    hashes : perceptual hashes, shape (n,); 0 for a blank picture, which is like no other.
    thumbnail_of : gives the thumbnail of picture `i`; called for candidates only.

    Returns
    -------
    Group number per picture, shape (n,); -1 for a picture like no other.
    """
    groups = _Groups(len(hashes))

    @lru_cache(maxsize=_CACHED_THUMBNAILS)
    def small(picture: int) -> Standardised:
        return _standardised(thumbnail_of(picture))

    for first, second in _candidate_pairs(hashes):
        for a, b in groups.unlinked(first, second):
            if not groups.linked(a, b) and _correlation(small(a), small(b)) >= LEAST_CORRELATION:
                groups.link(a, b)
    return groups.numbers()


def match_alike(hashes: Hashes, thumbnails: Image, known_hashes: Hashes, known_thumbnails: Image) -> IntArray:
    """For each picture a known one that looks like it, upright or mirrored or turned by quarters.

    Parameters
    ----------
    hashes, known_hashes : perceptual hashes, shape (n,) and (n_known,); 0 for a blank picture, which is like
        no other.
    thumbnails, known_thumbnails : uint8, shape (n, side, side) and (n_known, side, side).

    Returns
    -------
    Index of a known picture, shape (n,); -1 for a picture like none of them.
    """
    found = np.full(len(hashes), -1, dtype=np.int64)
    shown, known = np.flatnonzero(hashes != 0), np.flatnonzero(known_hashes != 0)
    ours, theirs = _standardised(thumbnails), _standardised(known_thumbnails)
    for turned in _every_turn(known_hashes[known]):
        for first, second in _near_pairs(hashes[shown], turned, KNOWN_RADIUS):
            a, b = shown[first], known[second]
            new = found[a] < 0
            a, b = a[new], b[new]
            alike = _correlations(ours[a], theirs[b]) >= KNOWN_CORRELATION
            found[a[alike]] = b[alike]
    return found


def look_alike(first: Image, second: Image) -> bool:
    """Whether two thumbnails show the same cell, upright, mirrored or turned by quarters."""
    return _correlation(_standardised(first), _standardised(second)) >= LEAST_CORRELATION


def _standardised(small: Image) -> Standardised:
    """Thumbnails (..., side, side) with mean 0 and norm 1; a blank one is 0 throughout."""
    centred = small.astype(np.float32) - small.mean(axis=(-2, -1), dtype=np.float32, keepdims=True)
    norm = np.sqrt(np.square(centred).sum(axis=(-2, -1), keepdims=True))
    return np.asarray(centred / np.where(norm > 0, norm, np.float32(1)), dtype=np.float32)


def _correlation(first: Standardised, second: Standardised) -> float:
    """Largest correlation of `first` with `second` in any of its eight orientations."""
    return float((second.ravel()[_orientations(first.shape[0])] @ first.ravel()).max())


def _correlations(first: Standardised, second: Standardised) -> Standardised:
    """The same for pairs of thumbnails, (n_pairs, side, side) each; shape (n_pairs,)."""
    n, side = first.shape[:2]
    first, second = first.reshape(n, side**2), second.reshape(n, side**2)
    best = np.full(n, -1, dtype=np.float32)
    for orientation in _orientations(side):
        np.maximum(best, np.einsum("ni,ni->n", first, second[:, orientation]), out=best)
    return best


@lru_cache(maxsize=2)
def _orientations(side: int) -> IntArray:
    """Where each pixel of a square picture comes from in its eight orientations, shape (8, side²)."""
    pixel = np.arange(side * side).reshape(side, side)
    return np.stack([np.rot90(view, k).ravel() for view in (pixel, pixel.T) for k in range(4)])


def turned_hashes(hashes: Hashes) -> Iterator[Hashes]:
    """Hashes of the mirrored and turned pictures, without the pictures.

    Mirroring negates the odd frequencies of one axis, transposing swaps the axes; six of the eight
    orientations are given, since one picture turned left is the other turned right.
    """
    transposed = _transposed(hashes)
    yield hashes ^ _ODD_ACROSS
    yield hashes ^ _ODD_DOWN
    yield hashes ^ _ODD_ACROSS ^ _ODD_DOWN
    yield transposed
    yield transposed ^ _ODD_ACROSS ^ _ODD_DOWN
    yield transposed ^ _ODD_ACROSS


def _every_turn(hashes: Hashes) -> Iterator[Hashes]:
    """Hashes of the pictures in all eight orientations, upright first."""
    yield hashes
    yield from turned_hashes(hashes)
    yield _transposed(hashes) ^ _ODD_DOWN


def _transposed(hashes: Hashes) -> Hashes:
    """Each hash as a matrix of 8 × 8 bits, transposed (Warren, Hacker's Delight, 2nd edition, 7-3)."""
    for shift, mask in ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0)):
        steps = np.uint64(shift)
        swapped = (hashes ^ (hashes >> steps)) & np.uint64(mask)
        hashes = hashes ^ swapped ^ (swapped << steps)
    return hashes


def _candidate_pairs(hashes: Hashes) -> Iterator[tuple[IntArray, IntArray]]:
    """Blocks of pairs (a, b) whose hashes are near in some orientation; a pair may come more than once."""
    shown = np.flatnonzero(hashes != 0)
    upright = hashes[shown]
    for a, b in _near_pairs(upright, upright, HASH_RADIUS):
        once = a < b
        yield shown[a[once]], shown[b[once]]
    for turned in turned_hashes(upright):
        for a, b in _near_pairs(upright, turned, MIRRORED_HASH_RADIUS):
            other = a != b
            yield shown[a[other]], shown[b[other]]


def _near_pairs(left: Hashes, right: Hashes, radius: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Blocks of all (a, b) with at most `radius` bits between left[a] and right[b]; a pair may come twice."""
    flips = _flips(radius // _BANDS)
    for band in range(_BANDS):
        left_key, right_key = _band(left, band), _band(right, band)
        order = np.argsort(right_key, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(right_key, minlength=1 << _BAND_BITS))])
        for flip in flips:
            wanted = (left_key ^ np.uint16(flip)).astype(np.int64)
            for a, position in _expand(starts[wanted], starts[wanted + 1]):
                b = order[position]
                near = np.bitwise_count(left[a] ^ right[b]) <= radius
                yield a[near], b[near]


def _flips(n: int) -> list[int]:
    """Every number of 16 bits with at most `n` of them set."""
    bits = [1 << bit for bit in range(_BAND_BITS)]
    return [sum(chosen) for k in range(n + 1) for chosen in combinations(bits, k)]


def _band(hashes: Hashes, band: int) -> npt.NDArray[np.uint16]:
    # Numbers of 16 bits are what numpy sorts by radix.
    return (hashes >> np.uint64(band * _BAND_BITS)).astype(np.uint16)


def _expand(starts: IntArray, stops: IntArray) -> Iterator[tuple[IntArray, IntArray]]:
    """Every position from starts[a] to stops[a] with its `a`, in blocks of bounded size where possible."""
    counts = stops - starts
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.searchsorted(ends, np.arange(_BLOCK, total + _BLOCK, _BLOCK), side="right")
    first = 0
    for last in np.unique([*cuts.tolist(), len(ends)]).tolist():
        chosen = np.arange(first, last)
        size = counts[first:last]
        before = ends[first:last] - size - (int(ends[first - 1]) if first else 0)
        owner = np.repeat(chosen, size)
        yield owner, np.arange(len(owner)) + np.repeat(starts[first:last] - before, size)
        first = last


class _Groups:
    """Disjoint sets of pictures."""

    def __init__(self, n: int) -> None:
        self._parent: npt.NDArray[Any] = np.arange(n, dtype=np.int64)

    def unlinked(self, first: IntArray, second: IntArray) -> list[tuple[int, int]]:
        """The pairs whose members are not in one group yet."""
        roots = self._roots()
        apart = np.flatnonzero(roots[first] != roots[second])
        return list(zip(first[apart].tolist(), second[apart].tolist(), strict=True))

    def linked(self, a: int, b: int) -> bool:
        return self._root(a) == self._root(b)

    def link(self, a: int, b: int) -> None:
        low, high = sorted((self._root(a), self._root(b)))
        self._parent[high] = low

    def numbers(self) -> npt.NDArray[np.int32]:
        """Consecutive numbers of the groups of two and more, -1 for the others."""
        _, group, size = np.unique(self._roots(), return_inverse=True, return_counts=True)
        number = np.where(size > 1, np.cumsum(size > 1) - 1, -1)
        return number[group].astype(np.int32)

    def _root(self, a: int) -> int:
        while self._parent[a] != a:
            self._parent[a] = self._parent[self._parent[a]]
            a = int(self._parent[a])
        return a

    def _roots(self) -> npt.NDArray[Any]:
        while np.any(self._parent[self._parent] != self._parent):
            self._parent = self._parent[self._parent]
        return self._parent

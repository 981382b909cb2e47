"""What is done to photographs in training: as often as said, the same for a seed, never to the cell."""

from __future__ import annotations

import numpy as np
import pytest

from lymphoscope.encoders.appearance import Appearance
from lymphoscope.encoders.labelled_cells import Image, Masks
from lymphoscope.errors import InputError

KINDS = ("background", "blur", "compression")


def noisy(n: int, side: int = 16, seed: int = 0) -> tuple[Image, Masks]:
    """Photographs of noise, and a square cell in the middle of each."""
    images = np.random.default_rng(seed).integers(0, 256, (n, side, side, 3)).astype(np.uint8)
    masks = np.zeros((n, side, side), dtype=np.bool_)
    masks[:, side // 4 : -side // 4, side // 4 : -side // 4] = True
    return images, masks


def changed_rows(before: Image, after: Image) -> np.ndarray:
    return (before != after).any(axis=(1, 2, 3))


def test_what_is_not_chosen_stays_as_it_is() -> None:
    images, masks = noisy(40)
    given = images.copy()
    after = Appearance(0.5, 0.2, 0.2).change(images, masks, np.random.default_rng(1))
    assert np.array_equal(images, given), "what came is left as it is"
    rows = changed_rows(images, after)
    assert 0 < rows.sum() < 40
    assert np.array_equal(after[~rows], images[~rows])
    none = Appearance().change(images, masks, np.random.default_rng(1))
    assert none.tobytes() == images.tobytes() and none is not images


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_as_many_are_changed_as_was_said(kind: str, share: float) -> None:
    images, masks = noisy(1500)
    after = Appearance(**{kind: share}).change(images, masks, np.random.default_rng(3))
    error = np.sqrt(share * (1 - share) / 1500)
    assert abs(changed_rows(images, after).mean() - share) <= 3.5 * error + 1 / 1500


def test_an_exchange_of_the_background_never_changes_the_cell() -> None:
    images, masks = noisy(200)
    after = Appearance(background=1.0).change(images, masks, np.random.default_rng(0))
    assert np.array_equal(after[masks], images[masks])
    assert (after != images)[~masks].mean() > 0.9


def test_a_cell_that_was_not_found_keeps_its_surroundings() -> None:
    images, masks = noisy(30)
    masks[::2] = True
    after = Appearance(background=1.0).change(images, masks, np.random.default_rng(0))
    assert np.array_equal(after[::2], images[::2])
    assert changed_rows(images[1::2], after[1::2]).all()


def test_surroundings_are_those_of_other_cells_of_the_batch() -> None:
    _, masks = noisy(20)
    levels = 40 + 7 * np.arange(20)
    images = np.repeat(levels, 16 * 16 * 3).reshape(20, 16, 16, 3).astype(np.uint8)
    images[masks] = 255
    after = Appearance(background=1.0).change(images, masks, np.random.default_rng(5))
    even, moved = 0, 0
    for i in range(20):
        seen = {*after[i][~masks[i]].ravel().tolist()}
        even += len(seen) == 1
        moved += len(seen) == 2 and 255 in seen
        assert seen - {255} <= {*levels.tolist()} and len(seen - {255}) == 1
    assert even + moved == 20 and even > 3 and moved > 3, "both kinds of surroundings occur"


def test_the_seed_decides() -> None:
    images, masks = noisy(30)
    change = Appearance(0.5, 0.5, 0.5).change
    first, again, other = (change(images, masks, np.random.default_rng(seed)) for seed in (4, 4, 5))
    assert first.tobytes() == again.tobytes() != other.tobytes()


def test_blur_and_compression_do_what_they_are_called() -> None:
    images, masks = noisy(60)

    def roughness(batch: Image) -> float:
        return float(np.abs(np.diff(batch.astype(float), axis=2)).mean())

    blurred = Appearance(blur=1.0).change(images, masks, np.random.default_rng(0))
    assert roughness(blurred) < 0.9 * roughness(images)
    smooth = np.broadcast_to(np.arange(16, dtype=np.uint8)[:, None] * 8, (60, 16, 16))[..., None]
    smooth = np.repeat(smooth, 3, axis=-1)
    pressed = Appearance(compression=1.0).change(smooth, masks, np.random.default_rng(0))
    assert pressed.dtype == np.uint8 and 0 < np.abs(pressed.astype(float) - smooth).mean() < 12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_outside_0_to_1_is_refused(kind: str, share: float) -> None:
    with pytest.raises(InputError, match=f"appearance.{kind} is out of range"):
        Appearance(**{kind: share})

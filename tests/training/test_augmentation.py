from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lymphoscope.errors import InputError
from lymphoscope.training.augmentation import (
    IMAGENET,
    Augmentation,
    Normalisation,
    augment,
    orientations,
    prepare,
)

UNIT = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
REPORT_B = Augmentation(flips=True, quarter_turns=True)
EVERYTHING = Augmentation(
    flips=True,
    quarter_turns=True,
    rotation=180,
    shift=0.05,
    scale=0.1,
    brightness=0.05,
    contrast=0.1,
    stain=0.05,
)
ORIENTATIONS = [(turn, mirror) for turn in range(4) for mirror in (False, True)]


def noise(n: int, side: int = 16, seed: int = 0) -> Tensor:
    return torch.randint(
        0, 256, (n, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def smooth(n: int, side: int = 32) -> Tensor:
    """Photographs without fine detail: one dark disc, off the centre, on a light ground."""
    axis = torch.arange(side) - (side - 1) / 2
    distance = ((axis[None, :] - side / 5) ** 2 + (axis[:, None] + side / 8) ** 2).sqrt()
    disc = 220 - 150 * torch.sigmoid((side / 6 - distance) / 1.5)
    return disc.round().to(torch.uint8)[None, :, :, None].repeat(n, 1, 1, 3).contiguous()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bytes_of(prepared: Tensor) -> Tensor:
    """Undo `prepare` with the UNIT normalisation: (n, S, S, 3), 0 to 255, not rounded."""
    return prepared.permute(0, 2, 3, 1) * 255


def all_orientations(image: Tensor) -> list[Tensor]:
    """All eight orientations of one image, (S, S, 3), by other means than the code under test."""
    array = image.numpy()
    return [
        torch.from_numpy(np.rot90(array[:, ::-1] if mirror else array, turn).copy())
        for turn, mirror in ORIENTATIONS
    ]


class TestPrepare:
    def test_scales_and_normalises_each_channel(self) -> None:
        images = noise(3)
        expected = (images.numpy() / 255 - np.array(IMAGENET.mean)) / np.array(IMAGENET.deviation)
        prepared = prepare(images, IMAGENET)
        assert prepared.dtype == torch.float32 and prepared.shape == (3, 3, 16, 16)
        np.testing.assert_allclose(prepared.permute(0, 2, 3, 1).numpy(), expected, atol=2e-6)

    def test_lies_in_channels_last_memory(self) -> None:
        for prepared in (prepare(noise(3), IMAGENET), augment(noise(3), EVERYTHING, IMAGENET, seeded())):
            assert prepared.is_contiguous(memory_format=torch.channels_last)

    def test_takes_images_that_are_not_contiguous(self) -> None:
        images = noise(4)
        assert torch.equal(prepare(images[:, ::2, ::2], UNIT), prepare(images[:, ::2, ::2].clone(), UNIT))

    def test_no_images_at_all(self) -> None:
        assert prepare(noise(0), UNIT).shape == (0, 3, 16, 16)
        assert augment(noise(0), EVERYTHING, UNIT, seeded()).shape == (0, 3, 16, 16)

    def test_leaves_the_images_alone(self) -> None:
        images, before = noise(9), noise(9)
        prepare(images, IMAGENET)
        augment(images, EVERYTHING, IMAGENET, seeded())
        assert torch.equal(images, before)

    @pytest.mark.parametrize(
        "images",
        [
            torch.zeros(2, 8, 8, 3),
            torch.zeros(2, 3, 8, 8, dtype=torch.uint8),
            torch.zeros(2, 8, 9, 3, dtype=torch.uint8),
            torch.zeros(8, 8, 3, dtype=torch.uint8),
        ],
    )
    def test_refuses_what_is_not_a_batch_of_square_photographs(self, images: Tensor) -> None:
        with pytest.raises(InputError, match=r"uint8 of shape \(n, S, S, 3\)"):
            prepare(images, IMAGENET)
        with pytest.raises(InputError, match=r"uint8 of shape \(n, S, S, 3\)"):
            augment(images, Augmentation(), IMAGENET, seeded())


class TestNothingSwitchedOn:
    @given(n=st.integers(0, 20), side=st.integers(1, 12), seed=st.integers(0, 99))
    def test_equals_prepare_bit_for_bit(self, n: int, side: int, seed: int) -> None:
        images = noise(n, side, seed)
        assert torch.equal(augment(images, Augmentation(), IMAGENET, seeded(seed)), prepare(images, IMAGENET))

    def test_bounds_too_small_to_matter_change_nothing_beyond_rounding(self) -> None:
        tiny = Augmentation(rotation=1e-9, shift=1e-9, scale=1e-9, brightness=1e-9, contrast=1e-9, stain=1e-9)
        images = noise(20)
        torch.testing.assert_close(
            augment(images, tiny, IMAGENET, seeded()), prepare(images, IMAGENET), atol=1e-4, rtol=0
        )


class TestFlipsAndQuarterTurns:
    @given(
        n=st.integers(1, 24),
        side=st.integers(1, 9),
        seed=st.integers(0, 999),
        flips=st.booleans(),
        quarter_turns=st.booleans(),
    )
    def test_each_image_is_one_of_its_own_orientations(
        self, n: int, side: int, seed: int, flips: bool, quarter_turns: bool
    ) -> None:
        images = noise(n, side, seed)
        augmentation = Augmentation(flips=flips, quarter_turns=quarter_turns)
        turned = augment(images, augmentation, UNIT, seeded(seed))
        for image, result in zip(images, turned, strict=True):
            wanted = [prepare(each[None], UNIT)[0] for each in all_orientations(image)]
            allowed = [
                each
                for each, (turn, mirror) in zip(wanted, ORIENTATIONS, strict=True)
                if (quarter_turns or (turn % 2 == 0)) and (flips or not mirror)
            ]
            if not flips and not quarter_turns:
                allowed = wanted[:1]
            assert any(torch.equal(result, each) for each in allowed)

    @pytest.mark.parametrize(
        ("augmentation", "wanted"),
        [
            (Augmentation(flips=True), {(0, False), (0, True), (2, False), (2, True)}),
            (Augmentation(quarter_turns=True), {(turn, False) for turn in range(4)}),
            (REPORT_B, set(ORIENTATIONS)),
        ],
    )
    def test_all_orientations_come_equally_often(
        self, augmentation: Augmentation, wanted: set[tuple[int, bool]]
    ) -> None:
        n = 1600
        image = noise(1, 4)
        results = augment(image.expand(n, -1, -1, -1), augmentation, UNIT, seeded())
        found = {
            orientation: int((results == prepare(each[None], UNIT)).all(dim=(1, 2, 3)).sum())
            for orientation, each in zip(ORIENTATIONS, all_orientations(image[0]), strict=True)
        }
        assert {orientation for orientation, times in found.items() if times} == wanted
        # Five standard deviations of a binomial count.
        share = 1 / len(wanted)
        spread = 5 * (n * share * (1 - share)) ** 0.5
        assert all(abs(found[each] - n * share) < spread for each in wanted)


class TestFreeGeometry:
    def test_turns_about_the_centre(self) -> None:
        """A point stays at its distance from the centre, and goes through every angle."""
        side, n = 33, 60
        images = torch.zeros(n, side, side, 3, dtype=torch.uint8)
        images[:, 15:18, 21:24] = 255  # 6 pixels right of the centre, which is pixel (16, 16)
        weight = bytes_of(augment(images, Augmentation(rotation=180), UNIT, seeded()))[..., 0]
        axis = torch.arange(side) - 16.0
        total = weight.sum((1, 2))
        x, y = (weight * axis).sum((1, 2)) / total, (weight * axis[:, None]).sum((1, 2)) / total
        torch.testing.assert_close(torch.hypot(x, y), torch.full((n,), 6.0), atol=0.15, rtol=0)
        angles = torch.atan2(y, x).sort().values
        assert angles[0] < -2.8 and angles[-1] > 2.8 and angles.diff().max() < 0.6

    def test_the_bound_of_the_rotation_holds(self) -> None:
        side, n = 33, 200
        images = torch.zeros(n, side, side, 3, dtype=torch.uint8)
        images[:, 15:18, 21:24] = 255
        weight = bytes_of(augment(images, Augmentation(rotation=20), UNIT, seeded()))[..., 0]
        axis = torch.arange(side) - 16.0
        angle = torch.rad2deg(
            torch.atan2((weight * axis[:, None]).sum((1, 2)), (weight * axis).sum((1, 2)))
        ).abs()
        assert angle.max() < 20.5 and angle.max() > 18

    def test_half_a_turn_by_resampling_equals_the_exact_one(self) -> None:
        images = smooth(1)
        drawn = seeded()
        # Of many drawn angles, the one nearest to 180 degrees.
        turned = bytes_of(augment(images.expand(2000, -1, -1, -1), Augmentation(rotation=180), UNIT, drawn))
        gap = (turned - torch.rot90(images, 2, (1, 2))).abs().amax(dim=(1, 2, 3))
        assert gap.min() < 2.0 and gap.median() > 50

    def test_shift_moves_without_bending(self) -> None:
        side, n = 41, 100
        images = torch.zeros(n, side, side, 3, dtype=torch.uint8)
        images[:, 19:22, 19:22] = 255
        weight = bytes_of(augment(images, Augmentation(shift=0.1), UNIT, seeded()))[..., 0]
        axis = (torch.arange(side) - 20.0) / side
        total = weight.sum((1, 2))
        x, y = (weight * axis).sum((1, 2)) / total, (weight * axis[:, None]).sum((1, 2)) / total
        torch.testing.assert_close(total, torch.full((n,), 9 * 255.0), rtol=1e-3, atol=0)
        for each in (x, y):
            assert each.abs().max() < 0.1 + 1e-4 and each.max() > 0.09 and each.min() < -0.09
        assert abs(float(torch.corrcoef(torch.stack([x, y]))[0, 1])) < 0.4

    def test_scale_enlarges_and_shrinks_about_the_centre(self) -> None:
        side, n = 41, 100
        images = torch.zeros(n, side, side, 3, dtype=torch.uint8)
        images[:, 11:30, 11:30] = 255
        weight = bytes_of(augment(images, Augmentation(scale=0.2), UNIT, seeded()))[..., 0] / 255
        sides = weight.sum((1, 2)).sqrt() / 19
        assert 0.78 < sides.min() < 0.83 and 1.17 < sides.max() < 1.22
        torch.testing.assert_close(weight, weight.flip(1, 2), atol=1e-3, rtol=0)

    def test_what_comes_in_from_outside_is_the_image_mirrored_at_its_border(self) -> None:
        grey = torch.full((40, 16, 16, 3), 180, dtype=torch.uint8)
        moved = bytes_of(augment(grey, Augmentation(rotation=180, shift=0.5, scale=0.5), UNIT, seeded()))
        torch.testing.assert_close(moved, torch.full_like(moved, 180.0), atol=1e-3, rtol=0)

    def test_a_share_of_the_images_stays_as_sharp_as_it_is(self) -> None:
        images = noise(400)
        kept = bytes_of(augment(images, Augmentation(rotation=180, shift=0.1, sharp=0.75), UNIT, seeded()))
        as_it_was = bytes_of(prepare(images, UNIT))
        sharp = (kept - as_it_was).abs().amax((1, 2, 3)) < 0.01
        assert 0.68 < sharp.float().mean() < 0.82
        every = bytes_of(augment(images, Augmentation(rotation=180, shift=0.1), UNIT, seeded()))
        torch.testing.assert_close(kept[~sharp], every[~sharp])
        assert ((every - as_it_was).abs().amax((1, 2, 3)) > 1).all()

    def test_results_stay_within_the_images_own_values(self) -> None:
        moved = bytes_of(augment(noise(20), Augmentation(rotation=180, scale=0.3), UNIT, seeded()))
        assert moved.min() >= 0 and moved.max() <= 255.001


class TestColour:
    def test_stain_leaves_pure_white_white_and_black_black(self) -> None:
        images = torch.zeros(50, 8, 8, 3, dtype=torch.uint8)
        images[:, :4] = 255
        stained = bytes_of(augment(images, Augmentation(stain=0.5), UNIT, seeded()))
        assert torch.equal(stained, images.float())

    def test_stain_scales_and_offsets_the_optical_density_of_each_channel(self) -> None:
        ramp = torch.arange(1, 256, dtype=torch.uint8)
        images = ramp[:225].view(1, 15, 15, 1).repeat(30, 1, 1, 3)
        stained = bytes_of(augment(images, Augmentation(stain=0.2), UNIT, seeded()))
        before = images.double() / 255
        density, after = -before.log(), -(stained.double() / 255).log()
        for image in range(30):
            for channel in range(3):
                terms = torch.stack(
                    [density[image, :, :, channel], 1 - before[image, :, :, channel]], dim=-1
                ).view(-1, 2)
                wanted = after[image, :, :, channel].reshape(-1, 1)
                found = torch.linalg.lstsq(terms, wanted).solution[:, 0]
                torch.testing.assert_close(terms @ found[:, None], wanted, atol=1e-4, rtol=0)
                assert abs(found[0] - 1) <= 0.2001 and abs(found[1]) <= 0.2001
        assert not torch.allclose(after[..., 0], after[..., 1], atol=1e-2)

    @given(seed=st.integers(0, 999), stain=st.floats(0.01, 0.5))
    def test_stain_keeps_the_order_of_grey_levels(self, seed: int, stain: float) -> None:
        ramp = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).repeat(4, 1, 1, 3)
        stained = augment(ramp, Augmentation(stain=stain), UNIT, seeded(seed)).flatten(2)
        assert (stained.diff(dim=2) >= -1e-7).all()

    def test_brightness_adds_the_same_to_all_channels(self) -> None:
        images = torch.full((300, 2, 2, 3), 120, dtype=torch.uint8)
        images[..., 1] = 90
        change = bytes_of(augment(images, Augmentation(brightness=0.2), UNIT, seeded())) - images
        torch.testing.assert_close(change, change[:, :1, :1, :1].expand_as(change), atol=1e-3, rtol=0)
        assert -51.01 < change.min() < -49 and 49 < change.max() < 51.01

    def test_contrast_is_about_the_normalisations_mean(self) -> None:
        norm = Normalisation((0.4, 0.5, 0.6), (1.0, 1.0, 1.0))
        images = noise(100)
        clear = images.clamp(60, 190)
        factor = augment(clear, Augmentation(contrast=0.3), norm, seeded()) / prepare(clear, norm)
        away = prepare(clear, norm).abs() > 0.05
        typical = torch.stack([f[a].median() for f, a in zip(factor, away, strict=True)])
        spread = (factor - typical.view(-1, 1, 1, 1)).abs()[away]
        assert spread.max() < 1e-3 and 0.7 <= typical.min() < 0.72 and 1.28 < typical.max() <= 1.3

    def test_colours_are_cut_off_at_black_and_white(self) -> None:
        changed = bytes_of(
            augment(noise(50), Augmentation(brightness=0.5, contrast=0.5, stain=0.5), UNIT, seeded())
        )
        assert changed.min() == 0 and changed.max() == 255

    def test_alone_moves_no_pixel(self) -> None:
        """What a pixel becomes depends on its byte and its channel alone."""
        colours = Augmentation(brightness=0.1, contrast=0.1, stain=0.1)
        images = noise(10, 20)
        images[:, 10:] = images[:, :10]
        changed = augment(images, colours, UNIT, seeded())
        assert torch.equal(changed[:, :, :10], changed[:, :, 10:])


class TestChance:
    @pytest.mark.parametrize("augmentation", [REPORT_B, EVERYTHING])
    def test_the_same_seed_gives_the_same_batch(self, augmentation: Augmentation) -> None:
        images = noise(30)
        first, second, other = (augment(images, augmentation, UNIT, seeded(seed)) for seed in (4, 4, 5))
        assert torch.equal(first, second) and not torch.equal(first, other)

    def test_a_generator_goes_on_from_batch_to_batch(self) -> None:
        generator, images = seeded(), noise(30)
        assert not torch.equal(*(augment(images, EVERYTHING, UNIT, generator) for _ in range(2)))

    def test_no_chance_but_the_generators(self) -> None:
        torch.manual_seed(0)
        before = torch.get_rng_state()
        augment(noise(9), EVERYTHING, UNIT, seeded())
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize("kind", [each.name for each in fields(Augmentation)])
    def test_switching_a_kind_on_leaves_the_later_draws_as_they_are(self, kind: str) -> None:
        value: Any = True if kind in ("flips", "quarter_turns") else 0.1
        images = noise(9)
        states = []
        for augmentation in (Augmentation(), Augmentation(**{kind: value})):
            generator = seeded()
            augment(images, augmentation, UNIT, generator)
            states.append(generator.get_state())
        assert torch.equal(*states)

    def test_kinds_do_not_change_each_others_draws(self) -> None:
        """Flips and turns, then colours, in one call equal the two one after the other with one seed."""
        images = noise(40)
        colours = Augmentation(brightness=0.1, contrast=0.2, stain=0.2)
        together = augment(images, replace(colours, flips=True, quarter_turns=True), UNIT, seeded())
        turned = bytes_of(augment(images, REPORT_B, UNIT, seeded())).round().to(torch.uint8)
        assert torch.equal(together, augment(turned, colours, UNIT, seeded()))

    def test_free_geometry_does_not_change_the_colours_drawn(self) -> None:
        flat = torch.full((20, 8, 8, 3), 128, dtype=torch.uint8)
        colours = Augmentation(brightness=0.1, contrast=0.2, stain=0.2)
        torch.testing.assert_close(
            augment(flat, replace(colours, rotation=180, shift=0.3, scale=0.3), UNIT, seeded()),
            augment(flat, colours, UNIT, seeded()),
        )

    def test_images_are_changed_independently(self) -> None:
        images = smooth(1).expand(50, -1, -1, -1)
        changed = augment(images, EVERYTHING, UNIT, seeded()).flatten(1)
        assert torch.cdist(changed, changed).fill_diagonal_(1).min() > 1e-3


class TestDevices:
    def test_runs_where_the_images_are(self) -> None:
        """The meta device refuses operations between devices; it computes shapes and no values."""
        images = noise(6).to("meta")
        for augmentation in (Augmentation(), REPORT_B, EVERYTHING):
            augmented = augment(images, augmentation, IMAGENET, seeded())
            assert augmented.device.type == "meta" and augmented.shape == (6, 3, 16, 16)

    def test_working_on_a_few_images_at_a_time_changes_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        images = noise(21)
        results = []
        for at_once in (1, 8, 21, 100):
            monkeypatch.setattr("lymphoscope.training.augmentation._AT_ONCE", at_once)
            results.append(augment(images, EVERYTHING, IMAGENET, seeded()))
        for each in results[1:]:
            torch.testing.assert_close(each, results[0], atol=1e-5, rtol=0)

    def test_nothing_is_kept_for_gradients(self) -> None:
        assert not augment(noise(2), EVERYTHING, IMAGENET, seeded()).requires_grad


class TestOrientations:
    @pytest.mark.parametrize("k", [1, 2, 4, 8])
    def test_gives_k_different_orientations_the_first_as_it_is(self, k: Any) -> None:
        images = noise(3, 5)
        versions = list(orientations(images, k))
        assert len(versions) == k and torch.equal(versions[0], images)
        for i, image in enumerate(images):
            wanted = {each.numpy().tobytes() for each in all_orientations(image)}
            found = {version[i].numpy().tobytes() for version in versions}
            assert len(found) == k and found <= wanted

    def test_refuses_another_number(self) -> None:
        with pytest.raises(InputError, match="1, 2, 4 or 8"):
            next(orientations(noise(1), 3))  # type: ignore[arg-type]


class TestBounds:
    @pytest.mark.parametrize(
        ("kind", "value"),
        [
            ("rotation", 181.0),
            ("rotation", -1.0),
            ("shift", 0.6),
            ("scale", float("nan")),
            ("brightness", 1.0),
            ("contrast", -0.1),
            ("stain", 0.51),
            ("sharp", 1.1),
            ("stain", True),
        ],
    )
    def test_an_error_names_field_found_and_allowed(self, kind: str, value: Any) -> None:
        with pytest.raises(InputError, match=rf"augmentation\.{kind}.*at least 0 and at most") as error:
            Augmentation(**{kind: value})
        assert str(value) in str(error.value)

    def test_a_normalisation_needs_a_positive_deviation_and_three_channels(self) -> None:
        with pytest.raises(InputError, match=r"normalisation\.deviation.*above 0"):
            Normalisation((0.5, 0.5, 0.5), (0.1, 0.0, 0.1))
        with pytest.raises(InputError, match=r"normalisation\.mean.*3 numbers"):
            Normalisation((0.5, 0.5), (0.1, 0.1, 0.1))  # type: ignore[arg-type]


class TestCohortsNormalisation:
    @given(n=st.integers(1, 150), side=st.integers(1, 6), seed=st.integers(0, 99))
    def test_is_mean_and_deviation_of_all_pixels(self, n: int, side: int, seed: int) -> None:
        images = noise(n, side, seed).numpy()
        found = Normalisation.of(images)
        scaled = images.reshape(-1, 3) / 255
        np.testing.assert_allclose(found.mean, scaled.mean(0), atol=1e-12)
        np.testing.assert_allclose(found.deviation, np.maximum(scaled.std(0), 1 / 255), atol=1e-9)

    def test_of_some_rows_of_an_array_or_a_tensor(self) -> None:
        images, rows = noise(200, 4), np.arange(150, 3, -2)
        expected = Normalisation.of(images.numpy()[rows])
        assert Normalisation.of(images.numpy(), rows) == expected == Normalisation.of(images, rows)

    def test_the_order_of_the_images_does_not_matter(self) -> None:
        images = noise(200, 5)
        order = np.random.default_rng(0).permutation(200)
        assert Normalisation.of(images, order) == Normalisation.of(images)

    def test_makes_the_cohort_standard(self) -> None:
        images = noise(40)
        prepared = prepare(images, Normalisation.of(images))
        torch.testing.assert_close(prepared.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
        torch.testing.assert_close(prepared.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)

    def test_a_uniform_channel_does_not_divide_by_nothing(self) -> None:
        grey = np.full((2, 4, 4, 3), 128, np.uint8)
        assert Normalisation.of(grey).deviation == (1 / 255, 1 / 255, 1 / 255)
        assert torch.isfinite(prepare(torch.from_numpy(grey), Normalisation.of(grey))).all()

    def test_needs_images(self) -> None:
        with pytest.raises(InputError, match="at least 1 image"):
            Normalisation.of(np.zeros((0, 4, 4, 3), np.uint8))

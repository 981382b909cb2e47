from __future__ import annotations

import numpy as np
import pytest

from lymphoscope.cohort.synthetic.look import LOOK
from lymphoscope.cohort.synthetic.painter import Scene, encode, paint
from lymphoscope.cohort.synthetic.population import TRAITS, ordinary_traits
from lymphoscope.cohort.synthetic.textures import FIELD, crop, noise_field, seam_field

MIDDLE = Scene.from_look(np.zeros(len(LOOK)), border=False)


def cell(seed: int = 0, **changes: float) -> np.ndarray:
    """Traits of an ordinary cell, some of them changed."""
    traits = ordinary_traits(np.random.default_rng(seed))
    for name, value in changes.items():
        traits[TRAITS.index(name)] = value
    return traits


def central(image: np.ndarray) -> np.ndarray:
    """The middle of a photograph, where no neighbour reaches."""
    return image[62:162, 62:162].astype(float)


def mean_over_seeds(measure: object, **changes: float) -> float:
    values = [
        measure(paint(cell(seed, **changes), MIDDLE, np.random.default_rng(seed)))  # type: ignore[operator]
        for seed in range(12)
    ]
    return float(np.mean(values))


def dark_area(image: np.ndarray) -> float:
    """Pixels as dark as a nucleus."""
    return float((central(image)[..., 1] < 100).sum())


def nuclear_texture(image: np.ndarray) -> float:
    green = image[104:120, 104:120, 1].astype(float)
    return float(green.std())


def blue_cytoplasm(image: np.ndarray) -> float:
    """Pixels that are bluer than red: what deep-blue cytoplasm is and a red cell is not."""
    red, green, blue = np.moveaxis(central(image), -1, 0)
    return float(((blue - red > 25) & (green > 75)).sum())


def outline_length(image: np.ndarray) -> float:
    stained = central(image)[..., 0] < 185
    return float((stained[1:] != stained[:-1]).sum() + (stained[:, 1:] != stained[:, :-1]).sum())


def test_a_photograph_is_what_its_seed_says() -> None:
    first, again, other = (paint(cell(), MIDDLE, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == (224, 224, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("radius", [20.0, 27.0, 34.0])
def test_the_nucleus_has_the_area_it_was_given(radius: float) -> None:
    area = mean_over_seeds(
        dark_area, nucleus_radius_px=radius, cleft=0, irregularity=0.01, nucleus_share=0.7, basophilia=0.3
    )
    assert area == pytest.approx(np.pi * radius**2, rel=0.12)


def test_traits_show() -> None:
    assert mean_over_seeds(nuclear_texture, clumping=1.0) > 1.2 * mean_over_seeds(
        nuclear_texture, clumping=0.1
    )
    big = {"nucleus_share": 0.5}
    assert mean_over_seeds(blue_cytoplasm, basophilia=0.95, **big) > 2 * mean_over_seeds(
        blue_cytoplasm, basophilia=0.3, **big
    )
    assert mean_over_seeds(outline_length, hair=0.9) > 1.1 * mean_over_seeds(outline_length, hair=0.0)
    assert mean_over_seeds(dark_area, cleft=0.9) < 0.97 * mean_over_seeds(dark_area, cleft=0.0)
    assert mean_over_seeds(dark_area, smudge=1.0) < 0.3 * mean_over_seeds(dark_area, smudge=0.0)


def test_the_frame_is_bright_glass_with_red_cells_round_a_dark_cell() -> None:
    images = [paint(cell(seed), MIDDLE, np.random.default_rng(seed)).astype(float) for seed in range(8)]
    stack = np.stack(images)
    brightest = np.percentile(stack, 95, axis=(0, 1, 2))
    assert np.allclose(brightest, [254, 231, 204], atol=4)
    middle = stack[:, 106:118, 106:118].mean(axis=(0, 1, 2))
    assert np.allclose(middle, [80, 38, 128], atol=22)
    red_cells = (stack[..., 1] < 205) & (stack[..., 1] > 120) & (stack[..., 0] > 170)
    assert 0.2 < red_cells.mean() < 0.5


def test_files_are_about_as_large_as_the_challenges() -> None:
    sizes = [len(encode(paint(cell(seed), MIDDLE, np.random.default_rng(seed)))) for seed in range(12)]
    assert 14_000 < np.median(sizes) < 22_000


def test_noise_is_tileable_standard_and_the_same_in_every_process() -> None:
    field = noise_field(4.0, 1.4)
    assert field.shape == (FIELD, FIELD)
    assert abs(field.mean()) < 1e-3
    assert abs(field.std() - 1) < 1e-3
    seam = np.abs(field[0] - field[-1]).mean()
    assert seam < 3 * np.abs(np.diff(field, axis=0)).mean()
    assert 0 <= seam_field().min() <= seam_field().max() <= 1
    assert crop(field, 50, np.random.default_rng(0)).shape == (50, 50)

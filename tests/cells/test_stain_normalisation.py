"""Stain and light brought to a reference, and what must stay as it was."""

from __future__ import annotations

import numpy as np
import pytest
from planted_cells import CREAM, LILAC, YELLOW, PlantedCell, disc

from lymphoscope.cells.stain import RgbImage, background_colour, nuclear_density, optical_density
from lymphoscope.cells.stain_normalisation import (
    NUCLEI,
    RED_CELLS,
    REFERENCE,
    WHITE,
    measure_stain,
    normalised,
    normalised_alone,
    patient_stain,
    stain_table,
)

RED_CELLS_AROUND = tuple((x, y) for x in range(-100, 101, 50) for y in (-95, 95))
INSIDE = disc(224, 20)


def photograph(background: tuple[int, int, int] = CREAM, strength: float = 1.0) -> RgbImage:
    planted = PlantedCell(
        background=background,
        red_cells=RED_CELLS_AROUND,
        nucleus_od=tuple(strength * each for each in (0.50, 0.75, 0.22)),
    )
    return planted.photograph(noise=1)


def restained(image: RgbImage, white: tuple[int, int, int], gains: tuple[float, float, float]) -> RgbImage:
    """The same photograph from another laboratory: other light, and each channel's density times a gain."""
    od = optical_density(image, background_colour(image))
    other = np.array(white) * 10.0 ** -(od * np.array(gains))
    return np.rint(np.clip(other, 0, 255)).astype(np.uint8)


def nuclear(image: RgbImage) -> float:
    od = optical_density(image, background_colour(image))
    return float(nuclear_density(od)[INSIDE].mean())


@pytest.mark.parametrize("background", [CREAM, YELLOW, LILAC])
def test_the_background_becomes_the_references(background: tuple[int, int, int]) -> None:
    image = photograph(background)
    shown = normalised_alone(image)
    assert (shown.shape, shown.dtype) == (image.shape, np.uint8)
    assert background_colour(shown) == pytest.approx(REFERENCE[WHITE], abs=2)


def test_what_is_measured_is_what_was_planted() -> None:
    found = measure_stain(photograph(LILAC))
    assert found[WHITE] == pytest.approx(LILAC, abs=2)
    assert found[NUCLEI] == pytest.approx((0.50, 0.75, 0.22), abs=0.03)


def test_two_stains_of_one_photograph_come_out_nearly_equal() -> None:
    image = photograph()
    other = restained(image, (228, 219, 229), (0.85, 1.05, 0.85))
    before = np.abs(image.astype(float) - other).mean()
    one, two = (normalised_alone(each).astype(float) for each in (image, other))
    assert np.abs(one - two).mean() < 0.15 * before
    assert np.abs(one - two)[INSIDE].mean() < 4


def test_nuclei_get_the_hue_of_the_reference() -> None:
    found = measure_stain(normalised_alone(photograph(YELLOW)))
    for row in (NUCLEI, RED_CELLS):
        hue, wanted = found[row] / found[row].sum(), REFERENCE[row] / REFERENCE[row].sum()
        assert hue == pytest.approx(wanted, abs=0.02)


@pytest.mark.parametrize("strength", [0.7, 1.0, 1.3])
def test_how_dense_chromatin_is_stays(strength: float) -> None:
    image = photograph(strength=strength)
    assert nuclear(normalised_alone(image)) == pytest.approx(nuclear(image), rel=0.04)


def test_cells_of_a_patient_keep_what_they_differ_in() -> None:
    images = [restained(photograph(), CREAM, (gain, 1.0, 1.0)) for gain in (0.9, 1.0, 1.1)]
    stains = np.stack([measure_stain(each) for each in images])
    patient = patient_stain(stains)
    assert np.array_equal(patient, stains[1])
    shown = [normalised(a, stain_table(b[WHITE], patient)) for a, b in zip(images, stains, strict=True)]
    red = [optical_density(each, REFERENCE[WHITE])[INSIDE, 0].mean() for each in shown]
    assert red[0] / red[1] == pytest.approx(0.9, abs=0.03)
    assert red[2] / red[1] == pytest.approx(1.1, abs=0.03)


def test_a_patient_without_red_cells_or_nuclei_in_some_photographs_takes_the_others() -> None:
    whole = measure_stain(photograph())
    partly = whole.copy()
    partly[RED_CELLS] = np.nan
    assert np.array_equal(patient_stain(np.stack([whole, partly, partly])), whole)
    nothing = np.stack([np.where(np.arange(3)[:, None] == WHITE, whole, np.nan)] * 2)
    assert np.isnan(patient_stain(nothing)[RED_CELLS:]).all()


def test_a_photograph_without_background_takes_the_patients() -> None:
    patient = measure_stain(photograph())
    astray = stain_table(patient[WHITE] * 0.6, patient)
    assert np.array_equal(astray, stain_table(patient[WHITE] * 0.95, patient))
    assert not np.array_equal(astray, stain_table(patient[WHITE], patient))


@pytest.mark.parametrize("level", [0, 1, 60, 127, 200, 255])
def test_a_blank_photograph_comes_through(level: int) -> None:
    shown = normalised_alone(np.full((224, 224, 3), level, dtype=np.uint8))
    assert np.ptp(shown.reshape(-1, 3), axis=0).tolist() == [0, 0, 0]
    if level >= 128:
        assert shown[0, 0] == pytest.approx(REFERENCE[WHITE], abs=1)
    else:
        assert shown[0, 0] == pytest.approx(level * REFERENCE[WHITE] / 128, abs=2)


@pytest.mark.parametrize("side", [1, 5, 112])
def test_noise_and_tiny_photographs_come_through(side: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    assert normalised_alone(image).shape == (side, side, 3)


def test_tables_never_fall_whatever_was_measured() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        stain = np.stack(
            [rng.uniform(128, 255, 3), rng.uniform(0.011, 0.5, 3), rng.uniform(0.011, 2.0, 3)]
        ).astype(np.float32)
        stain[1:][rng.random(2) < 0.2] = np.nan
        table = stain_table(rng.uniform(1, 255, 3).astype(np.float32), stain)
        assert (np.diff(table.astype(int), axis=0) >= 0).all()


def test_the_same_photograph_gives_the_same_bytes() -> None:
    image = photograph()
    assert np.array_equal(normalised_alone(image), normalised_alone(image.copy()))


def test_the_reference_stays_almost_as_it_is() -> None:
    table = stain_table(REFERENCE[WHITE], REFERENCE)
    assert np.abs(table.astype(int) - np.arange(256)[:, None])[:202].max() <= 1

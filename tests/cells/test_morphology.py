"""Per-cell numbers of planted cells, within stated tolerances."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_cells import CREAM, LILAC, YELLOW, PlantedCell, disc

from lymphoscope.cells.morphology import (
    BACKGROUND_COLUMNS,
    CELL_COLUMNS,
    COLUMNS,
    MORPHOLOGY_COLUMNS,
    measure,
    to_micrometres,
)

PLAIN = PlantedCell()


def numbers(photograph: np.ndarray) -> dict[str, float]:
    return dict(zip(MORPHOLOGY_COLUMNS, measure(photograph).tolist(), strict=True))


@cache
def measured(planted: PlantedCell) -> dict[str, float]:
    return numbers(planted.photograph())


def test_names_are_unique_and_grouped() -> None:
    assert len(set(MORPHOLOGY_COLUMNS)) == len(MORPHOLOGY_COLUMNS)
    assert MORPHOLOGY_COLUMNS[0] == "segmented"
    assert set(CELL_COLUMNS) | set(BACKGROUND_COLUMNS) == set(MORPHOLOGY_COLUMNS)
    assert not set(CELL_COLUMNS) & set(BACKGROUND_COLUMNS)
    groups = {"segmented", "nucleus", "chromatin", "cell", "cytoplasm", "profile", "neighbours", "background"}
    assert {column.group for column in COLUMNS} == groups


def test_every_number_of_a_planted_cell_is_finite() -> None:
    assert np.isfinite(measure(PLAIN.photograph())).all()
    assert measure(PLAIN.photograph()).dtype == np.float32


@pytest.mark.parametrize(("nucleus", "cell"), [(20, 30), (27, 38), (38, 60)])
def test_areas_and_their_ratio(nucleus: float, cell: float) -> None:
    found = measured(replace(PLAIN, nucleus_axes=(nucleus, nucleus), cell_radius=cell))
    assert found["nucleus_area_px"] == pytest.approx(np.pi * nucleus**2, rel=0.06)
    assert found["cell_area_px"] == pytest.approx(np.pi * cell**2, rel=0.06)
    assert found["cell_nucleus_ratio"] == pytest.approx((nucleus / cell) ** 2, rel=0.08)
    assert found["cytoplasm_area_px"] == pytest.approx(np.pi * (cell**2 - nucleus**2), rel=0.1)
    assert found["cytoplasm_widest_px"] == pytest.approx(cell - nucleus, abs=2.5)


def test_round_nucleus() -> None:
    assert measured(PLAIN)["nucleus_roundness"] > 0.95
    assert measured(PLAIN)["nucleus_solidity"] > 0.96
    assert measured(PLAIN)["nucleus_eccentricity"] < 0.2
    assert measured(PLAIN)["nucleus_cleft_depth"] < 0.04
    assert measured(PLAIN)["nucleus_lobe_count"] == 1
    assert measured(PLAIN)["nucleus_offset"] < 0.03


@pytest.mark.parametrize("ratio", [1.25, 1.5, 2.0])
def test_oval_nucleus(ratio: float) -> None:
    found = measured(replace(PLAIN, nucleus_axes=(20 * ratio, 20), cell_radius=52))
    assert found["nucleus_eccentricity"] == pytest.approx(np.sqrt(1 - ratio**-2), abs=0.05)


@pytest.mark.parametrize("shift", [0.0, 6.0, 12.0])
def test_offset_of_the_nucleus(shift: float) -> None:
    found = measured(replace(PLAIN, nucleus_axes=(22, 22), nucleus_at=(shift, 0), cell_radius=40))
    assert found["nucleus_offset"] == pytest.approx(shift / 40, abs=0.04)


def test_cleft_nucleus() -> None:
    planted = replace(PLAIN, nucleus_axes=(32, 32), cell_radius=44)
    od = planted.stain()
    od[disc(224, 12, (0, -30))] = planted.cytoplasm_od
    found = numbers(planted.photograph(od))
    assert 0.1 < found["nucleus_cleft_depth"] < 0.35
    assert found["nucleus_cleft_count"] == 1
    assert found["nucleus_solidity"] < measured(planted)["nucleus_solidity"] - 0.03
    assert found["nucleus_irregularity"] > 2 * measured(planted)["nucleus_irregularity"]


@pytest.mark.parametrize("lobes", [2, 3])
def test_lobes_are_counted(lobes: int) -> None:
    planted = replace(PLAIN, nucleus_axes=(1, 1), cell_radius=44, red_cells=())
    od = planted.stain()
    for angle in 2 * np.pi * np.arange(lobes) / lobes:
        od[disc(224, 13, (19 * np.cos(angle), 19 * np.sin(angle)))] = planted.nucleus_od
    assert numbers(planted.photograph(od))["nucleus_lobe_count"] == lobes


def test_stain_is_measured_as_planted() -> None:
    found = measured(PLAIN)
    nuclear = 0.50 + 0.7 * 0.75
    assert found["nucleus_density_od"] == pytest.approx(nuclear, rel=0.06)
    assert found["nucleus_integrated_density_od_px"] == pytest.approx(nuclear * np.pi * 27**2, rel=0.06)
    assert found["cytoplasm_density_od"] == pytest.approx(0.16 + 0.7 * 0.18, abs=0.03)
    assert found["cytoplasm_blueness_od"] == pytest.approx(0.11, abs=0.02)
    assert found["profile_inner_density_od"] == pytest.approx(nuclear, rel=0.03)
    assert found["profile_middle_density_od"] == pytest.approx(0.16 + 0.7 * 0.18, abs=0.04)


@pytest.mark.parametrize("background", [YELLOW, LILAC, (220, 220, 220)])
def test_the_cells_numbers_do_not_follow_the_background(background: tuple[int, int, int]) -> None:
    found, reference = measured(replace(PLAIN, background=background)), measured(PLAIN)
    for name in ("nucleus_lab_l", "nucleus_lab_a", "nucleus_lab_b", "cytoplasm_lab_l", "cytoplasm_lab_b"):
        assert found[name] == pytest.approx(reference[name], abs=2.5), name
    for name in ("nucleus_density_od", "nucleus_area_px", "cell_area_px", "profile_near_density_od"):
        assert found[name] == pytest.approx(reference[name], rel=0.06), name
    assert abs(found["background_lab_b"] - reference["background_lab_b"]) > 5


def test_background_is_described_by_the_background_columns_alone() -> None:
    white = np.float32([[CREAM]]) / 255
    expected = cv2.cvtColor(white, cv2.COLOR_RGB2Lab).ravel()
    found = measured(PLAIN)
    assert [found[f"background_lab_{c}"] for c in "lab"] == pytest.approx(expected, abs=1.0)
    assert found["background_red_cell_green_od"] == pytest.approx(0.15, abs=0.02)
    assert found["background_noise_od"] < 0.01
    uneven = PLAIN.photograph().astype(np.float32) * np.linspace(0.9, 1.0, 224)[None, :, None]
    assert numbers(uneven.astype(np.uint8))["background_unevenness_od"] == pytest.approx(0.02, abs=0.01)


@pytest.mark.parametrize(("grain", "scale"), [(0.6, "1px"), (1.8, "2px"), (3.5, "4px")])
def test_granularity_tells_the_size_of_chromatin_grains(grain: float, scale: str) -> None:
    planted = replace(PLAIN, nucleus_axes=(34, 34), cell_radius=44, soften=0.0)
    od = planted.stain()
    pattern = np.random.default_rng(0).normal(size=od.shape[:2])
    pattern = cv2.GaussianBlur(pattern, (0, 0), grain) - cv2.GaussianBlur(pattern, (0, 0), 1.6 * grain)
    od[disc(224, 34)] *= (1 + 0.15 * pattern / pattern.std())[disc(224, 34)][:, None]
    found = numbers(planted.photograph(od.astype(np.float32)))
    bands = {name: found[f"chromatin_granularity_{name}_od"] for name in ("1px", "2px", "4px")}
    smooth = measured(planted)
    assert max(bands, key=bands.__getitem__) == scale
    assert bands[scale] > 2 * smooth[f"chromatin_granularity_{scale}_od"]
    assert found["chromatin_contrast_od"] > 3 * smooth["chromatin_contrast_od"]
    assert found["chromatin_entropy_bits"] > smooth["chromatin_entropy_bits"] + 0.5


def test_granules_and_vacuoles() -> None:
    planted = replace(PLAIN, nucleus_axes=(22, 22), cell_radius=46)
    spots = [(34 * np.cos(a), 34 * np.sin(a)) for a in np.arange(12) * np.pi / 6]
    dark, pale = planted.stain(), planted.stain()
    for at in spots:
        dark[disc(224, 2.2, at)] = (0.35, 0.45, 0.15)
        pale[disc(224, 3.0, at)] = (0.0, 0.0, 0.0)
    granular, vacuolated = numbers(planted.photograph(dark)), numbers(planted.photograph(pale))
    plain = measured(planted)
    assert granular["cytoplasm_granule_fraction"] > plain["cytoplasm_granule_fraction"] + 0.02
    assert granular["cytoplasm_granularity_1px_od"] > 2 * plain["cytoplasm_granularity_1px_od"]
    assert vacuolated["cytoplasm_vacuole_fraction"] > plain["cytoplasm_vacuole_fraction"] + 0.04


def test_hairy_edge() -> None:
    planted = replace(PLAIN, cell_radius=36, red_cells=())
    od = planted.stain()
    middle = 111.5
    for angle in np.arange(24) * np.pi / 12:
        tip = (round(middle + 46 * np.cos(angle)), round(middle + 46 * np.sin(angle)))
        start = (round(middle + 34 * np.cos(angle)), round(middle + 34 * np.sin(angle)))
        cv2.line(od, start, tip, planted.cytoplasm_od, 3)
    assert (
        numbers(planted.photograph(od))["cell_edge_hairiness"] > 4 * measured(planted)["cell_edge_hairiness"]
    )


def test_blur_lowers_focus_and_sharpness() -> None:
    blurred = cv2.GaussianBlur(PLAIN.photograph(), (0, 0), 3)
    found, reference = numbers(blurred), measured(PLAIN)
    assert found["cell_focus"] < 0.5 * reference["cell_focus"]
    assert found["nucleus_edge_sharpness_od"] < 0.6 * reference["nucleus_edge_sharpness_od"]
    assert found["cell_edge_sharpness_od"] < 0.7 * reference["cell_edge_sharpness_od"]


def test_neighbours() -> None:
    alone = measured(replace(PLAIN, red_cells=()))
    assert alone["neighbours_nucleus_count"] == 0
    assert alone["neighbours_red_cell_fraction"] < 0.01
    assert alone["neighbours_contact_fraction"] < 0.02
    planted = replace(PLAIN, red_cells=((59.0, 0.0), (-80.0, -80.0)))
    od = planted.stain()
    for at in ((-75, 70), (70, -75)):
        od[disc(224, 20, at)] = planted.nucleus_od
    found = numbers(planted.photograph(od))
    assert found["neighbours_nucleus_count"] == 2
    assert found["neighbours_nucleus_fraction"] == pytest.approx(2 * np.pi * 20**2 / 224**2, rel=0.1)
    assert found["neighbours_red_cell_fraction"] == pytest.approx(2 * np.pi * 22**2 / 224**2, rel=0.25)
    assert 0.03 < found["neighbours_contact_fraction"] < 0.3


def test_cell_cut_off_by_the_frame() -> None:
    photograph = PLAIN.photograph()[:, 90:]
    assert numbers(np.ascontiguousarray(photograph))["cell_on_frame_fraction"] > 0.1
    assert measured(PLAIN)["cell_on_frame_fraction"] == 0


SHAPE_TOLERANCE = 0.03
INVARIANT = [
    name
    for name in CELL_COLUMNS
    if name.endswith(("_px", "_od", "_ratio", "_l", "_a", "_b", "roundness", "solidity", "focus"))
]


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("flip", [False, True])
def test_turning_or_mirroring_changes_no_number(turns: int, flip: bool) -> None:
    planted = replace(PLAIN, nucleus_axes=(30, 23), nucleus_at=(5, 2), cell_radius=42)
    photograph = planted.photograph(noise=2)
    turned = np.ascontiguousarray(np.rot90(photograph[:, ::-1] if flip else photograph, turns))
    found, reference = numbers(turned), numbers(photograph)
    for name in INVARIANT:
        assert found[name] == pytest.approx(reference[name], rel=SHAPE_TOLERANCE, abs=0.01), name


def test_measuring_twice_gives_the_same_bits() -> None:
    photograph = PLAIN.photograph(noise=5)
    assert measure(photograph).tobytes() == measure(photograph.copy()).tobytes()


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_cell_that_cannot_be_segmented_is_flagged(level: int) -> None:
    found = measure(np.full((224, 224, 3), level, dtype=np.uint8))
    assert found[0] == 0
    assert np.isnan(found[1:]).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(32, 110), st.integers(32, 110), st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 9, 30]))
def test_any_photograph_gives_finite_numbers_or_is_flagged(
    height: int, width: int, seed: int, grain: int
) -> None:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (max(1, height // grain), max(1, width // grain), 3), dtype=np.uint8)
    found = measure(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))
    assert found[0] in (0, 1)
    assert np.isfinite(found[1:]).all() if found[0] else np.isnan(found[1:]).all()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(32, 260),
    st.floats(0.02, 0.6),
    st.floats(1.0, 2.5),
    st.tuples(*[st.floats(0, 1.5)] * 3),
    st.tuples(*[st.floats(0, 0.6)] * 3),
)
def test_any_planted_cell_gives_finite_numbers_or_is_flagged(
    size: int, nucleus: float, ratio: float, nucleus_od: tuple, cytoplasm_od: tuple
) -> None:
    radius = nucleus * size / 2
    planted = PlantedCell(
        size=size,
        nucleus_axes=(radius, radius),
        cell_radius=ratio * radius,
        nucleus_od=nucleus_od,
        cytoplasm_od=cytoplasm_od,
    )
    found = measure(planted.photograph())
    assert np.isfinite(found[1:]).all() if found[0] else np.isnan(found[1:]).all()


def test_micrometres() -> None:
    columns = ("nucleus_area_px", "cytoplasm_widest_px", "nucleus_roundness", "nucleus_edge_sharpness_od")
    values, names = to_micrometres(np.array([[400.0, 10.0, 0.9, 0.2]]), columns, um_per_px=0.1)
    assert names == (
        "nucleus_area_um2",
        "cytoplasm_widest_um",
        "nucleus_roundness",
        "nucleus_edge_sharpness_od",
    )
    assert values[0] == pytest.approx([4.0, 1.0, 0.9, 2.0])


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_is_none_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="um_per_px"):
        to_micrometres(np.zeros((1, 1)), ("nucleus_area_px",), scale)

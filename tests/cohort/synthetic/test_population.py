from __future__ import annotations

import numpy as np
import pytest

from lymphoscope.cohort.synthetic import SyntheticPlan
from lymphoscope.cohort.synthetic.population import (
    ACTIVATED,
    CLONES,
    KINDS,
    SIGNAL_SHARE,
    SMUDGE,
    SMUDGE_SHARE,
    TRAITS,
    Cells,
    Populations,
    draw_cells,
    draw_populations,
)

LABEL = np.repeat([0, 1], 400).astype(np.int8)


def drawn(plan: SyntheticPlan, seed: int = 0) -> tuple[Populations, Cells]:
    rng = np.random.default_rng(seed)
    populations = draw_populations(plan, LABEL, rng)
    return populations, draw_cells(populations, np.full(len(LABEL), 40), rng)


def test_a_malignant_patient_has_one_clone_and_a_reactive_one_a_mixture() -> None:
    _, cells = drawn(SyntheticPlan())
    for patient in (0, 7, 200, 399):
        kinds = set(cells.kind[(cells.patient == patient) & cells.signal])
        assert kinds <= set(ACTIVATED)
    mixed = [len(set(cells.kind[(cells.patient == p) & cells.signal])) for p in range(100)]
    assert np.mean(np.array(mixed) > 1) > 0.8
    for patient in range(400, 800):
        kinds = set(cells.kind[(cells.patient == patient) & cells.signal])
        assert len(kinds) <= 1
        assert kinds <= set(CLONES)
    assert len(set(cells.kind[cells.signal & (cells.patient >= 400)])) == len(CLONES)


def test_only_a_share_of_the_cells_carries_the_signal() -> None:
    _, cells = drawn(SyntheticPlan())
    malignant = LABEL[cells.patient] == 1
    assert cells.signal[~malignant].mean() == pytest.approx(SIGNAL_SHARE[0], abs=0.03)
    assert cells.signal[malignant].mean() == pytest.approx(SIGNAL_SHARE[1], abs=0.03)
    assert not cells.signal[np.isin(cells.kind, (0, SMUDGE))].any()
    for group in (malignant, ~malignant):
        assert (cells.kind[group] == SMUDGE).mean() == pytest.approx(SMUDGE_SHARE, abs=0.006)
        assert (cells.kind[group] == 0).mean() > 0.4


def test_the_cells_of_a_malignant_patient_are_more_alike() -> None:
    populations, cells = drawn(SyntheticPlan(morphology_effect=0, heterogeneity_effect=0.4))
    assert populations.heterogeneity[400:].mean() / populations.heterogeneity[:400].mean() == pytest.approx(
        0.6, rel=0.05
    )
    density = cells.traits[:, TRAITS.index("nucleus_density")]
    whole = cells.kind != SMUDGE
    spread = [density[whole & (cells.patient == p)].std() for p in range(800)]
    assert np.mean(spread[400:]) / np.mean(spread[:400]) == pytest.approx(0.6, rel=0.05)


def test_a_larger_effect_moves_the_population_further() -> None:
    clumping = TRAITS.index("clumping")

    def distance(effect: float) -> float:
        _, cells = drawn(SyntheticPlan(morphology_effect=effect))
        clone = cells.kind == KINDS.index("cll")
        return float(cells.traits[clone, clumping].mean() - cells.traits[cells.kind == 0, clumping].mean())

    assert abs(distance(0.0)) < 0.03
    assert distance(0.4) < distance(0.8)
    assert distance(0.8) > 0.15


def test_traits_stay_in_their_range() -> None:
    _, cells = drawn(SyntheticPlan(morphology_effect=3))
    radius, share = cells.traits[:, 0], cells.traits[:, 1]
    assert 16 <= radius.min() <= radius.max() <= 44
    assert 0.25 <= share.min() <= share.max() <= 0.95
    assert 0 <= cells.traits[:, 2:].min() <= cells.traits[:, 2:].max() <= 1

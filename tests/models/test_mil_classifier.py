"""Multiple-instance learning on numbers per cell, and as the head of a network on photographs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from lymphoscope.cohort.bags import Bags
from lymphoscope.errors import InputError
from lymphoscope.evaluation.folds import out_of_fold
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.models.conformance import check_bag_classifier, example_bags
from lymphoscope.models.heads.base import list_heads
from lymphoscope.models.registry import create_model, list_models
from lymphoscope.stats.metrics import auc

RECIPES = [info.name for info in list_models() if info.name.startswith("mil-")]
SIDE = 32


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_every_head_is_a_recipe() -> None:
    assert sorted(RECIPES) == sorted(f"mil-{name}" for name in list_heads())


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_keeps_the_contract(name: str) -> None:
    check_bag_classifier(lambda: create_model(f"{name}@smoke", width=0.2), n_patients=18)


@pytest.mark.parametrize("fusion", ["concatenation", "additive", "gate"])
def test_clinical_values_join_in_any_way(fusion: str) -> None:
    check_bag_classifier(lambda: create_model("mil-abmil@smoke", width=0.2, fusion=fusion), n_patients=18)
    assert create_model("mil-abmil", fusion=fusion).takes_clinical  # type: ignore[attr-defined]


@pytest.mark.parametrize("head", ["abmil", "clam", "chowder"])
def test_a_network_on_photographs_takes_a_head(head: str) -> None:
    settings: dict[str, Any] = {"image_size": SIDE, "width": 0.2, "unit": "patient", "fusion": "additive"}
    check_bag_classifier(
        lambda: create_model("cnn-enhanced@smoke", head=head, **settings), image_size=SIDE, n_patients=18
    )
    with pytest.raises(InputError, match="unit patient"):
        create_model("cnn-enhanced", head=head).check_network()  # type: ignore[attr-defined]


def score(recipe: str, seed: int, *, permuted: bool) -> float:
    bags, y = example_bags(40, seed=10 + seed)
    new, truth = example_bags(60, seed=100 + seed)
    if permuted:
        y = np.random.default_rng(seed).permutation(y)
    model = create_model(recipe, epochs=15, learning_rate=0.01, random_state=seed).fit(bags, y)
    return auc(truth, model.predict_proba(new)[:, 1])


@pytest.mark.parametrize("recipe", ["mil-mean", "mil-abmil", "mil-dsmil", "mil-chowder"])
def test_a_head_finds_a_planted_signal_and_nothing_in_permuted_labels(recipe: str) -> None:
    assert score(recipe, 0, permuted=False) > 0.85
    chance = np.array([score(recipe, seed, permuted=True) for seed in range(8)])
    assert abs(chance.mean() - 0.5) < 3 * chance.std(ddof=1) / np.sqrt(len(chance))


def test_missing_numbers_are_the_mean_and_photographs_are_refused() -> None:
    bags, y = example_bags(24)
    model = create_model("mil-mean@smoke").fit(bags, y)
    holes, filled = (np.array(bags.cells, dtype=np.float64) for _ in range(2))
    holes[::3, 0], filled[::3, 0] = np.nan, model.levels_[0][0]  # type: ignore[attr-defined]
    said = [model.predict_proba(replace(bags, cells=each)) for each in (holes, filled)]
    assert np.allclose(*said, atol=1e-6)
    with pytest.raises(InputError, match="numbers per cell"):
        create_model("mil-mean").fit(*example_bags(12, image_size=SIDE))
    with pytest.raises(InputError, match="no head has this name"):
        create_model("mil-mean", head="abmill").check_network()  # type: ignore[attr-defined]


def test_the_reports_rule_sees_the_columns_that_the_honest_one_sees() -> None:
    bags, y = example_bags(24)
    named = tuple(f"background_{i}" if i % 2 else f"cell_{i}" for i in range(bags.cells.shape[1]))
    model = create_model("mil-mean", epochs=2, selection="scored-fold", patience=None)
    found = out_of_fold(model, replace(bags, columns=named), y, Protocol(folds=2, repeats=1).splits(y))
    assert found.optimistic and np.isfinite(found.probability).all()


def test_columns_are_known_by_their_names() -> None:
    bags, y = example_bags(24)
    model = create_model("mil-mean@smoke").fit(bags, y)
    columns = bags.columns or ()
    turned = bags.select_columns(columns[::-1])
    kept = create_model("mil-mean@smoke").load_state(model.state())
    for each in (model, kept):
        assert each.predict_proba(turned).tobytes() == model.predict_proba(bags).tobytes()
        with pytest.raises(InputError, match=f"trained on are missing.*also {columns[0]}"):
            each.predict_proba(bags.select_columns(columns[1:]))
    unnamed = replace(bags, columns=None)
    nameless = create_model("mil-mean@smoke").fit(unnamed, y)
    again = create_model("mil-mean@smoke").load_state(nameless.state())
    assert again.predict_proba(unnamed).tobytes() == nameless.predict_proba(unnamed).tobytes()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"snapshots": 5, "patience": None}, "5 snapshots, 3 epochs"),
        ({"clinical_masking": 0.5}, "clinical_masking=0.5"),
        ({"selection": "scored-fold", "members": 5}, "5 members"),
    ],
)
def test_a_fit_refuses_what_the_command_line_does(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        create_model("mil-mean", epochs=3, **settings).fit(*example_bags(24))


@pytest.mark.parametrize("settings", [{"positive_weight": 20.0}, {"balance": "oversample"}])
def test_few_patients_have_the_weights_of_training_taken_back(settings: dict[str, Any]) -> None:
    """With three reactive patients nobody is held out to calibrate on."""
    bags, y = example_bags(60)
    few = np.r_[np.flatnonzero(y == 1)[:27], np.flatnonzero(y == 0)[:3]]
    plain, weighed = (
        create_model("mil-mean@smoke", **each).fit(bags[few], y[few]) for each in ({}, settings)
    )
    prior = np.log(20 * 9.0) if "positive_weight" in settings else 0.0
    assert plain.calibration_.offset == pytest.approx(0.0, abs=1e-9)  # type: ignore[attr-defined]
    assert weighed.calibration_.offset == pytest.approx(np.log(9.0) - prior)  # type: ignore[attr-defined]
    assert weighed.calibration_.slope == 1.0  # type: ignore[attr-defined]


def test_a_fold_without_cells_says_nothing_and_stops_nothing() -> None:
    bags, y = example_bags(12)
    model = create_model("mil-mean@smoke", members=4)
    _, sides = model._sides(bags, y, len(bags))  # type: ignore[attr-defined]
    empty = sides[0][1]
    cells = [np.asarray(each.cells) for each in (bags[[i]] for i in range(len(bags)))]
    holes = Bags.from_list(
        [each[:0] if i in empty else each for i, each in enumerate(cells)],
        bags.clinical,
        columns=bags.columns,
    )
    fitted = create_model("mil-mean@smoke", members=4).fit(holes, y)
    assert np.isfinite(fitted.predict_proba(bags)).all()


def test_folds_keep_the_curves_and_the_gate() -> None:
    bags, y = example_bags(24)
    model = create_model("mil-abmil", epochs=3, patience=None, fusion="gate")
    found = out_of_fold(model, bags, y, Protocol(folds=2, repeats=1).splits(y))
    assert [len(history) for history in found.histories] == [3, 3]
    assert found.shares
    assert all(each is not None for each in found.evidence)


@pytest.mark.parametrize("value", [np.nan, 0.0, 900.1])
def test_a_number_that_never_differed_in_training_says_nothing_later(value: float) -> None:
    bags, y = example_bags(24)
    known, other = bags.cells.astype(np.float64), bags.cells.astype(np.float64)
    known[:, 0], other[:, 0] = value, 901.0
    model = create_model("mil-abmil", epochs=2).fit(replace(bags, cells=known), y)
    said = [model.predict_proba(replace(bags, cells=each)) for each in (known, other)]
    assert np.array_equal(*said)


def test_no_single_odd_number_decides() -> None:
    bags, y = example_bags(24)
    model = create_model("mil-max", epochs=2).fit(bags, y)
    far, further = bags.cells.copy(), bags.cells.copy()
    far[0, 0] = np.nanmean(far[:, 0]) + 12 * np.nanstd(far[:, 0])
    further[0, 0] = 1e12
    said = [model.predict_proba(replace(bags, cells=each)) for each in (bags.cells, far, further)]
    assert np.array_equal(said[1], said[2]) and not np.array_equal(said[0], said[1])

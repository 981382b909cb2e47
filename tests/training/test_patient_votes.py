"""From cells to patients by log-odds, probability or vote; clinical values that are hidden; levels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from lymphoscope.models.conformance import example_bags
from lymphoscope.models.registry import create_model
from lymphoscope.training.augmentation import IMAGENET, Normalisation
from lymphoscope.training.loop import masked
from lymphoscope.training.prediction import pool

SIDE = 32
ODDS = {"a sure cell": np.log(9.0), "a doubtful one": np.log(1 / 1.5)}  # probabilities 0.9 and 0.4


@pytest.mark.parametrize(
    ("pooling", "odds"),
    [
        ("logit", [9.0 ** (1 / 3) * 1.5 ** (-2 / 3), 1.0, 9.0]),
        ("probability", [(1.7 / 3) / (1.3 / 3), 1.0, 9.0]),
        ("vote", [1.5 / 2.5, 1.0, 3.0]),  # half a cell on either side
    ],
)
def test_a_patient_is_what_its_cells_say_by_each_rule(pooling: Any, odds: list[float]) -> None:
    sure, doubtful = ODDS.values()
    margins = np.array([sure, doubtful, doubtful, sure])
    said = pool(margins, np.array([3, 0, 1]), pooling)
    np.testing.assert_allclose(said, np.log(odds), atol=1e-9)


def test_unanimous_cells_give_finite_odds_by_every_rule() -> None:
    for pooling in ("logit", "probability", "vote"):
        said = pool(np.array([-500.0, 500.0]), np.array([1, 1]), pooling)  # type: ignore[arg-type]
        assert np.isfinite(said).all() and said[0] < 0 < said[1]


@pytest.mark.parametrize("pooling", ["logit", "probability", "vote"])
def test_the_rule_is_the_models(pooling: str) -> None:
    torch.set_num_threads(1)
    bags, y = example_bags(18, image_size=SIDE)
    model = create_model("cnn-baseline@smoke", image_size=SIDE, width=0.3, pooling=pooling).fit(bags, y)
    cells = model.cell_evidence(bags)
    assert cells is not None
    scores = pool(cells, np.diff(bags.offsets), pooling)  # type: ignore[arg-type]
    steps = np.diff(model.predict_proba(bags)[np.argsort(scores), 1])
    # Down where calibration has turned round what two epochs gave.
    assert (np.all(steps >= -1e-9) or np.all(steps <= 1e-9)) and np.any(steps)


def test_half_of_the_values_of_the_share_are_hidden() -> None:
    clinical = torch.ones(20_000, 3)
    assert masked(clinical, 0.0, np.random.default_rng(0)) is clinical
    for share in (0.5, 1.0):
        hidden = masked(clinical, share, np.random.default_rng(0)) == 0
        assert hidden.float().mean(dim=0).numpy() == pytest.approx([share / 2] * 3, abs=0.02)
        untouched = 1 - share + share / 8
        assert float((~hidden).all(dim=1).float().mean()) == pytest.approx(untouched, abs=0.02)
    assert bool((clinical == 1).all())  # what was given stays as it was


def test_hidden_values_change_what_is_learned() -> None:
    torch.set_num_threads(1)
    bags, y = example_bags(18, image_size=SIDE)
    own: dict[str, Any] = {"image_size": SIDE, "width": 0.2, "precision": "float32"}
    said = [
        create_model("mobilenet-clinical@smoke", **own, clinical_masking=share)
        .fit(bags, y)
        .predict_proba(bags)
        for share in (0.0, 0.0, 0.9)
    ]
    assert np.array_equal(said[0], said[1]) and not np.array_equal(said[0], said[2])


def test_levels_of_the_cohort_are_those_of_the_patients_learned_from_alone() -> None:
    torch.set_num_threads(1)
    bags, y = example_bags(24, image_size=SIDE)
    bags, scored, y, y_scored = bags[np.arange(18)], bags[np.arange(18, 24)], y[:18], y[18:]
    dark = replace(scored, cells=scored.cells // 4)
    own: dict[str, Any] = {"image_size": SIDE, "width": 0.3, "selection": "scored-fold", "snapshots": 1}
    own |= {"normalisation": "cohort", "evened": False}
    found = [
        create_model("cnn-baseline@smoke", **own).fit(bags, y, scored=(given, y_scored)).levels_  # type: ignore[attr-defined, call-arg]
        for given in (scored, dark)
    ]
    assert np.array_equal(found[0], found[1])
    known = Normalisation.of(bags.cells)
    np.testing.assert_allclose(found[0], (known.mean, known.deviation), atol=1e-6)
    assert not np.allclose(found[0], (IMAGENET.mean, IMAGENET.deviation), atol=0.01)

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lymphoscope.cohort.bags import Bags, FloatArray
from lymphoscope.models.base import BagClassifier
from lymphoscope.models.conformance import check_bag_classifier, example_bags, separation
from lymphoscope.models.registry import create_model, list_models
from lymphoscope.models.tabular import ClinicalLogistic

RECIPES = [info.name for info in list_models() if info.cell_input != "images"]
LEARNING = [name for name in RECIPES if not name.startswith("rule-")]


SHORT: dict[str, Any] = {"epochs": 12, "learning_rate": 0.01, "width": 0.25}
QUICK: dict[str, dict[str, Any]] = {
    "auto": {"inner_repeats": 1},
    "ensemble": {"inner_repeats": 1},
    "clinical-forest": {"n_trees": 20},
    "encoder-mil-abmil": SHORT,
}


def model(name: str) -> BagClassifier:
    """A recipe as it is, apart from sizes that only cost time."""
    return create_model(name, **QUICK.get(name, SHORT if name.startswith("mil-") else {}))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_keeps_the_contract(name: str) -> None:
    check_bag_classifier(lambda: model(name), n_patients=36)


@pytest.mark.parametrize("name", LEARNING)
def test_every_learning_recipe_finds_a_planted_signal(name: str) -> None:
    assert separation(lambda: model(name), effect=2.5).mean() > 0.85


@pytest.mark.parametrize("name", LEARNING)
def test_no_recipe_finds_anything_in_permuted_labels(name: str) -> None:
    scores = separation(lambda: model(name), permuted=True, seeds=8 if name in ("auto", "ensemble") else 20)
    assert abs(scores.mean() - 0.5) < 3 * scores.std(ddof=1) / np.sqrt(len(scores))


class _OrderedCells(ClinicalLogistic):
    """Looks at the first cell of a patient only."""

    def _probability(self, bags: Bags) -> FloatArray:
        first = np.nan_to_num(bags.cells[bags.offsets[:-1], 6])
        return np.asarray(0.5 + 0.4 * np.tanh(first), dtype=np.float64)


class _BatchStandardised(ClinicalLogistic):
    """Standardises with the patients it is asked about."""

    def _probability(self, bags: Bags) -> FloatArray:
        return np.asarray(1 / (1 + np.exp(-(bags.clinical[:, 2] - bags.clinical[:, 2].mean()))))


class _Adapting(ClinicalLogistic):
    """Moves its threshold when it predicts, as a batch normalisation left in training mode would."""

    def predict_proba(self, bags: Bags) -> FloatArray:
        p = super().predict_proba(bags)
        self.threshold_ = float(np.clip(0.9 * self.threshold_ + 0.1 * p.mean(), 0, 1)) if len(p) else 0.5
        return p


class _Identified(ClinicalLogistic):
    """Learns patient ids by heart."""

    def _probability(self, bags: Bags) -> FloatArray:
        return np.array([(len(name) + ord(name[-1])) % 10 / 10 + 0.05 for name in bags.patient_ids])


class _Busy(ClinicalLogistic):
    """Converts its parameter in the constructor."""

    def __init__(self, C: float = 1.0) -> None:
        self.C = C + 0.0
        self.penalty = 1 / C


class _Unlucky(ClinicalLogistic):
    """Draws without a seed."""

    def _learn(self, bags: Bags, y: Any) -> Any:
        learned = super()._learn(bags, y)
        noise = np.random.default_rng().normal()
        return replace(learned, logistic=replace(learned.logistic, intercept=noise))


class _Forgetful(ClinicalLogistic):
    """Keeps something beside its state."""

    def fit(self, bags: Bags, y: Any) -> Any:
        self.offset_ = 0.1
        return super().fit(bags, y)

    def _probability(self, bags: Bags) -> FloatArray:
        return np.clip(super()._probability(bags) + getattr(self, "offset_", 0.0), 0, 1)


class _Sorting(ClinicalLogistic):
    """Sorts the cells it is given in place."""

    def _probability(self, bags: Bags) -> FloatArray:
        bags.cells.sort(axis=0)
        return super()._probability(bags)


class _Inverted(ClinicalLogistic):
    """Shows evidence with the sign turned round."""

    def _probability(self, bags: Bags) -> FloatArray:
        means = [np.nanmean(bags.cells[a:b, 0]) if b > a else 0.0 for a, b in _spans(bags)]
        return np.asarray(0.5 + 0.4 * np.tanh(np.nan_to_num(means) / 1e6))

    def cell_evidence(self, bags: Bags) -> FloatArray:
        return -np.nan_to_num(np.asarray(bags.cells[:, 0], dtype=np.float64))


def _spans(bags: Bags) -> list[tuple[int, int]]:
    return list(zip(bags.offsets[:-1], bags.offsets[1:], strict=True))


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (_OrderedCells, "order of a patient's cells"),
        (_BatchStandardised, "who else is predicted"),
        (_Adapting, "predict"),
        (_Identified, "patient ids"),
        (_Busy, "constructor"),
        (_Unlucky, "same seed"),
        (_Forgetful, "state and load_state"),
        (_Sorting, "must not write to the bags"),
        (_Inverted, "speaks most for malignancy"),
    ],
)
def test_the_suite_catches_a_broken_promise(broken: type[BagClassifier], promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_bag_classifier(broken)


def test_the_example_has_gaps_unequal_bags_and_both_classes() -> None:
    bags, y = example_bags(30)
    assert np.isnan(bags.cells).any()
    assert len(np.unique(bags.counts)) > 3
    assert 0 < y.mean() < 1


def test_the_example_can_be_images() -> None:
    bags, _ = example_bags(6, image_size=16)
    assert bags.cells.shape[1:] == (16, 16, 3)
    assert bags.cells.dtype == np.uint8

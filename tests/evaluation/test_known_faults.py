"""Faults found in published code for this task: each would make a test here fail."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_models import Nearest, cohort

from lymphoscope.cohort.bags import Bags, FloatArray
from lymphoscope.cohort.splits import repeated_stratified
from lymphoscope.evaluation.evaluator import evaluate
from lymphoscope.evaluation.folds import out_of_fold
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.models.base import BagClassifier, Labels, State
from lymphoscope.stats.metrics import balanced_accuracy

ALLOWED_STANDARD_ERRORS = 3.0


class NearestNeighbour(BagClassifier):
    """Repeats the label of the most similar training patient: the fastest way to profit from a leak."""

    def __init__(self, columns: str = "all") -> None:
        self.columns = columns

    def _table(self, bags: Bags) -> FloatArray:
        return np.array(
            [
                np.asarray(bags.cells[a:b]).mean(0)
                for a, b in zip(bags.offsets, bags.offsets[1:], strict=False)
            ]
        )

    def fit(self, bags: Bags, y: Labels) -> NearestNeighbour:
        """Keep everybody."""
        self.kept_, self.labels_, self.threshold_ = self._table(bags), np.asarray(y), 0.5
        return self

    def predict_proba(self, bags: Bags) -> FloatArray:
        """The nearest one's label."""
        away = ((self._table(bags)[:, None, :] - self.kept_) ** 2).sum(2)
        p = self.labels_[away.argmin(1)].astype(float)
        return np.stack([1 - p, p], axis=1)

    def state(self) -> State:
        """Not needed here."""
        return {}

    def load_state(self, state: State) -> NearestNeighbour:
        """Not needed here."""
        raise NotImplementedError


def distance_from_chance(scores: list[float]) -> float:
    """Mean minus 0.5 in standard errors."""
    return float((np.mean(scores) - 0.5) / (np.std(scores, ddof=1) / np.sqrt(len(scores))))


def shuffled(seed: int, patients: int = 40, cells: int = 6, columns: int = 6) -> tuple[Bags, np.ndarray]:
    """Patients whose cells are alike within a patient, and labels that mean nothing."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(patients, columns))
    values = [mean + rng.normal(0, 0.3, (cells, columns)) for mean in own]
    clinical = np.column_stack(
        [rng.normal(65, 15, patients), np.zeros(patients), np.exp(rng.normal(2, 1, patients))]
    )
    ids = [f"P{i}" for i in range(patients)]
    return Bags.from_list(values, clinical, ids), rng.permutation(np.arange(patients) % 2)


def score(model: BagClassifier, bags: Bags, y: np.ndarray, seed: int) -> float:
    found = out_of_fold(model, bags, y, repeated_stratified(y, 5, 1, seed))
    return balanced_accuracy(found.y, found.decision[0])


@pytest.mark.parametrize("model", [NearestNeighbour(), Nearest()])
def test_random_labels_score_a_half(model: BagClassifier) -> None:
    scores, areas = [], []
    for seed in range(30):
        bags, y = shuffled(seed)
        found = evaluate(model, bags, y, Protocol(repeats=1, seed=seed, bootstrap=100))
        scores.append(found.overall.balanced_accuracy.estimate)  # type: ignore[union-attr]
        areas.append(found.overall.auc.estimate)  # type: ignore[union-attr]
    assert abs(distance_from_chance(scores)) <= ALLOWED_STANDARD_ERRORS
    assert abs(distance_from_chance(areas)) <= ALLOWED_STANDARD_ERRORS


def test_the_same_check_fails_where_images_are_split_instead_of_patients() -> None:
    scores = []
    for seed in range(20):
        bags, y = shuffled(seed)
        images = Bags(
            bags.cells,
            np.arange(len(bags.cells) + 1),
            bags.clinical[bags.patient_of_cell],
            tuple(f"image {i}" for i in range(len(bags.cells))),
        )
        scores.append(score(NearestNeighbour(), images, y[bags.patient_of_cell], seed))
    assert distance_from_chance(scores) > ALLOWED_STANDARD_ERRORS
    assert np.mean(scores) > 0.9


def test_the_same_check_fails_where_columns_were_picked_with_all_labels() -> None:
    scores = []
    for seed in range(20):
        bags, y = shuffled(seed, columns=120)
        means = np.array([bags[i].cells.mean(0) for i in range(len(bags))])
        best = np.argsort(np.abs(means[y == 1].mean(0) - means[y == 0].mean(0)))[-5:]
        scores.append(score(Nearest(), replace(bags, cells=bags.cells[:, best]), y, seed))
    assert distance_from_chance(scores) > ALLOWED_STANDARD_ERRORS


def test_the_same_check_fails_where_a_patient_stands_in_the_cohort_twice() -> None:
    scores = []
    for seed in range(20):
        bags, y = shuffled(seed)
        twice = Bags(
            np.concatenate([bags.cells, bags.cells]),
            np.concatenate([bags.offsets, bags.offsets[1:] + len(bags.cells)]),
            np.concatenate([bags.clinical, bags.clinical]),
            (*bags.patient_ids, *(f"copy of {name}" for name in bags.patient_ids)),
        )
        scores.append(score(NearestNeighbour(), twice, np.concatenate([y, y]), seed))
    assert distance_from_chance(scores) > ALLOWED_STANDARD_ERRORS


@pytest.mark.parametrize("recipe", ["clinical", "clinical-bayes", "morphology-clinical"])
def test_patient_ids_and_their_order_are_no_feature(recipe: str) -> None:
    bags, y = cohort(40, cells=6)
    bags = replace(bags, columns=("nucleus_area_px", "cell_area_px"))
    telling = tuple(f"{'malignant' if label else 'reactive'} {i:03d}" for i, label in enumerate(y))
    splits = repeated_stratified(y, 3, 1)
    plain = out_of_fold(recipe, bags, y, splits).probability
    assert np.array_equal(
        plain, out_of_fold(recipe, replace(bags, patient_ids=telling), y, splits).probability
    )


def test_a_threshold_chosen_on_the_scored_patients_would_be_noticed() -> None:
    """The decision threshold comes from training patients: the scored ones' labels move it nowhere."""
    bags, y = cohort(60, signal=0.0)
    protocol = Protocol(folds=5, repeats=4, bootstrap=100)
    found = evaluate(Nearest(), bags, y, protocol)
    honest = found.overall.balanced_accuracy
    assert honest is not None
    p, fold = found.out_of_fold.probability, found.out_of_fold.fold
    chosen_there = [
        max(balanced_accuracy(y[fold[r] == k], p[r, fold[r] == k] >= cut) for cut in p[r, fold[r] == k])
        for r in range(4)
        for k in range(5)
    ]
    # Without any signal the threshold that suits the scored patients best looks like knowledge.
    assert np.mean(chosen_there) > 0.6
    assert honest.low < 0.5 < honest.high
    for r in range(4):
        for k in range(5):
            inside = fold[r] == k
            assert set(found.out_of_fold.threshold[r, inside]) == {y[~inside].mean()}


def test_nothing_is_carried_from_one_fold_to_the_next() -> None:
    bags, y = cohort(40)
    splits = repeated_stratified(y, 4, 2)
    whole = out_of_fold("clinical", bags, y, splits)
    for split in splits[:4]:
        alone = out_of_fold("clinical", bags, y, [split])
        assert np.array_equal(alone.probability[0], whole.probability[0, split.test])

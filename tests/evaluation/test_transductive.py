"""A transductive model is shown cells of the patients that are scored: never a label, and never unasked."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import pytest

from lymphoscope.cohort.bags import Bags, FloatArray
from lymphoscope.evaluation.folds import out_of_fold
from lymphoscope.evaluation.ladder import climb
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.evaluation.resampling import fit
from lymphoscope.models.base import Labels, State
from lymphoscope.models.conformance import example_bags
from lymphoscope.models.transductive import TransductiveClassifier, is_transductive
from lymphoscope.pipeline.page import row_titles
from lymphoscope.pipeline.summary import ladder_lines

SHOWN: list[tuple[Bags, Labels, Bags | None]] = []


class Curious(TransductiveClassifier):
    """Tells what it is shown; a patient's score is its mean cell less that of all cells it has seen."""

    def __init__(self, transductive: bool = True) -> None:
        self.transductive = transductive

    def fit(self, bags: Bags, y: Labels, *, unlabelled: Bags | None = None) -> Self:
        SHOWN.append((bags, y, unlabelled))
        seen = [bags.cells, *([] if unlabelled is None else [unlabelled.cells])]
        self.mean_ = float(np.nanmean(np.concatenate(seen)))
        self.classes_, self.threshold_ = np.array([0, 1]), float(np.mean(y))
        return self

    def predict_proba(self, bags: Bags) -> FloatArray:
        owner = bags.patient_of_cell
        score = np.bincount(owner, np.nan_to_num(bags.cells).mean(axis=1), len(bags)) / bags.counts
        p = 0.5 + np.arctan(score - self.mean_) / np.pi
        return np.stack([1 - p, p], axis=1)

    def state(self) -> State:
        return {}

    def load_state(self, state: State) -> Self:
        return self


BAGS, Y = example_bags(24)
SPLITS = Protocol(folds=3, repeats=1).splits(Y)


@pytest.fixture(autouse=True)
def _nothing_shown() -> None:
    SHOWN.clear()


def test_it_is_shown_cells_of_the_scored_patients_and_nothing_else_of_them() -> None:
    found = out_of_fold(Curious(), BAGS, Y, SPLITS)
    assert found.transductive
    for split, (bags, y, unlabelled) in zip(SPLITS, SHOWN, strict=True):
        assert bags.patient_ids == tuple(BAGS.patient_ids[i] for i in split.train)
        assert np.array_equal(y, Y[split.train])
        assert unlabelled is not None
        assert np.array_equal(unlabelled.cells, BAGS[split.test].cells, equal_nan=True)
        assert np.isnan(unlabelled.clinical).all()
        assert unlabelled.patient_ids == tuple(str(i) for i in range(len(split.test)))


def test_labels_of_the_scored_patients_change_nothing() -> None:
    one = SPLITS[:1]
    other = Y.copy()
    other[one[0].test] = 1 - other[one[0].test]
    first, second = (out_of_fold(Curious(), BAGS, y, one) for y in (Y, other))
    assert np.array_equal(first.probability, second.probability)
    assert np.array_equal(first.threshold, second.threshold)
    (train, y, unlabelled), (train_, y_, unlabelled_) = SHOWN
    assert np.array_equal(y, y_) and np.array_equal(train.cells, train_.cells, equal_nan=True)
    assert unlabelled is not None and unlabelled_ is not None
    assert vars(unlabelled).keys() == vars(unlabelled_).keys()
    assert np.array_equal(unlabelled.cells, unlabelled_.cells, equal_nan=True)


@pytest.mark.parametrize("asks", [True, False])
def test_only_a_model_that_asks_is_shown_any(asks: bool) -> None:
    assert is_transductive(Curious(asks)) is asks
    found = out_of_fold(Curious(asks), BAGS, Y, SPLITS)
    assert found.transductive is asks
    assert [unlabelled is not None for _, _, unlabelled in SHOWN] == [asks] * 3


def test_a_final_model_is_shown_those_to_be_predicted() -> None:
    fit(Curious(), BAGS, Y, 0, unlabelled=BAGS[:3])
    fit(Curious(), BAGS, Y, 0, unlabelled=BAGS[:0])
    fit(Curious(False), BAGS, Y, 0, unlabelled=BAGS[:3])
    shown = [unlabelled for _, _, unlabelled in SHOWN]
    assert shown[0] is not None and np.isnan(shown[0].clinical).all()
    assert shown[1:] == [None, None]


def test_pieces_of_the_two_are_never_mixed_up(tmp_path: Path) -> None:
    plain, asking = (out_of_fold(Curious(asks), BAGS, Y, SPLITS, pieces=tmp_path) for asks in (False, True))
    assert not np.array_equal(plain.probability, asking.probability)


def test_it_is_named_so_on_the_ladder_and_cells_of_others_change_the_numbers() -> None:
    plain = "scan-clusters@smoke:least_evenness=0,pretext_epochs=1,clustering_epochs=1,classifiers=GaussianNB"
    names = [plain, f"{plain},transductive=true"]
    found = climb(
        *example_bags(16, image_size=48),
        Protocol(folds=2, repeats=1, bootstrap=100),
        recipes=[("both", name) for name in names],
    )
    assert [row_titles(found)[name].endswith("(transductive)") for name in names] == [False, True]
    rows = found.as_dict()["rows"]
    assert isinstance(rows, list) and [row["transductive"] for row in rows] == [False, True]
    said = [line for line in ladder_lines(found.as_dict()) if isinstance(line, str)]
    assert any("[yellow]transductive[/]: cells of the scored patients" in line for line in said)
    first, second = (row.evaluation.out_of_fold.probability for row in found.rows)
    assert not np.array_equal(first, second)

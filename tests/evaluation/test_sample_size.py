from __future__ import annotations

import numpy as np
import pytest
from small_models import Nearest, cohort

from lymphoscope.evaluation.evaluator import evaluate
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.evaluation.sample_size import swing_of_a_test_set, what_patients_prove
from lymphoscope.files import to_json


def test_what_113_malignant_patients_prove() -> None:
    found = what_patients_prove(113, 50)
    assert found.sensitivity_without_miss == pytest.approx(0.05 ** (1 / 113))
    assert found.needed == ((0.95, 59), (0.97, 99), (0.99, 299))
    # 0.97384…: a proof is never rounded up.
    assert "0.973;" in found.sentence
    to_json(found.as_dict())


def test_a_small_test_set_swings_as_arithmetic_says() -> None:
    bags, y = cohort(163, signal=1.0)
    found = evaluate(Nearest(), bags, y, Protocol(repeats=3, bootstrap=200)).out_of_fold
    swing = swing_of_a_test_set(found, 42)
    assert (swing.n_malignant, swing.n_reactive) == (28, 14)
    assert swing.one_miss == pytest.approx(0.5 / 28)
    assert swing.one_false_alarm == pytest.approx(0.5 / 14)
    sens, spec = ((found.correct[y == k].sum() + 0.5) / ((y == k).sum() + 1) for k in (1, 0))
    assert swing.balanced_accuracy.estimate == pytest.approx((sens + spec) / 2, abs=0.005)
    sd = 0.5 * np.sqrt(sens * (1 - sens) / 28 + spec * (1 - spec) / 14)
    width = swing.balanced_accuracy.high - swing.balanced_accuracy.low
    assert width == pytest.approx(2 * 1.96 * sd, rel=0.15)
    larger = swing_of_a_test_set(found, 420).balanced_accuracy
    assert larger.high - larger.low < 0.5 * width
    to_json(swing.as_dict())


def test_who_made_no_error_yet_may_make_one_in_a_test_set() -> None:
    bags, y = cohort(60, signal=8.0)
    found = evaluate(Nearest(), bags, y, Protocol(repeats=1, bootstrap=100)).out_of_fold
    assert found.correct.min() == 1
    swing = swing_of_a_test_set(found, 42).balanced_accuracy
    assert swing.low < 0.97 and swing.high == 1

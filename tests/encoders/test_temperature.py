"""Temperatures: a planted one is found, no answer changes, and what is not known says nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from lymphoscope.encoders.labelled_cells import MISSING
from lymphoscope.encoders.temperature import calibrate


def drawn(n: int, seed: int = 0, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and answers that are drawn from their softmax: of these the right temperature is 1."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, classes))
    chances = softmax(logits, axis=1).cumsum(axis=1)
    return logits, (rng.random((n, 1)) > chances[:, :-1]).sum(axis=1)


@pytest.mark.parametrize("planted", [0.5, 1.0, 3.0])
def test_a_planted_temperature_is_found(planted: float) -> None:
    logits, targets = drawn(6000)
    found = calibrate(planted * logits, targets)
    assert found.temperature == pytest.approx(planted, rel=0.07)
    assert found.error < 0.02
    if planted != 1:
        assert found.error_before > 4 * found.error
    assert found.as_dict()["temperature"] == found.temperature


@given(
    planted=st.floats(0.01, 100), seed=st.integers(0, 999), n=st.integers(0, 40), classes=st.integers(2, 6)
)
def test_no_answer_ever_changes(planted: float, seed: int, n: int, classes: int) -> None:
    logits, targets = drawn(n, seed, classes)
    found = calibrate(planted * logits, targets)
    assert 0.2 - 1e-9 <= found.temperature <= 5 + 1e-9, "within its bounds, so never 0 or below"
    divided = planted * logits / found.temperature
    assert np.array_equal(divided.argmax(axis=1), logits.argmax(axis=1))
    assert 0 <= found.error <= 1 and 0 <= found.error_before <= 1


def test_missing_answers_say_nothing() -> None:
    logits, targets = drawn(300)
    rows = np.sort(np.random.default_rng(1).choice(300, 100, replace=False))
    targets[rows] = MISSING
    logits[rows] = 1e3 * np.random.default_rng(2).normal(size=(100, 4))
    known = targets != MISSING
    assert calibrate(logits, targets) == calibrate(logits[known], targets[known])
    assert sum(n for n, _, _ in calibrate(logits, targets).bins) == 200


@pytest.mark.parametrize("known", [0, 1])
def test_with_nobody_to_ask_nothing_is_changed(known: int) -> None:
    logits, targets = drawn(5)
    targets[known:] = MISSING
    found = calibrate(logits, targets)
    assert (found.temperature, found.error, found.bins) == (1.0, 0.0, ())


def test_bins_hold_every_cell_once_and_are_right_about_it() -> None:
    logits, targets = drawn(2000)
    logits[0], targets[0] = [1e4, 0, 0, 0], 0  # a confidence of exactly 1 has a bin too
    found = calibrate(logits, targets)
    assert sum(n for n, _, _ in found.bins) == 2000
    confidence = [each for _, each, _ in found.bins]
    assert confidence == sorted(confidence) and confidence[0] >= 0.25 and confidence[-1] <= 1
    right = sum(n * share for n, _, share in found.bins) / 2000
    assert right == pytest.approx((logits.argmax(axis=1) == targets).mean())
    weighed = sum(n * abs(mean - share) for n, mean, share in found.bins) / 2000
    assert found.error == pytest.approx(weighed)


def test_the_error_is_measured_on_cells_that_the_temperature_was_not_learned_on() -> None:
    """Each half of the cells asks for another temperature, which is wrong for the other half."""
    logits, targets = drawn(4000)
    logits[::2] *= 4
    found = calibrate(logits, targets)
    assert found.error > 0.05 and found.error > 0.8 * found.error_before

"""Small models and cohorts for tests of evaluation."""

from __future__ import annotations

import os
import time
from typing import Any, Self

import numpy as np

from lymphoscope.cohort.bags import Bags, FloatArray, segment_mean
from lymphoscope.models.base import BagClassifier, Labels, State


class Nearest(BagClassifier):
    """Probability from the distance to the two class means of age, log count and the cells' mean."""

    def __init__(self, sharpness: float = 1.0, random_state: int = 0) -> None:
        self.sharpness = sharpness
        self.random_state = random_state

    def _table(self, bags: Bags) -> FloatArray:
        cells = np.nan_to_num(segment_mean(np.asarray(bags.cells, dtype=np.float64), bags.offsets))
        return np.column_stack([bags.clinical[:, 0] / 15.0, np.log(bags.clinical[:, 2]), cells])

    def fit(self, bags: Bags, y: Labels) -> Self:
        """Class means, with a whiff of noise so that the seed matters."""
        time.sleep(float(os.environ.get("SMALL_MODEL_SECONDS", "0")))
        noise = np.random.default_rng(self.random_state).normal(0, 0.01, 2)
        table = self._table(bags)
        self.means_ = np.stack([table[y == label].mean(0) for label in (0, 1)]) + noise[:, None]
        self.threshold_ = float(np.mean(y))
        self.chosen_ = {"sharpness": np.float64(self.sharpness)}
        return self

    def predict_proba(self, bags: Bags) -> FloatArray:
        """Logistic in the difference of squared distances."""
        table = self._table(bags)
        away = ((table[:, None, :] - self.means_) ** 2).sum(2)
        p = 1 / (1 + np.exp(-self.sharpness * (away[:, 0] - away[:, 1]) / 2))
        return np.stack([1 - p, p], axis=1)

    def state(self) -> State:
        """Class means."""
        return {"means": self.means_}

    def load_state(self, state: State) -> Self:
        """Not needed here."""
        raise NotImplementedError


class Constant(Nearest):
    """Says the same number of everybody."""

    def __init__(self, value: float = 0.5) -> None:
        self.value = value

    def fit(self, bags: Bags, y: Labels) -> Self:
        """Learn nothing."""
        self.threshold_ = float(np.mean(y))
        return self

    def predict_proba(self, bags: Bags) -> FloatArray:
        """`value` for all."""
        return np.tile([1 - self.value, self.value], (len(bags), 1))


class Spy(Nearest):
    """Remembers, over all its clones, which patients it was shown in which call."""

    calls: list[tuple[str, tuple[str, ...], Any]] = []  # noqa: RUF012

    def fit(self, bags: Bags, y: Labels) -> Self:
        """Note and fit."""
        Spy.calls.append(("fit", bags.patient_ids, tuple(y)))
        return super().fit(bags, y)

    def predict_proba(self, bags: Bags) -> FloatArray:
        """Note and predict."""
        Spy.calls.append(("predict", bags.patient_ids, None))
        return super().predict_proba(bags)


def cohort(
    n: int = 60, signal: float = 1.0, seed: int = 0, cells: int = 4, columns: int = 2
) -> tuple[Bags, np.ndarray]:
    """`n` patients, about two thirds malignant, whose age, count and cells differ by `signal`."""
    rng = np.random.default_rng(seed)
    y = rng.permutation((np.arange(n) < round(0.67 * n)).astype(np.int64))
    age = rng.normal(60 + 10 * signal * (y - 0.5), 14)
    count = 4 * np.exp(rng.gamma(2, 0.25, n) + signal * (y == 1) * rng.exponential(0.8, n))
    values = [rng.normal(0.8 * signal * label, 1.0, (cells, columns)) for label in y]
    bags = Bags.from_list(
        values,
        np.column_stack([age, rng.integers(0, 2, n), count]),
        [f"P{i}" for i in range(n)],
        [f"cell_{k}" for k in range(columns)],
    )
    return bags, y

"""Models of age, lymphocyte count and sex alone: what images have to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Le

from lymphoscope.cohort.bags import Bags, FloatArray
from lymphoscope.models.base import CellInput
from lymphoscope.models.clinical_values import ClinicalScale
from lymphoscope.models.learned import LearnedClassifier
from lymphoscope.models.logistic import Logistic, fit_logistic, sigmoid
from lymphoscope.models.missing import JointNormal, averaged_logit

_DRAWS = 50


@dataclass(frozen=True)
class LogisticState:
    """What `ClinicalLogistic` learns."""

    scale: ClinicalScale
    normal: JointNormal
    logistic: Logistic


class ClinicalLogistic(LearnedClassifier):
    """Ridge logistic regression on age, log count and sex, standardised.

    A missing value is replaced by what the patient's other values let expect, and the probability is
    averaged over what they leave open; see `models.missing`.

    Parameters
    ----------
    C : inverse strength of the ridge penalty on the standardised columns; small is strong. At 130 synthetic
        patients 10 gives calibration slope 0.99, against 1.36 at 1, and the lowest log-loss of 0.3 to 100.
    """

    cell_input: ClassVar[CellInput] = "none"
    learned_type = LogisticState
    learned_: LogisticState

    def __init__(self, C: Annotated[float, Gt(0)] = 10.0) -> None:
        self.C = C

    def _learn(self, bags: Bags, y: npt.NDArray[np.int64]) -> LogisticState:
        scale = ClinicalScale.fit(bags.clinical)
        x = scale.apply(bags.clinical)
        normal = JointNormal.fit(x)
        return LogisticState(scale, normal, fit_logistic(normal.complete(x), y, 1.0 / self.C))

    def _probability(self, bags: Bags) -> FloatArray:
        learned, x = self.learned_, self.learned_.scale.apply(bags.clinical)
        logit = learned.logistic.logit(learned.normal.complete(x))
        return sigmoid(averaged_logit(logit, learned.normal.open_variance(x, learned.logistic.coef)))


@dataclass(frozen=True)
class Trees:
    """Binary classification trees, all nodes one after another.

    Attributes
    ----------
    root : node at which each tree begins, shape (n_trees,).
    column : column asked at each node, -1 at a leaf.
    cut : a patient whose value is at most this goes left.
    left, right : next node.
    probability : of malignancy at each node.
    """

    root: npt.NDArray[np.int64]
    column: npt.NDArray[np.int64]
    cut: FloatArray
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    probability: FloatArray

    def mean_probability(self, x: FloatArray) -> FloatArray:
        """Mean over trees for each row of `x`: to the bit what scikit-learn's forest gives in one thread."""
        values = x.astype(np.float32)  # as scikit-learn grows and walks them
        node = np.tile(self.root, (len(x), 1))
        row = np.arange(len(x))[:, None]
        while (inner := self.column[node] >= 0).any():
            goes_left = values[row, self.column[node]] <= self.cut[node]
            node = np.where(inner, np.where(goes_left, self.left[node], self.right[node]), node)
        total = np.zeros(len(x))
        for leaf in node.T:  # one tree after another, since a sum's order shows in its last bit
            total += self.probability[leaf]
        return total / len(self.root)


@dataclass(frozen=True)
class ForestState:
    """What `ClinicalForest` learns."""

    scale: ClinicalScale
    normal: JointNormal
    trees: Trees


class ClinicalForest(LearnedClassifier):
    """Random forest on age, log count and sex.

    Where a value is missing, the probability is the mean over 50 values that the patient's other values let
    expect. Trees are kept as arrays.

    Parameters
    ----------
    n_trees : number of trees.
    min_patients_per_leaf : training patients in a leaf at least. 3 with one column per split gave the best
        balanced accuracy, log-loss and calibration of 1 to 12 at 130 synthetic patients.
    columns_per_split : columns, of three, that compete at a split.
    random_state : seed of bootstrap samples and of columns.
    """

    cell_input: ClassVar[CellInput] = "none"
    learned_type = ForestState
    learned_: ForestState

    def __init__(
        self,
        n_trees: Annotated[int, Ge(1)] = 200,
        min_patients_per_leaf: Annotated[int, Ge(1)] = 3,
        columns_per_split: Annotated[int, Ge(1), Le(3)] = 1,
        random_state: Annotated[int, Ge(0)] = 0,
    ) -> None:
        self.n_trees = n_trees
        self.min_patients_per_leaf = min_patients_per_leaf
        self.columns_per_split = columns_per_split
        self.random_state = random_state

    def _learn(self, bags: Bags, y: npt.NDArray[np.int64]) -> ForestState:
        from sklearn.ensemble import RandomForestClassifier

        scale = ClinicalScale.fit(bags.clinical)
        x = scale.apply(bags.clinical)
        normal = JointNormal.fit(x)
        filled = normal.complete(x)
        order = np.lexsort([y, *filled.T])  # bootstrap samples must not follow the order of the table
        forest = RandomForestClassifier(
            n_estimators=self.n_trees,
            min_samples_leaf=self.min_patients_per_leaf,
            max_features=self.columns_per_split,
            random_state=self.random_state,
        ).fit(filled[order], y[order])
        return ForestState(scale, normal, _as_arrays([tree.tree_ for tree in forest.estimators_]))

    def _probability(self, bags: Bags) -> FloatArray:
        learned, x = self.learned_, self.learned_.scale.apply(bags.clinical)
        p, gaps = learned.trees.mean_probability(x), np.isnan(x).any(axis=1)
        if gaps.any():
            ways = learned.normal.possible(x[gaps], _DRAWS)
            p[gaps] = np.mean([learned.trees.mean_probability(way) for way in ways], axis=0)
        return p


@dataclass(frozen=True)
class BayesState:
    """What `ClinicalBayes` learns: mean and variance of each class (row: 0, 1) and column, and log prior."""

    scale: ClinicalScale
    mean: FloatArray
    variance: FloatArray
    log_prior: FloatArray


class ClinicalBayes(LearnedClassifier):
    """Gaussian naive Bayes on age, log count and sex.

    A missing value says nothing: its column is left out of that patient's product.

    Parameters
    ----------
    var_smoothing : added to every variance, as a share of the largest variance of a column; it keeps a class
        of very few patients from certainty.
    """

    cell_input: ClassVar[CellInput] = "none"
    learned_type = BayesState
    learned_: BayesState

    def __init__(self, var_smoothing: Annotated[float, Gt(0)] = 0.01) -> None:
        self.var_smoothing = var_smoothing

    def _learn(self, bags: Bags, y: npt.NDArray[np.int64]) -> BayesState:
        scale = ClinicalScale.fit(bags.clinical)
        x = scale.apply(bags.clinical)
        whole = _moments(x)
        floor = self.var_smoothing * max(whole[1].max(), 1e-9)
        moments = [_moments(x[y == label], whole) for label in (0, 1)]
        mean, variance = (np.stack([moment[i] for moment in moments]) for i in (0, 1))
        return BayesState(scale, mean, variance + floor, np.log([1.0 - y.mean(), y.mean()]))

    def _probability(self, bags: Bags) -> FloatArray:
        learned, x = self.learned_, self.learned_.scale.apply(bags.clinical)
        apart = (x[:, None] - learned.mean) ** 2 / learned.variance
        log_density = np.nan_to_num(-0.5 * (apart + np.log(2.0 * np.pi * learned.variance))).sum(axis=2)
        joint = log_density + learned.log_prior
        return sigmoid(joint[:, 1] - joint[:, 0])


Moments = tuple[FloatArray, FloatArray]


def _moments(x: FloatArray, otherwise: Moments | None = None) -> Moments:
    """Mean and variance of each column without NaN; a column without any value has those of `otherwise`."""
    known = ~np.isnan(x)
    n = known.sum(axis=0)
    mean = np.where(known, x, 0.0).sum(axis=0) / np.maximum(n, 1)
    variance = (np.where(known, x - mean, 0.0) ** 2).sum(axis=0) / np.maximum(n, 1)
    if otherwise is None:
        return mean, np.where(n > 0, variance, 1.0)
    return np.where(n > 0, mean, otherwise[0]), np.where(n > 0, variance, otherwise[1])


def _as_arrays(trees: list[object]) -> Trees:
    """Scikit-learn's trees one after another."""
    sizes = [tree.node_count for tree in trees]  # type: ignore[attr-defined]
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)

    def joined(name: str, shift: bool = False) -> npt.NDArray[np.int64]:
        parts = [
            getattr(tree, name) + (start if shift else 0) for tree, start in zip(trees, first, strict=True)
        ]
        return np.concatenate(parts)

    column = joined("feature").astype(np.int64)
    return Trees(
        root=first,
        column=np.where(column < 0, -1, column),
        cut=joined("threshold").astype(np.float64),
        left=joined("children_left", shift=True),
        right=joined("children_right", shift=True),
        probability=joined("value")[:, 0, 1].astype(np.float64),
    )

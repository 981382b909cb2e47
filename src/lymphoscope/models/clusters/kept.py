"""What is kept of a fitted scikit-learn classifier: as little of its training patients as answering needs.

Sums of terms, trees and small networks are written down as the numbers that they consist of. Neighbours and
kernels compare a new patient with the training patients themselves, so these are kept (`HOLDS_PATIENTS`).
Either way plain arrays are all there is, and answers come from these alone, before and after they are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from lymphoscope.cohort.bags import FloatArray, IntArray
from lymphoscope.models.clusters.classifiers import bounded_log_odds, fit_classifier, scores

HOLDS_PATIENTS = {
    "GaussianProcessClassifier": "its kernel compares with every training patient",
    "KNeighborsClassifier": "it asks the nearest training patients",
    "LabelPropagation": "its kernel compares with every training patient",
    "LabelSpreading": "its kernel compares with every training patient",
    "NuSVC": "its support vectors are training patients",
    "SVC": "its support vectors are training patients",
}
"""Classifiers that cannot answer without their training patients, and why."""

_CLOSE = 1e-6
"""Log-odds by which what is kept may differ from what scikit-learn says."""


@dataclass(frozen=True, eq=False)
class Terms:
    """score = Σ square · x² + linear · x, and a constant; x is whether a column is above 0 where `binary`.

    `bounded` : held where probabilities are held, as scores from probabilities are.
    """

    square: FloatArray
    linear: FloatArray
    constant: float
    binary: bool
    bounded: bool

    def score(self, x: FloatArray) -> FloatArray:
        """(n_patients,)"""
        seen = (x > 0).astype(np.float64) if self.binary else x
        score = (seen**2 * self.square).sum(axis=1) + (seen * self.linear).sum(axis=1) + self.constant
        return bounded_log_odds(expit(score)) if self.bounded else score


@dataclass(frozen=True, eq=False)
class Trees:
    """Trees whose values are added up, or are probabilities whose mean is taken where `shares`.

    Attributes
    ----------
    column, cut : a patient goes left where its value in this column is at most this, (n_nodes,).
    left, right : next node, itself at a leaf, (n_nodes,).
    value : of each leaf, (n_nodes,).
    root : of each tree, (n_trees,).
    constant : added to the sum.
    single : values are compared in single precision.
    """

    column: IntArray
    cut: FloatArray
    left: IntArray
    right: IntArray
    value: FloatArray
    root: IntArray
    constant: float
    single: bool
    shares: bool

    def score(self, x: FloatArray) -> FloatArray:
        """(n_patients,)"""
        seen = x.astype(np.float32).astype(np.float64) if self.single else x
        row, at = np.arange(len(x))[:, None], np.tile(self.root, (len(x), 1))
        while True:
            after = np.where(seen[row, self.column[at]] <= self.cut[at], self.left[at], self.right[at])
            if np.array_equal(after, at):
                break
            at = after
        said = self.value[at]
        return bounded_log_odds(said.mean(axis=1) if self.shares else expit(said.sum(axis=1) + self.constant))


@dataclass(frozen=True, eq=False)
class Units:
    """One layer of units; their weighted sum is the log-odds, or a probability where they are `logistic`.

    Attributes
    ----------
    weight, bias : into the units, (n_columns, n_units) and (n_units,).
    out, constant : out of them, (n_units,).
    """

    weight: FloatArray
    bias: FloatArray
    out: FloatArray
    constant: float
    logistic: bool

    def score(self, x: FloatArray) -> FloatArray:
        """(n_patients,)"""
        into = (x[:, :, None] * self.weight).sum(axis=1) + self.bias
        if self.logistic:
            return bounded_log_odds((expit(into) * self.out).sum(axis=1))
        return bounded_log_odds(expit((np.maximum(into, 0.0) * self.out).sum(axis=1) + self.constant))


@dataclass(frozen=True, eq=False)
class Patients:
    """A classifier that is fitted again on its training patients; the same with the same scikit-learn.

    Attributes
    ----------
    x, y : (n_patients, n_columns), each column from 0 to 1, and labels (n_patients,).
    """

    name: str
    x: FloatArray
    y: IntArray
    seed: int

    def score(self, x: FloatArray) -> FloatArray:
        """(n_patients,)"""
        return scores(self._fitted, x)

    @cached_property
    def _fitted(self) -> Any:
        return fit_classifier(self.name, self.x, self.y, self.seed)


Form = Terms | Trees | Units | Patients


@dataclass(frozen=True, eq=False)
class KeptClassifier:
    """A fitted classifier in one of four forms; the other three are empty."""

    terms: tuple[Terms, ...] = ()
    trees: tuple[Trees, ...] = ()
    units: tuple[Units, ...] = ()
    patients: tuple[Patients, ...] = ()

    @classmethod
    def fit(cls, name: str, x: FloatArray, y: IntArray, seed: int) -> Self:
        """Fit on (n_patients, n_columns), and keep no patients unless the classifier cannot do without.

        Nor where a version of scikit-learn keeps its numbers in a way that is not known here: what is kept
        has to say the same of the training patients.
        """
        fitted = fit_classifier(name, x, y, seed)
        form: Form | None = None
        if name not in HOLDS_PATIENTS:
            try:
                form = _FORMS[name](fitted)
            except (KeyError, AttributeError):
                form = None
        said = scores(fitted, x)
        # It has no number, and its form the prevalence, where no column differs between patients.
        known = np.isfinite(said) | (name != "GaussianNB")
        if form is None or not np.allclose(form.score(x)[known], said[known], rtol=0, atol=_CLOSE):
            form = Patients(name, x, y, seed)
        match form:
            case Terms():
                return cls(terms=(form,))
            case Trees():
                return cls(trees=(form,))
            case Units():
                return cls(units=(form,))
        return cls(patients=(form,))

    @property
    def form(self) -> Form:
        """The one that is there."""
        forms: tuple[Form, ...] = (*self.terms, *self.trees, *self.units, *self.patients)
        return forms[0]

    @property
    def holds_patients(self) -> bool:
        """Whether the training patients' numbers and labels are among what is kept."""
        return bool(self.patients)

    def score(self, x: FloatArray) -> FloatArray:
        """Log-odds of malignancy, or a decision function, (n_patients,)."""
        return self.form.score(x) if len(x) else np.empty(0)


def _linear(fitted: Any) -> Terms:
    weights = np.atleast_2d(np.asarray(fitted.coef_, dtype=np.float64))[0]
    constant = float(np.ravel(fitted.intercept_)[0])
    return Terms(np.zeros_like(weights), weights, constant, False, hasattr(fitted, "predict_proba"))


def _prior(fitted: Any) -> Terms:
    nothing, p = np.zeros(fitted.n_features_in_), fitted.class_prior_
    return Terms(nothing, nothing, float(np.log(p[1] / p[0])), False, True)


def _gaussian(fitted: Any) -> Terms:
    theta = fitted.theta_
    var = np.where(fitted.var_ > 0, fitted.var_, 1.0)  # 0 where no column of all differs between patients
    constant = np.log(fitted.class_prior_) - 0.5 * (np.log(2 * np.pi * var) + theta**2 / var).sum(axis=1)
    return Terms(_gain(-0.5 / var), _gain(theta / var), float(_gain(constant)), False, True)


def _bernoulli(fitted: Any) -> Terms:
    absent = np.log1p(-np.exp(fitted.feature_log_prob_))
    constant = fitted.class_log_prior_ + absent.sum(axis=1)
    linear = _gain(fitted.feature_log_prob_ - absent)
    return Terms(np.zeros_like(linear), linear, float(_gain(constant)), True, True)


def _multinomial(fitted: Any) -> Terms:
    linear = _gain(fitted.feature_log_prob_)
    return Terms(np.zeros_like(linear), linear, float(_gain(fitted.class_log_prior_)), False, True)


def _complement(fitted: Any) -> Terms:
    linear = _gain(fitted.feature_log_prob_)
    return Terms(np.zeros_like(linear), linear, 0.0, False, True)


def _centroids(fitted: Any) -> Terms:
    spread = fitted.within_class_std_dev_**2
    spread = np.where(spread > 0, spread, 1.0)
    constant = 2 * np.log(fitted.class_prior_) - (fitted.centroids_**2 / spread).sum(axis=1)
    linear = _gain(2 * fitted.centroids_ / spread)
    return Terms(np.zeros_like(linear), linear, float(_gain(constant)), False, True)


def _gain(of_classes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What malignant has more than reactive."""
    return np.asarray(of_classes[1] - of_classes[0], dtype=np.float64)


def _tree(fitted: Any) -> Trees:
    return _forest([fitted.tree_], [_malignant_share(fitted)], shares=True)


def _mean_of_trees(fitted: Any) -> Trees:
    each = fitted.estimators_
    return _forest([one.tree_ for one in each], [_malignant_share(one) for one in each], shares=True)


def _gradient_boosting(fitted: Any) -> Trees:
    each = [one.tree_ for one in fitted.estimators_[:, 0]]
    p = fitted.init_.class_prior_
    values = [fitted.learning_rate * one.value[:, 0, 0] for one in each]
    return _forest(each, values, shares=False, constant=float(np.log(p[1] / p[0])))


def _ada_boost(fitted: Any) -> Trees:
    weights = 2 * fitted.estimator_weights_ / fitted.estimator_weights_.sum()
    each = fitted.estimators_
    values = [
        weight * np.where(_malignant_share(one) > 0.5, 1.0, -1.0)
        for one, weight in zip(each, weights, strict=False)
    ]
    return _forest([one.tree_ for one in each], values, shares=False)


def _hist_gradient_boosting(fitted: Any) -> Trees:
    nodes = [one.nodes for (one,) in fitted._predictors]
    parts = [
        (
            np.where(each["is_leaf"], -1, each["left"].astype(np.int64)),
            np.where(each["is_leaf"], -1, each["right"].astype(np.int64)),
            each["feature_idx"],
            each["num_threshold"],
            each["value"],
        )
        for each in nodes
    ]
    return _planted(parts, shares=False, constant=float(fitted._baseline_prediction[0, 0]), single=False)


def _malignant_share(tree: Any) -> FloatArray:
    """Share of malignant patients at each node, (n_nodes,)."""
    value = tree.tree_.value[:, 0, :]
    return np.asarray(value[:, 1] / value.sum(axis=1), dtype=np.float64)


def _forest(
    trees: Sequence[Any], values: Sequence[FloatArray], *, shares: bool, constant: float = 0
) -> Trees:
    parts = [
        (tree.children_left, tree.children_right, tree.feature, tree.threshold, value)
        for tree, value in zip(trees, values, strict=True)
    ]
    return _planted(parts, shares=shares, constant=constant, single=True)


def _planted(
    parts: Sequence[tuple[npt.NDArray[Any], ...]], *, shares: bool, constant: float, single: bool
) -> Trees:
    """Trees side by side, of children (−1 at a leaf), columns, cuts and values."""
    sizes = [len(part[0]) for part in parts]
    root = np.cumsum([0, *sizes[:-1]])
    child = [np.concatenate([part[side] for part in parts]).astype(np.int64) for side in (0, 1)]
    column, cut, value = (np.concatenate([part[i] for part in parts]) for i in (2, 3, 4))
    leaf, itself, first = child[0] < 0, np.arange(sum(sizes)), np.repeat(root, sizes)
    left, right = (np.where(leaf, itself, first + side) for side in child)
    return Trees(
        column=np.where(leaf, 0, column).astype(np.int64),
        cut=np.where(leaf, 0.0, cut).astype(np.float64),
        left=left,
        right=right,
        value=np.where(leaf, value, 0.0).astype(np.float64),
        root=root,
        constant=constant,
        single=single,
        shares=shares,
    )


def _perceptron(fitted: Any) -> Units:
    weights, biases = fitted.coefs_, fitted.intercepts_
    return Units(weights[0], biases[0], weights[1][:, 0], float(biases[1][0]), False)


def _calibrated(fitted: Any) -> Units:
    each = fitted.calibrated_classifiers_
    slope = np.array([one.calibrators[0].a_ for one in each])
    weight = np.stack([one.estimator.coef_[0] for one in each], axis=1)
    bias = np.array([one.estimator.intercept_[0] for one in each])
    offset = np.array([one.calibrators[0].b_ for one in each])
    out = np.full(len(each), 1 / len(each))
    return Units(-slope * weight, -(slope * bias + offset), out, 0.0, True)


_FORMS: dict[str, Callable[[Any], Form]] = {
    "AdaBoostClassifier": _ada_boost,
    "BaggingClassifier": _mean_of_trees,
    "BernoulliNB": _bernoulli,
    "CalibratedClassifierCV": _calibrated,
    "ComplementNB": _complement,
    "DecisionTreeClassifier": _tree,
    "DummyClassifier": _prior,
    "ExtraTreeClassifier": _tree,
    "ExtraTreesClassifier": _mean_of_trees,
    "GaussianNB": _gaussian,
    "GradientBoostingClassifier": _gradient_boosting,
    "HistGradientBoostingClassifier": _hist_gradient_boosting,
    "LinearDiscriminantAnalysis": _linear,
    "LinearSVC": _linear,
    "LogisticRegression": _linear,
    "LogisticRegressionCV": _linear,
    "MLPClassifier": _perceptron,
    "MultinomialNB": _multinomial,
    "NearestCentroid": _centroids,
    "PassiveAggressiveClassifier": _linear,
    "Perceptron": _linear,
    "RandomForestClassifier": _mean_of_trees,
    "RidgeClassifier": _linear,
    "RidgeClassifierCV": _linear,
    "SGDClassifier": _linear,
}

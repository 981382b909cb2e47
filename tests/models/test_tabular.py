from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from lymphoscope.cohort.bags import Bags
from lymphoscope.models.clinical_values import ClinicalScale, clinical_columns
from lymphoscope.models.conformance import example_bags
from lymphoscope.models.registry import create_model

Patients = tuple[Bags, npt.NDArray[np.int64]]


@pytest.fixture(scope="module")
def patients() -> Patients:
    return example_bags(120)


@pytest.fixture(scope="module")
def new_patients() -> Bags:
    return example_bags(80, seed=7)[0]


def test_the_count_enters_by_its_logarithm_and_an_impossible_one_is_held() -> None:
    columns = clinical_columns(np.array([[60.0, 1.0, np.e], [60.0, 1.0, 0.0], [60.0, 1.0, np.nan]]))
    assert columns[0, 2] == pytest.approx(1.0)
    assert columns[1, 2] == pytest.approx(np.log(0.1))
    assert np.isnan(columns[2, 2])


@pytest.mark.parametrize("C", [0.1, 10.0])
def test_logistic_regression_is_scikit_learns(patients: Patients, new_patients: Bags, C: float) -> None:
    bags, y = patients
    scale = ClinicalScale.fit(bags.clinical)
    reference = LogisticRegression(C=C, tol=1e-10, max_iter=1000).fit(scale.apply(bags.clinical), y)
    expected = reference.predict_proba(scale.apply(new_patients.clinical))
    assert create_model("clinical", C=C).fit(bags, y).predict_proba(new_patients) == pytest.approx(
        expected, abs=1e-6
    )


def test_logistic_regression_stays_finite_where_the_classes_separate() -> None:
    clinical = np.array([[30.0 + 5 * i, i % 2, 4.0 + 10 * (i >= 5)] for i in range(10)])
    bags = Bags.from_list([np.empty((0, 1))] * 10, clinical)
    y = (np.arange(10) >= 5).astype(int)
    p = create_model("clinical", C=1e6).fit(bags, y).predict_proba(bags)[:, 1]
    assert np.isfinite(p).all()
    assert p[5:].min() > 0.9 > 0.1 > p[:5].max()


def test_the_forest_is_scikit_learns_to_the_bit(patients: Patients, new_patients: Bags) -> None:
    bags, y = patients
    scale = ClinicalScale.fit(bags.clinical)
    x = scale.apply(bags.clinical)
    order = np.lexsort([y, *x.T])
    reference = RandomForestClassifier(200, min_samples_leaf=3, max_features=1, random_state=3, n_jobs=1)
    reference.fit(x[order], y[order])
    expected = reference.predict_proba(scale.apply(new_patients.clinical))[:, 1]
    model = create_model("clinical-forest", random_state=3).fit(bags, y)
    assert np.array_equal(model.predict_proba(new_patients)[:, 1], expected)


def test_naive_bayes_is_scikit_learns(patients: Patients, new_patients: Bags) -> None:
    bags, y = patients
    scale = ClinicalScale.fit(bags.clinical)
    reference = GaussianNB(var_smoothing=0.01).fit(scale.apply(bags.clinical), y)
    expected = reference.predict_proba(scale.apply(new_patients.clinical))
    assert create_model("clinical-bayes").fit(bags, y).predict_proba(new_patients) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["clinical", "clinical-forest", "clinical-bayes"])
def test_a_patient_without_values_is_near_the_prevalence(name: str, patients: Patients) -> None:
    bags, y = patients
    model = create_model(name).fit(bags, y)
    nothing = replace(bags[:1], clinical=np.full((1, 3), np.nan))
    assert abs(model.predict_proba(nothing)[0, 1] - y.mean()) < 0.2


@pytest.mark.parametrize("name", ["clinical", "clinical-bayes"])
def test_a_missing_value_makes_the_probability_more_cautious(name: str, patients: Patients) -> None:
    bags, y = patients
    model = create_model(name).fit(bags, y)
    clear = replace(bags[:1], clinical=np.array([[85.0, 1.0, 120.0]]))
    without_count = replace(clear, clinical=np.array([[85.0, 1.0, np.nan]]))
    assert y.mean() < model.predict_proba(without_count)[0, 1] < model.predict_proba(clear)[0, 1]


@pytest.mark.parametrize("name", ["clinical", "clinical-forest", "clinical-bayes"])
def test_one_patient_of_a_class_is_enough(name: str) -> None:
    bags, y = example_bags(12)
    y = (np.arange(12) == 3).astype(np.int64)
    p = create_model(name).fit(bags, y).predict_proba(bags)[:, 1]
    assert np.isfinite(p).all()

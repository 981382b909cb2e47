"""What is kept of a classifier says what scikit-learn says, and holds no patient where it need not."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from lymphoscope.models.clusters import kept
from lymphoscope.models.clusters.classifiers import comparable, fit_classifier, scores
from lymphoscope.models.clusters.features import PatientFeatures, patient_table
from lymphoscope.models.clusters.kept import HOLDS_PATIENTS, KeptClassifier
from lymphoscope.models.clusters.patients import PatientClassifier
from lymphoscope.models.learned import pack, unpack
from lymphoscope.models.patient_calibration import PatientCalibration

N = 60


def patients(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Tables of patients in whom cluster 0 is more frequent where malignant."""
    rng = np.random.default_rng(seed)
    y = (np.arange(N) % 3 > 0).astype(np.int64)
    p = np.stack([rng.dirichlet([4.0 if label else 1.5, 2, 2, 2]) for label in y])
    counts = np.stack([rng.multinomial(30, each) for each in p])
    clinical = np.column_stack([rng.normal(65, 9, N), rng.integers(0, 2, N), rng.normal(9, 2, N)])
    return patient_table(counts, clinical), y


TABLE, Y = patients(0)
NEW, _ = patients(1)
FEATURES = PatientFeatures.fit(TABLE)
X, X_NEW = FEATURES.inputs(TABLE), FEATURES.inputs(NEW)


def test_patients_are_kept_by_neighbours_and_kernels_alone() -> None:
    assert set(HOLDS_PATIENTS) == {
        "GaussianProcessClassifier",
        "KNeighborsClassifier",
        "LabelPropagation",
        "LabelSpreading",
        "NuSVC",
        "SVC",
    }
    assert set(kept._FORMS) | set(HOLDS_PATIENTS) == set(comparable())
    assert not set(kept._FORMS) & set(HOLDS_PATIENTS)


@cache
def fitted(name: str) -> KeptClassifier:
    return KeptClassifier.fit(name, X, Y, 3)


@pytest.mark.parametrize("name", comparable())
def test_it_says_what_scikit_learn_says_of_new_patients(name: str) -> None:
    found = fitted(name)
    assert found.holds_patients == (name in HOLDS_PATIENTS)
    assert np.allclose(found.score(X_NEW), scores(fit_classifier(name, X, Y, 3), X_NEW), rtol=0, atol=1e-6)
    assert found.score(X_NEW[:0]).shape == (0,)


@pytest.mark.parametrize("name", comparable())
def test_kept_as_arrays_it_says_the_same_to_the_bit(name: str) -> None:
    again: KeptClassifier = unpack(KeptClassifier, pack(fitted(name)))
    assert np.array_equal(again.score(X_NEW), fitted(name).score(X_NEW))


def test_naive_bayes_says_the_prevalence_where_patients_do_not_differ() -> None:
    found = KeptClassifier.fit("GaussianNB", np.zeros_like(X), Y, 3)
    assert not found.holds_patients
    assert found.score(np.zeros_like(X_NEW)) == pytest.approx(np.full(N, np.log(2)))


@pytest.mark.parametrize("name", sorted(set(comparable()) - set(HOLDS_PATIENTS)))
def test_no_age_count_or_label_of_a_patient_is_among_the_arrays(name: str) -> None:
    state = pack(PatientClassifier(FEATURES, name, fitted(name), PatientCalibration(1.0, 0.0), Y.mean()))
    numbers = np.concatenate([array.ravel() for array in state.values() if array.dtype.kind == "f"])
    middle = (X > 0) & (X < 1)
    for column in (-1, -2):  # age and count; their least and greatest values are known as such
        inside = middle[:, column]
        assert inside.sum() == N - 2
        assert not np.isin(TABLE[inside, column], numbers).any()
        assert not np.isin(X[inside, column], numbers).any()
    assert all(N not in array.shape for array in state.values())


def test_one_with_numbers_in_unknown_places_is_kept_by_its_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    def moved(fitted: Any) -> kept.Terms:
        return fitted.coefficients

    def other(fitted: Any) -> kept.Terms:
        nothing = np.zeros(X.shape[1])
        return kept.Terms(nothing, nothing, 0.1, False, True)

    for form in (moved, other):
        monkeypatch.setitem(kept._FORMS, "LogisticRegression", form)
        found = KeptClassifier.fit("LogisticRegression", X, Y, 0)
        assert found.holds_patients
        assert np.array_equal(found.score(X), scores(fit_classifier("LogisticRegression", X, Y, 0), X))

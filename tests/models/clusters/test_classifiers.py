"""Every classifier of scikit-learn is compared or skipped for a reason, and the best is kept."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.utils import all_estimators

from lymphoscope.errors import InputError
from lymphoscope.models.clusters.classifiers import (
    SKIPPED,
    Comparison,
    comparable,
    compare,
    fit_classifier,
    make_classifier,
    scores,
)
from lymphoscope.models.clusters.features import PatientFeatures, patient_table
from lymphoscope.models.clusters.kept import KeptClassifier
from lymphoscope.models.clusters.patients import PatientClassifier, held_out_probability
from lymphoscope.models.clusters.views import classifier_scores
from lymphoscope.models.inner_folds import inner_folds
from lymphoscope.stats.metrics import auc

WRAPPERS = {
    "FixedThresholdClassifier",
    "OneVsOneClassifier",
    "OneVsRestClassifier",
    "OutputCodeClassifier",
    "SelfTrainingClassifier",
    "StackingClassifier",
    "TunedThresholdClassifierCV",
    "VotingClassifier",
}


def patients(n: int = 60, seed: int = 0, *, effect: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Tables of patients in whom cluster 0 is more frequent where malignant; clinical values say nothing."""
    rng = np.random.default_rng(seed)
    y = (np.arange(n) % 3 > 0).astype(np.int64)
    strength = np.where(y[:, None] == 1, [1 + 4 * effect, 1, 1, 1], [1, 1, 1, 1])
    p = np.stack([rng.dirichlet(2 * each) for each in strength])
    counts = np.stack([rng.multinomial(30, each) for each in p])
    clinical = np.column_stack([rng.normal(65, 9, n), rng.integers(0, 2, n), rng.normal(9, 2, n)])
    return patient_table(counts, clinical), y


@pytest.fixture(scope="module")
def compared() -> Comparison:
    table, y = patients()
    return compare(comparable(), table, y, inner_folds(table, y, 1, 0), 0)


def test_every_classifier_is_compared_or_skipped_for_a_reason(compared: Comparison) -> None:
    everything = {name for name, _ in all_estimators(type_filter="classifier")}
    several = "is for several labels a patient, and wraps another classifier"
    assert dict(SKIPPED) == dict.fromkeys(
        WRAPPERS, "wraps another classifier, which it needs as an argument"
    ) | {
        "CategoricalNB": "takes categories, not numbers",
        "ClassifierChain": several,
        "MultiOutputClassifier": several,
        "QuadraticDiscriminantAnalysis": "needs covariances of full rank; proportions sum to 1, "
        "so none has it",
        "RadiusNeighborsClassifier": "has no answer for a patient without neighbours within its radius",
    }
    assert set(compared.names) == everything - set(SKIPPED)
    assert compared.failed == ()
    assert len(compared.names) > 25 and "GaussianNB" in compared.names


def test_those_that_are_skipped_could_not_be_fitted() -> None:
    table, y = patients()
    with pytest.raises(InputError, match="cannot be compared"):
        make_classifier("StackingClassifier", 0)
    kinds = dict(all_estimators(type_filter="classifier"))
    for name in WRAPPERS | {"ClassifierChain", "MultiOutputClassifier"}:
        with pytest.raises((TypeError, ValueError)):
            kinds[name]().fit(np.nan_to_num(table), y)
    inputs = PatientFeatures.fit(table).inputs(table)
    with pytest.raises(np.linalg.LinAlgError, match="not full rank"):
        kinds["QuadraticDiscriminantAnalysis"]().fit(inputs, y)
    near = kinds["RadiusNeighborsClassifier"]().fit(inputs, y)
    with pytest.raises(ValueError, match="No neighbors"):
        near.predict(1 - inputs.round())
    cut = kinds["CategoricalNB"]().fit(inputs, y)
    assert np.array_equal(cut.predict(inputs), cut.predict(np.floor(inputs))), "it hears no fraction"


def test_held_out_answers_find_planted_proportions(compared: Comparison) -> None:
    _, y = patients()
    best = classifier_scores(compared, y, "GaussianNB", replicates=50)
    assert best[0].balanced_accuracy.estimate > 0.8
    dummy = next(each for each in best if each.name == "DummyClassifier")
    assert dummy.balanced_accuracy.estimate == 0.5 and len(dummy.by_own_rule) == 5
    assert [each.name for each in best if each.chosen] == ["GaussianNB"]
    estimates = [each.balanced_accuracy.estimate for each in best]
    assert estimates == sorted(estimates, reverse=True)


def test_permuted_labels_give_nothing_to_new_patients() -> None:
    names = ("GaussianNB", "LogisticRegression", "KNeighborsClassifier")
    truth, chance = [], []
    for seed in range(8):
        table, y = patients(60, seed, effect=1.5)
        new, label = patients(60, 100 + seed, effect=1.5)
        for found, learned in ((truth, y), (chance, np.random.default_rng(seed).permutation(y))):
            model, _ = PatientClassifier.learn(table, learned, names, 0)
            counts = np.round(new[:, :4] * 30).astype(np.int64)
            says = model.probability(counts, new[:, [8, 6, 7]]) >= learned.mean()
            found.append((says[label == 1].mean() + (~says)[label == 0].mean()) / 2)
    assert np.mean(truth) > 0.85
    assert abs(np.mean(chance) - 0.5) < 3 * np.std(chance, ddof=1) / np.sqrt(len(chance)) + 0.02


def test_the_choice_is_the_best_balanced_accuracy_then_the_lower_log_loss() -> None:
    y = np.array([0, 0, 0, 1, 1, 1])
    right, unsure = np.array([-4.0, -4, -4, 4, 4, 4]), np.array([-9.0, -0.2, -0.1, 0.1, 0.2, 9])
    wrong = np.array([-1.0, -1, 1, 1, 1, 1])
    scored = np.stack([wrong, unsure, right])
    found = Comparison(("a", "b", "c"), scored, (scored > 0).astype(np.int8), np.zeros(6, dtype=np.int64))
    assert found.best(y) == 2
    assert Comparison(("a", "b"), scored[:2], found.said[:2], found.fold).best(y) == 1


def test_held_out_patients_have_no_say_in_how_their_columns_are_scaled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table, y = patients(30)
    held_out, seen = inner_folds(table, y, 1, 0), []
    fit = PatientFeatures.fit
    monkeypatch.setattr(PatientFeatures, "fit", lambda table: seen.append(table) or fit(table))
    compare(("GaussianNB",), table, y, held_out, 0)
    assert len(seen) == len(held_out) == 5
    assert all(np.array_equal(each, table[~held]) for each, held in zip(seen, held_out, strict=True))


def test_one_that_fails_is_left_out_with_its_reason() -> None:
    table, y = patients(9)
    found = compare(("GaussianNB", "KNeighborsClassifier"), table, y, inner_folds(table, y, 1, 0)[:, :], 0)
    small = np.concatenate([np.flatnonzero(y == 1)[:2], np.flatnonzero(y == 0)[:2]])
    few = compare(
        ("GaussianNB", "KNeighborsClassifier"),
        table[small],
        y[small],
        inner_folds(table[small], y[small], 1, 0),
        0,
    )
    assert found.failed == () and few.names == ("GaussianNB",)
    assert few.failed == ("KNeighborsClassifier",) and "neighbors" in few.reasons[0]
    with pytest.raises(InputError, match="no classifier could be fitted"):
        compare(
            ("KNeighborsClassifier",), table[small], y[small], inner_folds(table[small], y[small], 1, 0), 0
        )


def test_an_answer_that_is_no_number_is_taken_as_the_prevalence(monkeypatch: pytest.MonkeyPatch) -> None:
    table, y = patients()
    model, _ = PatientClassifier.learn(table, y, ("GaussianNB",), 0)
    monkeypatch.setattr(KeptClassifier, "score", lambda *_: np.array([np.nan, 1.0]))
    p = model.probability(np.ones((2, 4), dtype=np.int64), np.full((2, 3), 60.0))
    assert p[0] == y.mean() != 0.5 and p[1] != p[0]


def test_without_folds_the_reports_classifier_is_taken_as_it_is() -> None:
    table, y = patients(6)
    y = np.array([1, 0, 0, 0, 0, 0])
    model, compared = PatientClassifier.learn(table, y, comparable(), 0)
    assert model.chosen == "GaussianNB" and compared.names == ()
    assert np.array_equal(held_out_probability(compared, y), np.full(6, y.mean()))
    assert classifier_scores(compared, y, "GaussianNB") == []


def test_probabilities_are_meant_at_the_prevalence_of_the_training_patients() -> None:
    table, y = patients(90)
    for name in ("GaussianNB", "RidgeClassifier"):
        _, compared = PatientClassifier.learn(table, y, (name,), 0)
        assert held_out_probability(compared, y).mean() == pytest.approx(y.mean(), abs=0.03)


def test_without_a_cell_the_log_odds_fall_by_what_is_said_of_it() -> None:
    table, y = patients()
    model, _ = PatientClassifier.learn(table, y, ("LogisticRegression",), 0)
    counts, clinical = np.array([[3, 1, 0, 0], [0, 0, 0, 1]]), np.full((2, 3), 60.0)
    owner, cluster = np.array([0, 0, 0, 0, 1]), np.array([0, 1, 0, 0, 3])
    fall = model.left_out(counts, clinical, owner, cluster)
    for i in range(5):
        less = counts.copy()
        less[owner[i], cluster[i]] -= 1
        p, q = (model.probability(each, clinical)[owner[i]] for each in (counts, less))
        assert fall[i] == pytest.approx(np.log(p / (1 - p)) - np.log(q / (1 - q)), abs=1e-9)
    assert fall[0] == fall[2] == fall[3] > fall[1]


def test_held_out_patients_have_no_say_in_what_is_said_of_them() -> None:
    rng, y = np.random.default_rng(0), np.arange(60) % 2
    known = Comparison(("a", "b"), rng.normal(size=(2, 60)), np.zeros((2, 60), np.int8), np.arange(60) // 12)
    p = held_out_probability(known, y)
    held = known.fold == 1
    other = np.where(held, 1 - y, y)
    assert np.array_equal(held_out_probability(known, other)[held], p[held])
    assert not np.array_equal(held_out_probability(known, other)[~held], p[~held])
    assert held_out_probability(Comparison.of_nothing(4), y[:4]).tolist() == [0.5] * 4


def test_the_best_of_many_that_know_nothing_is_no_better_than_chance_on_the_held_out() -> None:
    rng, y = np.random.default_rng(1), np.arange(120) % 2
    found, flattered = [], []
    for _ in range(20):
        scores = rng.normal(size=(20, 120))
        many = Comparison(
            tuple(map(str, range(20))), scores, np.zeros((20, 120), np.int8), y * 0 + np.arange(120) // 24
        )
        found.append(auc(y, held_out_probability(many, y)))
        flattered.append(auc(y, scores[many.best(y)]))
    assert abs(np.mean(found) - 0.5) < 0.05 < np.mean(flattered) - 0.5


def test_a_comparison_follows_the_patients(compared: Comparison) -> None:
    order = np.random.default_rng(0).permutation(60)
    moved = compared.ordered(order)
    assert np.array_equal(moved.scores[:, order], compared.scores)
    assert np.array_equal(moved.said[:, order], compared.said)
    assert np.array_equal(moved.fold[order], compared.fold)


def test_scores_are_log_odds_or_the_decision_function() -> None:
    table, y = patients()
    x = np.nan_to_num(table)
    bayes, ridge = fit_classifier("GaussianNB", x, y, 0), fit_classifier("RidgeClassifier", x, y, 0)
    assert np.allclose(1 / (1 + np.exp(-scores(bayes, x))), bayes.predict_proba(x)[:, 1], atol=2e-6)
    assert np.array_equal(scores(ridge, x), ridge.decision_function(x))
    assert scores(ridge, x[:0]).shape == (0,)

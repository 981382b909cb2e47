from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lymphoscope.cohort.splits import Split, fixed_split, repeated_stratified, stratified_holdout
from lymphoscope.errors import InputError


def labels(malignant: int, reactive: int) -> np.ndarray:
    return np.random.default_rng(1).permutation(np.repeat([1, 0], [malignant, reactive]))


@given(st.integers(2, 40), st.integers(2, 40), st.integers(2, 10), st.integers(0, 99))
def test_every_patient_is_tested_once_per_repeat_and_never_trained_on(
    malignant: int, reactive: int, folds: int, seed: int
) -> None:
    y = labels(malignant, reactive)
    if folds > min(malignant, reactive):
        with pytest.raises(InputError, match=f"at most {min(malignant, reactive)} folds"):
            repeated_stratified(y, folds)
        return
    splits = repeated_stratified(y, folds, repeats=2, seed=seed)
    assert [(each.repeat, each.fold) for each in splits] == [(r, f) for r in (0, 1) for f in range(folds)]
    for repeat in (0, 1):
        tests = [each.test for each in splits if each.repeat == repeat]
        assert sorted(np.concatenate(tests)) == list(range(len(y)))
        for count in (
            [len(test) for test in tests],
            [y[test].sum() for test in tests],
            [(1 - y[test]).sum() for test in tests],
        ):
            assert max(count) - min(count) <= 1
    for each in splits:
        assert sorted(np.concatenate([each.train, each.test])) == list(range(len(y)))


def same(a: Split, b: Split) -> bool:
    return np.array_equal(a.train, b.train) and np.array_equal(a.test, b.test)


def test_the_seed_decides_and_more_repeats_change_nothing() -> None:
    y = labels(113, 50)
    first, more = repeated_stratified(y, repeats=2, seed=4), repeated_stratified(y, repeats=5, seed=4)
    assert all(same(a, b) for a, b in zip(first, more[:10], strict=True))
    assert not same(first[0], first[5])
    assert not same(first[0], repeated_stratified(y, repeats=1, seed=5)[0])


def test_holdout_is_130_to_33_in_proportion() -> None:
    y = labels(113, 50)
    (split,) = stratified_holdout(y, 33, seed=0)
    assert (len(split.train), len(split.test)) == (130, 33)
    assert y[split.test].sum() == 23
    assert not np.intersect1d(split.train, split.test).size
    assert same(split, stratified_holdout(y, 33, seed=0)[0])


@given(st.integers(2, 12), st.integers(2, 12), st.integers(2, 22))
def test_holdout_has_both_classes_on_both_sides_or_says_what_is_possible(
    malignant: int, reactive: int, size: int
) -> None:
    y = labels(malignant, reactive)
    if size > len(y) - 2:
        with pytest.raises(InputError, match=f"2 to {len(y) - 2} test patients"):
            stratified_holdout(y, size)
        return
    (split,) = stratified_holdout(y, size)
    assert len(split.test) == size
    assert set(y[split.test]) == set(y[split.train]) == {0, 1}


def test_fixed_split_reads_the_two_words() -> None:
    (split,) = fixed_split(["train", "Test ", "train", "test"])
    assert split.train.tolist() == [0, 2]
    assert split.test.tolist() == [1, 3]
    with pytest.raises(InputError, match=r"patient number 2.*'validation'"):
        fixed_split(["train", "validation"])
    with pytest.raises(InputError, match="2 train and 0 test"):
        fixed_split(["train", "train"])


def test_one_class_or_one_patient_of_a_class_is_an_error_that_helps() -> None:
    with pytest.raises(InputError, match=r"no labelled patient is reactive"):
        repeated_stratified(np.ones(10))
    with pytest.raises(InputError, match=r"No cross-validation is possible"):
        repeated_stratified(labels(10, 1))
    with pytest.raises(ValueError, match="unlabelled"):
        repeated_stratified([1, 0, -1])

"""Merging, and the numbers of a patient, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lymphoscope.errors import InputError
from lymphoscope.models.clusters.features import (
    PatientFeatures,
    cluster_counts,
    feature_names,
    patient_table,
)
from lymphoscope.models.clusters.merging import confusion, merge_clusters, merged, most_confused

CELLS = np.array(
    [
        [0.6, 0.3, 0.1, 0.0],
        [0.5, 0.4, 0.1, 0.0],
        [0.6, 0.1, 0.3, 0.0],
        [0.4, 0.6, 0.0, 0.0],
        [0.0, 0.1, 0.7, 0.2],
        [0.0, 0.0, 0.4, 0.6],
    ]
)
"""First and second choices: 0-1, 0-1, 0-2, 1-0, 2-3, 3-2."""


def test_confusion_counts_first_and_second_choices() -> None:
    expected = np.zeros((4, 4))
    expected[0, 1], expected[0, 2], expected[1, 0], expected[2, 3], expected[3, 2] = 2, 1, 1, 1, 1
    assert np.array_equal(confusion(CELLS), expected)


def test_the_most_confused_pair_is_that_of_the_largest_share() -> None:
    # 0 and 1: 3 of 4 cells; 2 and 3: 2 of 2 cells. The larger number is not the larger share.
    assert most_confused(confusion(CELLS)) == (2, 3)


def test_merging_by_hand() -> None:
    assert merge_clusters(CELLS, 4).tolist() == [0, 1, 2, 3]
    assert merge_clusters(CELLS, 3).tolist() == [0, 1, 2, 2]
    assert merge_clusters(CELLS, 2).tolist() == [0, 0, 1, 1]
    assert merge_clusters(CELLS, 1).tolist() == [0, 0, 0, 0]
    assert np.allclose(merged(CELLS, np.array([0, 0, 1, 1]))[:2], [[0.9, 0.1], [0.9, 0.1]])


def test_confusion_is_counted_anew_after_each_merging() -> None:
    # After 0 and 1 are merged, what they say against 2 is that of both together.
    cells = np.array([[0.45, 0.35, 0.2], [0.35, 0.45, 0.2], [0.1, 0.2, 0.7]])
    assert merge_clusters(cells, 2).tolist() == [0, 0, 1]
    assert np.allclose(confusion(merged(cells, np.array([0, 0, 1]))), [[0, 2], [1, 0]])


def test_a_cluster_without_cells_goes_first_to_the_one_that_has_it_second() -> None:
    cells = np.array([[0.5, 0.4, 0.1, 0.0], [0.4, 0.5, 0.1, 0.0], [0.0, 0.0, 0.3, 0.7], [0.0, 0.0, 0.1, 0.9]])
    assert most_confused(confusion(cells)) == (2, 3)  # although 0 and 1 are more often mistaken
    assert merge_clusters(cells, 3).tolist() == [0, 1, 2, 2]
    nobody = np.array([[0.1, 0.0, 0.9], [0.1, 0.0, 0.9]])
    assert merge_clusters(nobody, 2).tolist() == [0, 1, 0]
    assert merge_clusters(nobody, 1).tolist() == [0, 0, 0]


@pytest.mark.parametrize("wanted", [0, 5])
def test_more_clusters_than_there_are_cannot_be_wanted(wanted: int) -> None:
    with pytest.raises(InputError, match="merged into fewer"):
        merge_clusters(CELLS, wanted)


def test_a_patients_numbers_by_hand() -> None:
    counts = cluster_counts(np.array([0, 0, 0, 1, 2, 2]), np.array([0, 4, 4, 6]), 3)
    assert counts.tolist() == [[3, 1, 0], [0, 0, 0], [0, 0, 2]]
    clinical = np.array([[60.0, 1.0, 8.0], [50.0, 0.0, 9.0], [np.nan, 0.0, 20.0]])
    table = patient_table(counts, clinical)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert table[0].tolist() == pytest.approx([0.75, 0.25, 0.0, entropy, 2, 1.0, 8.0, 60.0])
    assert np.isnan(table[1, :5]).all() and table[1, 5:].tolist() == [0.0, 9.0, 50.0]
    assert table[2, :7].tolist() == pytest.approx([0, 0, 1, 0, 1, 0, 20]) and np.isnan(table[2, 7])


def test_there_are_21_numbers_with_15_clusters_and_in_this_order() -> None:
    names = feature_names(15)
    assert len(names) == 21
    assert names[0] == "cluster_1" and names[14] == "cluster_15"
    assert names[15:] == ("entropy", "variety", "outliers", "sex", "lymphocyte_count", "age")
    counts = np.ones((4, 15), dtype=np.int64)
    table = patient_table(counts, np.zeros((4, 3)))
    assert PatientFeatures.fit(table).inputs(table).shape == (4, 21)


def test_outliers_are_numbers_above_the_training_patients_90th_percentile() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 9, (40, 2))
    clinical = np.column_stack([rng.normal(60, 9, 40), rng.integers(0, 2, 40), rng.normal(9, 2, 40)])
    training = patient_table(counts, clinical)
    learned = PatientFeatures.fit(training)
    new = patient_table(np.array([[30, 1]]), np.array([[99.0, 0.0, np.nan]]))
    high = np.quantile(training, 0.9, axis=0)
    expected = sum(bool(value > limit) for value, limit in zip(new[0], high, strict=True))
    assert learned.table(new)[0, 4] == expected == 2  # the first proportion and the age; no missing count
    assert learned.table(training)[:, 4].tolist() == [(row > high).sum() for row in training]


def test_inputs_run_from_0_to_1_over_the_training_patients_and_have_no_gaps() -> None:
    counts = np.array([[1, 1], [4, 0], [0, 0], [0, 3]])
    clinical = np.array([[60.0, 1.0, 8.0], [np.nan, 1.0, 9.0], [70.0, 1.0, np.nan], [80.0, 1.0, 12.0]])
    table = patient_table(counts, clinical)
    learned = PatientFeatures.fit(table)
    x = learned.inputs(table)
    assert np.isfinite(x).all() and x.min() == 0 and x.max() == 1
    assert (x[:, 5] == 0).all()  # all are men
    assert x[1, 7] == pytest.approx((70 - 60) / 20)  # a missing age is the mean
    assert x[2, 0] == pytest.approx(0.5)  # without cells: the mean proportion
    far = learned.inputs(patient_table(np.array([[1, 0]]), np.array([[200.0, 0.0, 1.0]])))
    assert far.min() == 0 and far.max() == 1
    nothing = patient_table(counts, np.full((4, 3), np.nan))
    assert (PatientFeatures.fit(nothing).inputs(nothing)[:, 5:] == 0).all()

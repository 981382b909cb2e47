from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lymphoscope.cohort.bags import IntArray
from lymphoscope.errors import InputError
from lymphoscope.training.balancing import (
    Balance,
    BalanceCounts,
    By,
    balance_counts,
    batches,
    class_weights,
    epoch_cells,
    epoch_patients,
    patient_batches,
)

BALANCES: tuple[Balance, ...] = get_args(Balance)
BYS: tuple[By, ...] = get_args(By)
balances, bys, seeds = st.sampled_from(BALANCES), st.sampled_from(BYS), st.integers(0, 999)
limits = st.none() | st.integers(1, 12)


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[IntArray, IntArray]:
    """Cells per patient and labels; both classes have a patient with cells, some patients may have none."""
    counts = draw(st.lists(st.integers(0, 9), min_size=0, max_size=12))
    labels = draw(st.lists(st.integers(0, 1), min_size=len(counts), max_size=len(counts)))
    counts += [draw(st.integers(1, 9)), draw(st.integers(1, 9))]
    order = draw(st.permutations(range(len(counts))))
    y = np.array([*labels, 0, 1])[order]
    return np.array(counts)[order], y


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def owners(counts: IntArray, cells: IntArray) -> IntArray:
    return np.repeat(np.arange(len(counts)), counts)[cells]


def per_class(labels: Any) -> list[int]:
    return np.bincount(labels, minlength=2).tolist()


class TestCellsOfAnEpoch:
    @given(cohort=cohorts(), balance=balances, by=bys, limit=limits, seed=seeds)
    def test_are_cells_that_exist_and_the_same_for_the_same_seed(
        self, cohort: tuple[IntArray, IntArray], balance: Balance, by: By, limit: int | None, seed: int
    ) -> None:
        counts, y = cohort
        first, second = (
            epoch_cells(counts, y, balance=balance, by=by, cells_per_patient=limit, rng=rng(seed))
            for _ in range(2)
        )
        assert first.dtype == np.int64 and np.array_equal(first, second)
        assert len(first) > 0 and first.min() >= 0 and first.max() < counts.sum()

    @given(cohort=cohorts(), balance=st.sampled_from(["none", "class-weights"]), by=bys, seed=seeds)
    def test_without_drawing_are_all_cells_once(
        self, cohort: tuple[IntArray, IntArray], balance: Balance, by: By, seed: int
    ) -> None:
        counts, y = cohort
        cells = epoch_cells(counts, y, balance=balance, by=by, rng=rng(seed))
        assert np.array_equal(np.sort(cells), np.arange(counts.sum()))

    @given(cohort=cohorts(), balance=st.sampled_from(["none", "class-weights"]), by=bys, limit=limits)
    def test_of_a_patient_are_at_most_the_limit_and_none_twice(
        self, cohort: tuple[IntArray, IntArray], balance: Balance, by: By, limit: int | None
    ) -> None:
        counts, y = cohort
        cells = epoch_cells(counts, y, balance=balance, by=by, cells_per_patient=limit, rng=rng())
        assert len(np.unique(cells)) == len(cells)
        wanted = np.minimum(counts, limit or 99)
        assert np.array_equal(np.bincount(owners(counts, cells), minlength=len(y)), wanted)

    @given(cohort=cohorts(), limit=limits, seed=seeds)
    def test_oversampled_by_cell_are_as_many_of_each_class_and_none_is_lost(
        self, cohort: tuple[IntArray, IntArray], limit: int | None, seed: int
    ) -> None:
        counts, y = cohort
        settings: dict[str, Any] = {"by": "cell", "cells_per_patient": limit}
        plain = epoch_cells(counts, y, rng=rng(seed), **settings)
        cells = epoch_cells(counts, y, balance="oversample", rng=rng(seed), **settings)
        assert per_class(y[owners(counts, cells)]) == [max(per_class(y[owners(counts, plain)]))] * 2
        times = np.bincount(cells, minlength=counts.sum())
        for label in (0, 1):
            of_class = times[(y[owners(counts, np.arange(counts.sum()))] == label) & (times > 0)]
            assert of_class.max() - of_class.min() <= 1
        assert np.count_nonzero(times) == len(plain)

    @given(cohort=cohorts(), limit=limits, seed=seeds)
    def test_undersampled_by_cell_are_as_many_of_each_class_and_none_twice(
        self, cohort: tuple[IntArray, IntArray], limit: int | None, seed: int
    ) -> None:
        counts, y = cohort
        settings: dict[str, Any] = {"by": "cell", "cells_per_patient": limit}
        plain = epoch_cells(counts, y, rng=rng(seed), **settings)
        cells = epoch_cells(counts, y, balance="undersample", rng=rng(seed), **settings)
        assert per_class(y[owners(counts, cells)]) == [min(per_class(y[owners(counts, plain)]))] * 2
        assert len(np.unique(cells)) == len(cells)

    @given(cohort=cohorts(), limit=limits, seed=seeds)
    def test_of_a_weighted_sampler_make_an_epoch_of_the_same_length(
        self, cohort: tuple[IntArray, IntArray], limit: int | None, seed: int
    ) -> None:
        counts, y = cohort
        drawn = epoch_cells(
            counts, y, balance="weighted-sampler", by="cell", cells_per_patient=limit, rng=rng(seed)
        )
        assert len(drawn) == np.minimum(counts, limit or 99).sum()

    @pytest.mark.parametrize("by", BYS)
    def test_of_a_weighted_sampler_come_from_both_classes_alike(self, by: By) -> None:
        counts, y = np.full(2000, 2), np.arange(2000) % 10 == 0
        cells = epoch_cells(counts, y.astype(int), balance="weighted-sampler", by=by, rng=rng())
        assert abs(y[owners(counts, cells)].mean() - 0.5) < 0.06

    def test_are_drawn_anew_in_every_epoch(self) -> None:
        counts, y, source = np.array([50, 50]), np.array([0, 1]), rng()
        first, second = (epoch_cells(counts, y, cells_per_patient=10, rng=source) for _ in range(2))
        assert set(first.tolist()) != set(second.tolist())

    def test_of_a_patient_are_all_equally_likely(self) -> None:
        counts, y, source = np.array([3, 5]), np.array([0, 1]), rng()
        drawn = [epoch_cells(counts, y, cells_per_patient=2, rng=source) for _ in range(3000)]
        shares = np.bincount(np.concatenate(drawn), minlength=8) / 3000
        np.testing.assert_allclose(shares, [2 / 3] * 3 + [2 / 5] * 5, atol=0.05)

    def test_come_in_random_order(self) -> None:
        counts = np.full(100, 10)
        for balance in BALANCES:
            for by in BYS:
                cells = epoch_cells(counts, np.arange(100) % 4 // 3, balance=balance, by=by, rng=rng())
                place = np.arange(len(cells))
                assert abs(np.corrcoef(place, cells)[0, 1]) < 0.15
                assert abs(np.corrcoef(place, owners(counts, cells) % 4 // 3)[0, 1]) < 0.15

    def test_of_a_patient_drawn_twice_are_drawn_twice(self) -> None:
        """One malignant patient against four: each of its four turns gives a draw of its own."""
        counts, y = np.full(5, 100), np.array([0, 0, 0, 0, 1])
        cells = epoch_cells(counts, y, balance="oversample", cells_per_patient=10, rng=rng())
        of_it = cells[cells >= 400]
        assert len(cells) == 80 and len(of_it) == 40 and len(np.unique(of_it)) > 20


class TestPatientsOfAnEpoch:
    @given(cohort=cohorts(), balance=balances, seed=seeds)
    def test_exist_and_are_the_same_for_the_same_seed(
        self, cohort: tuple[IntArray, IntArray], balance: Balance, seed: int
    ) -> None:
        _, y = cohort
        first, second = (epoch_patients(y, balance=balance, rng=rng(seed)) for _ in range(2))
        assert np.array_equal(first, second) and first.min() >= 0 and first.max() < len(y)
        sizes = per_class(y)
        wanted = {"oversample": [max(sizes)] * 2, "undersample": [min(sizes)] * 2}.get(balance, sizes)
        if balance == "weighted-sampler":
            assert len(first) == len(y)
        else:
            assert per_class(y[first]) == wanted
        if balance not in ("oversample", "weighted-sampler"):
            assert len(np.unique(first)) == len(first)

    @given(cohort=cohorts(), size=st.integers(1, 6), limit=limits, seed=seeds)
    def test_come_in_batches_with_their_cells(
        self, cohort: tuple[IntArray, IntArray], size: int, limit: int | None, seed: int
    ) -> None:
        counts, y = cohort
        patients = epoch_patients(y, balance="oversample", rng=rng(seed))
        found = list(
            patient_batches(counts, patients, batch_size=size, cells_per_patient=limit, rng=rng(seed))
        )
        assert np.array_equal(np.concatenate([batch.patients for batch in found]), patients)
        for batch in found:
            assert 1 <= len(batch.patients) <= size and len(batch.cells) == batch.offsets[-1]
            wanted = np.minimum(counts[batch.patients], limit or 99)
            assert np.array_equal(np.diff(batch.offsets), wanted)
            assert np.array_equal(owners(counts, batch.cells), np.repeat(batch.patients, wanted))
            slots = np.repeat(np.arange(len(wanted)), wanted)
            assert len(np.unique(np.stack([slots, batch.cells]), axis=1)[0]) == len(batch.cells)

    def test_give_other_cells_in_every_step(self) -> None:
        counts, patients, source = np.array([100]), np.array([0, 0]), rng()
        one, two = patient_batches(counts, patients, batch_size=1, cells_per_patient=10, rng=source)
        assert not np.array_equal(one.cells, two.cells)


class TestBatches:
    @given(n=st.integers(0, 300), size=st.integers(1, 40))
    def test_are_even_and_keep_the_order(self, n: int, size: int) -> None:
        found = batches(np.arange(n), size)
        assert np.concatenate([np.arange(0), *found]).tolist() == list(range(n))
        sizes = [len(each) for each in found]
        assert len(sizes) == -(-n // size)
        assert not sizes or (max(sizes) <= size and max(sizes) - min(sizes) <= 1)


class TestClassWeights:
    def test_are_one_without_balancing_by_weights(self) -> None:
        for balance in BALANCES:
            if balance != "class-weights":
                assert class_weights(np.array([0, 0, 1]), balance=balance) == (1.0, 1.0)

    @given(reactive=st.integers(1, 200), malignant=st.integers(1, 200))
    def test_give_both_classes_the_same_sum(self, reactive: int, malignant: int) -> None:
        y = np.repeat([0, 1], [reactive, malignant])
        weights = class_weights(y, balance="class-weights")
        assert reactive * weights[0] == pytest.approx(malignant * weights[1])
        assert reactive * weights[0] + malignant * weights[1] == pytest.approx(len(y))

    @pytest.mark.parametrize("balance", BALANCES)
    def test_of_the_malignant_comes_on_top(self, balance: Balance) -> None:
        y = np.array([0, 1, 1])
        reactive, malignant = class_weights(y, balance=balance)
        assert class_weights(y, balance=balance, positive_weight=2) == (reactive, 2 * malignant)


class TestCounts:
    COUNTS, Y = np.array([4, 4, 4, 0, 10, 2]), np.array([0, 0, 0, 0, 1, 1])

    @pytest.mark.parametrize(
        ("balance", "by", "patients", "cells"),
        [
            ("none", "patient", (3, 2), (9, 5)),
            ("class-weights", "cell", (3, 2), (9, 5)),
            ("oversample", "patient", (3, 3), None),
            ("undersample", "patient", (2, 2), (6, 5)),
            ("oversample", "cell", (3, 2), (9, 9)),
            ("undersample", "cell", None, (5, 5)),
        ],
    )
    def test_of_an_epoch(self, balance: Balance, by: By, patients: Any, cells: Any) -> None:
        found = balance_counts(self.COUNTS, self.Y, balance=balance, by=by, cells_per_patient=3, rng=rng())
        assert found.patients_before == (3, 2) and found.cells_before == (12, 12)
        assert patients is None or found.patients_after == patients
        assert cells is None or found.cells_after == cells

    @given(cohort=cohorts(), balance=balances, by=bys, limit=limits, seed=seeds)
    def test_are_those_of_the_epoch_drawn_from_the_same_seed(
        self, cohort: tuple[IntArray, IntArray], balance: Balance, by: By, limit: int | None, seed: int
    ) -> None:
        counts, y = cohort
        settings: dict[str, Any] = {"balance": balance, "by": by, "cells_per_patient": limit}
        found = balance_counts(counts, y, rng=rng(seed), **settings)
        cells = epoch_cells(counts, y, rng=rng(seed), **settings)
        assert isinstance(found, BalanceCounts)
        assert list(found.cells_after) == per_class(y[owners(counts, cells)])
        if by == "patient" and balance in ("oversample", "undersample"):
            assert found.patients_after[0] == found.patients_after[1]


class TestBadInput:
    COUNTS, Y = np.array([2, 2]), np.array([0, 1])

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"balance": "smote"}, "balance is unknown; found 'smote'; allowed: none, oversample"),
            ({"by": "image"}, "by is unknown; found 'image'; allowed: patient, cell"),
            ({"cells_per_patient": 0}, "cells_per_patient is out of range; found 0; allowed: at least 1"),
            ({"y": np.array([0, 2])}, "found [0, 2]; allowed: 1 and 0"),
            ({"y": np.array([0])}, "one label per patient; found 1; allowed: 2 labels"),
            ({"counts": np.array([0, 0])}, "an epoch needs a patient with cells"),
            ({"counts": np.array([0, 0]), "by": "cell"}, "an epoch needs a cell"),
            ({"balance": "oversample", "y": np.array([1, 1])}, "found '0 reactive, 2 malignant'"),
            ({"balance": "weighted-sampler", "counts": np.array([2, 0])}, "patient with cells of each"),
        ],
    )
    def test_is_refused_with_found_and_allowed(self, settings: dict[str, Any], message: str) -> None:
        given_: dict[str, Any] = {"counts": self.COUNTS, "y": self.Y, "rng": rng(), **settings}
        with pytest.raises(InputError) as error:
            epoch_cells(**given_)
        assert message in str(error.value)

    def test_weights_need_both_classes_or_a_positive_number(self) -> None:
        with pytest.raises(InputError, match="needs both classes"):
            class_weights(np.array([1, 1]), balance="class-weights")
        with pytest.raises(InputError, match="positive_weight is out of range"):
            class_weights(np.array([0, 1]), positive_weight=0.0)

    def test_a_batch_holds_something(self) -> None:
        with pytest.raises(InputError, match="batch size is out of range"):
            batches(np.arange(3), 0)

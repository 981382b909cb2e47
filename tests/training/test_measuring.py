"""What an epoch is judged by: classes weigh in validation what they weigh in training."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from lymphoscope.errors import InputError
from lymphoscope.models.registry import create_model
from lymphoscope.training.balancing import epoch_patients
from lymphoscope.training.choice import kept_epochs, learning_rate, out_of_patience, selected_epoch
from lymphoscope.training.curves import Epoch, Measured
from lymphoscope.training.machine import beside, device_named, fastest_precision, same_bits
from lymphoscope.training.measuring import (
    Tally,
    class_shares,
    class_weights,
    counted_labels,
    prior_log_odds,
    training_loss,
)
from lymphoscope.training.prediction import CellData
from lymphoscope.training.settings import TrainingSettings

Y = np.array([1, 1, 1, 0])


def odds(y: Any, **settings: Any) -> float:
    labels = np.asarray(y)
    counts = np.asarray(settings.pop("counts", np.ones(len(labels), dtype=np.int64)))
    return math.exp(prior_log_odds(labels, np.arange(len(labels)), counts, TrainingSettings(**settings)))


@pytest.mark.parametrize("balance", ["oversample", "undersample", "weighted-sampler", "class-weights"])
def test_balanced_training_has_even_odds_and_so_has_validation(balance: Any) -> None:
    settings = TrainingSettings(balance=balance)
    reactive, malignant = class_shares(Y, settings)
    assert reactive * (Y == 0).sum() == pytest.approx(malignant * (Y == 1).sum())
    assert odds(Y, balance=balance) == pytest.approx(1)


def test_classes_are_counted_by_patient_or_by_the_cells_that_are_drawn() -> None:
    counts, everybody = np.array([5, 1, 0, 9]), np.arange(4)
    by_cell: Any = {"balance": "class-weights", "balance_by": "cell"}
    assert counted_labels(Y, everybody, counts, TrainingSettings()).tolist() == [1, 1, 0], "one has no cells"
    labels = counted_labels(Y, everybody, counts, TrainingSettings(cells_per_patient=4, **by_cell))
    assert labels.tolist() == [1] * 5 + [0] * 4
    reactive, malignant = class_weights(labels, TrainingSettings(**by_cell))
    assert reactive * 4 == pytest.approx(malignant * 5)
    by_patient = TrainingSettings(unit="patient", **by_cell)
    assert counted_labels(Y, everybody, counts, by_patient).tolist() == [1, 1, 0]
    assert odds(Y, counts=counts, unit="patient", **by_cell) == pytest.approx(1)
    assert odds(Y, counts=counts, unit="patient") == pytest.approx(2)


def test_odds_follow_the_classes_the_weight_and_the_drawing() -> None:
    assert odds(Y) == pytest.approx(3)
    assert odds(Y, positive_weight=2.0) == pytest.approx(6)
    assert odds(Y, positive_weight=2.0, balance="oversample") == pytest.approx(2)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weight", [1.0, 2.0])
@pytest.mark.parametrize("balance", ["none", "oversample", "class-weights"])
@pytest.mark.parametrize("kind", ["cross-entropy", "focal"])
def test_odds_are_where_the_loss_of_a_network_that_knows_nobody_is_least(
    smoothing: float, weight: float, balance: Any, kind: Any
) -> None:
    settings = TrainingSettings(label_smoothing=smoothing, positive_weight=weight, balance=balance, loss=kind)
    found = math.log(odds(Y, label_smoothing=smoothing, positive_weight=weight, balance=balance, loss=kind))
    drawn = torch.from_numpy(Y[epoch_patients(Y, balance=balance, rng=np.random.default_rng(0))])

    def loss(z: float) -> float:
        logits = torch.tensor([[0.0, z]]).double().expand(len(drawn), 2)
        return float(training_loss(logits, drawn, class_weights(Y, settings), settings))

    assert loss(found) == pytest.approx(min(map(loss, np.linspace(-4, 4, 801))), abs=1e-4)
    assert loss(found) < min(loss(found - 0.1), loss(found + 0.1))


def test_odds_follow_the_cells_that_are_shown() -> None:
    counts = [10, 4, 2, 8]
    assert odds(Y, counts=counts) == pytest.approx(16 / 8)
    assert odds(Y, counts=counts, cells_per_patient=4) == pytest.approx(10 / 4)
    assert odds(Y, counts=counts, unit="patient") == pytest.approx(3)
    # Balanced by patient, each malignant one weighs a third; their cells are still more or fewer.
    assert odds(Y, counts=counts, balance="oversample") == pytest.approx(16 / 8 / 3)
    assert odds(Y, counts=counts, balance="oversample", balance_by="cell") == pytest.approx(1)


def test_patients_of_one_class_weigh_as_they_are() -> None:
    for balance in ("none", "oversample", "class-weights"):
        settings = TrainingSettings(balance=balance)  # type: ignore[arg-type]
        assert class_shares(np.ones(3, dtype=np.int64), settings) == (1.0, 1.0)
        assert class_weights(np.ones(3, dtype=np.int64), settings) == (1.0, 1.0)


def test_scores_are_cut_where_asked() -> None:
    score = np.array([0.5, 1.5, -1.0, 0.2])
    low, high = (Measured.of(0.1, np.array([0, 1, 0, 1]), score, cut) for cut in (0.0, 1.0))
    assert (low.sensitivity, low.specificity) == (1.0, 0.5)
    assert (high.sensitivity, high.specificity) == (0.5, 1.0)


def test_an_epochs_loss_is_the_mean_over_examples() -> None:
    tally = Tally()
    tally.add(3, np.array([0, 0, 1]), torch.zeros(3, 2), torch.tensor(1.0))
    tally.add(1, np.array([1]), torch.zeros(1, 2), torch.tensor(5.0))
    assert tally.images == 4
    assert tally.measured(np.array([1, 0]), "logit", 0.0).loss == pytest.approx(2.0)


def history(*losses: float) -> list[Epoch]:
    return [
        Epoch(i, 0.1, Measured(x, 0.5, 0.5, 0.5), Measured(x, 0.5, 0.5, 0.5), 1, 1.0)
        for i, x in enumerate(losses, start=1)
    ]


def test_the_best_epoch_is_kept_and_patience_counts_from_it() -> None:
    settings = TrainingSettings(epochs=9, patience=2)
    seen = history(3, 1, 2, 1)
    assert selected_epoch(seen, settings) == 2
    assert kept_epochs(seen, settings) == [2]
    assert [out_of_patience(seen[:n], settings) for n in (0, 1, 2, 3, 4)] == [False] * 4 + [True]
    assert kept_epochs(seen, TrainingSettings(select="last")) == [4]


def test_where_no_balanced_accuracy_is_known_the_last_epoch_is_kept() -> None:
    nan = float("nan")
    seen = [replace(each, validation=Measured(1.0, nan, 1.0, nan)) for each in history(3, 1, 2)]
    settings = TrainingSettings(select_by="balanced-accuracy")
    assert selected_epoch(seen, settings) == 3
    seen[1] = replace(seen[1], validation=Measured(1.0, 0.5, 1.0, 0.0))
    assert selected_epoch(seen, settings) == 2


def test_snapshots_divide_the_epochs_and_train_to_the_end() -> None:
    settings = TrainingSettings(epochs=7, snapshots=3, patience=1, learning_rate=1.0)
    assert kept_epochs(history(*range(7)), settings) == [2, 5, 7]
    assert kept_epochs(history(*range(6)), settings) == [2, 5]
    assert not out_of_patience(history(1, 2, 3, 4), settings)
    rates = [learning_rate(number, settings) for number in range(1, 8)]
    assert [number for number, rate in enumerate(rates, start=1) if rate == 1.0] == [1, 3, 6]
    few = TrainingSettings(epochs=2, snapshots=5)
    assert kept_epochs(history(1, 2), few) == [1, 2]


def test_the_first_cycle_of_snapshots_begins_with_the_warm_up() -> None:
    settings = TrainingSettings(epochs=8, snapshots=2, warmup_epochs=1, learning_rate=1.0)
    rates = [learning_rate(number, settings) for number in range(1, 9)]
    assert rates[:3] == pytest.approx([0.5, 1.0, 0.75])
    assert rates[4:6] == pytest.approx([1.0, (1 + math.cos(math.pi / 4)) / 2])


def test_a_rise_longer_than_the_training_is_cut() -> None:
    settings = TrainingSettings(epochs=2, warmup_epochs=5, learning_rate=1.0)
    assert [learning_rate(number, settings) for number in (1, 2)] == [0.5, 1.0]


def test_sums_on_a_graphics_processor_are_in_order_and_exact_only_within() -> None:
    rounded = torch.backends.cudnn.allow_tf32
    for device, inside in (("cuda", True), ("cpu", False)):
        with same_bits(torch.device(device)):
            assert torch.are_deterministic_algorithms_enabled() == inside
            assert torch.backends.cudnn.allow_tf32 == (rounded and not inside)
        assert not torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.backends.cudnn.allow_tf32 == rounded


def test_cells_stay_where_they_are_on_a_processor() -> None:
    data = CellData(
        torch.zeros(2, 4, 4, 3, dtype=torch.uint8), np.array([0]), np.array([2]), torch.zeros(1, 3)
    )
    assert beside(data, torch.device("cpu")) is data


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a graphics processor")
def test_a_graphics_processor_that_is_not_there_is_refused_before_the_work() -> None:
    assert device_named("auto") == device_named("cpu") == torch.device("cpu")
    with pytest.raises(InputError, match="no graphics processor"):
        create_model("cnn-clinical", device="cuda").check_network()  # type: ignore[attr-defined]


_AMD, _INTEL = "AMD EPYC", "Intel(R) Xeon(R) Processor"


@pytest.mark.parametrize(
    ("capabilities", "taken"),
    [
        ({"cpu_name": _AMD, "avx512_bf16": True, "amx_bf16": False}, "bfloat16"),
        ({"cpu_name": _INTEL, "avx512_bf16": True, "amx_bf16": True}, "bfloat16"),
        ({"cpu_name": _INTEL, "avx512_bf16": True, "amx_bf16": False}, "float32"),
        ({"cpu_name": _AMD, "avx512_bf16": False, "amx_bf16": False}, "float32"),
        ({"architecture": "aarch64"}, "float32"),
    ],
)
def test_precision_is_reduced_only_on_kinds_of_processor_that_are_faster_so(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, object], taken: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert fastest_precision(torch.device("cpu")) == taken

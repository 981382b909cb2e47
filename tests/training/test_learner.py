"""What steps a network, and the average of its weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lymphoscope.training.learner import Learner
from lymphoscope.training.settings import TrainingSettings


def learner(average: float = 0.0, **settings: float) -> Learner:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    return Learner(network, TrainingSettings(average=average, learning_rate=0.1, **settings))  # type: ignore[arg-type]


def step(learner: Learner, seed: int) -> None:
    images = torch.randn(8, 3, generator=torch.Generator().manual_seed(seed))
    learner.step(learner.network.train()(images).square().mean())


def test_the_average_remembers_the_first_steps_less() -> None:
    seen = learner(average=0.5)
    expected = seen.network[0].weight.detach().clone()  # type: ignore[index]
    for number in range(1, 13):
        step(seen, number)
        memory = min(0.5, number / (number + 9))
        expected = memory * expected + (1 - memory) * seen.network[0].weight.detach()  # type: ignore[index]
    assert torch.allclose(seen.weights()["0.weight"], expected, atol=1e-6)
    assert seen.judged is not seen.network
    counted = seen.judged.state_dict()["1.num_batches_tracked"]
    assert counted == 12, "counters are taken over, not averaged"
    assert not any(parameter.requires_grad for parameter in seen.judged.parameters())


def test_without_an_average_the_network_is_judged_itself() -> None:
    assert (plain := learner()).judged is plain.network
    assert not any(name.startswith("average.") for name in plain.tensors())


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_training_goes_on_with_the_same_bits(average: float) -> None:
    whole, first, second = (learner(average) for _ in range(3))
    for seed in range(6):
        step(whole, seed)
    for seed in range(3):
        step(first, seed)
    kept = {name: value.clone() for name, value in first.tensors().items()}
    assert second.take_up(kept)
    for seed in range(3, 6):
        step(second, seed)
    for name, value in whole.weights().items():
        assert torch.equal(value, second.weights()[name]), name


def test_tensors_of_another_network_change_nothing() -> None:
    one = learner(0.9)
    before = one.weights()
    assert not one.take_up(learner().tensors())
    assert all(torch.equal(value, before[name]) for name, value in one.weights().items())


def test_gradients_are_clipped() -> None:
    free, clipped = learner(optimiser="sgd"), learner(optimiser="sgd", clip_norm=1e-6)  # type: ignore[arg-type]
    start = free.weights()["0.weight"]
    images = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    for each in (free, clipped):
        each.step(each.network(images).square().sum())
    assert torch.allclose(clipped.weights()["0.weight"], start, atol=1e-5)
    assert not torch.allclose(free.weights()["0.weight"], start, atol=1e-5)

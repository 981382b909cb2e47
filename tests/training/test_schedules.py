from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lymphoscope.errors import InputError
from lymphoscope.training.schedules import (
    OptimiserKind,
    ScheduleKind,
    learning_rate_at,
    make_optimiser,
)

OPTIMISERS: tuple[OptimiserKind, ...] = ("adam", "adamw", "sgd")
SCHEDULES: tuple[ScheduleKind, ...] = ("constant", "exponential", "cosine")


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def steps(model: nn.Module, optimiser: torch.optim.Optimizer, n: int, start: int = 0) -> list[torch.Tensor]:
    for i in range(start, start + n):
        x = torch.randn(16, 3, generator=torch.Generator().manual_seed(i))
        optimiser.zero_grad()
        ((model(x) - x.sum(1, keepdim=True)) ** 2).mean().backward()
        optimiser.step()
    return [each.detach().clone() for each in model.parameters()]


class TestOptimisers:
    @pytest.mark.parametrize(
        ("kind", "reference"),
        [
            (
                "adam",
                lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.9, 0.999), weight_decay=0.1, fused=False),
            ),
            ("adamw", lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, fused=False)),
            ("sgd", lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1)),
        ],
    )
    def test_take_torchs_own_steps(self, kind: OptimiserKind, reference: Any) -> None:
        ours, torchs = network(), network()
        optimiser = make_optimiser(ours.parameters(), kind=kind, learning_rate=0.01, weight_decay=0.1)
        for found, wanted in zip(
            steps(ours, optimiser, 20), steps(torchs, reference(torchs.parameters()), 20), strict=True
        ):
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)

    @pytest.mark.parametrize("kind", OPTIMISERS)
    def test_go_on_from_a_saved_state_to_the_same_bits(self, kind: OptimiserKind) -> None:
        def rate(epoch: int) -> float:
            return learning_rate_at(epoch, 10, 0.01, kind="exponential")

        unbroken = network()
        optimiser = make_optimiser(unbroken.parameters(), kind=kind, learning_rate=rate(0))
        steps(unbroken, optimiser, 5)
        weights, state = copy.deepcopy((unbroken.state_dict(), optimiser.state_dict()))
        optimiser.param_groups[0]["lr"] = rate(1)
        wanted = steps(unbroken, optimiser, 5, start=5)

        resumed = network(seed=1)
        resumed.load_state_dict(weights)
        again = make_optimiser(resumed.parameters(), kind=kind, learning_rate=rate(0))
        again.load_state_dict(state)
        again.param_groups[0]["lr"] = rate(1)
        assert all(map(torch.equal, steps(resumed, again, 5, start=5), wanted))

    @pytest.mark.parametrize("kind", OPTIMISERS)
    def test_weight_decay_shrinks_weights_without_gradient(self, kind: OptimiserKind) -> None:
        weight = nn.Parameter(torch.full((3,), 2.0))
        optimiser = make_optimiser([weight], kind=kind, learning_rate=0.01, weight_decay=0.1)
        for _ in range(5):
            weight.grad = torch.zeros(3)
            optimiser.step()
        assert (weight < 2.0).all()

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"kind": "lion"}, "optimiser is unknown; found 'lion'; allowed: adam, adamw, sgd"),
            ({"learning_rate": 0.0}, "learning_rate is out of range; found 0.0; allowed: above 0"),
            ({"weight_decay": -1.0}, "weight_decay is out of range; found -1.0; allowed: at least 0"),
        ],
    )
    def test_an_error_names_setting_found_and_allowed(self, settings: Any, message: str) -> None:
        with pytest.raises(InputError) as error:
            make_optimiser(network().parameters(), **settings)
        assert message in str(error.value)


class TestLearningRates:
    def test_report_bs_rate_falls_by_a_fortieth_per_epoch(self) -> None:
        rates = [learning_rate_at(epoch, 200, 1e-3, kind="exponential") for epoch in range(200)]
        model = network()
        optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
        torchs = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.975)
        wanted = []
        for _ in range(200):
            wanted += torchs.get_last_lr()
            optimiser.step()
            torchs.step()
        assert rates == pytest.approx(wanted)

    def test_cosine_is_torchs(self) -> None:
        optimiser = torch.optim.SGD(network().parameters(), lr=0.1)
        torchs = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 20)
        for epoch in range(20):
            assert learning_rate_at(epoch, 20, 0.1, kind="cosine") == pytest.approx(torchs.get_last_lr()[0])
            optimiser.step()
            torchs.step()

    def test_constant_is_constant(self) -> None:
        assert {learning_rate_at(epoch, 9, 0.2) for epoch in range(9)} == {0.2}

    def test_warm_up_rises_by_equal_steps_to_the_base(self) -> None:
        rates = [learning_rate_at(epoch, 10, 1.0, kind="cosine", warmup_epochs=3) for epoch in range(10)]
        assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0]) and rates[4] < 1

    @given(
        n_epochs=st.integers(1, 300),
        base=st.floats(1e-6, 1),
        kind=st.sampled_from(SCHEDULES),
        decay=st.floats(0.5, 1),
        data=st.data(),
    )
    def test_rises_to_the_base_and_never_again(
        self, n_epochs: int, base: float, kind: ScheduleKind, decay: float, data: st.DataObject
    ) -> None:
        warmup = data.draw(st.integers(0, n_epochs - 1))
        rates = [
            learning_rate_at(epoch, n_epochs, base, kind=kind, decay=decay, warmup_epochs=warmup)
            for epoch in range(n_epochs)
        ]
        assert max(rates) == base == rates[warmup] and min(rates) > 0
        assert all(a < b for a, b in pairwise(rates[: warmup + 1]))
        assert all(a >= b for a, b in pairwise(rates[warmup:]))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"epoch": 10}, "epoch is out of range; found 10; allowed: at least 0 and below 10"),
            ({"epoch": -1}, "epoch is out of range"),
            ({"base": 0.0}, "learning_rate is out of range"),
            ({"kind": "step"}, "schedule is unknown; found 'step'; allowed: constant, exponential, cosine"),
            ({"decay": 1.1}, "decay is out of range; found 1.1; allowed: above 0 and at most 1"),
            (
                {"warmup_epochs": 10},
                "warmup_epochs is out of range; found 10; allowed: at least 0 and below 10",
            ),
        ],
    )
    def test_an_error_names_setting_found_and_allowed(self, settings: Any, message: str) -> None:
        with pytest.raises(InputError) as error:
            learning_rate_at(**{"epoch": 0, "n_epochs": 10, "base": 0.1, **settings})
        assert message in str(error.value)

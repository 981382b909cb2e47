from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from lymphoscope.errors import InputError
from lymphoscope.training.losses import LossKind, loss

KINDS: tuple[LossKind, ...] = ("cross-entropy", "focal")
weight = st.floats(0.1, 10)


def batch(n: int, seed: int, spread: float = 3.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(n, 2, generator=generator)
    return logits, torch.randint(0, 2, (n,), generator=generator)


def by_hand(logits: Tensor, y: Tensor, weights: tuple[float, float], smoothing: float, gamma: float) -> float:
    """The formula of the docstring, cell by cell in doubles."""
    total, weighing = 0.0, 0.0
    for row, label in zip(logits.double(), y.tolist(), strict=True):
        p = torch.softmax(row, 0)
        for c in (0, 1):
            q = 1 - smoothing / 2 if c == label else smoothing / 2
            total -= float(q * weights[c] * (1 - p[c]) ** gamma * torch.log(p[c]))
        weighing += weights[label]
    return total / weighing


@given(
    n=st.integers(1, 12), seed=st.integers(0, 999), w=st.tuples(weight, weight), smoothing=st.floats(0, 0.9)
)
def test_cross_entropy_is_torchs_and_the_formulas(
    n: int, seed: int, w: tuple[float, float], smoothing: float
) -> None:
    logits, y = batch(n, seed)
    found = loss(logits, y, weights=w, label_smoothing=smoothing)
    torch.testing.assert_close(
        found, cross_entropy(logits, y, weight=torch.tensor(w), label_smoothing=smoothing)
    )
    assert float(found) == pytest.approx(by_hand(logits, y, w, smoothing, 0.0), rel=1e-4, abs=1e-6)


@given(
    n=st.integers(1, 12),
    seed=st.integers(0, 999),
    w=st.tuples(weight, weight),
    smoothing=st.floats(0, 0.9),
    gamma=st.floats(0, 5),
)
def test_focal_is_the_formulas(
    n: int, seed: int, w: tuple[float, float], smoothing: float, gamma: float
) -> None:
    logits, y = batch(n, seed)
    found = loss(logits, y, kind="focal", weights=w, label_smoothing=smoothing, focal_gamma=gamma)
    assert float(found) == pytest.approx(by_hand(logits, y, w, smoothing, gamma), rel=1e-4, abs=1e-6)


@given(seed=st.integers(0, 999), w=st.tuples(weight, weight), smoothing=st.floats(0, 0.9))
def test_focal_without_focus_is_cross_entropy(seed: int, w: tuple[float, float], smoothing: float) -> None:
    logits, y = batch(8, seed)
    torch.testing.assert_close(
        loss(logits, y, kind="focal", weights=w, label_smoothing=smoothing, focal_gamma=0),
        loss(logits, y, weights=w, label_smoothing=smoothing),
    )


def test_binary_cross_entropy_on_one_logit_is_cross_entropy_on_nought_and_it() -> None:
    z = torch.linspace(-30, 30, 41)
    y = (torch.arange(41) % 3 == 0).long()
    one = z.clone().requires_grad_()
    two = z.clone().requires_grad_()
    single = binary_cross_entropy_with_logits(one, y.float())
    double = loss(torch.stack([torch.zeros_like(two), two], dim=1), y)
    torch.testing.assert_close(double, single)
    single.backward()
    double.backward()
    torch.testing.assert_close(two.grad, one.grad)


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_of_two_counts_like_the_cell_twice(kind: LossKind) -> None:
    logits, y = batch(9, 0)
    twice = torch.cat([torch.arange(9), torch.nonzero(y == 1)[:, 0]])
    torch.testing.assert_close(
        loss(logits, y, kind=kind, weights=(1, 2)), loss(logits[twice], y[twice], kind=kind)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_ratio_of_the_weights_matters(kind: LossKind) -> None:
    logits, y = batch(9, 0)
    torch.testing.assert_close(
        loss(logits, y, kind=kind, weights=(1, 3), label_smoothing=0.1),
        loss(logits, y, kind=kind, weights=(0.5, 1.5), label_smoothing=0.1),
    )


def test_focus_discounts_what_is_told_apart_well() -> None:
    easy, hard = torch.tensor([[-3.0, 3.0]]), torch.tensor([[0.5, -0.5]])
    y = torch.tensor([1])
    shares = [
        float(loss(logits, y, kind="focal", focal_gamma=2) / loss(logits, y)) for logits in (easy, hard)
    ]
    assert shares[0] < 1e-4 and 0.4 < shares[1] < 0.6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradients_agree_with_finite_differences(kind: LossKind, smoothing: float) -> None:
    """In float32, which the loss is computed in: hence the wide steps."""
    logits, y = batch(5, 3, 1.0)
    logits.requires_grad_()
    settings: dict[str, Any] = {"kind": kind, "weights": (1.0, 2.0), "label_smoothing": smoothing}
    loss(logits, y, **settings).backward()
    assert logits.grad is not None
    for i in range(5):
        for c in range(2):
            step = torch.zeros(5, 2)
            step[i, c] = 1e-2
            with torch.no_grad():
                slope = (loss(logits + step, y, **settings) - loss(logits - step, y, **settings)) / 2e-2
            torch.testing.assert_close(logits.grad[i, c], slope, atol=2e-4, rtol=2e-2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_stays_finite_at_the_farthest_logits(kind: LossKind, gamma: float) -> None:
    logits = torch.tensor([[-200.0, 200.0], [200.0, -200.0], [0.0, 0.0]], requires_grad=True)
    found = loss(logits, torch.tensor([1, 1, 0]), kind=kind, focal_gamma=gamma, label_smoothing=0.1)
    found.backward()
    assert torch.isfinite(found) and logits.grad is not None and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_logits_lose_nothing_more(kind: LossKind) -> None:
    logits, y = batch(9, 1)
    half = logits.bfloat16()
    found = loss(half, y, kind=kind)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, loss(half.float(), y, kind=kind))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "hinge"}, "loss is unknown; found 'hinge'; allowed: cross-entropy, focal"),
        (
            {"label_smoothing": 1.0},
            "label_smoothing is out of range; found 1.0; allowed: at least 0 and below 1",
        ),
        ({"focal_gamma": -1.0}, "focal_gamma is out of range; found -1.0; allowed: at least 0"),
        ({"weights": (1.0, 0.0)}, "class weight is out of range; found 0.0; allowed: above 0"),
        ({"weights": (1.0, float("nan"))}, "class weight is out of range"),
    ],
)
def test_an_error_names_setting_found_and_allowed(settings: dict[str, Any], message: str) -> None:
    logits, y = batch(2, 0)
    with pytest.raises(InputError) as error:
        loss(logits, y, **settings)
    assert message in str(error.value)

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lymphoscope.errors import InputError
from lymphoscope.models.vit.adapters import (
    AdaptedFeedForward,
    LowRankLinear,
    ParallelAdapter,
    chosen_blocks,
)


def filled(module: nn.Module) -> nn.Module:
    """All parameters drawn anew, so that nothing is 0."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def test_the_adapter_is_the_paper_s_equation() -> None:
    """Chen et al. 2022, equation 2, times s of equation 3."""
    torch.manual_seed(0)
    adapter = ParallelAdapter(6, 4, scale=0.1)
    filled(adapter)
    x = torch.randn(2, 5, 6)
    down = torch.clamp(x @ adapter.down.weight.T + adapter.down.bias, min=0)
    expected = 0.1 * (down @ adapter.up.weight.T + adapter.up.bias)
    torch.testing.assert_close(adapter(x), expected)
    assert sum(p.numel() for p in adapter.parameters()) == 6 * 4 + 4 + 4 * 6 + 6


def test_the_adapter_stands_beside_the_feed_forward_network_and_its_layer_scale() -> None:
    """Equation 3: the adapter sees what the feed-forward network sees; γ multiplies that network alone."""

    class Scale(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 7 * x

    adapter = ParallelAdapter(6, 4)
    filled(adapter)
    mlp, x = nn.Linear(6, 6), torch.randn(2, 5, 6)
    both = AdaptedFeedForward(mlp, Scale(), adapter)
    torch.testing.assert_close(both(x), 7 * mlp(x) + adapter(x))


def test_the_update_is_of_low_rank() -> None:
    """Hu et al. 2021, equation 3: (W + s B A) x + b."""
    torch.manual_seed(0)
    layer = LowRankLinear(nn.Linear(6, 8), rank=2, scale=0.5)
    filled(layer)
    x = torch.randn(3, 6)
    matrix = layer.frozen.weight + 0.5 * layer.b.weight @ layer.a.weight
    torch.testing.assert_close(layer(x), functional.linear(x, matrix, layer.frozen.bias))
    assert torch.linalg.matrix_rank(matrix - layer.frozen.weight, tol=1e-4) == 2


def test_new_ones_add_nothing_and_can_learn() -> None:
    x = torch.randn(3, 5, 6)
    adapter, linear = ParallelAdapter(6, 4), nn.Linear(6, 8)
    low_rank = LowRankLinear(linear, 2)
    assert torch.equal(adapter(x), torch.zeros(3, 5, 6)) and torch.equal(low_rank(x), linear(x))
    for module, moved in ((adapter, adapter.up.weight), (low_rank, low_rank.b.weight)):
        module(x).square().sum().backward() if module is low_rank else module(x).sum().backward()
        assert moved.grad is not None and moved.grad.abs().sum() > 0
    assert adapter.down.weight.abs().max() <= 6**-0.5


def test_how_adapters_begin() -> None:
    torch.manual_seed(0)
    assert abs(LowRankLinear(nn.Linear(400, 5), 50).a.weight.std().item() * 400**0.5 - 1) < 0.02
    bound = ParallelAdapter(400, 50).down.weight.abs().max().item() * 400**0.5
    assert 0.99 < bound <= 1


@pytest.mark.parametrize("kind", ["adaptformer", "lora"])
def test_a_learned_scale_is_a_parameter(kind: str) -> None:
    def build(learned: bool) -> nn.Module:
        if kind == "lora":
            return LowRankLinear(nn.Linear(6, 8), 2, 0.3, learned_scale=learned)
        return ParallelAdapter(6, 4, 0.3, learned_scale=learned)

    fixed, learned = build(False), build(True)
    assert "scale" not in dict(fixed.named_parameters()) and fixed.scale == 0.3
    assert dict(learned.named_parameters())["scale"].item() == pytest.approx(0.3)
    filled(learned)(torch.randn(2, 6)).square().sum().backward()
    assert learned.get_parameter("scale").grad != 0


def test_dropout_is_in_training_alone() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 6)
    for module in (ParallelAdapter(6, 30, dropout=0.5), LowRankLinear(nn.Linear(6, 8), 3, dropout=0.5)):
        filled(module)
        assert not torch.equal(module(x), module(x))
        module.eval()
        assert torch.equal(module(x), module(x))


def test_blocks_are_chosen() -> None:
    assert chosen_blocks(None, 3) == [0, 1, 2]
    assert chosen_blocks(2, 3) == [1, 2]
    assert chosen_blocks((2, 0, 2), 3) == [0, 2]


@pytest.mark.parametrize("blocks", [0, 4, -1, (), (3,), (-1, 0)])
def test_blocks_that_are_not_there_are_refused(blocks: int | tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="a number from 1 to 3"):
        chosen_blocks(blocks, 3)

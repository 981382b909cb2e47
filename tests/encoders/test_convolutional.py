"""Convolutional encoders: what is kept says what was trained, in half the bytes, without normalisations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lymphoscope.encoders.architectures import Architecture, Embedder
from lymphoscope.encoders.convolutional import WEIGHTS, ConvNextBody, ConvolutionNorm, ResidualBody

SIZES = (28, 29, 37, 47)


def photographs(size: int = 28, n: int = 5) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(size))


def worn_in(module: nn.Module, seed: int = 3) -> nn.Module:
    """As after a training: no normalisation is the identity, no block is, and no bias is 0."""
    chance = torch.Generator().manual_seed(seed)
    for each in module.modules():
        if isinstance(each, nn.BatchNorm2d):
            each.running_mean.normal_(0, 0.3, generator=chance)  # type: ignore[union-attr]
            each.running_var.uniform_(0.3, 3, generator=chance)  # type: ignore[union-attr]
            nn.init.uniform_(each.weight, 0.4, 1.4, generator=chance)
            nn.init.normal_(each.bias, 0, 0.3, generator=chance)
    return module.eval()


def embedder(kind: str, seed: int = 0) -> Embedder:
    torch.manual_seed(seed)
    made = Architecture(kind, hidden=32, layers=2, image_size=28).build()
    worn_in(made)
    return made


@pytest.mark.parametrize("size", SIZES)
@torch.inference_mode()
def test_folding_changes_no_output(size: int) -> None:
    torch.manual_seed(0)
    body = worn_in(ResidualBody(32, 2))
    before = body(photographs(size))
    assert before.std() > 0.1, "a body that says nothing would fold without loss"
    body.fold()  # type: ignore[operator]
    assert torch.allclose(body(photographs(size)), before, atol=1e-4, rtol=1e-4)
    assert not any(isinstance(each, nn.BatchNorm2d) for each in body.modules())
    assert all(each.conv.bias is not None for each in body.modules() if isinstance(each, ConvolutionNorm))


@torch.inference_mode()
def test_folding_twice_is_folding_once() -> None:
    body = worn_in(ResidualBody(16, 1))
    body.fold()  # type: ignore[operator]
    once = body(photographs())
    body.fold()  # type: ignore[operator]
    assert torch.equal(body(photographs()), once)


@pytest.mark.parametrize("size", SIZES)
@torch.inference_mode()
def test_maps_have_the_sizes_that_are_promised(size: int) -> None:
    up, down = -(-size // 16), size // 16
    assert ResidualBody(24, 2).eval()(photographs(size)).shape == (5, 24, up, up)
    assert ConvNextBody(24, 1).eval()(photographs(size)).shape == (5, 24, down, down)
    for kind in ("residual", "convnext"):
        assert embedder(kind).eval()(photographs(size)).shape == (5, 32)


@torch.inference_mode()
def test_a_block_begins_as_the_identity() -> None:
    body = ResidualBody(32, 3).eval()
    blocks = [block for block in body.blocks if isinstance(block.shortcut, nn.Identity)]  # type: ignore[union-attr]
    x = torch.rand(2, 32, 7, 7)
    wide = [block for block in blocks if block.first.conv.in_channels == 32]  # type: ignore[union-attr]
    assert len(blocks) == 1 + 3 * 2 and len(wide) == 2
    assert all(torch.equal(block(x), x) for block in wide)


@pytest.mark.parametrize("kind", ["residual", "convnext"])
@torch.inference_mode()
def test_a_loaded_network_says_the_same_bytes(kind: str, tmp_path: Path) -> None:
    kept = embedder(kind)
    trained = kept(photographs())
    kept.finish()
    said = kept(photographs())
    assert torch.allclose(said, trained, atol=0.02 * float(trained.std()), rtol=0.02), "little is rounded off"
    kept.save(tmp_path / "kept")
    loaded = embedder(kind, seed=9)
    assert not torch.allclose(loaded(photographs()), said, atol=1e-2)
    loaded.load(tmp_path / "kept")
    assert torch.equal(loaded.eval()(photographs()), said)
    assert loaded.sha256() == kept.sha256() != embedder(kind, seed=9).sha256()
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (tmp_path / "kept" / WEIGHTS).read_bytes()


@pytest.mark.parametrize("kind", ["residual", "convnext"])
def test_a_number_takes_two_bytes_on_disk(kind: str, tmp_path: Path) -> None:
    kept = embedder(kind)
    kept.finish()
    kept.save(tmp_path / "kept")
    tensors = load_file(tmp_path / "kept" / WEIGHTS)
    assert {value.dtype for value in tensors.values()} == {torch.float16}
    numbers = sum(value.numel() for value in tensors.values())
    assert numbers == sum(parameter.numel() for parameter in kept.parameters())
    size = (tmp_path / "kept" / WEIGHTS).stat().st_size
    assert 2 * numbers < size < 2 * numbers + 120 * len(tensors) + 200


def test_weights_of_another_network_are_not_taken(tmp_path: Path) -> None:
    kept = embedder("residual")
    kept.save(tmp_path / "kept")
    torch.manual_seed(0)
    with pytest.raises(RuntimeError):
        Architecture("residual", hidden=48, layers=2, image_size=28).build().load(tmp_path / "kept")

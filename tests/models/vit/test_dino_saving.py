from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor
from vit_example import (
    network,
    output,
    published_state,
    trained,
)

from lymphoscope.encoders.dinov2 import load_dinov2, save_dinov2
from lymphoscope.errors import InputError
from lymphoscope.models.vit.network import (
    adapter_state,
    frozen_sha256,
    load_adapter_state,
)

TUNINGS = ("adaptformer", "lora", "linear", "full")


@pytest.mark.parametrize("tuning", TUNINGS)
def test_what_was_learned_goes_into_another_network(tuning: str, tmp_path: Path) -> None:
    save_dinov2(network(tuning="linear").backbone, tmp_path / "vit")
    options = {"source": tmp_path / "vit", "tuning": tuning, "learned_scale": True, "trained_norms": "final"}
    model = trained(network(**options))
    state, frozen = adapter_state(model), frozen_sha256(model)
    safetensors.torch.save_file(state, tmp_path / "learned.safetensors")
    fresh = network(seed=8, **options)
    assert not torch.equal(output(fresh), output(model))
    load_adapter_state(fresh, safetensors.torch.load_file(tmp_path / "learned.safetensors"), frozen)
    assert torch.equal(output(fresh), output(model))


def test_the_state_is_a_copy() -> None:
    model = network()
    state = adapter_state(model)
    kept = {name: value.clone() for name, value in state.items()}
    trained(model)
    assert all(torch.equal(value, kept[name]) for name, value in state.items())


def test_what_was_learned_on_other_frozen_weights_is_refused() -> None:
    model, other = trained(network(seed=0)), network(seed=1)
    before = adapter_state(other)
    with pytest.raises(InputError, match=r"belongs to another transformer.*that it was trained with"):
        load_adapter_state(other, adapter_state(model), frozen_sha256(model))
    assert all(torch.equal(value, before[name]) for name, value in adapter_state(other).items())


def test_one_changed_bit_is_another_hash() -> None:
    model = network()
    before = frozen_sha256(model)
    weight = model.backbone.encoder.layer[1].mlp.frozen.fc1.weight
    with torch.no_grad():
        weight.view(torch.int32)[3, 5] ^= 1
    assert frozen_sha256(model) != before


def _dropped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if "layer.1." not in name}


@pytest.mark.parametrize(
    "change",
    [
        _dropped,
        lambda state: state | {"extra": torch.ones(1)},
        lambda state: state | {"layers.0.bias": torch.ones(3)},
        lambda state: {},
    ],
)
def test_a_state_of_another_tuning_is_refused(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]],
) -> None:
    model = network()
    before = adapter_state(model)
    with pytest.raises(InputError, match=r"another tuning; found .*options that it was trained with"):
        load_adapter_state(model, change(adapter_state(trained(network()))), frozen_sha256(model))
    assert all(torch.equal(value, before[name]) for name, value in adapter_state(model).items())


def test_the_hash_is_of_the_transformer_and_not_of_how_it_is_tuned(tmp_path: Path) -> None:
    state = published_state()
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    save_dinov2(load_dinov2(tmp_path / "w.safetensors"), tmp_path / "vit")
    options = [{"tuning": tuning} for tuning in ("adaptformer", "lora", "linear")]
    options += [{"blocks": 1}, {"image_size": 112}, {"head": "dense"}, {"seed": 5}]
    sources = (tmp_path / "w.safetensors", tmp_path / "vit")
    assert len({frozen_sha256(network(source=s, **chosen)) for s in sources for chosen in options}) == 1
    assert frozen_sha256(network(source=sources[0], trained_norms="final")) != frozen_sha256(
        network(source=sources[0])
    )

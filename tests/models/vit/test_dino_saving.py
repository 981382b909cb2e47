"""What of a tuned transformer is kept, and how the rest of it is found again."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from vit_example import network, output, photographs, published_state, trained

from lymphoscope.encoders.dinov2 import load_dinov2, save_dinov2
from lymphoscope.models.image_networks import network_state, networks_of
from lymphoscope.models.networks.base import CellNetwork
from lymphoscope.models.networks.blocks import Unbuilt
from lymphoscope.training.weights import tensors_sha256


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A transformer as transformers saves it."""
    save_dinov2(network(tuning="linear").backbone, tmp_path / "vit")
    return tmp_path / "vit"


@pytest.mark.parametrize("tuning", ["adaptformer", "lora", "linear", "full"])
def test_what_was_learned_is_kept_and_the_rest_found_again(tuning: str, folder: Path) -> None:
    options = {"source": folder, "tuning": tuning, "learned_scale": True, "trained_norms": "final"}

    def build(weights: str | None) -> CellNetwork:
        return network(seed=8, **options) if weights else Unbuilt(takes_clinical=True)

    begun = network(**options)
    begun.first_look(photographs(8))
    model = trained(begun).to(memory_format=torch.channels_last)  # as every training has it
    state = network_state([model])
    learned = {f"network.0.{name}" for name, value in model.named_parameters() if value.requires_grad}
    assert state.keys() == learned | {"network.0.mean", "network.0.deviation"}
    again = networks_of(state, build, str(folder), model.weights_sha256)[0]
    assert torch.equal(output(again), output(model))


def test_of_a_random_transformer_everything_is_kept() -> None:
    model = network()
    assert model.weights_sha256 == ""
    assert len(network_state([model])) == len(model.state_dict())


def test_one_changed_bit_is_another_hash() -> None:
    model = network(tuning="linear")
    before = tensors_sha256(model.backbone.state_dict())
    with torch.no_grad():
        model.backbone.encoder.layer[1].mlp.fc1.weight.view(torch.int32)[3, 5] ^= 1
    assert tensors_sha256(model.backbone.state_dict()) != before


def test_the_hash_is_of_the_weights_and_not_of_their_file_or_how_they_are_tuned(tmp_path: Path) -> None:
    safetensors.torch.save_file(published_state(), tmp_path / "w.safetensors")
    save_dinov2(load_dinov2(tmp_path / "w.safetensors"), tmp_path / "vit")
    options = [{"tuning": tuning} for tuning in ("adaptformer", "lora", "linear", "full")]
    options += [{"blocks": 1}, {"image_size": 112}, {"takes_clinical": False}, {"seed": 5}]
    sources = (tmp_path / "w.safetensors", tmp_path / "vit")
    assert len({network(source=s, **chosen).weights_sha256 for s in sources for chosen in options}) == 1

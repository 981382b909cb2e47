"""What --budget, --device and --weights make of the recipes that are asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lymphoscope.cli.model_commands import _trained
from lymphoscope.cli.protocol_options import protocol_of
from lymphoscope.errors import InputError
from lymphoscope.models.networks.base import create_network
from lymphoscope.models.registry import create_model


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two checkpoints that fit a narrow ResNet-18, one with a name that YAML would not read as text."""
    torch.manual_seed(0)
    parts = create_network("resnet18", 0.1, 32).pretrained_parts() or {}
    ((start, backbone),) = parts.items()
    paths = [tmp_path_factory.mktemp("weights") / name for name in ("a #1.safetensors", "b.safetensors")]
    for path in paths:
        save_file({start + name: value for name, value in backbone.state_dict().items()}, path)
    return paths


def test_weights_named_in_a_recipe_are_its_own(weights: list[Path]) -> None:
    first, second = weights
    named = f"resnet18:width=0.1,weights={first}"
    assert create_model(_trained(named, "smoke", "auto", second)).get_params()["weights"] == str(first)
    other = _trained("resnet18:width=0.1", "smoke", "auto", first)
    assert create_model(other).get_params()["weights"] == str(first)


@pytest.mark.parametrize("recipe", ["resnet18", "mil-abmil", "scan-clusters"])
def test_budget_and_device_reach_every_recipe_that_has_them(recipe: str) -> None:
    assert _trained(recipe, "smoke", "cpu", None) == f"{recipe}@smoke:device=cpu"
    assert _trained(f"{recipe}:device=cpu", "smoke", "auto", None) == f"{recipe}@smoke:device=cpu"
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no graphics processor"):
            _trained(recipe, "smoke", "cuda", None)


def test_what_will_be_trained_is_said_before_it_begins(capsys: pytest.CaptureFixture[str]) -> None:
    name = _trained("dinov2-adaptformer:tuning=linear", "smoke", "auto", Path("random"))
    model = create_model(name)
    head = model.check_network().tuned  # type: ignore[attr-defined]
    said = " ".join(capsys.readouterr().out.split())
    assert head and f"DINOv2 with AdaptFormer: {' '.join(head.split())}" in said


def test_recipes_without_them_are_left_as_they_are() -> None:
    assert _trained("morphology", "smoke", "cpu", None) == "morphology"
    assert _trained("mil-abmil", "fast", "auto", None) == "mil-abmil"


def test_a_setting_that_cannot_be_is_refused_before_anything_begins() -> None:
    with pytest.raises(InputError, match="merged into fewer"):
        _trained("scan-clusters:merged_clusters=30", "fast", "auto", None)


def test_networks_are_measured_in_one_round_and_the_rest_in_ten() -> None:
    def rounds(recipes: list[str], repeats: int | None = None) -> int:
        return protocol_of("repeated-cv", None, repeats, None, recipes, seed=0, overlap_limit=10.47).repeats

    assert [rounds([name]) for name in ("morphology", "mil-abmil", "resnet18", "scan-clusters")] == [
        10,
        1,
        1,
        1,
    ]
    assert rounds(["resnet18"], 3) == 3 and rounds([]) == 10

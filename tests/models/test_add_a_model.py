"""The guide's model and network are taken from its text, put where it says, and keep the contract."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lymphoscope import models
from lymphoscope.models import networks, registry
from lymphoscope.models.conformance import check_bag_classifier, example_bags, separation
from lymphoscope.models.networks import base
from lymphoscope.models.registry import create_model, list_models, recipe_of

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "add-a-model.md"
BLOCK = re.compile(r"```(?:python|yaml)\n# src/lymphoscope/models/(\S+)\n(.*?)```", re.DOTALL)
SIDE = 32


@pytest.fixture
def as_the_guide_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The guide's files in a folder that counts as part of the package; their names."""
    (tmp_path / "networks").mkdir()
    blocks = BLOCK.findall(GUIDE.read_text("utf-8"))
    for name, text in blocks:
        (tmp_path / name).write_text(text, "utf-8")
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    monkeypatch.setattr(networks, "__path__", [*networks.__path__, str(tmp_path / "networks")])
    monkeypatch.setattr(base, "_entries", dict(base._entries))
    registry._recipes.cache_clear()
    yield [name for name, _ in blocks]
    registry._recipes.cache_clear()
    for module in ("bag_mean", "networks.mean_and_spread"):
        sys.modules.pop(f"lymphoscope.models.{module}", None)


def test_the_guide_holds_two_files_of_a_model_and_two_of_a_network(as_the_guide_says: list[str]) -> None:
    assert as_the_guide_says == [
        "bag_mean.py",
        "bag_mean.yaml",
        "networks/mean_and_spread.py",
        "networks/mean_and_spread.yaml",
    ]


@pytest.mark.usefixtures("as_the_guide_says")
def test_the_model_of_the_guide_keeps_the_contract() -> None:
    check_bag_classifier(lambda: create_model("bag-mean"))
    assert separation(lambda: create_model("bag-mean"), effect=2.5).mean() > 0.85


@pytest.mark.usefixtures("as_the_guide_says")
def test_the_network_of_the_guide_keeps_the_contract() -> None:
    torch.set_num_threads(1)
    assert "mean-and-spread" in [info.name for info in list_models()]
    model = create_model("mean-and-spread@smoke", image_size=SIDE, width=0.2)
    assert recipe_of(model).name == "mean-and-spread"
    check_bag_classifier(
        lambda: create_model("mean-and-spread@smoke", image_size=SIDE, width=0.2),
        image_size=SIDE,
        n_patients=18,
    )


@pytest.mark.usefixtures("as_the_guide_says")
@pytest.mark.parametrize("unit", ["cell", "patient"])
def test_the_network_of_the_guide_learns(unit: str) -> None:
    torch.set_num_threads(1)
    settings = {"image_size": SIDE, "width": 0.5, "epochs": 12, "batch_size": 8, "unit": unit}
    bags, y = example_bags(40, image_size=SIDE)
    new, truth = example_bags(60, seed=1, image_size=SIDE)
    right = create_model("mean-and-spread", **settings).fit(bags, y).predict(new) == truth
    assert (right[truth == 1].mean() + right[truth == 0].mean()) / 2 > 0.85

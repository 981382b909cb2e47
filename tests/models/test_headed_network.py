"""Heads on networks: rows are cells, or the places of every cell's last map."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from lymphoscope.errors import InputError
from lymphoscope.models.base import EpochClassifier
from lymphoscope.models.conformance import example_bags
from lymphoscope.models.headed_network import headed
from lymphoscope.models.networks.base import CellNetwork, create_network
from lymphoscope.models.registry import create_model
from lymphoscope.pipeline import page
from lymphoscope.training.augmentation import prepare
from lymphoscope.training.packing import Packing
from lymphoscope.training.prediction import CellData, predict_features
from lymphoscope.training.settings import TrainingSettings

SIDE = 64


def resnet() -> CellNetwork:
    torch.manual_seed(0)
    return create_network("resnet18", image_size=SIDE, width=0.1).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(5, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def test_the_logit_map_weighs_the_places_of_all_cells(images: Tensor) -> None:
    """By hand: a logit at each place by a 1 × 1 convolution, their mean weighed by their own probability."""
    network = headed(resnet(), SIDE, "logitmap", 0.1, "none").eval()
    clinical = torch.zeros(5, 3)
    packing = Packing(torch.tensor([2, 3]))
    with torch.no_grad():
        said = network.bags(network.features(images, clinical), packing, clinical[:2])
        maps = network.encoder.backbone(images)
        assert maps.shape[2:] == (2, 2)
        score = network.bag_head.score
        logits = torch.nn.functional.conv2d(maps, score.weight[:, :, None, None], score.bias)
    for cells, two in zip((logits[:2], logits[2:]), said, strict=True):
        by_hand = (cells.sigmoid() * cells).sum() / cells.sigmoid().sum()
        assert float(two[1] - two[0]) == pytest.approx(float(by_hand), abs=1e-5)


def test_other_heads_see_the_mean_over_places(images: Tensor) -> None:
    network, encoder = headed(resnet(), SIDE, "abmil", 0.1, "none").eval(), resnet()
    clinical = torch.zeros(5, 3)
    with torch.no_grad():
        assert torch.equal(network.features(images, clinical), encoder.features(images, clinical))
        assert torch.allclose(encoder.maps(images, clinical).mean((2, 3)), encoder.features(images, clinical))


def test_turned_versions_are_more_places(images: Tensor) -> None:
    """Their maps are turned as well, so that no place is averaged with another one."""
    network = headed(resnet(), SIDE, "logitmap", 0.1, "none").eval()
    clinical, packing = torch.zeros(5, 3), Packing(torch.tensor([2, 3]))
    cells = (images * 40 + 128).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    data = CellData(cells, np.array([0, 2]), np.array([2, 3]), clinical[:2])
    settings, owner = TrainingSettings(unit="patient"), np.array([0, 0, 1, 1, 1])
    seen = {
        versions: predict_features(
            network, data, np.arange(5), owner, settings, device=torch.device("cpu"), versions=versions
        )
        for versions in (1, 2)
    }
    assert seen[2].shape == (5, 2 * seen[1].shape[1])
    mirrored = network.features(prepare(cells.flip(2), settings.normalisation), clinical)
    with torch.no_grad():
        both = torch.cat([seen[1], mirrored], dim=1)
        assert torch.allclose(
            network.bags(seen[2], packing, clinical[:2]), network.bags(both, packing, clinical[:2]), atol=1e-4
        )


@pytest.mark.parametrize("name", ["mobilenet-image", "frozen-resnet34", "unet-encoder", "vgg16"])
def test_networks_that_end_in_a_global_average_know_their_places(name: str, images: Tensor) -> None:
    network = create_network(name, image_size=SIDE, width=0.1).eval()
    with torch.no_grad():
        maps = network.maps(images, torch.zeros(5, 3))
        assert maps[0, 0].numel() > 1
        assert torch.allclose(maps.mean((2, 3)), network.features(images, torch.zeros(5, 3)), atol=1e-6)


def test_a_logit_map_is_trained_and_kept_as_any_other_model() -> None:
    bags, y = example_bags(18, image_size=SIDE)
    settings = {"image_size": SIDE, "width": 0.1, "unit": "patient", "head": "logitmap", "epochs": 1}
    model = create_model("resnet18", **settings).fit(bags, y)
    again = create_model("resnet18", **settings).load_state(model.state())
    assert (again.predict_proba(bags) == model.predict_proba(bags)).all()
    assert model.cell_evidence(bags).shape == (len(bags.cells),)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("cnn-baseline:fusion=gate", "no head"),
        ("mixture-of-experts:head=abmil", "has no place for a head"),
        ("resnet18:head=nonsense", "nonsense"),
        ("resnet18:head=abmil", "unit cell"),
    ],
)
def test_a_head_or_fusion_that_would_do_nothing_is_refused(recipe: str, words: str) -> None:
    model = create_model(recipe)
    assert isinstance(model, EpochClassifier)
    with pytest.raises(InputError, match=words):
        model.check_network()


@pytest.mark.parametrize("recipe", ["resnet18:width=0.1,unit=patient,head=mean", "mil-mean:head=mean"])
def test_a_network_that_hardly_moves_knows_what_the_clinical_values_say(recipe: str) -> None:
    photographs = not recipe.startswith("mil")
    bags, y = example_bags(60, image_size=32 if photographs else None)
    settings = "fusion=additive,learning_rate=1e-7,epochs=1" + ",image_size=32" * photographs
    network = create_model(f"{recipe},{settings}").fit(bags, y).networks_[0]  # type: ignore[attr-defined]
    weight = network.bag_head.fusion.term.weight.detach().numpy()[0]
    age, sex, count = bags.clinical.T
    assert roc_auc_score(y, np.column_stack([age, np.log(count), sex]) @ weight) > 0.75


def test_a_head_without_fusion_is_said_to_leave_the_clinical_values_out() -> None:
    bare, fused = (f"resnet18:unit=patient,head=logitmap,fusion={way}" for way in ("none", "additive"))
    assert page.clinical_values_left_out(create_model(bare), bare)
    assert page.set_otherwise(create_model(bare), bare) == (
        "Here a head of multiple-instance learning, “logitmap”, makes a patient of its cells.",
        "Here age, count and sex are left out.",
    )
    assert len(page.set_otherwise(create_model(fused), fused)) == 1
    for plain in ("resnet18", "cnn-baseline", "mil-abmil", "clinical", "morphology"):
        assert page.set_otherwise(create_model(plain), plain) == ()
    assert page.clinical_values_left_out(create_model("mixture-of-experts:gate=cells"), "mixture-of-experts")

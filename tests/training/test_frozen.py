"""What a frozen network sees in a cell is computed once, and is the same whoever else is there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from lymphoscope.models.headed_network import headed
from lymphoscope.models.networks.base import CellNetwork, create_network
from lymphoscope.training import frozen
from lymphoscope.training.augmentation import IMAGENET, Normalisation, prepare
from lymphoscope.training.frozen import Remembered, remembers
from lymphoscope.training.prediction import CellData, predict_logits
from lymphoscope.training.settings import TrainingSettings

CPU = torch.device("cpu")
IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8))


def network(seed: int = 0) -> CellNetwork:
    torch.manual_seed(seed)
    return create_network("frozen-resnet34", 0.1, 32).eval()


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(frozen, "_known", {})
    yield


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images went through a backbone, call by call."""
    counted: list[int] = []
    plain = type(network()).maps

    def maps(self: CellNetwork, images: Tensor, clinical: Tensor) -> Tensor:
        counted.append(len(images))
        return plain(self, images, clinical)

    monkeypatch.setattr(type(network()), "maps", maps)
    return counted


@torch.inference_mode()
def seen(of: CellNetwork, images: Tensor, normalisation: Normalisation = IMAGENET) -> Tensor:
    return Remembered(of, normalisation, CPU).features(images)


def test_they_are_the_networks_own() -> None:
    with torch.inference_mode():
        own = network().features(prepare(IMAGES, IMAGENET), torch.zeros(len(IMAGES), 3))
    torch.testing.assert_close(seen(network(), IMAGES), own, rtol=1e-4, atol=1e-5)


def test_each_cell_goes_through_once_in_groups_of_one_size(looks: list[int]) -> None:
    first = seen(network(), IMAGES)
    assert looks == [32, 32]
    again = seen(network(), torch.cat([IMAGES[5:10], IMAGES[:5]]))
    assert looks == [32, 32] and torch.equal(again, torch.cat([first[5:10], first[:5]]))


def test_no_bit_depends_on_who_was_seen_before_or_together() -> None:
    together = seen(network(), IMAGES)
    frozen._known.clear()
    apart = torch.cat([seen(network(), IMAGES[[i]]) for i in reversed(range(len(IMAGES)))]).flip(0)
    assert torch.equal(together, apart)


def test_other_weights_and_another_scale_give_others(looks: list[int]) -> None:
    own = seen(network(), IMAGES[:2])
    assert not torch.equal(own, seen(network(1), IMAGES[:2]))
    other = Normalisation((0.4, 0.4, 0.4), (0.2, 0.2, 0.2))
    assert not torch.equal(own, seen(network(), IMAGES[:2], other))
    moved = network()
    moved.backbone.bn1.running_mean += 1.0  # type: ignore[union-attr, operator]
    assert not torch.equal(own, seen(moved, IMAGES[:2]))
    assert len(looks) == 4


def test_what_takes_too_much_room_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    one = seen(network(), IMAGES[:1]).nbytes
    monkeypatch.setattr(frozen, "_ROOM", 3 * one)
    for part in (IMAGES[1:3], IMAGES[3:5], IMAGES[3:5], IMAGES[:1], IMAGES[:5], IMAGES[10:15]):
        torch.testing.assert_close(seen(network(), part), seen(network(), part))
        assert len(frozen._known) <= 3


def test_only_features_that_follow_from_what_is_frozen_are_remembered() -> None:
    assert remembers(network())
    assert not remembers(create_network("resnet18", 0.1, 32))
    scaled = network()
    scaled.looks_first = True  # a scale from training cells
    assert not remembers(scaled)
    other = network()
    other.remembered = False  # an option that is no tensor
    assert not remembers(other)
    torch.manual_seed(0)
    assert remembers(headed(create_network("frozen-resnet34", 0.1, 64), 64, "deepsets", 0.1, "none"))
    by_place = headed(create_network("frozen-resnet34", 0.1, 64), 64, "logitmap", 0.1, "none")
    assert by_place.by_place and not remembers(by_place)  # its features are those of every place


def test_more_threads_and_another_kind_of_network_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    of = network()
    contents = {frozen._content(of, IMAGENET, CPU), frozen._content(of, IMAGENET, torch.device("meta"))}
    monkeypatch.setattr(torch, "get_num_threads", lambda: 17)
    contents.add(frozen._content(of, IMAGENET, CPU))
    of.__class__ = type("Another", (type(of),), {})
    assert len(contents | {frozen._content(of, IMAGENET, CPU)}) == 4


@pytest.mark.parametrize("unit", ["cell", "patient"])
@pytest.mark.parametrize("versions", [1, 2])
def test_predictions_come_from_them(unit: str, versions: int, looks: list[int]) -> None:
    of, clinical = network(), torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    data = CellData(IMAGES, np.arange(0, 40, 10), np.full(4, 10), clinical)
    settings = TrainingSettings(unit=unit)  # type: ignore[arg-type]
    rows, owner = data.rows_of(np.arange(4))
    said = [predict_logits(of, data, rows, owner, settings, device=CPU, versions=versions) for _ in range(2)]
    assert sum(looks) == 64 * versions and np.array_equal(*said)
    with torch.inference_mode():
        prepared = [prepare(each, IMAGENET) for each in (IMAGES, IMAGES.flip(2))[:versions]]
        if unit == "cell":
            own = torch.stack([of(each, clinical[torch.from_numpy(owner)]) for each in prepared]).mean(0)
        else:
            features = torch.stack([of.features(each, clinical) for each in prepared]).mean(0)
            own = of.head(features.view(4, 10, -1).mean(1), clinical)
    np.testing.assert_allclose(said[0], own.double().numpy(), rtol=1e-3, atol=1e-4)

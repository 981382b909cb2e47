"""Controls of an encoder: each catches what it is there for, and lets pass what does not do it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lymphoscope.encoders.architectures import Embedder
from lymphoscope.encoders.colours import Colours
from lymphoscope.encoders.controls import background_control, foreign_control, stain_control
from lymphoscope.encoders.labelled_cells import MISSING, LabelledCells, Task
from lymphoscope.encoders.multitask import MultitaskNetwork
from lymphoscope.training.augmentation import IMAGENET

CPU = torch.device("cpu")
SIDE = 16
TASK = Task("cell_type", ("dark", "middle", "pale"))
LEVELS = np.array([60, 130, 200])


class Looking(Embedder):
    """Embeds the mean colour of a part of the photograph, and whatever else it is told to."""

    embedding, width = "mean colour", 3

    def __init__(self, part: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("part", torch.from_numpy(part).float())

    def forward(self, images: Tensor) -> Tensor:
        return (images * self.part).sum(dim=(2, 3)) / self.part.sum()

    def sha256(self) -> str:
        return ""

    def save(self, folder: Path) -> None:
        """Nothing is kept of it."""

    def load(self, folder: Path) -> None:
        """Nothing was kept."""


class Places(Looking):
    """Embeds where the photograph is darker than its mean, whatever its colours."""

    width = SIDE * SIDE

    def forward(self, images: Tensor) -> Tensor:
        grey = images.mean(dim=1)
        return (grey < grey.mean(dim=(1, 2), keepdim=True)).float().flatten(1)


def middle() -> np.ndarray:
    cell = np.zeros((SIDE, SIDE), dtype=np.bool_)
    cell[4:12, 4:12] = True
    return cell


def cells(n: int = 120, *, background_tells: bool, seed: int = 0) -> LabelledCells:
    """Square cells whose level of grey tells their type; that of the background tells it too, or nothing."""
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % 3
    around = LEVELS[targets] if background_tells else rng.choice(LEVELS, n)
    images = np.broadcast_to(around[:, None, None, None], (n, SIDE, SIDE, 3)).astype(np.uint8)
    images[:, middle()] = LEVELS[targets][:, None, None]
    masks = np.broadcast_to(middle(), (n, SIDE, SIDE)).copy()
    return LabelledCells(images, masks, targets[:, None].astype(np.int64), tuple(map(str, range(n))))


def telling(embedder: Embedder) -> MultitaskNetwork:
    """A network whose head tells the nearest of the three levels of grey from what is embedded."""
    network = MultitaskNetwork(embedder, (TASK,))
    pixels = torch.from_numpy(LEVELS / 255)[:, None]
    colours = ((pixels - torch.tensor(IMAGENET.mean)) / torch.tensor(IMAGENET.deviation)).float()
    head = network.heads["cell_type"]
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        head.weight.copy_(2 * colours)
        head.bias.copy_(-colours.square().sum(dim=1))
    return network


def test_a_network_that_looks_at_the_background_is_caught() -> None:
    found = background_control(telling(Looking(~middle())), cells(background_tells=True), IMAGENET, CPU)
    assert found["cells"] == 120 and found["accuracy"] == 1 and found["mean_recall"] == 1
    assert found["majority"] == pytest.approx(1 / 3) and found["chance_recall"] == pytest.approx(1 / 3)


def test_a_network_that_looks_at_the_cell_is_at_chance_once_the_cell_is_gone() -> None:
    looked_at = cells(300, background_tells=False)
    network = telling(Looking(middle()))
    found = background_control(network, looked_at, IMAGENET, CPU)
    assert abs(found["accuracy"] - 1 / 3) < 0.1 and abs(found["mean_recall"] - 1 / 3) < 0.1
    seen = torch.from_numpy(looked_at.images).permute(0, 3, 1, 2) / 255
    normalised = (seen - torch.tensor(IMAGENET.mean)[:, None, None]) / torch.tensor(IMAGENET.deviation)[
        :, None, None
    ]
    assert (network(normalised)[0].argmax(1).numpy() == looked_at.targets[:, 0]).all(), (
        "else it proves nothing"
    )


def test_cells_that_were_not_found_or_not_told_take_no_part() -> None:
    some = cells(30, background_tells=True)
    some.masks[:6] = True
    some.targets[6:9] = MISSING
    network = telling(Looking(~middle()))
    found = background_control(network, some, IMAGENET, CPU)
    assert found["cells"] == 21 and found["accuracy"] == 1
    some.masks[:] = True
    assert background_control(network, some, IMAGENET, CPU) == {"cells": 0}


def test_rare_types_count_as_much_as_frequent_ones_in_the_mean_recall() -> None:
    some = cells(90, background_tells=True)
    kept = np.flatnonzero((some.targets[:, 0] != 0) | (np.arange(90) < 9))
    few = LabelledCells(
        some.images[kept], some.masks[kept], some.targets[kept], tuple(some.sources[i] for i in kept)
    )
    blind = telling(Looking(~middle()))
    with torch.no_grad():
        blind.heads["cell_type"].bias[0] = -1e3  # type: ignore[index]
    found = background_control(blind, few, IMAGENET, CPU)
    assert found["accuracy"] == pytest.approx(60 / 63) and found["mean_recall"] == pytest.approx(2 / 3)
    assert found["majority"] == pytest.approx(30 / 63)


def varied(n: int = 60) -> LabelledCells:
    """Dark squares in different places on the same ground."""
    some = cells(n, background_tells=True)
    rng, images = np.random.default_rng(1), np.full_like(some.images, 210)
    for image in images:
        row, column = rng.integers(0, 10, 2)
        image[row : row + 6, column : column + 6] = (120, 60, 150)
    return LabelledCells(images, some.masks, some.targets, some.sources)


def test_a_network_that_sees_the_stain_is_caught_and_one_that_sees_shape_is_not() -> None:
    everywhere = np.ones((SIDE, SIDE), dtype=np.bool_)
    shape = stain_control(MultitaskNetwork(Places(everywhere), (TASK,)), varied(), IMAGENET, CPU, 0)
    stain = stain_control(MultitaskNetwork(Looking(everywhere), (TASK,)), varied(), IMAGENET, CPU, 0)
    assert shape["cells"] == 60 and shape["stains"] == 10
    assert shape["cosine_5_percent"] > 0.99 > 0.5 > shape["cosine_of_different_cells"]
    assert stain["cosine_median"] < 0.7 and stain["cosine_5_percent"] < 0
    again = stain_control(MultitaskNetwork(Looking(everywhere), (TASK,)), varied(), IMAGENET, CPU, 0)
    other = stain_control(MultitaskNetwork(Looking(everywhere), (TASK,)), varied(), IMAGENET, CPU, 1)
    assert again == stain != other


def test_foreign_cells_in_one_corner_are_told_from_foreign_cells_that_spread() -> None:
    own, network = cells(background_tells=True), telling(Looking(middle()))
    learned = Colours.of(own.images)
    as_it_is = {"spread_over_own": pytest.approx(1), "told": {"dark": 40, "middle": 40, "pale": 40}}
    same = foreign_control(network, own, own.images, learned, TASK.classes, IMAGENET, CPU)
    assert same == {
        "cells": 120,
        "distance": pytest.approx(0, abs=1e-6),
        **as_it_is,
        "matched": as_it_is | {"spread_over_own": pytest.approx(1, abs=1e-5)},
    }
    corner = np.repeat(own.images[:1], 50, axis=0)
    found = foreign_control(network, own, corner, learned, TASK.classes, IMAGENET, CPU)
    assert found["cells"] == 50 and found["spread_over_own"] < 1e-6
    assert found["told"] == {"dark": 50, "middle": 0, "pale": 0}


def test_foreign_cells_in_other_colours_are_seen_as_they_are_once_their_colours_are_matched() -> None:
    own, network = cells(background_tells=False), telling(Looking(middle()))
    learned, pale = Colours.of(own.images), np.round(255 * (own.images / 255) ** 0.2).astype(np.uint8)
    found = foreign_control(network, own, pale, learned, TASK.classes, IMAGENET, CPU)
    assert found["told"] == {"dark": 0, "middle": 0, "pale": 120} and found["spread_over_own"] < 0.7
    assert found["matched"]["told"] == {"dark": 40, "middle": 40, "pale": 40}
    assert found["matched"]["spread_over_own"] == pytest.approx(1, abs=0.05)


def test_the_own_spread_is_that_of_all_types_also_where_cells_are_sorted_by_them() -> None:
    many, network = cells(1800, background_tells=True), telling(Looking(middle()))
    order = np.argsort(many.targets[:, 0], kind="stable")
    found = [
        foreign_control(
            network,
            LabelledCells(many.images[rows], many.masks[rows], many.targets[rows], many.sources),
            many.images,
            Colours.of(many.images),
            TASK.classes,
            IMAGENET,
            CPU,
        )["spread_over_own"]
        for rows in (np.arange(1800), order)
    ]
    assert found == pytest.approx([1, 1], abs=0.02)


def test_controls_change_nothing_in_the_network() -> None:
    network = telling(Looking(middle()))
    some = cells(30, background_tells=False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images = some.images.copy()
    background_control(network, some, IMAGENET, CPU)
    stain_control(network, some, IMAGENET, CPU, 0)
    foreign_control(network, some, some.images, Colours.of(some.images), TASK.classes, IMAGENET, CPU)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert np.array_equal(some.images, images)

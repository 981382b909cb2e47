"""What photographs become before a network sees them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lymphoscope.models.conformance import example_bags
from lymphoscope.models.image_inputs import shrunk, some_cells
from lymphoscope.models.registry import create_model
from lymphoscope.training.prediction import CellData
from lymphoscope.training.settings import TrainingSettings

CPU = torch.device("cpu")


def test_a_network_is_shown_cells_of_all_of_few_patients_and_not_too_many_of_many() -> None:
    n, each = 600, 6
    levels = np.repeat(np.arange(n) % 251, each).astype(np.uint8)  # a cell says whose it is
    data = CellData(
        cells=torch.from_numpy(levels)[:, None, None, None].expand(-1, 2, 2, 3),
        starts=np.arange(n) * each,
        counts=np.full(n, each),
        clinical=torch.zeros(n, 3),
    )
    few = some_cells(data, np.arange(20), TrainingSettings(), CPU)
    assert few.shape == (80, 3, 2, 2)
    assert len(torch.unique(few[:, 0, 0, 0])) == 20
    many = some_cells(data, np.arange(n), TrainingSettings(), CPU)
    assert many.shape == (1024, 3, 2, 2)
    assert torch.equal(
        many[[0, -1]], some_cells(data, np.array([0, n - 1]), TrainingSettings(), CPU)[[0, -1]]
    )
    assert len(torch.unique(many[:, 0, 0, 0])) == 251


def test_shrinking_averages_squares_of_pixels() -> None:
    images = torch.randint(0, 256, (300, 6, 6, 3), dtype=torch.uint8)
    expected = images.view(300, 3, 2, 3, 2, 3).float().mean(dim=(2, 4)).round()
    assert torch.equal(shrunk(images, 2), expected.byte())
    assert shrunk(images, 1) is images
    assert shrunk(images[:0], 2).shape == (0, 3, 3, 3)


@pytest.mark.parametrize("head", [{}, {"head": "deepsets", "unit": "patient"}])
def test_a_network_on_shrunk_photographs_sees_them_whole_and_small(head: dict[str, str]) -> None:
    torch.set_num_threads(1)
    small, y = example_bags(18, image_size=32)
    large = replace(small, cells=np.asarray(small.cells).repeat(2, axis=1).repeat(2, axis=2))
    own = {"width": 0.2, **head}
    at_once = create_model("vgg16@smoke", image_size=32, **own).fit(small, y)
    by_two = create_model("vgg16@smoke", image_size=64, shrink=2, **own).fit(large, y)
    assert np.array_equal(by_two.predict_proba(large), at_once.predict_proba(small))

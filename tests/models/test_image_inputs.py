"""What photographs become before a network sees them."""

from __future__ import annotations

import numpy as np
import torch

from lymphoscope.models.image_inputs import some_cells
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

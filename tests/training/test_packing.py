"""Bags of unequal size without padding, and what a patient is without each of its cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lymphoscope.cohort.bags import spread_rows
from lymphoscope.models.networks.base import CellNetwork, create_network
from lymphoscope.training.packing import Packing, segment_mean, segment_sum
from lymphoscope.training.prediction import left_out, packed


def test_bags_are_summed_and_averaged_apart() -> None:
    packing = Packing(torch.tensor([2, 1, 3]))
    assert len(packing) == 3
    assert packing.owner.tolist() == [0, 0, 1, 2, 2, 2]
    assert packing.offsets.tolist() == [0, 2, 3, 6]
    values = torch.arange(12.0).view(6, 2)
    assert segment_sum(values, packing).tolist() == [[2, 4], [4, 5], [24, 27]]
    assert segment_mean(values.bfloat16(), packing).tolist() == [[1, 2], [4, 5], [8, 9]]


def test_rows_of_patients_are_packed_in_their_order() -> None:
    packing, patients = packed(np.array([7, 7, 2, 9, 9, 9]))
    assert packing.counts.tolist() == [2, 1, 3]
    assert patients.tolist() == [7, 2, 9]


class Plain(CellNetwork):
    """The same network, without saying that it averages."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network, self.takes_clinical, self.averages = network, True, False

    def features(self, images: Tensor, clinical: Tensor) -> Tensor:
        features: Tensor = self.network.features(images, clinical)
        return features

    def head(self, features: Tensor, clinical: Tensor) -> Tensor:
        logits: Tensor = self.network.head(features, clinical)
        return logits


def test_leaving_cells_out_one_by_one_is_what_the_sums_say() -> None:
    torch.manual_seed(0)
    network = create_network("cnn-clinical", 0.5, 32).eval()
    owner = np.repeat([3, 0, 1], [4, 1, 6])
    features = network.features(torch.randn(11, 3, 32, 32), torch.randn(11, 3)).detach()
    clinical = torch.randn(4, 3)
    fast, slow = (left_out(each, features, clinical, owner) for each in (network, Plain(network)))
    assert np.allclose(fast, slow, atol=1e-5)
    assert np.ptp(slow) > 1e-3


def test_rows_of_runs_are_spread_evenly() -> None:
    starts, counts = np.array([5, 0, 40, 9]), np.array([7, 0, 1, 4])
    for most in (None, 1, 3, 7, 20):
        expected = [
            start + i * count // min(count, most or count)
            for start, count in zip(starts, counts, strict=True)
            for i in range(min(count, most or count))
        ]
        assert spread_rows(starts, counts, most).tolist() == expected

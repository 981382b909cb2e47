"""A recipe whose photographs are normalised before it sees them keeps the contract of every model."""

from __future__ import annotations

import torch

from lymphoscope.models.conformance import check_bag_classifier
from lymphoscope.models.registry import create_model


def test_a_recipe_with_normalised_stain_keeps_the_contract() -> None:
    torch.set_num_threads(1)
    check_bag_classifier(
        lambda: create_model("cnn-clinical@smoke:stain=normalised", image_size=32, width=0.2),
        image_size=32,
        n_patients=18,
    )

"""Photographs evened out: what is the same all over one is gone, what differs within it stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from lymphoscope.models.conformance import example_bags
from lymphoscope.models.image_inputs import EVEN_DEVIATION, EVEN_MEAN, evened
from lymphoscope.models.registry import create_model


def photographs(n: int = 40, side: int = 24) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    smooth = torch.rand(n, 3, 5, 5, generator=generator)
    images = torch.nn.functional.interpolate(smooth, size=side, mode="bilinear") * 90 + 60
    return images.permute(0, 2, 3, 1).to(torch.uint8)


def test_every_channel_has_the_same_mean_and_deviation() -> None:
    even = evened(photographs()).double()
    assert torch.allclose(even.mean((1, 2)), torch.full((40, 3), EVEN_MEAN, dtype=torch.float64), atol=0.3)
    spread = even.std((1, 2), correction=0)
    assert torch.allclose(spread, torch.full((40, 3), EVEN_DEVIATION, dtype=torch.float64), atol=1.5)


def test_light_and_warmth_leave_no_trace() -> None:
    images = photographs()
    warmer = (images.float() * torch.tensor([1.3, 1.1, 0.8]) + torch.tensor([5.0, 0.0, 12.0])).round()
    difference = evened(images).float() - evened(warmer.to(torch.uint8)).float()
    assert difference.abs().max() <= 3  # of 255, from rounding
    assert (images - warmer).abs().max() > 20


def test_an_image_is_evened_by_itself_however_it_lies_in_memory() -> None:
    whole = torch.nn.functional.pad(photographs(70), (0, 0, 4, 4, 4, 4))
    inside = whole[:, 4:-4, 4:-4]
    assert torch.equal(evened(inside), torch.cat([evened(inside[i : i + 1]) for i in range(70)]))


def test_what_is_painted_over_stays_black_and_has_no_say() -> None:
    images = photographs()
    cell = torch.zeros(40, 24, 24, 1, dtype=torch.bool)
    cell[:20, 6:18, 6:18], cell[20:, 2:22, 2:22] = True, True
    even = evened(images * cell, painted=True)
    assert not (even * ~cell).any()
    for i in (0, 39):
        shown = even[i][cell[i, ..., 0]].double()
        assert torch.allclose(shown.mean(0), torch.full((3,), EVEN_MEAN, dtype=torch.float64), atol=0.5)
        assert torch.allclose(shown.std(0, correction=0), torch.full((3,), EVEN_DEVIATION).double(), atol=3)
    assert not evened(torch.zeros_like(images), painted=True).any()


def test_a_channel_without_spread_becomes_the_mean() -> None:
    flat = torch.full((2, 8, 8, 3), 200, dtype=torch.uint8)
    assert torch.equal(evened(flat), torch.full_like(flat, round(EVEN_MEAN)))


def test_a_network_on_evened_photographs_does_not_see_how_bright_they_are() -> None:
    torch.set_num_threads(1)
    bags, y = example_bags(18, image_size=32)
    darker = replace(bags, cells=(bags.cells * 0.8).astype(np.uint8))
    moved = {}
    for evened_out in (True, False):
        model = create_model("cnn-baseline@smoke", image_size=32, evened=evened_out).fit(bags, y)
        told, again = (model.predict_proba(each)[:, 1] for each in (bags, darker))
        moved[evened_out] = float(np.abs(told - again).max() / np.ptp(told))
    assert moved[True] < 0.2 < moved[False]

"""The mixture of experts: each expert matters, and the gate says how much."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from lymphoscope.cohort.bags import Bags
from lymphoscope.errors import InputError
from lymphoscope.evaluation.folds import out_of_fold
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.models.conformance import example_bags
from lymphoscope.models.networks.base import CellNetwork, create_network
from lymphoscope.models.networks.blocks import decided_by
from lymphoscope.models.registry import create_model, recipe_of
from lymphoscope.training.packing import Packing, segment_mean

SIDE = 32
ENCODERS = ("u-net", "residual")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def mixture(**options: Any) -> CellNetwork:
    torch.manual_seed(0)
    return create_network("mixture-of-experts", 0.5, SIDE, options).eval()


def patients() -> tuple[torch.Tensor, torch.Tensor, Packing]:
    random = torch.Generator().manual_seed(1)
    images = torch.randn(9, 3, SIDE, SIDE, generator=random)
    return images, torch.randn(3, 3, generator=random), Packing(torch.tensor([4, 2, 3]))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_gate_that_is_forced_gives_the_expert(encoder: str) -> None:
    images, clinical, packing = patients()
    free = mixture(encoder=encoder)
    features = free.features(images, clinical[packing.owner])
    _, *experts = free.experts(segment_mean(features, packing), clinical)  # type: ignore[operator]
    for forced, expert, share in (("cells", experts[0], 1.0), ("clinical", experts[1], 0.0)):
        network = mixture(encoder=encoder, gate=forced)
        assert torch.allclose(network.bags(features, packing, clinical), expert, atol=1e-6)
        assert network.shares(features, packing, clinical)["cells"].tolist() == [share] * 3
    mixed = free.bags(features, packing, clinical)
    gate = free._gate(segment_mean(features, packing), clinical)  # type: ignore[operator]
    assert torch.allclose(gate, torch.full((3, 1), 0.5), atol=0.02), "they begin as equals"
    assert torch.allclose(mixed, gate * experts[0] + (1 - gate) * experts[1], atol=1e-6)
    shares = free.shares(features, packing, clinical)
    assert torch.allclose(shares["cells"] + shares["clinical"], torch.ones(3))
    of_cells, of_table = (
        (weight * (each[:, 1:] - each[:, :1])).abs()
        for weight, each in ((gate, experts[0]), (1 - gate, experts[1]))
    )
    assert torch.allclose(shares["cells"][:, None], of_cells / (of_cells + of_table), atol=1e-6)


def test_an_expert_that_says_nothing_has_decided_nothing() -> None:
    gate, silent, speaks = torch.tensor([0.9, 0.9, 0.3]), torch.zeros(3), torch.tensor([2.0, -2.0, 0.0])
    assert decided_by(gate, silent, speaks)["cells"].tolist() == pytest.approx([0, 0, 0.3])
    assert decided_by(gate, speaks, silent)["cells"].tolist() == pytest.approx([1, 1, 0.3])


@pytest.mark.parametrize("expert_loss", [0.0, 0.5])
def test_gradients_reach_both_experts_and_the_gate(expert_loss: float) -> None:
    images, clinical, packing = patients()
    network = mixture(expert_loss=expert_loss).train()
    features = network.features(images, clinical[packing.owner])
    labels = torch.tensor([1, 0, 1])
    logits, loss = network.bag_loss(features, packing, clinical, labels, partial(cross_entropy))
    mixed, *experts = network.experts(segment_mean(features, packing), clinical)  # type: ignore[operator]
    own = sum(cross_entropy(each, labels) for each in experts) / 2
    assert torch.allclose(loss, cross_entropy(mixed, labels) + expert_loss * own)
    assert torch.equal(logits, mixed)
    loss.backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), key


def test_options_are_checked_and_stay_with_the_recipe() -> None:
    model = create_model("mixture-of-experts:gate_width=4,gate=clinical")
    assert model.get_params()["options"] == {
        "encoder": "u-net",
        "gate_width": 4,
        "gate": "clinical",
        "expert_loss": 1.0,
        "pretraining": 300,
    }
    assert recipe_of(model).name == "mixture-of-experts"
    for wrong, message in (
        ("gate_widht=4", "gate_width"),
        ("gate=sex", "cells"),
        ("gate_width=0", "1 or more"),
        ("expert_loss=-1", "0 or more"),
        ("pretraining=-1", "0 or more"),
    ):
        with pytest.raises(InputError, match=message):
            create_model(f"mixture-of-experts:{wrong}").check_network()
    with pytest.raises(InputError, match="no parameter of this name"):
        create_model("cnn-clinical:gate_width=4")


def test_the_clinical_expert_alone_is_trained_beforehand() -> None:
    clinical = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    labels = (clinical[:, 1] > 0).long()
    for steps, learned in ((0, False), (200, True)):
        network = mixture(pretraining=steps)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        network.before_training(clinical, labels, cross_entropy)
        right = (network.clinical(clinical).argmax(1) == labels).float().mean()  # type: ignore[operator]
        assert (right > 0.95) == learned
        changed = {
            name for name, value in network.state_dict().items() if not torch.equal(value, before[name])
        }
        assert all(name.startswith("clinical.") for name in changed) and bool(changed) == learned


def planted(seed: int, n: int = 48) -> tuple[Bags, np.ndarray]:
    """Malignant patients have redder cells and more lymphocytes, by two and by three standard deviations."""
    bags, _ = example_bags(n, seed=seed, image_size=SIDE)
    rng, y = np.random.default_rng(seed), np.arange(n) % 2
    red, high = rng.normal(2.0 * y - 1), rng.normal(3.0 * y - 1.5)
    cells = rng.integers(100, 140, bags.cells.shape).astype(np.float64)
    middle = slice(SIDE // 4, -(SIDE // 4))
    cells[:, middle, middle, 0] += 25 * np.repeat(red, bags.counts)[:, None, None]
    clinical = bags.clinical.copy()
    clinical[:, 2] = 15 * np.exp(0.5 * high)
    return replace(bags, cells=np.clip(cells, 0, 255).astype(np.uint8), clinical=clinical), y


def shuffled(bags: Bags, what: str, rng: np.random.Generator) -> Bags:
    order = rng.permutation(len(bags))
    if what == "clinical":
        return replace(bags, clinical=bags.clinical[order])
    return replace(bags[order], clinical=bags.clinical, patient_ids=bags.patient_ids)


@pytest.mark.parametrize("recipe", ["mixture-of-experts", "mixture-of-experts-paper"])
def test_a_trained_mixture_needs_both_the_photographs_and_the_table(recipe: str) -> None:
    """The interval of what is lost is over patients drawn anew and over ways to permute."""
    bags, y = planted(0)
    new, truth = planted(1, 96)
    settings = {"image_size": SIDE, "width": 0.25, "epochs": 25, "learning_rate": 0.003, "average": 0.9}
    model = create_model(recipe, **settings).fit(bags, y)
    right = model.predict(new) == truth
    rng = np.random.default_rng(0)
    sides = np.flatnonzero(truth == 1), np.flatnonzero(truth == 0)
    assert np.mean([right[side].mean() for side in sides]) > 0.8
    for what in ("clinical", "cells"):
        losses = []
        for _ in range(20):
            lost = right.astype(int) - (model.predict(shuffled(new, what, rng)) == truth)
            drawn = [rng.choice(side, (50, len(side))) for side in sides]
            losses.append(np.mean([lost[each].mean(axis=1) for each in drawn], axis=0))
        assert np.quantile(losses, 0.025) > 0, what


def test_the_gate_of_patients_not_seen_is_kept() -> None:
    bags, y = example_bags(24, image_size=SIDE)
    model = create_model("mixture-of-experts@smoke", image_size=SIDE, width=0.25)
    found = out_of_fold(model, bags, y, Protocol(folds=2, repeats=1).splits(y))
    assert found.shares.keys() == {"cells", "clinical"}
    together = found.shares["cells"] + found.shares["clinical"]
    assert together == pytest.approx(np.where(bags.counts > 0, 1.0, np.nan), nan_ok=True)

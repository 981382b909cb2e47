"""What every head keeps to, whatever it computes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lymphoscope.models.heads.base import BagHead, create_head, list_heads
from lymphoscope.models.heads.fusion import FUSIONS
from lymphoscope.training.packing import Packing

NAMES = list_heads()
COUNTS = [13, 1, 12, 2, 30]
PACKING = Packing(torch.tensor(COUNTS))
LABELS = torch.tensor([0, 1, 1, 0, 1])
D = 6


def small(name: str, fusion: str = "none", n_features: int = D) -> BagHead:
    torch.manual_seed(0)
    built = create_head(name, n_features, width=0.25, fusion=fusion)
    with torch.no_grad():
        for parameter in built.parameters():  # nothing may hide behind weights that start at 0
            parameter += 0.1 * torch.randn_like(parameter)
    return built


def rows(seed: int = 1) -> Tensor:
    return torch.randn(sum(COUNTS), D, generator=torch.Generator().manual_seed(seed))


def clinical(seed: int = 2) -> Tensor:
    return torch.randn(len(COUNTS), 3, generator=torch.Generator().manual_seed(seed))


each = pytest.mark.parametrize("name", NAMES)
each_fusion = pytest.mark.parametrize("fusion", FUSIONS)


@each
@each_fusion
def test_each_bag_gets_two_logits_that_differ(name: str, fusion: str) -> None:
    built = small(name, fusion)
    logits = built(rows(), PACKING, clinical())
    assert logits.shape == (len(COUNTS), 2) and logits.dtype == torch.float32
    assert (logits[:, 0] == 0).all() and len(set(logits[:, 1].tolist())) == len(COUNTS)
    from_loss, loss = built.loss(rows(), PACKING, clinical(), LABELS, cross_entropy)
    assert torch.equal(from_loss, logits) and loss.ndim == 0


@each
@each_fusion
def test_clinical_values_matter_where_they_should(name: str, fusion: str) -> None:
    built = small(name, fusion)
    one, other = (built(rows(), PACKING, clinical(seed)) for seed in (2, 3))
    assert built.takes_clinical == (fusion != "none") == (not torch.allclose(one, other))
    assert not torch.allclose(one, built(rows(5), PACKING, clinical()))


@each
@each_fusion
@pytest.mark.parametrize("training", [False, True])
def test_a_bag_depends_on_no_other_and_on_no_order(name: str, fusion: str, training: bool) -> None:
    built, x, c = small(name, fusion).train(training), rows(), clinical()
    together = built(x, PACKING, c)
    _, losses = built.loss(x, PACKING, c, LABELS, _of_each)
    for i, bag in enumerate(x.split(COUNTS)):
        shuffled = bag[torch.randperm(len(bag), generator=torch.Generator().manual_seed(i))]
        alone = Packing(torch.tensor([len(bag)]))
        rest = (alone, c[i : i + 1], LABELS[i : i + 1], _of_each)
        logits, loss = built.loss(shuffled, *rest)
        torch.testing.assert_close(logits[0], together[i], atol=2e-6, rtol=1e-5)
        if name != "clam":  # whose loss is already a mean over bags
            torch.testing.assert_close(loss[0], losses[i], atol=2e-6, rtol=1e-5)


def _of_each(logits: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(logits, labels, reduction="none")


@each
@each_fusion
def test_gradients_reach_every_parameter_and_the_rows(name: str, fusion: str) -> None:
    built, x = small(name, fusion), rows().requires_grad_()
    built.loss(x, PACKING, clinical(), LABELS, cross_entropy)[1].backward()
    for key, parameter in built.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key
    assert x.grad is not None and all(part.abs().sum() > 0 for part in x.grad.split(COUNTS))


@each
@pytest.mark.parametrize("fusion", ["none", "gate"])
@pytest.mark.parametrize("scale", [0.0, 1e-20, -1e4, 1e6])
def test_no_features_make_it_infinite(name: str, fusion: str, scale: float) -> None:
    built = small(name, fusion)
    for x in (rows() * scale, torch.full((sum(COUNTS), D), scale)):
        x.requires_grad_()
        logits, loss = built.loss(x, PACKING, clinical(), LABELS, cross_entropy)
        built.zero_grad()
        loss.backward()
        assert logits.isfinite().all() and loss.isfinite()
        assert x.grad is not None and x.grad.isfinite().all()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in built.parameters())


@each
def test_a_single_bag_of_a_single_row_works(name: str) -> None:
    built = small(name)
    one = Packing(torch.tensor([1]))
    logits, loss = built.loss(rows()[:1], one, clinical()[:1], LABELS[:1], cross_entropy)
    assert logits.shape == (1, 2) and loss.isfinite()


@each
def test_mixed_precision_is_near_single(name: str) -> None:
    built = small(name, "gate")
    exact = built(rows(), PACKING, clinical())
    with torch.autocast("cpu", torch.bfloat16):
        logits, loss = built.loss(rows(), PACKING, clinical(), LABELS, cross_entropy)
    loss.backward()
    assert (logits.float() - exact).abs().max() < 0.15


# --- learning -----------------------------------------------------------------------------------------------


def planted(n_bags: int, seed: int, *, spread: bool = False) -> tuple[Tensor, Packing, Tensor, Tensor]:
    """Bags of 6 to 12 rows; in a malignant one half of the rows lie further along one axis, or all closer."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(6, 13, (n_bags,), generator=generator)
    labels = torch.arange(n_bags) % 2
    packing = Packing(counts)
    x = torch.randn(int(counts.sum()), D, generator=generator)
    malignant = labels[packing.owner] == 1
    if spread:
        x = torch.where(malignant[:, None], 0.3 * x, x)
    else:
        half = torch.rand(len(x), generator=generator) < 0.5
        x[:, 0] += 4.0 * (malignant & half)
    return x, packing, torch.randn(n_bags, 3, generator=generator), labels


def accuracy_after_training(
    built: BagHead,
    train: tuple[Tensor, Packing, Tensor, Tensor],
    test: tuple[Tensor, Packing, Tensor, Tensor],
) -> float:
    optimiser = torch.optim.Adam(built.parameters(), lr=0.03)
    for _ in range(60):
        loss = built.loss(*train, cross_entropy)[1]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        return (built.eval()(*test[:3]).argmax(1) == test[3]).float().mean().item()


@each
@pytest.mark.parametrize("fusion", ["none", "gate"])
def test_it_learns_rows_that_speak_for_malignancy(name: str, fusion: str) -> None:
    torch.manual_seed(0)
    built = create_head(name, D, width=0.125, fusion=fusion)
    assert accuracy_after_training(built, planted(80, 0), planted(100, 1)) > 0.85


@pytest.mark.parametrize("name", ["deepsets", "transmil"])
def test_it_learns_how_alike_rows_are(name: str) -> None:
    torch.manual_seed(0)
    built = create_head(name, D, width=0.125)
    assert accuracy_after_training(built, planted(60, 0, spread=True), planted(60, 1, spread=True)) > 0.9

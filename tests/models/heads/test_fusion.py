"""How the clinical values join, for one head as for all."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import cross_entropy

from lymphoscope.models.heads.base import BagHead, create_head
from lymphoscope.models.heads.fusion import Additive, Gate
from lymphoscope.training.packing import Packing

PACKING = Packing(torch.tensor([2, 3, 1]))
RANDOM = torch.Generator().manual_seed(0)
X, CLINICAL = torch.randn(6, 4, generator=RANDOM), torch.randn(3, 3, generator=RANDOM)


def pair(fusion: str) -> tuple[BagHead, Tensor]:
    """A head with that fusion, and its logits without any."""
    torch.manual_seed(0)
    built = create_head("abmil", 4, width=0.1, fusion=fusion)
    return built, built.see(X, PACKING).logit


def patients_told_apart_by_values() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    values = torch.tensor([0.2, 0.05, 1.0]) * torch.randn(80, 3, generator=random)
    noisy = values @ torch.tensor([4.0, 30.0, 0.3]) + torch.randn(80, generator=random)
    return values, (noisy > -0.5).long()


def test_the_additive_term_starts_at_nothing_and_is_linear() -> None:
    built, image = pair("additive")
    assert isinstance(built.fusion, Additive)
    assert torch.equal(built(X, PACKING, CLINICAL)[:, 1:], image)
    torch.nn.init.constant_(built.fusion.term.weight, 2.0)
    expected = image + 2 * CLINICAL.sum(1, keepdim=True)
    torch.testing.assert_close(built(X, PACKING, CLINICAL)[:, 1:], expected)


def test_the_additive_term_begins_as_the_logistic_regression_of_the_values_alone() -> None:
    values, labels = patients_told_apart_by_values()
    built, _ = pair("additive")
    built.fusion.before_training(values, labels, cross_entropy)
    assert isinstance(built.fusion, Additive)
    spread = values.std(0, correction=0).numpy()
    other = LogisticRegression(tol=1e-8).fit(values.numpy() / spread, labels.numpy())
    np.testing.assert_allclose(
        built.fusion.term.weight.detach(), other.coef_ / spread, rtol=0.002, atol=0.002
    )
    np.testing.assert_allclose(built.fusion.term.bias.detach(), other.intercept_, rtol=0.002, atol=0.002)


def test_the_clinical_expert_of_a_gate_begins_with_what_the_values_say() -> None:
    values, labels = patients_told_apart_by_values()
    built, _ = pair("gate")
    built.fusion.before_training(values, labels, cross_entropy)
    assert isinstance(built.fusion, Gate)
    assert ((built.fusion.clinical(values)[:, 0] > 0) == (labels > 0)).float().mean() > 0.8


def test_concatenated_values_stand_beside_every_row() -> None:
    torch.manual_seed(0)
    built = create_head("mean", 4, width=0.1, fusion="concatenation")
    widened = torch.cat([X, CLINICAL.repeat_interleave(PACKING.counts, 0)], dim=1)
    assert torch.equal(built(X, PACKING, CLINICAL)[:, 1:], built.see(widened, PACKING).logit)


def test_a_gate_forced_to_a_side_is_that_expert() -> None:
    built, image = pair("gate")
    assert isinstance(built.fusion, Gate)
    for forced, expert in ((100.0, image), (-100.0, built.fusion.clinical(CLINICAL))):
        torch.nn.init.constant_(built.fusion.gate[2].bias, forced)
        torch.testing.assert_close(built(X, PACKING, CLINICAL)[:, 1:], expert)


def test_the_gate_says_how_much_each_side_decided() -> None:
    built, image = pair("gate")
    shares = built.shares(X, PACKING, CLINICAL)
    assert set(shares) == {"cells", "clinical"}
    torch.testing.assert_close(shares["cells"] + shares["clinical"], torch.ones(3))
    assert isinstance(built.fusion, Gate)
    of_table = built.fusion.clinical(CLINICAL)
    gate = built.fusion._share(image, of_table, CLINICAL)
    torch.testing.assert_close(built(X, PACKING, CLINICAL)[:, 1:], gate * image + (1 - gate) * of_table)
    sizes = (gate * image).abs(), ((1 - gate) * of_table).abs()
    torch.testing.assert_close(shares["cells"][:, None], sizes[0] / (sizes[0] + sizes[1]))
    assert pair("additive")[0].shares(X, PACKING, CLINICAL) == {}


def test_the_gate_is_fed_by_both() -> None:
    built, _ = pair("gate")
    before = built.shares(X, PACKING, CLINICAL)["cells"]
    assert not torch.allclose(before, built.shares(5 - X, PACKING, CLINICAL)["cells"])
    assert not torch.allclose(before, built.shares(X, PACKING, 1 - CLINICAL)["cells"])


def test_gates_learn_which_side_knows() -> None:
    generator = torch.Generator().manual_seed(0)
    packing = Packing(torch.full((40,), 3))
    noise, clinical = torch.randn(120, 4, generator=generator), torch.randn(40, 3, generator=generator)
    labels = (clinical[:, 0] > 0).long()
    torch.manual_seed(0)
    built = create_head("mean", 4, width=0.1, fusion="gate")
    optimiser = torch.optim.Adam(built.parameters(), lr=0.02)
    for _ in range(60):
        optimiser.zero_grad()
        built.loss(noise, packing, clinical, labels, cross_entropy)[1].backward()
        optimiser.step()
    assert (built(noise, packing, clinical).argmax(1) == labels).float().mean() > 0.95
    new, table = torch.randn(120, 4, generator=generator), torch.randn(40, 3, generator=generator)
    right = built(new, packing, table).argmax(1) == (table[:, 0] > 0).long()
    assert right.float().mean() > 0.85

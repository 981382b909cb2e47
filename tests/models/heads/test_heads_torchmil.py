"""The same numbers as torchmil's models at equal weights, bag by bag and, where it can, padded."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchmil.data import pad_tensors
from torchmil.models import ABMIL, CLAM_SB, DSMIL, TransMIL
from torchmil.models.transmil import PPEG
from torchmil.nn import MaxPool, MeanPool

from lymphoscope.models.heads.base import create_head
from lymphoscope.training.packing import Packing

D = 12
COUNTS = [16, 49, 25, 81, 36, 198, 17]
SQUARES = [16, 49, 25, 81, 36]


def made(name: str) -> Any:
    torch.manual_seed(0)
    return create_head(name, D, width=0.25)


def bags(counts: list[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n, D, generator=generator) for n in counts]


def logits_of(built: Any, parts: list[Tensor]) -> Tensor:
    packing = Packing(torch.tensor([len(part) for part in parts]))
    with torch.no_grad():
        return built(torch.cat(parts), packing, torch.zeros(len(parts), 3))[:, 1]


def put(layer: nn.Module, weight: Tensor, bias: Tensor | None = None) -> None:
    """These numbers into a linear layer of torchmil."""
    layer = getattr(layer, "module", layer)
    state = {"weight": weight.detach()} | ({} if bias is None else {"bias": bias.detach()})
    layer.load_state_dict(state)


def put_attention(pool: Any, attention: Any) -> None:
    put(pool.fc1, attention.content.weight, attention.content.bias)
    put(pool.fc_gated, attention.gate.weight, attention.gate.bias)
    put(pool.fc2, attention.weight.weight)


def theirs_of(built: Any, name: str) -> Any:
    if name == "abmil":
        model: Any = ABMIL((D,), att_dim=32, gated=True)
        put_attention(model.pool, built.attention)
        put(model.classifier, built.classifier.weight, built.classifier.bias)
    elif name == "clam":
        model = CLAM_SB((D,), att_dim=64, gated=True, k_sample=8, feat_ext=built.embed)
        put_attention(model.pool, built.attention)
        put(model.classifier, built.classifier.weight, built.classifier.bias)
    else:
        model = DSMIL((D,), att_dim=32)
        put(model.q_nn, built.query.weight, built.query.bias)
        put(model.inst_classifier, built.classifiers.weight[:1], built.classifiers.bias[:1])
        put(model.bag_classifier, built.classifiers.weight[1:], built.classifiers.bias[1:])
    return model.eval()


@pytest.mark.parametrize("name", ["abmil", "clam", "dsmil"])
def test_logits_are_those_of_torchmil(name: str) -> None:
    built = made(name)
    theirs = theirs_of(built, name)
    with torch.no_grad():
        one_by_one = torch.cat([theirs.predict(x[None], return_inst_pred=False) for x in bags(COUNTS)])
        padded, mask = pad_tensors(bags(COUNTS))
        together = theirs.predict(padded, mask, return_inst_pred=False)
    ours = logits_of(built, bags(COUNTS))
    torch.testing.assert_close(ours, one_by_one, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours, together, atol=1e-5, rtol=0)
    assert ours.std() > 1e-3


@pytest.mark.parametrize(("name", "pool"), [("mean", MeanPool()), ("max", MaxPool())])
def test_pooled_rows_are_those_of_torchmil(name: str, pool: nn.Module) -> None:
    built = made(name)
    padded, mask = pad_tensors(bags(COUNTS))
    with torch.no_grad():
        theirs = built.last(pool(built.embed(padded), mask.bool()))[:, 0]
    torch.testing.assert_close(logits_of(built, bags(COUNTS)), theirs, atol=1e-5, rtol=0)


class SmoothSVM(nn.Module):
    """log Σ_c exp(x_c + [c ≠ y] − x_y), the mean over rows (Berrada et al. 2018, equation 10, k = 1).

    torchmil 1.0.2 gives its own loss labels (n, 1) where that wants (n,), and so sums over rows, not classes.
    """

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(n, 2) and (n, 1) → ()."""
        labels = labels.long()
        wrong = torch.ones_like(logits).scatter(1, labels, 0.0)
        return (logits + wrong - logits.gather(1, labels)).logsumexp(1).mean()


def test_clam_picks_the_rows_that_torchmil_picks() -> None:
    built = made("clam")
    theirs = theirs_of(built, "clam")
    theirs.inst_loss_fn = SmoothSVM()
    for k, classifier in enumerate(theirs.inst_classifiers):  # a difference of two outputs is all that counts
        weight, bias = built.speaks_for.weight[k], built.speaks_for.bias[k]
        put(classifier, torch.stack([-weight, weight]) / 2, torch.stack([-bias, bias]) / 2)
    labels = torch.tensor([0, 1, 1, 0, 1, 0, 0])
    packing = Packing(torch.tensor(COUNTS))
    ours = built.row_loss(built.see(torch.cat(bags(COUNTS)), packing), packing, labels)
    one_by_one = [
        theirs.compute_loss(labels[i : i + 1], bag[None])[1]["InstLoss"] for i, bag in enumerate(bags(COUNTS))
    ]
    torch.testing.assert_close(ours, torch.stack(one_by_one), atol=1e-5, rtol=1e-5)


# --- transmil -----------------------------------------------------------------------------------------------


def transmil_pair() -> tuple[Any, Any]:
    """Ours and theirs, where theirs has no order either and is not approximate.

    Its convolutions keep nothing but their middles, its rows number a square, and each row is a landmark.
    It has no projection after the attention, so ours does nothing.
    """
    built = made("transmil")
    dim = built.classifier.in_features
    theirs: Any = TransMIL((D,), att_dim=dim, n_heads=8, pinv_iterations=30, feat_ext=built.embed).eval()
    with torch.no_grad():
        theirs.cls_token.copy_(built.token)
        built.surroundings.others.zero_()
        built.surroundings.bias.normal_()
        for convolution in (theirs.pos_layer.proj, theirs.pos_layer.proj1, theirs.pos_layer.proj2):
            convolution.weight.zero_()
            convolution.bias.copy_(built.surroundings.bias / 3)
            middle = convolution.weight.shape[2] // 2
            convolution.weight[:, 0, middle, middle] = built.surroundings.own / 3
    for ours, layer, norm in zip(built.attention, theirs.layers, built.norms, strict=False):
        put(layer.att_module.qkv_nn, ours.qkv.weight)
        nn.init.eye_(ours.out.weight)
        nn.init.zeros_(ours.out.bias)
        nn.init.normal_(norm.weight)
        layer.norm1.load_state_dict(norm.state_dict())
    put(theirs.classifier, built.classifier.weight, built.classifier.bias)
    return built, theirs


def test_transmil_is_torchmils_where_that_has_no_order_and_is_exact() -> None:
    built, theirs = transmil_pair()
    ours = logits_of(built, bags(SQUARES))
    theirs.double()  # its inverse is an iteration that does not settle in single precision
    one_by_one = []
    for bag in bags(SQUARES):
        for layer in theirs.layers:
            layer.att_module.n_landmarks = len(bag) + 1
        with torch.no_grad():
            one_by_one.append(theirs(bag[None].double()))
    torch.testing.assert_close(ours, torch.cat(one_by_one).float(), atol=1e-5, rtol=0)
    assert ours.std() > 1e-3


def test_surroundings_are_the_position_module_averaged_over_all_orders() -> None:
    place = made("transmil").surroundings
    dim, n = len(place.own), 4
    pyramid = PPEG(dim)
    rows = torch.randn(n, dim)
    with torch.no_grad():
        _match(place, pyramid, n)
        every = [list(order) for order in permutations(range(n))]
        tokens = torch.stack([torch.cat([rows[:1], rows[order]]) for order in every])
        out = pyramid(tokens, 2, 2)[:, 1:]
        back = torch.stack([x[torch.tensor(order).argsort()] for x, order in zip(out, every, strict=True)])
        ours = place(rows, Packing(torch.tensor([n])))
    torch.testing.assert_close(ours, back.mean(0), atol=1e-5, rtol=1e-5)
    assert (back - back.mean(0)).abs().max() > 0.1


def _match(place: Any, pyramid: Any, n: int) -> None:
    """α, β, γ of the convolutions on a square of 2 × 2.

    A neighbour that lies (dy, dx) away is inside the square for a share of the places, and is any other row
    with the same chance; the mean of the others is (n · mean − own) / (n − 1).
    """
    own, others, bias = 0, 0, 0
    for convolution in (pyramid.proj, pyramid.proj1, pyramid.proj2):
        weight = convolution.weight[:, 0]
        middle = weight.shape[1] // 2
        near = weight[:, middle - 1 : middle + 2, middle - 1 : middle + 2]
        inside = torch.tensor([[0.25, 0.5, 0.25], [0.5, 0.0, 0.5], [0.25, 0.5, 0.25]])
        own = own + near[:, 1, 1]
        others = others + (near * inside).sum((1, 2))
        bias = bias + convolution.bias
    place.own.copy_(own - others / (n - 1))
    place.others.copy_(others * n / (n - 1))
    place.bias.copy_(bias)

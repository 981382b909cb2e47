"""Each head against its equation, written out for one bag at a time in double precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lymphoscope.models.heads.base import BagHead, create_head
from lymphoscope.models.heads.row_logits import log_softplus
from lymphoscope.models.heads.transmil import Surroundings
from lymphoscope.training.packing import Packing

COUNTS = [11, 1, 25, 3, 12]  # two of nearly the same size, that attention puts side by side
PACKING = Packing(torch.tensor(COUNTS))
D = 5


def made(name: str, width: float = 0.1) -> Any:
    torch.manual_seed(0)
    return create_head(name, D, width=width)


def rows() -> Tensor:
    return torch.randn(sum(COUNTS), D, generator=torch.Generator().manual_seed(1))


def of_every_bag(built: BagHead) -> Tensor:
    with torch.no_grad():
        return built(rows(), PACKING, torch.zeros(len(COUNTS), 3))[:, 1]


def embedded(built: Any, bag: Tensor) -> Tensor:
    return built.embed.double()(bag)


def scores(built: Any, bag: Tensor) -> Tensor:
    return built.score.double()(bag)[:, 0]


def top_quarter(built: Any, bag: Tensor) -> Tensor:
    return scores(built, bag).topk(-(-len(bag) // 4)).values.mean()


def noisy_or(built: Any, bag: Tensor) -> Tensor:
    p = 1 - (1 - scores(built, bag).sigmoid()).prod()
    return (p / (1 - p)).log()


def log_sum_exp(built: Any, bag: Tensor) -> Tensor:
    r = built.log_r.double().exp() + 0.01
    return (r * scores(built, bag)).exp().mean().log() / r


def logit_map(built: Any, bag: Tensor) -> Tensor:
    s = scores(built, bag)
    return (s.sigmoid() * s).sum() / s.sigmoid().sum()


def both_ends(built: Any, bag: Tensor) -> Tensor:
    s = scores(built, bag).sort(descending=True).values
    rank = torch.arange(5).clamp(max=len(s) - 1)
    return built.mlp.double()(torch.cat([s[rank], s.flip(0)[rank]]))[0]


def mean_and_spread(built: Any, bag: Tensor) -> Tensor:
    h = embedded(built, bag)
    return built.last.double()(torch.cat([h.mean(0), (h.var(0, correction=0) + 1e-8).sqrt()]))[0]


EQUATIONS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "mean": lambda built, bag: built.last.double()(embedded(built, bag).mean(0))[0],
    "max": lambda built, bag: built.last.double()(embedded(built, bag).amax(0))[0],
    "deepsets": mean_and_spread,
    "topk": top_quarter,
    "noisy-or": noisy_or,
    "lse": log_sum_exp,
    "logitmap": logit_map,
    "chowder": both_ends,
}


@pytest.mark.parametrize("name", EQUATIONS)
def test_it_is_its_equation(name: str) -> None:
    built = made(name)
    if name == "lse":
        torch.nn.init.constant_(built.log_r, 0.7)
    packed = of_every_bag(built)
    with torch.no_grad():
        one_by_one = torch.stack([EQUATIONS[name](built, bag.double()) for bag in rows().split(COUNTS)])
    torch.testing.assert_close(packed, one_by_one.float(), atol=1e-5, rtol=1e-5)


# --- where the plain equation would fail --------------------------------------------------------------------


@pytest.mark.parametrize("logit", [-300.0, -90.0, -15.01, -14.99, -6.0, -2.4, -2.3, 0.0, 30.0, 1e4])
@pytest.mark.parametrize("n", [1, 66])
def test_noisy_or_keeps_its_digits(logit: float, n: int) -> None:
    combine = made("noisy-or").combine
    s = torch.full((n, 1), logit, requires_grad=True)
    z = combine(s, Packing(torch.tensor([n])))
    z.sum().backward()
    exact = torch.full((n,), logit, dtype=torch.float64).exp().log1p() if logit < 700 else s.detach()[:, 0]
    t = exact.sum()
    expected = t + torch.log(-torch.expm1(-t.double()))
    torch.testing.assert_close(z[0, 0].double(), expected.double(), atol=1e-5, rtol=1e-5)
    assert s.grad is not None and s.grad.isfinite().all() and s.grad.sum() > 0.5


def test_the_logarithm_of_softplus_has_a_gradient_everywhere() -> None:
    x = torch.linspace(-200, 200, 801, requires_grad=True)
    log_softplus(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all() and (x.grad > 0).all()


def test_learned_sharpness_stays_between_mean_and_maximum() -> None:
    built = made("lse")
    s = torch.randn(sum(COUNTS), 1)
    bags = s[:, 0].split(COUNTS)
    for log_r, expected in ((-40.0, [bag.mean() for bag in bags]), (8.0, [bag.max() for bag in bags])):
        torch.nn.init.constant_(built.log_r, log_r)
        close = torch.stack(expected)[:, None]
        torch.testing.assert_close(built.combine(s, PACKING), close, atol=0.01, rtol=0)


def test_rows_that_tie_as_critical_share_the_query() -> None:
    built = made("dsmil")
    torch.nn.init.zeros_(built.classifiers.weight)
    torch.nn.init.ones_(built.classifiers.weight[1:])
    x, alone = rows()[:7], Packing(torch.tensor([7]))
    torch.testing.assert_close(built.see(x, alone).logit, built.see(x.flip(0), alone).logit)
    queries = built.query(x)
    weights = (queries @ queries.mean(0) / queries.shape[1] ** 0.5).softmax(0)
    bias = built.classifiers.bias
    expected = (bias[0] + weights @ x.sum(1) + bias[1]) / 2
    torch.testing.assert_close(built.see(x, alone).logit[0, 0], expected)


# --- losses of rows -----------------------------------------------------------------------------------------


def test_the_loss_of_dsmil_is_of_both_streams() -> None:
    built = made("dsmil")
    labels = torch.tensor([0, 1, 1, 0, 1])
    logits, loss = built.loss(rows(), PACKING, torch.zeros(5, 3), labels, cross_entropy)
    largest = torch.stack([built.classifiers(bag)[:, 0].max() for bag in rows().split(COUNTS)])
    of_rows = cross_entropy(torch.stack([torch.zeros(5), largest], dim=1), labels)
    torch.testing.assert_close(loss, (cross_entropy(logits, labels) + of_rows) / 2)


def clam_loss(built: Any, bag: Tensor, label: int) -> Tensor:
    h = built.embed(bag)
    falling = built.attention(h)[:, 0].argsort(descending=True)
    half = min(8, len(bag) // 2)
    top, bottom = falling[: max(half, 1)], falling[len(bag) - half :]
    margin = built.speaks_for(h)
    own = torch.cat([1 - margin[top, label], 1 + margin[bottom, label]])
    return torch.log1p(own.exp()).mean() + torch.log1p((1 + margin[top, 1 - label]).exp()).mean()


def test_the_loss_of_clam_is_of_the_rows_at_both_ends_of_the_attention() -> None:
    built = made("clam")
    labels = torch.tensor([0, 1, 1, 0, 1])
    logits, loss = built.loss(rows(), PACKING, torch.zeros(5, 3), labels, cross_entropy)
    of_rows = [clam_loss(built, *each) for each in zip(rows().split(COUNTS), labels.tolist(), strict=True)]
    expected = 0.7 * cross_entropy(logits, labels) + 0.3 * torch.stack(of_rows).mean()
    torch.testing.assert_close(loss, expected)


# --- transmil -----------------------------------------------------------------------------------------------


def test_transmil_is_attention_over_the_token_and_the_rows_of_one_bag() -> None:
    built = made("transmil", 0.25)
    packed = of_every_bag(built)
    with torch.no_grad():
        one_by_one = torch.stack([dense_transmil(built, bag) for bag in rows().split(COUNTS)])
    torch.testing.assert_close(packed, one_by_one, atol=1e-5, rtol=1e-5)


def dense_transmil(built: Any, bag: Tensor) -> Tensor:
    x = torch.cat([built.token, built.embed(bag)])
    x = x + dense_attention(built.attention[0], built.norms[0](x))
    h, place = x[1:], built.surroundings
    h = h + place.own * h + place.others * h.mean(0) + place.bias
    x = torch.cat([x[:1], h])
    x = x + dense_attention(built.attention[1], built.norms[1](x))
    return built.classifier(built.norms[2](x[0]))[0]


def dense_attention(attention: Any, x: Tensor) -> Tensor:
    parts = [part.view(len(x), attention.heads, -1).transpose(0, 1) for part in attention.qkv(x).chunk(3, 1)]
    weights = (parts[0] @ parts[1].mT / parts[0].shape[2] ** 0.5).softmax(-1)
    return attention.out((weights @ parts[2]).transpose(0, 1).flatten(1))


def test_the_first_row_alone_gets_what_it_gets_among_all() -> None:
    attention = made("transmil", 0.25).attention[1]
    x = torch.randn(sum(COUNTS), attention.out.in_features)
    first = attention(x, PACKING)[PACKING.offsets[:-1]]
    torch.testing.assert_close(attention.first(x, PACKING), first, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("side", [1, 4])
def test_rows_alone_in_a_bag_are_their_own_surroundings(side: int) -> None:
    place = Surroundings(3)
    x, packing = torch.randn(side, 3), Packing(torch.ones(side, dtype=torch.int64))
    torch.testing.assert_close(place(x, packing), x * (1 + place.own + place.others) + place.bias)

"""Operations on the rows of each bag, against the same on one bag at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lymphoscope.training.packing import (
    Packing,
    segment_logsumexp,
    segment_max,
    segment_order,
    segment_ranked,
    segment_softmax,
    segment_std,
    size_groups,
)

COUNTS = [3, 1, 7, 2, 1]
PACKING = Packing(torch.tensor(COUNTS))

WHOLE: dict[str, tuple[Callable[[Tensor, Packing], Tensor], Callable[[Tensor], Tensor]]] = {
    "max": (segment_max, lambda bag: bag.amax(0)),
    "std": (segment_std, lambda bag: (bag.var(0, correction=0) + 1e-8).sqrt()),
    "logsumexp": (segment_logsumexp, lambda bag: bag.logsumexp(0)),
    "softmax": (segment_softmax, lambda bag: bag.softmax(0)),
}


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(sum(COUNTS), *shape, generator=torch.Generator().manual_seed(seed))


def bag_by_bag(of_one: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    results = [of_one(bag) for bag in x.split(COUNTS)]
    return torch.cat(results) if results[0].ndim == x.ndim else torch.stack(results)


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("shape", [(), (1,), (4,), (2, 3)])
def test_it_is_what_each_bag_gives_alone(name: str, shape: tuple[int, ...]) -> None:
    packed, of_one = WHOLE[name]
    x = values(*shape)
    torch.testing.assert_close(packed(x, PACKING), bag_by_bag(of_one, x), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", WHOLE)
def test_so_is_its_gradient(name: str) -> None:
    packed, of_one = WHOLE[name]
    gradients = []
    for result_of in (lambda x: packed(x, PACKING), lambda x: bag_by_bag(of_one, x)):
        x = values(3).requires_grad_()
        result = result_of(x)
        (result * torch.arange(1.0, result.numel() + 1).view_as(result)).sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("fill", [0.0, -3e4, 3e4, 1e8])
def test_rows_that_are_alike_or_large_stay_finite(name: str, fill: float) -> None:
    x = torch.full((sum(COUNTS), 2), fill, requires_grad=True)
    result = WHOLE[name][0](x, PACKING)
    result.sum().backward()
    assert result.isfinite().all() and x.grad is not None and x.grad.isfinite().all()


def test_rows_that_tie_for_the_largest_share_its_gradient() -> None:
    x = torch.tensor([2.0, 2.0, 1.0], requires_grad=True)
    segment_max(x, Packing(torch.tensor([3]))).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0.5, 0.5, 0]


def test_one_row_has_no_spread() -> None:
    assert segment_std(values(2), PACKING)[[1, 4]].max() < 1e-3


def test_rows_are_ordered_within_their_bags() -> None:
    x = values()
    order = segment_order(x, PACKING)
    assert torch.equal(PACKING.owner[order], PACKING.owner)
    for bag, rows in zip(x.split(COUNTS), x[order].split(COUNTS), strict=True):
        assert torch.equal(rows, bag.sort(descending=True).values)


def test_rows_that_tie_keep_their_order() -> None:
    assert segment_order(torch.tensor([1.0, 1, 2, 5, 5]), Packing(torch.tensor([3, 2]))).tolist() == [
        *(2, 0, 1),
        *(3, 4),
    ]


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_both_ends_of_each_bag(k: int) -> None:
    x = values()
    largest, smallest = segment_ranked(x, PACKING, k)
    assert largest.shape == smallest.shape == (len(COUNTS), k)
    for i, bag in enumerate(x.split(COUNTS)):
        falling = bag.sort(descending=True).values.tolist()
        assert x[largest[i]].tolist() == (falling + k * falling[-1:])[:k]
        assert x[smallest[i]].tolist() == (falling[::-1] + k * falling[:1])[:k]


@pytest.mark.parametrize("spread", [1.0, 1.15, 2.0, 100.0])
def test_every_row_is_in_one_group_of_bags_of_like_sizes(spread: float) -> None:
    seen = []
    for group in size_groups(PACKING, spread):
        sizes = PACKING.counts[group.bags]
        assert sizes.max() <= spread * sizes.min() and group.place.shape[1] == sizes.max()
        real = torch.ones_like(group.place, dtype=torch.bool) if group.real is None else group.real
        assert real.sum(1).tolist() == sizes.tolist()
        assert (group.place < sizes[:, None]).all()
        seen += (PACKING.offsets[group.bags, None] + group.place)[real].tolist()
    assert sorted(seen) == list(range(sum(COUNTS)))
    assert len(size_groups(PACKING, 1.0)) == len(set(COUNTS))

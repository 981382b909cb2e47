"""Neighbours, SCAN's loss and the search over attempts, against plain re-computations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lymphoscope.models.clusters import scan, search
from lymphoscope.models.clusters.cells import Cells, all_features, random_batches
from lymphoscope.models.clusters.contrastive import PretextSettings, train_pretext
from lymphoscope.models.clusters.neighbours import nearest_neighbours
from lymphoscope.models.clusters.scan import (
    ClusterHeads,
    ScanSettings,
    scan_loss,
    scan_loss_of_all,
    self_label,
    surest_cells,
    train_heads,
)
from lymphoscope.models.clusters.search import CollapseRule, cluster_probabilities, evenness, find_clusters
from lymphoscope.models.conformance import example_bags
from lymphoscope.models.networks.base import CellNetwork, create_network

SIDE = 32


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def blobs(n: int, seed: int = 0) -> tuple[Cells, np.ndarray]:
    """Photographs of three kinds: a large pale, a small dark and a two-part cell, on noise."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n) % 3
    images = rng.normal(220, 6, (n, SIDE, SIDE, 3))
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    colours = np.array([[170, 120, 190], [60, 30, 120], [200, 90, 90]])
    for i in range(n):
        dx, dy = rng.normal(0, 1, 2)
        apart = [
            (x - dx) ** 2 + (y - dy) ** 2 < 12**2,
            (x - dx) ** 2 + (y - dy) ** 2 < 6**2,
            np.minimum((x - 6) ** 2 + y**2, (x + 6) ** 2 + y**2) < 5**2,
        ][kind[i]]
        images[i][apart] = colours[kind[i]] + rng.normal(0, 8, 3)
    cells = torch.from_numpy(np.clip(images, 0, 255).astype(np.uint8))
    return Cells(cells, np.arange(n), torch.device("cpu")), kind


def small_network(seed: int = 0) -> CellNetwork:
    torch.manual_seed(seed)
    return create_network("resnet18", 0.15, SIDE)


def test_neighbours_are_those_of_brute_force_whatever_the_block() -> None:
    features = torch.randn(83, 6, generator=torch.Generator().manual_seed(1))
    unit = features / features.norm(dim=1, keepdim=True)
    similarity = (unit @ unit.T).numpy()
    np.fill_diagonal(similarity, -np.inf)
    expected = np.argsort(-similarity, axis=1)[:, :9]
    for at_once in (1, 83 * 10, 1 << 22):
        assert np.array_equal(nearest_neighbours(features, 9, values_at_once=at_once), expected)


def test_neighbours_hold_a_bounded_block_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = []
    matmul = torch.Tensor.__matmul__

    def watched(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        blocks.append(len(a) * b.shape[1])
        return matmul(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", watched)
    for n in (100, 400):
        nearest_neighbours(torch.randn(n, 3), 5, values_at_once=2000)
    assert max(blocks) <= 2000 and sum(blocks) == 100**2 + 400**2


def test_few_cells_have_fewer_neighbours_and_never_themselves() -> None:
    found = nearest_neighbours(torch.eye(3), 9)
    assert found.shape == (3, 2)
    assert all(i not in row for i, row in enumerate(found))


def test_scan_loss_by_hand() -> None:
    p, q = np.array([[0.7, 0.3], [0.2, 0.8]]), np.array([[0.6, 0.4], [0.5, 0.5]])
    logits, beside = (torch.from_numpy(np.log(each))[:, None] for each in (p, q))
    agreement = [0.7 * 0.6 + 0.3 * 0.4, 0.2 * 0.5 + 0.8 * 0.5]
    mean = p.mean(axis=0)
    expected = -np.mean(np.log(agreement)) + 5 * (mean * np.log(mean)).sum()
    assert scan_loss(logits, beside, 5.0).tolist() == pytest.approx([expected])


def test_scan_loss_of_all_averages_over_every_neighbour() -> None:
    logits = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(0))
    beside = nearest_neighbours(torch.randn(6, 4, generator=torch.Generator().manual_seed(1)), 2)
    each = [scan_loss(logits, logits[torch.from_numpy(beside[:, k])], 2.0) for k in range(2)]
    assert torch.allclose(scan_loss_of_all(logits, beside, 2.0), (each[0] + each[1]) / 2)


def test_one_head_of_several_is_the_same_layer() -> None:
    heads, seen = ClusterHeads(5, 3, 4), torch.randn(7, 5)
    assert torch.allclose(heads.only(2)(seen)[:, 0], heads(seen)[:, 2], atol=1e-6)


def test_evenness_is_0_for_one_cluster_and_1_for_all_alike() -> None:
    assert evenness(np.zeros(9, dtype=np.int64), 3) == 0.0
    assert evenness(np.arange(9) % 3, 3) == pytest.approx(1.0)
    assert evenness(np.array([0, 0, 0, 1]), 2) == pytest.approx(0.8112781)  # binary entropy of 1/4


def test_a_network_that_was_moved_to_look_at_cells_can_learn_afterwards() -> None:
    cells, network = (
        Cells(torch.zeros(2, SIDE, SIDE, 3, dtype=torch.uint8), np.arange(2), torch.device("meta")),
        small_network(),
    )
    assert all_features(network, cells).is_meta
    assert not any(each.is_inference() for each in network.parameters())


def test_the_pretext_task_is_learned() -> None:
    cells, _ = blobs(48)
    losses = train_pretext(small_network(), cells, PretextSettings(epochs=6, batch_size=24), 0)
    assert losses[-1] < losses[0] - 0.3


SCAN = ScanSettings(
    clusters=3,
    heads=3,
    epochs=10,
    self_labelling_epochs=2,
    batch_size=30,
    learning_rate=1e-3,
)


def test_the_head_of_lowest_loss_over_all_cells_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    monkeypatch.setattr(scan, "scan_loss_of_all", lambda *_: torch.tensor([-1.0, -3.0, -2.0]))
    monkeypatch.setattr(ClusterHeads, "only", lambda self, head: kept.append(head) or self)
    cells, _ = blobs(12)
    beside = np.roll(np.arange(12), 1)[:, None]
    train_heads(small_network(), cells, beside, replace(SCAN, epochs=1), 0)
    assert kept == [1]


def test_the_surest_share_of_each_cluster_is_taken_and_at_least_one_cell() -> None:
    highest = np.array([0.9, 0.5, 0.7, 0.6, 0.3, 0.4])
    cluster = np.array([2, 0, 2, 2, 4, 0])
    assert surest_cells(highest, cluster, 0.5).tolist() == [0, 1, 2, 4]
    assert surest_cells(highest, cluster, 1.0).tolist() == list(range(6))
    assert surest_cells(highest, cluster, 0.01).tolist() == [0, 1, 4]


def test_nothing_is_learned_from_a_single_sure_cell() -> None:
    cells, network = blobs(2)[0], small_network()
    head = ClusterHeads(all_features(network, cells).shape[1], 2, 1)
    with torch.no_grad():
        head.layer.bias.copy_(torch.tensor([9.0, 0.0]))  # both cells in one cluster, half of them sure
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert len(self_label(network, head, cells, replace(SCAN, clusters=2), 0)) == 2
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_planted_kinds_of_cells_are_found_without_labels() -> None:
    cells, kind = blobs(90)
    found = find_clusters(
        small_network(),
        cells,
        5,
        PretextSettings(epochs=8, batch_size=45),
        SCAN,
        CollapseRule(),
        0,
    )
    cluster = cluster_probabilities(found.network, found.head, cells).argmax(axis=1)
    table = np.zeros((3, 3))
    np.add.at(table, (cluster, kind), 1)
    assert table.max(axis=1).sum() / 90 > 0.8  # chance is about 0.4
    assert not found.collapsed and found.evenness[found.kept] > 0.8


def test_a_forced_collapse_is_seen_and_begun_anew_as_often_as_allowed() -> None:
    cells, _ = blobs(30)
    forced = ScanSettings(
        clusters=6, heads=1, entropy_weight=0.0, epochs=12, self_labelling_epochs=0, learning_rate=3e-3
    )
    rule = CollapseRule(least_evenness=0.7, restarts=1)
    pretext = PretextSettings(epochs=1, batch_size=30)
    found = find_clusters(small_network(), cells, 20, pretext, forced, rule, 0)
    assert found.collapsed and len(found.evenness) == 2
    assert found.kept == int(found.evenness.argmax()) and found.evenness.max() < 0.7


def test_restarts_take_the_next_seed_double_the_weight_and_stop_at_the_first_that_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cells, _ = blobs(6)
    tried: list[tuple[float, int]] = []

    def attempt(network, cells, beside, settings, seed, losses):
        tried.append((settings.entropy_weight, seed))
        even = np.array([[0.1, 0.4, 0.9, 0.9][len(tried) - 1]])
        return search.Found(network, ClusterHeads(1, 2, 1), even, 0, False, losses, losses, losses)

    monkeypatch.setattr(search, "_attempt", attempt)
    pretext = PretextSettings(epochs=1, batch_size=6)
    found = find_clusters(small_network(), cells, 2, pretext, SCAN, CollapseRule(0.5, 3), 0)
    assert [weight for weight, _ in tried] == [5.0, 10.0, 20.0]
    assert len({seed for _, seed in tried}) == 3
    assert (found.kept, found.collapsed) == (2, False)
    tried.clear()
    found = find_clusters(small_network(), cells, 2, pretext, SCAN, CollapseRule(0.5, 1), 0)
    assert (len(tried), found.kept, found.collapsed) == (2, 1, True)


def test_the_same_seed_gives_the_same_bits() -> None:
    cells, _ = blobs(24)
    pretext, rule = PretextSettings(epochs=1, batch_size=12), CollapseRule(0.0, 0)
    first, again, other = (
        find_clusters(small_network(), cells, 3, pretext, SCAN, rule, seed) for seed in (0, 0, 1)
    )
    for name, value in first.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name]), name
    assert torch.equal(first.head.layer.weight, again.head.layer.weight)
    assert not torch.equal(first.head.layer.weight, other.head.layer.weight)


def test_batches_are_of_about_equal_size_and_take_each_cell_once() -> None:
    batches = list(random_batches(33, 16, np.random.default_rng(0)))
    assert [len(each) for each in batches] == [17, 16]
    assert sorted(np.concatenate(batches)) == list(range(33))
    assert [len(each) for each in random_batches(3, 2, np.random.default_rng(0))] == [3]  # no cell alone
    assert [len(each) for each in random_batches(1, 2, np.random.default_rng(0))] == [1]


def test_some_cells_of_each_patient_are_spread_evenly() -> None:
    bags, _ = example_bags(3)
    rows = bags.cell_indices(np.array([2, 0]), 2)
    starts, counts = bags.offsets[[2, 0]], bags.counts[[2, 0]]
    assert rows.tolist() == [starts[0], starts[0] + counts[0] // 2, starts[1], starts[1] + counts[1] // 2]
    assert len(bags.cell_indices(np.arange(3), None)) == len(bags.cells)

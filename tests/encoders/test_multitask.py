"""Heads on one embedding: what is not known moves nothing, rare classes weigh more, scores are as defined."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_up_cells import TINY
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score
from torch.nn.functional import cross_entropy

from lymphoscope.encoders.labelled_cells import MISSING, LabelledCells, Task
from lymphoscope.encoders.multitask import (
    MultitaskNetwork,
    class_weights,
    macro_f1_interval,
    masked_loss,
    task_scores,
)

TASKS = (Task("cell_type", ("a", "b", "c")), Task("cell_size", ("big", "small")))


def network() -> MultitaskNetwork:
    torch.manual_seed(0)
    return MultitaskNetwork(TINY.build(), TASKS)


def photographs(n: int) -> torch.Tensor:
    return torch.randn(n, 3, 28, 28, generator=torch.Generator().manual_seed(1))


def even() -> list[torch.Tensor]:
    return [torch.ones(3), torch.ones(2)]


def test_the_loss_is_the_mean_of_the_tasks_over_what_is_known() -> None:
    logits = [torch.randn(4, 3), torch.randn(4, 2)]
    targets = torch.tensor([[0, MISSING], [2, 1], [MISSING, 0], [1, MISSING]])
    weights = [torch.tensor([1.0, 2.0, 0.5]), torch.tensor([3.0, 1.0])]
    first = cross_entropy(logits[0][[0, 1, 3]], torch.tensor([0, 2, 1]), weights[0])
    second = cross_entropy(logits[1][[1, 2]], torch.tensor([1, 0]), weights[1])
    assert torch.allclose(masked_loss(logits, targets, weights), (first + second) / 2)


def test_a_task_that_no_cell_of_the_batch_has_does_not_count() -> None:
    logits = [torch.randn(2, 3), torch.randn(2, 2, requires_grad=True)]
    targets = torch.tensor([[0, MISSING], [2, MISSING]])
    loss = masked_loss(logits, targets, even())
    assert torch.allclose(loss, cross_entropy(logits[0], torch.tensor([0, 2])))
    nothing = masked_loss(logits, torch.full((2, 2), MISSING), even())
    assert nothing.item() == 0
    nothing.backward()
    assert not logits[1].grad.any(), "no number that is not one either"  # type: ignore[union-attr]


def test_missing_answers_move_nothing() -> None:
    net = network()
    masked_loss(
        net(photographs(3)), torch.tensor([[0, MISSING], [1, MISSING], [2, MISSING]]), even()
    ).backward()
    assert all(not p.grad.any() for p in net.heads["cell_size"].parameters())  # type: ignore[union-attr]
    assert all(p.grad.any() for p in net.heads["cell_type"].parameters())  # type: ignore[union-attr]


def test_a_cell_without_answers_moves_nothing() -> None:
    images = photographs(3).requires_grad_()
    targets = torch.tensor([[0, 1], [MISSING, MISSING], [2, 0]])
    masked_loss(network()(images), targets, even()).backward()
    moved = images.grad.abs().flatten(1).sum(1)  # type: ignore[union-attr]
    assert moved[1] == 0 and moved[0] > 0 and moved[2] > 0


def test_rare_classes_weigh_the_inverse_root_of_their_frequency() -> None:
    targets = np.array([[0, 0]] * 16 + [[1, MISSING]] * 4 + [[2, 1]] * 1)
    first, second = class_weights(targets, TASKS)
    assert torch.allclose(first / first[0], torch.tensor([1.0, 2.0, 4.0]))
    assert torch.allclose(second / second[0], torch.tensor([1.0, 4.0]))
    assert torch.allclose(torch.stack([first.mean(), second.mean()]), torch.ones(2))


def test_the_embedding_is_class_token_and_patches() -> None:
    net = network()
    assert net.embedder.width == 64
    tokens = net.embedder.transformer(photographs(2)).last_hidden_state  # type: ignore[operator]
    assert tokens.shape[1] == 1 + 4 + 4
    expected = torch.cat([tokens[:, 0], tokens[:, 5:].mean(1)], dim=1)
    assert torch.equal(net.embedder(photographs(2)), expected)
    assert [each.shape for each in net(photographs(2))] == [(2, 3), (2, 2)]


def test_scores_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    training = rng.choice(3, (40, 2), p=[0.2, 0.6, 0.2])
    training[:, 1] = np.minimum(training[:, 1], 1)
    targets = rng.integers(0, 2, (30, 2))  # the third type does not occur
    targets[::3, 1] = MISSING
    told = np.stack([rng.integers(0, 3, 30), rng.integers(0, 2, 30)], axis=1)
    cells = LabelledCells(
        np.zeros((30, 1, 1, 3), np.uint8), np.ones((30, 1, 1), bool), targets, tuple(map(str, range(30)))
    )
    logits = [np.eye(3)[told[:, 0]], np.eye(2)[told[:, 1]]]
    for i, score in enumerate(task_scores(logits, cells, training, TASKS)):
        known = targets[:, i] != MISSING
        true, said = targets[known, i], told[known, i]
        always = np.full_like(true, np.bincount(training[:, i]).argmax())
        present = sorted({*true})
        assert score.name == TASKS[i].name and score.n == known.sum()
        assert score.accuracy == pytest.approx(accuracy_score(true, said))
        assert score.low < score.accuracy < score.high
        assert score.macro_f1 == pytest.approx(f1_score(true, said, labels=present, average="macro"))
        assert 0 <= score.macro_f1_low < score.macro_f1 < score.macro_f1_high <= 1
        assert score.as_dict()["macro_f1_interval"] == [score.macro_f1_low, score.macro_f1_high]
        assert score.majority == pytest.approx(accuracy_score(true, always))
        expected = f1_score(true, always, labels=present, average="macro", zero_division=0)
        assert score.majority_macro_f1 == pytest.approx(expected)
        labels = range(len(TASKS[i].classes))
        assert np.array_equal(score.confusion, confusion_matrix(true, said, labels=labels))


def test_the_interval_of_macro_f1_covers_what_further_cells_would_give() -> None:
    rng = np.random.default_rng(0)
    shares = np.array([[40, 5, 0], [6, 30, 2], [1, 2, 4]]) / 90
    many = rng.multinomial(1_000_000, shares.ravel()).reshape(3, 3)
    truth = macro_f1_interval(many, replicates=50)
    assert truth.high - truth.low < 0.01
    held, widths = 0, []
    for _ in range(200):
        found = macro_f1_interval(rng.multinomial(400, shares.ravel()).reshape(3, 3), replicates=300)
        held += truth.estimate in found
        widths.append(found.high - found.low)
    assert 180 <= held <= 199, "about 95 of 100"
    few = macro_f1_interval(rng.multinomial(100, shares.ravel()).reshape(3, 3), replicates=300)
    assert few.high - few.low > 1.3 * np.mean(widths)


def test_a_matrix_without_mistakes_is_not_certain() -> None:
    few, many = (macro_f1_interval(np.diag([n, n, 0])) for n in (10, 1000))
    assert few.estimate == few.high == many.estimate == 1
    assert few.low < 0.95 < 0.99 < many.low < 1


def test_a_task_of_which_nothing_is_known_has_no_score() -> None:
    targets = np.array([[0, MISSING], [1, MISSING]])
    cells = LabelledCells(np.zeros((2, 1, 1, 3), np.uint8), np.ones((2, 1, 1), bool), targets, ("a", "b"))
    scores = task_scores([np.zeros((2, 3)), np.zeros((2, 2))], cells, np.array([[0, 0], [1, 1]]), TASKS)
    assert [score.name for score in scores] == ["cell_type"]

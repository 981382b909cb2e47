"""Several networks as one model: snapshots of one training, and members trained on other patients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logit

from lymphoscope.errors import InputError
from lymphoscope.evaluation.folds import out_of_fold
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.models.conformance import check_bag_classifier, example_bags
from lymphoscope.models.image_classifier import ImageClassifier
from lymphoscope.models.image_inputs import inner_splits
from lymphoscope.models.registry import create_model
from lymphoscope.training.curves import by_member

SIDE = 32
SMALL = {"image_size": SIDE, "width": 0.5, "epochs": 4, "batch_size": 16}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def small(recipe: str = "cnn-clinical", **settings: Any) -> ImageClassifier:
    model = create_model(recipe, **{**SMALL, **settings})
    assert isinstance(model, ImageClassifier)
    return model


@pytest.mark.parametrize("recipe", ["cnn-clinical", "cnn-clinical-pooled"])
def test_an_ensemble_keeps_the_contract(recipe: str) -> None:
    check_bag_classifier(
        lambda: small(recipe, epochs=2, members=2, snapshots=2), image_size=SIDE, n_patients=18
    )


def test_snapshots_are_taken_where_the_learning_rate_has_fallen() -> None:
    bags, y = example_bags(24, image_size=SIDE)
    model = small(epochs=6, snapshots=3, learning_rate=0.01).fit(bags, y)
    assert [epoch.number for epoch in model.history_ if epoch.kept] == [2, 4, 6]
    rates = [epoch.learning_rate for epoch in model.history_]
    assert rates == pytest.approx([0.01, 0.005] * 3)
    assert model.chosen_ == {"epoch": "2 4 6"}
    first, second, third = (next(iter(network.parameters())) for network in model.networks_)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


@pytest.mark.parametrize("recipe", ["cnn-clinical", "cnn-clinical-pooled"])
def test_what_is_said_of_held_out_patients_is_averaged_over_versions_like_what_is_said_of_new_ones(
    recipe: str,
) -> None:
    bags, y = example_bags(24, image_size=SIDE)
    model = small(recipe, members=2, snapshots=2, test_time=4).fit(bags, y)
    plain = small(recipe, members=2, snapshots=2).fit(bags, y)
    assert not np.allclose(model.inner_oof_, plain.inner_oof_, atol=1e-6)
    _, sides = model._sides(bags, y, len(bags))
    held_out, others = sides[0][1], sides[1][1]
    model.networks_ = model.networks_[:2]
    said = logit(model.predict_proba(bags[held_out])[:, 1]), logit(model.inner_oof_[held_out])
    assert np.corrcoef(*said)[0, 1] == pytest.approx(1, abs=1e-4), "the same scores, otherwise calibrated"
    assert sorted([*held_out, *others]) == list(range(24))


def test_held_out_patients_have_no_say_in_their_own_calibration() -> None:
    """Whose labels are turned round within one fold, its members say the same of as before."""
    bags, y = example_bags(24, image_size=SIDE)
    model = small(members=2, snapshots=2)
    _, sides = model._sides(bags, y, len(bags))
    scores = [np.linspace(-1, 2, len(held)) for _, held in sides]
    told = []
    for turned in (False, True):
        model._train = lambda member, *_: scores[member]  # type: ignore[method-assign]
        model._sides = lambda *_: (np.arange(24), sides)  # type: ignore[method-assign]
        labels = y.copy()
        if turned:
            labels[sides[0][1]] = labels[sides[0][1]][::-1]
        told.append(model.fit(bags, labels).inner_oof_)
    assert np.array_equal(told[0][sides[0][1]], told[1][sides[0][1]])
    assert not np.array_equal(told[0][sides[1][1]], told[1][sides[1][1]])


@pytest.mark.parametrize("recipe", ["cnn-clinical", "cnn-clinical-pooled"])
def test_the_score_is_the_mean_of_the_networks(recipe: str) -> None:
    bags, y = example_bags(24, image_size=SIDE)
    model = small(recipe, members=3).fit(bags, y)
    whole = model.explain(bags)
    scores, margins, networks = [], [], model.networks_
    assert len(networks) == 3
    for network in networks:
        model.networks_ = [network]
        said = model.explain(bags)
        scores.append(logit(said.probability[:, 1]))
        margins.append(said.evidence)
    assert logit(whole.probability[:, 1]) == pytest.approx(np.mean(scores, axis=0), abs=1e-5)
    assert whole.evidence == pytest.approx(np.mean(margins, axis=0), abs=1e-5)
    assert np.ptp(scores, axis=0).max() > 1e-3


def test_evidence_and_probability_are_the_same_asked_for_together_or_apart() -> None:
    bags, y = example_bags(24, image_size=SIDE)
    model = small(test_time=4).fit(bags, y)
    said = model.explain(bags)
    assert np.array_equal(said.probability, model.predict_proba(bags))
    assert np.array_equal(said.evidence, model.cell_evidence(bags))


@pytest.mark.parametrize(("members", "malignant"), [(5, 20), (3, 2), (4, 1), (1, 20), (1, 3)])
def test_every_patient_is_held_out_once_where_there_are_folds(members: int, malignant: int) -> None:
    y = (np.arange(30) < malignant).astype(np.int64)
    splits = inner_splits(y, members, 0.2, seed=3)
    assert len(splits) == max(min(members, malignant), 1)
    for trained, held_out in splits:
        assert sorted([*trained, *held_out]) == list(range(30))
        assert {0, 1} <= set(y[trained])
    if len(splits) > 1:
        assert sorted(np.concatenate([held_out for _, held_out in splits])) == list(range(30))


def test_members_offer_what_each_said_of_those_it_was_not_trained_on() -> None:
    bags, y = example_bags(30, image_size=SIDE)
    model = small(members=3, snapshots=2).fit(bags, y)
    assert model.inner_oof_.shape == (30,)
    whole = model.predict_proba(bags)[:, 1]
    assert np.corrcoef(logit(model.inner_oof_), logit(whole))[0, 1] < 0.999
    assert [len(each) for each in by_member(model.history_)] == [4, 4, 4]
    for chosen_on_them in (small(), small(members=3)):
        assert chosen_on_them.fit(bags, y).inner_oof_ is None
    assert model.set_params(snapshots=1).fit(bags, y).inner_oof_ is None, "none of an earlier fit"


def test_an_ensemble_that_was_killed_goes_on_at_its_epoch(tmp_path: Path) -> None:
    bags, y = example_bags(24, image_size=SIDE)
    whole = small(members=2, snapshots=2).fit(bags, y)
    told: list[int] = []

    class Killed(Exception):
        pass

    def kill(_: object) -> None:
        told.append(len(told))
        if len(told) == 7:
            raise Killed

    checkpoint = tmp_path / "training.safetensors"
    with pytest.raises(Killed):
        small(members=2, snapshots=2).fit(bags, y, checkpoint=checkpoint, watch=kill)
    resumed, seen = small(members=2, snapshots=2), []
    resumed.fit(bags, y, checkpoint=checkpoint, watch=lambda epoch: seen.append(epoch.number))
    assert seen == [4]
    for name, value in whole.state().items():
        assert np.array_equal(value, resumed.state()[name]), name


def test_a_fold_needs_no_inner_folds_and_leaves_no_checkpoint(tmp_path: Path) -> None:
    bags, y = example_bags(24, image_size=SIDE)
    found = out_of_fold(
        small(members=2, epochs=2),
        bags,
        y,
        Protocol(folds=2, repeats=1).splits(y),
        wished_sensitivity=0.9,
        pieces=tmp_path,
    )
    assert [len(history) for history in found.histories] == [4, 4]
    assert not list(tmp_path.glob("*.safetensors*"))


@pytest.mark.parametrize("settings", [{"selection": "last"}, {"patience": 3}])
def test_several_snapshots_choose_no_epoch_and_say_how_to_keep_them(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"snapshots=1.*or, to keep several, patience=null"):
        small(snapshots=2, **settings).check_network()
    small(snapshots=2, patience=None).check_network()


def test_there_are_no_more_snapshots_than_epochs() -> None:
    with pytest.raises(InputError, match=r"3 snapshots, 2 epochs.*snapshots=1"):
        small(snapshots=3, epochs=2, patience=None).check_network()
    small(snapshots=2, epochs=2, patience=None).check_network()


@pytest.mark.parametrize("settings", [{"members": 2}, {"snapshots": 2}])
def test_the_scored_fold_chooses_among_the_epochs_of_one_network_only(settings: dict[str, int]) -> None:
    with pytest.raises(InputError, match="one network"):
        small(selection="scored-fold", **settings).check_network()

"""Every image recipe keeps the contract of every model, with the same class and settings, only small."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lymphoscope.cohort.bags import Bags
from lymphoscope.errors import InputError
from lymphoscope.files import sha256_file
from lymphoscope.models.bundle import Bundle, load_bundle, save_bundle
from lymphoscope.models.conformance import check_bag_classifier, example_bags
from lymphoscope.models.networks.base import create_network
from lymphoscope.models.registry import create_model, list_models, recipe_info, with_budget
from lymphoscope.training.measuring import prior_log_odds

SIDE, WIDTH = 32, 0.2
RECIPES = [info.name for info in list_models() if info.cell_input == "images"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint with the keys of torchvision's ResNet-34, as narrow as the test's network."""
    torch.manual_seed(0)
    parts = create_network("frozen-resnet34", WIDTH, SIDE).pretrained_parts() or {}
    state = {
        prefix + key: value for prefix, part in parts.items() for key, value in part.state_dict().items()
    }
    path = tmp_path_factory.mktemp("weights") / "resnet34.safetensors"
    save_file(state, path)
    return str(path)


@pytest.mark.parametrize("name", RECIPES)
def test_every_image_recipe_keeps_the_contract(name: str, weights: str, tiny_encoder: Path) -> None:
    torch.set_num_threads(1)
    own: dict[str, Any] = {"image_size": SIDE, "width": WIDTH}
    if name.startswith("frozen"):
        own["weights"] = weights
    elif name.startswith("dinov2"):
        own |= {"weights": "random", "image_size": 28}
    elif name == "encoder-tuned":
        own["weights"] = "random"
    elif name.startswith("encoder-adapted"):
        own = {"image_size": SIDE, "encoder": str(tiny_encoder)}
    check_bag_classifier(
        lambda: create_model(f"{name}@smoke", **own),
        image_size=SIDE,
        n_patients=18,
    )


def score(unit: str, seed: int, *, permuted: bool) -> float:
    """Balanced accuracy on new patients; redness is all there is to see, so chance is all or nothing."""
    bags, y = example_bags(30, seed=10 + seed, image_size=SIDE)
    new, truth = example_bags(40, seed=100 + seed, image_size=SIDE)
    if permuted:
        y = np.random.default_rng(seed).permutation(y)
    settings = {"image_size": SIDE, "epochs": 6, "learning_rate": 0.003, "batch_size": 16, "width": 0.5}
    model = create_model("cnn-baseline", unit=unit, random_state=seed, **settings).fit(bags, y)
    right = model.predict(new) == truth
    return float((right[truth == 1].mean() + right[truth == 0].mean()) / 2)


@pytest.mark.parametrize("unit", ["cell", "patient"])
def test_a_network_finds_a_planted_signal_and_nothing_in_permuted_labels(unit: str) -> None:
    torch.set_num_threads(1)
    assert np.mean([score(unit, seed, permuted=False) for seed in range(2)]) > 0.85
    chance = np.array([score(unit, seed, permuted=True) for seed in range(12)])
    assert abs(chance.mean() - 0.5) < 3 * chance.std(ddof=1) / np.sqrt(len(chance))


def epochs_trained(model: Any, bags: Bags, y: Any, checkpoint: Path) -> list[int]:
    """Numbers of the epochs that fitting went through."""
    seen: list[int] = []
    model.fit(bags, y, checkpoint=checkpoint, watch=lambda epoch: seen.append(epoch.number))
    return seen


def test_a_resumed_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    bags, y = example_bags(24, image_size=SIDE)
    settings = {"image_size": SIDE, "epochs": 4, "augmentation": "all", "width": 0.5}
    whole = create_model("cnn-enhanced", **settings).fit(bags, y)

    class Killed(Exception):
        pass

    def kill(epoch: object) -> None:
        if epoch.number == 2:  # type: ignore[attr-defined]
            raise Killed

    checkpoint = tmp_path / "training.safetensors"
    with pytest.raises(Killed):
        create_model("cnn-enhanced", **settings).fit(bags, y, checkpoint=checkpoint, watch=kill)
    resumed = create_model("cnn-enhanced", **settings)
    assert epochs_trained(resumed, bags, y, checkpoint) == [3, 4]
    for name, value in whole.state().items():
        assert np.array_equal(value, resumed.state()[name]), name


def test_a_checkpoint_of_other_data_or_settings_is_not_taken_up(tmp_path: Path) -> None:
    bags, y = example_bags(24, image_size=SIDE)
    checkpoint = tmp_path / "training.safetensors"
    small = {"image_size": SIDE, "epochs": 2, "width": 0.5}
    create_model("cnn-baseline", **small).fit(bags, y, checkpoint=checkpoint)
    for settings, labels in (({**small, "learning_rate": 0.02}, y), (small, 1 - y)):
        assert epochs_trained(create_model("cnn-baseline", **settings), bags, labels, checkpoint) == [1, 2]


def test_the_scored_fold_is_seen_only_where_the_recipe_says_so() -> None:
    bags, y = example_bags(24, image_size=SIDE)
    test, truth = example_bags(12, seed=1, image_size=SIDE)
    small = {"image_size": SIDE, "epochs": 3, "width": 0.5}
    with pytest.raises(InputError, match="scored-fold"):
        create_model("cnn-baseline", **small).fit(bags, y, scored=(test, truth))
    optimistic = create_model("cnn-baseline", **small, selection="scored-fold")
    with pytest.raises(InputError, match="scored-fold"):
        optimistic.fit(bags, y)
    optimistic.fit(bags, y, scored=(test, truth))
    best = max(epoch.validation.balanced_accuracy for epoch in optimistic.history_)
    chosen = optimistic.history_[optimistic.chosen_["epoch"] - 1].validation
    assert chosen.balanced_accuracy == best


def test_a_majority_of_votes_needs_a_calibration_to_be_cut() -> None:
    with pytest.raises(InputError, match="what a majority of votes is worth"):
        create_model("cnn-baseline", pooling="vote", selection="scored-fold").check_network()
    create_model("cnn-baseline", pooling="vote").check_network()


@pytest.mark.parametrize("settings", [{"pooling": "vote"}, {"loss": "focal"}, {"label_smoothing": 0.3}, {}])
def test_where_nobody_is_held_out_who_knows_nothing_says_how_frequent_malignancy_is(settings: Any) -> None:
    bags, few = example_bags(9, image_size=SIDE)[0], (np.arange(9) < 3).astype(int)
    model = create_model("cnn-baseline@smoke", image_size=SIDE, learning_rate=1e-9, **settings).fit(bags, few)
    prior = prior_log_odds(few, np.arange(9), bags.counts, model._settings())  # type: ignore[attr-defined]
    score = 0.0 if settings == {"pooling": "vote"} else prior
    assert model.calibration_.probability(np.array([score])) == pytest.approx(3 / 9)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "name", ["cnn-clinical", "mobilenet-clinical", "mixture-of-experts-paper", "mil-deepsets:fusion=gate"]
)
@pytest.mark.parametrize("value", [np.nan, 1.0])
def test_a_clinical_value_that_never_differed_in_training_says_nothing_later(name: str, value: float) -> None:
    photographs = None if name.startswith("mil") else SIDE
    bags, y = example_bags(24, image_size=photographs)
    small = {"image_size": SIDE, "width": WIDTH} if photographs else {"epochs": 2}
    model = create_model(with_budget(name, "smoke" if photographs else None), **small)
    for column in range(3):
        known, other = bags.clinical.copy(), bags.clinical.copy()
        known[:, column] = value
        other[:, column] = np.linspace(1, 90, len(bags)) if column != 1 else np.arange(len(bags)) % 2
        model.fit(replace(bags, clinical=known), y)
        said = [model.predict_proba(replace(bags, clinical=each)) for each in (known, other)]
        assert np.array_equal(*said), f"column {column}"


def test_a_batch_of_one_cell_that_cannot_be_normalised_says_so() -> None:
    bags, y = example_bags(18, image_size=SIDE)
    one = {"unit": "patient", "cells_per_patient": 1, "batch_size": 2, "validation_share": 0.3}
    model = create_model("unet-encoder@smoke", image_size=SIDE, width=WIDTH, **one)
    with pytest.raises(InputError, match=r"batch of one cell.*batch_size=2, cells_per_patient=1"):
        model.fit(bags, y)


def test_a_training_that_diverges_says_so() -> None:
    bags, y = example_bags(24, image_size=SIDE)
    with pytest.raises(InputError, match=r"has diverged.*epoch \d+, learning rate 5e\+29.*clip_norm"):
        create_model("cnn-baseline@smoke", image_size=SIDE, learning_rate=1e30).fit(bags, y)


def test_clinical_values_are_hidden_only_from_networks_that_see_them() -> None:
    with pytest.raises(InputError, match=r"does not see them.*clinical_masking=0\.5"):
        create_model("mobilenet-image", clinical_masking=0.5).check_network()
    with pytest.raises(InputError, match="does not see them"):
        create_model("mil-abmil", clinical_masking=0.5).check_network()
    for seen in ("mobilenet-clinical", "cnn-clinical", "mixture-of-experts"):
        create_model(seen, clinical_masking=0.5).check_network()
    create_model("mil-abmil", clinical_masking=0.5, fusion="gate").check_network()


def test_images_that_are_none_or_too_small_are_refused() -> None:
    numbers, y = example_bags(12)
    with pytest.raises(InputError, match="photographs"):
        create_model("cnn-baseline@smoke").fit(numbers, y)
    small, y = example_bags(12, image_size=16)
    with pytest.raises(InputError, match="16 pixels"):
        create_model("cnn-baseline@smoke").fit(small, y)


def test_frozen_features_without_weights_say_what_to_do() -> None:
    bags, y = example_bags(12, image_size=SIDE)
    with pytest.raises(InputError, match="--weights"):
        create_model("frozen-resnet34", image_size=SIDE).fit(bags, y)


def test_a_bundle_keeps_the_weights_name_and_hash_and_needs_neither_them_nor_the_device(
    weights: str, tmp_path: Path
) -> None:
    bags, y = example_bags(12, image_size=SIDE)
    given = tmp_path / "weights" / "resnet34.safetensors"
    given.parent.mkdir()
    given.write_bytes(Path(weights).read_bytes())
    settings = {"image_size": SIDE, "width": WIDTH, "weights": str(given), "device": "cpu"}
    model = create_model("frozen-resnet34@smoke", **settings).fit(bags, y)
    assert model.weights_sha256_ == sha256_file(given)
    save_bundle(Bundle("frozen-resnet34", model), tmp_path / "model")
    given.unlink()
    loaded = load_bundle(tmp_path / "model").model
    assert np.array_equal(loaded.predict_proba(bags), model.predict_proba(bags))
    assert loaded.weights_sha256_ == model.weights_sha256_
    kept = json.loads((tmp_path / "model" / "model.json").read_text())["parameters"]
    assert (kept["weights"], kept["device"]) == ("resnet34.safetensors", "auto")
    assert all(str(tmp_path).encode() not in path.read_bytes() for path in (tmp_path / "model").iterdir())


def test_a_training_goes_on_where_the_same_weights_lie_elsewhere_now(weights: str, tmp_path: Path) -> None:
    bags, y = example_bags(12, image_size=SIDE)
    moved, checkpoint = tmp_path / "moved.safetensors", tmp_path / "training.safetensors"
    moved.write_bytes(Path(weights).read_bytes())
    small = {"image_size": SIDE, "width": WIDTH, "epochs": 2}
    for path, trained in ((weights, [1, 2]), (str(moved), [])):
        model = create_model("frozen-resnet34", **small, weights=path)
        assert epochs_trained(model, bags, y, checkpoint) == trained


def test_a_budget_is_part_of_the_name() -> None:
    assert with_budget("cnn-clinical", "fast") == "cnn-clinical@fast"
    assert with_budget("cnn-clinical", "paper") == "cnn-clinical"
    assert with_budget("clinical", "fast") == "clinical"
    assert create_model("cnn-clinical@fast").epochs < create_model("cnn-clinical").epochs == 200
    assert recipe_info("cnn-clinical@fast").name == "cnn-clinical"
    with pytest.raises(InputError, match="fast, smoke, paper"):
        create_model("cnn-clinical@huge")

"""A tuned encoder begins as what it was, only what is to be tuned changes, and it is kept and found again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from lymphoscope.encoders import kept
from lymphoscope.encoders.encoder import create_encoder
from lymphoscope.errors import BundleError, InputError
from lymphoscope.models.bundle import Bundle, load_bundle, save_bundle
from lymphoscope.models.conformance import example_bags
from lymphoscope.models.networks.base import CellNetwork, create_network
from lymphoscope.models.networks.pbc_encoder import SHIPPED, EncoderNetwork
from lymphoscope.models.registry import create_model
from lymphoscope.training.augmentation import IMAGENET, prepare
from lymphoscope.training.learner import Learner
from lymphoscope.training.settings import TrainingSettings

SIDE = 32
TUNINGS = ("frozen", "last-stage", "adapters", "whole")
SMALL = {"image_size": SIDE, "epochs": 2, "warmup_epochs": 1, "cells_per_patient": 4, "adapter_width": 4}


def network(weights: Path | str, tuning: str = "adapters", **options: Any) -> EncoderNetwork:
    torch.manual_seed(3)
    built = create_network("pbc-encoder", 1.0, SIDE, {"tuning": tuning, **options}, str(weights))
    assert isinstance(built, EncoderNetwork)
    return built


def photographs(n: int = 6) -> torch.Tensor:
    images = np.random.default_rng(0).integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)
    return torch.from_numpy(images)


def trained(network: CellNetwork, steps: int = 3) -> CellNetwork:
    """After some steps of AdamW with weight decay, which also pulls at what has no gradient if it may."""
    chosen = [each for each in network.parameters() if each.requires_grad]
    optimiser = torch.optim.AdamW(chosen, lr=1e-2, weight_decay=0.1)
    images, labels = prepare(photographs(), IMAGENET), torch.tensor([0, 1, 0, 1, 1, 0])
    network.train()
    for _ in range(steps):
        optimiser.zero_grad()
        functional.cross_entropy(network(images, torch.ones(6, 3)), labels).backward()
        optimiser.step()
    return network


def changed(tuning: str, weights: Path) -> set[str]:
    """Parts of the encoder whose bytes training changed."""
    before = network(weights, tuning)
    after = dict(trained(network(weights, tuning)).backbone.named_parameters())
    return {name for name, value in before.backbone.named_parameters() if not torch.equal(value, after[name])}


@pytest.mark.parametrize("tuning", TUNINGS)
def test_before_the_first_step_features_are_the_encoders_embeddings(tuning: str, tiny_encoder: Path) -> None:
    begun, images = network(tiny_encoder, tuning).train(), photographs()
    embeddings = create_encoder(tiny_encoder).embed(images.numpy())
    seen = begun.features(prepare(images, IMAGENET), torch.zeros(6, 3)).detach().numpy()
    assert np.array_equal(seen, embeddings) and embeddings.std(axis=0).max() > 1e-3


def test_an_adapted_network_leaves_what_it_began_with_where_its_adapters_learn(tiny_encoder: Path) -> None:
    begun, images = network(tiny_encoder), prepare(photographs(), IMAGENET)
    before = begun.features(images, torch.zeros(6, 3)).detach()
    trained(begun)
    assert (begun.features(images, torch.zeros(6, 3)) - before).abs().max() > 1e-4


def test_training_changes_what_is_tuned_and_not_a_byte_of_the_rest(tiny_encoder: Path) -> None:
    everything = {name for name, _ in network(tiny_encoder, "whole").backbone.named_parameters()}
    last = {name for name in everything if name.startswith(("body.blocks.5.", "body.blocks.6."))}
    adapters = {
        f"body.blocks.{block}.shortcut.{part}.{kind}"
        for block in (3, 4, 5, 6)
        for part in ("down", "up")
        for kind in ("weight", "bias")
    }
    assert changed("frozen", tiny_encoder) == set()
    assert changed("last-stage", tiny_encoder) == last
    assert changed("adapters", tiny_encoder) == adapters
    assert changed("whole", tiny_encoder) == everything


def test_there_are_no_statistics_to_update(tiny_encoder: Path) -> None:
    for tuning in TUNINGS:
        whole = network(tiny_encoder, tuning)
        assert list(whole.backbone.buffers()) == []
        assert whole.frozen_features == (tuning == "frozen")


def test_a_first_look_brings_embeddings_to_one_scale_and_it_stays(tiny_encoder: Path) -> None:
    begun, images = network(tiny_encoder, "whole"), prepare(photographs(), IMAGENET)
    plain = begun.features(images, torch.zeros(6, 3)).detach()
    begun.first_look(images)
    seen = begun.features(images, torch.zeros(6, 3)).detach()
    spread = plain.std(dim=0, correction=0)
    varies = spread > 1e-6
    assert varies.sum() > 8 and torch.allclose(seen.mean(dim=0), torch.zeros(16), atol=1e-4)
    assert torch.allclose(seen.std(dim=0, correction=0)[varies], torch.ones(int(varies.sum())), atol=1e-3)
    scale = begun.mean.clone(), begun.deviation.clone()
    trained(begun)
    assert torch.equal(begun.mean, scale[0]) and torch.equal(begun.deviation, scale[1])


def test_only_training_patients_are_looked_at_first(tiny_encoder: Path) -> None:
    bags, y = example_bags(18, image_size=SIDE)
    given = {**SMALL, "weights": str(tiny_encoder), "selection": "scored-fold"}
    fits = []
    for seed in (1, 2):
        held_out = example_bags(9, seed=seed, image_size=SIDE)
        fits.append(create_model("encoder-tuned", **given).fit(bags, y, scored=held_out))
    first, then = (fit.networks_[0].encoder.mean for fit in fits)
    assert torch.equal(first, then) and first.abs().max() > 1e-3


def test_the_encoder_goes_slower_than_the_head(tiny_encoder: Path) -> None:
    begun = network(tiny_encoder, "whole", encoder_rate=0.02)
    learner = Learner(begun, TrainingSettings(learning_rate=0.1))
    learner.set_rate(0.5)
    rates = {id(each): group["lr"] for group in learner.optimiser.param_groups for each in group["params"]}
    for name, parameter in begun.named_parameters():
        assert rates[id(parameter)] == pytest.approx(0.01 if name.startswith("backbone.") else 0.5), name


def test_what_is_trained_is_said(tiny_encoder: Path) -> None:
    total = sum(each.numel() for each in network(tiny_encoder, "whole").parameters())
    head = 2 * 16 + 2
    assert network(tiny_encoder, "frozen").tuned().startswith(f"The head: {head:,} of {total:,} parameters")
    assert "(100.00%)" in network(tiny_encoder, "whole").tuned()
    assert "last 2 stages" in network(tiny_encoder, "adapters").tuned()


def test_its_own_head_sees_clinical_values_where_it_is_told_to(tiny_encoder: Path) -> None:
    images = prepare(photographs(), IMAGENET)
    for clinical in (False, True):
        built = network(tiny_encoder, clinical=clinical).eval()
        differ = built(images, torch.zeros(6, 3)) != built(images, torch.ones(6, 3))
        assert built.takes_clinical is clinical and bool(differ.any()) is clinical


@pytest.mark.parametrize(
    ("weights", "options", "words"),
    [
        ("no/such", {}, "no encoder at this place; found 'no/such'"),
        ("random", {"adapter_width": 0}, "cannot have this width"),
        ("random", {"encoder_rate": 0.0}, "cannot be tuned at this rate"),
    ],
)
def test_what_cannot_be_built_is_refused(weights: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        network(weights, **options)


def test_an_encoder_of_another_kind_is_refused(tmp_path: Path, tiny_encoder: Path) -> None:
    from lymphoscope.encoders.architectures import Architecture

    architecture = Architecture("convnext", hidden=8, layers=1, image_size=32)
    card = kept.checked_card(tiny_encoder) | {"architecture": architecture.as_dict()}
    kept.write_encoder(tmp_path / "other", architecture.build(), {}, card, {})
    with pytest.raises(InputError, match="found 'convnext'; allowed: residual"):
        network(tmp_path / "other")


def fitted(weights: Path | None, **settings: Any) -> Any:
    bags, y = example_bags(18, image_size=SIDE)
    given = {} if weights is None else {"weights": str(weights)}
    return create_model("encoder-tuned", **SMALL, **given, **settings).fit(bags, y)


@pytest.mark.parametrize("tuning", ["frozen", "adapters", "whole"])
def test_only_what_was_trained_is_kept_and_the_rest_found_by_its_hash(
    tuning: str, tiny_encoder: Path, tmp_path: Path
) -> None:
    model = fitted(tiny_encoder, tuning=tuning)
    save_bundle(Bundle("encoder-tuned", model), tmp_path / "model")
    learned = [name for name, value in model.networks_[0].named_parameters() if value.requires_grad]
    learned += ["encoder.mean", "encoder.deviation"]
    assert {n for n in model.state() if n.startswith("network.0.")} == {f"network.0.{n}" for n in learned}
    assert str(tiny_encoder).encode() not in (tmp_path / "model" / "model.json").read_bytes()

    new, _ = example_bags(6, seed=3, image_size=SIDE)
    again = load_bundle(tmp_path / "model", weights=tiny_encoder).model
    assert np.array_equal(again.predict_proba(new), model.predict_proba(new))
    with pytest.raises(BundleError, match=r"does not hold the weights.*--weights PATH"):
        load_bundle(tmp_path / "model")
    with pytest.raises(BundleError, match="SHA-256 is none"):
        load_bundle(tmp_path / "model", weights="random")


def test_the_shipped_encoder_is_the_default_and_need_not_be_named(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_encoder, tmp_path / "shipped" / kept.SHIPPED)
    monkeypatch.setattr(kept, "_SHIPPED_AT", tmp_path / "shipped")
    assert SHIPPED == kept.SHIPPED == create_model("encoder-tuned", weights=None).begins_with()
    model, explicit = fitted(None), fitted(tiny_encoder)
    assert model.weights == kept.SHIPPED and model.weights_sha256_ == explicit.weights_sha256_ != ""
    save_bundle(Bundle("encoder-tuned", model), tmp_path / "model")
    new, _ = example_bags(6, seed=3, image_size=SIDE)
    again = load_bundle(tmp_path / "model").model
    assert np.array_equal(again.predict_proba(new), explicit.predict_proba(new))


def test_a_random_encoder_is_untrained_unless_all_of_it_is_trained() -> None:
    for tuning in TUNINGS:
        model = create_model("encoder-tuned", weights="random", tuning=tuning)
        assert model.untrained == (tuning != "whole")  # type: ignore[attr-defined]

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional
from vit_example import (
    GIANT,
    LABELS,
    PLAIN,
    SMALL,
    clinical,
    features,
    learned,
    network,
    output,
    photographs,
    planted,
    published_state,
    reference_tokens,
    trained,
)

from lymphoscope.encoders.dinov2 import save_dinov2
from lymphoscope.encoders.published import VitShape
from lymphoscope.errors import InputError
from lymphoscope.models.vit.network import (
    DinoNetwork,
)
from lymphoscope.training.packing import Packing
from lymphoscope.training.weights import tensors_sha256

TUNINGS = ("adaptformer", "lora", "linear", "full")


def frozen_bytes(model: DinoNetwork) -> dict[str, bytes]:
    parameters = model.named_parameters()
    return {name: p.detach().numpy().tobytes() for name, p in parameters if not p.requires_grad}


# ---- what is trained ---------------------------------------------------------------------------------------

D, LAYERS, HEAD = 64, 3, (64 + 3) * 2 + 2
ADAPTER = 64 * 8 + 8 + 8 * 64 + 64
BLOCK = 2 * 2 * D + (D * 3 * D + 3 * D) + (D * D + D) + 2 * D + (D * 4 * D + 4 * D) + (4 * D * D + D)
WHOLE = D + 17 * D + 4 * D + (D * 3 * 14 * 14 + D) + LAYERS * BLOCK + 2 * D
"""All parameters of the small transformer but the token of hidden patches."""


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, LAYERS * ADAPTER + HEAD),
        ({"learned_scale": True}, LAYERS * (ADAPTER + 1) + HEAD),
        ({"blocks": 1}, ADAPTER + HEAD),
        ({"blocks": (0, 2), "adapter_width": 5}, 2 * (64 * 5 + 5 + 5 * 64 + 64) + HEAD),
        ({"trained_norms": "final"}, LAYERS * ADAPTER + 2 * D + HEAD),
        ({"trained_norms": "all"}, LAYERS * ADAPTER + (2 * LAYERS + 1) * 2 * D + HEAD),
        ({"patch_mean": True}, LAYERS * ADAPTER + HEAD + 64 * 2),
        ({"takes_clinical": False}, LAYERS * ADAPTER + 64 * 2 + 2),
        ({"adapter_width": None}, LAYERS * (64 * 64 + 64 + 64 * 64 + 64) + HEAD),
        ({"tuning": "lora"}, LAYERS * 3 * (64 * 8 + 8 * 64) + HEAD),
        ({"tuning": "lora", "adapter_width": None}, LAYERS * 3 * (64 * 16 + 16 * 64) + HEAD),
        ({"tuning": "lora", "learned_scale": True, "blocks": 2}, 2 * 3 * (2 * 64 * 8 + 1) + HEAD),
        ({"tuning": "linear"}, HEAD),
        ({"tuning": "linear", "trained_norms": "final"}, 2 * D + HEAD),
        ({"tuning": "full"}, WHOLE + HEAD),
    ],
)
def test_the_number_of_trained_parameters(options: dict[str, Any], count: int) -> None:
    model = network(**options)
    assert sum(value.numel() for value in learned(model).values()) == count
    assert f"{count:,} of {sum(p.numel() for p in model.parameters()):,} parameters" in model.tuned()


def test_the_sentence_says_what_is_trained() -> None:
    adapters = LAYERS * ADAPTER + HEAD
    total = WHOLE + D + adapters
    assert network().tuned() == (
        f"AdaptFormer in 3 of 3 blocks and the head: {adapters:,} of {total:,} parameters are trained "
        f"({adapters / total:.2%})."
    )
    assert (
        network(tuning="lora", blocks=1, trained_norms="all")
        .tuned()
        .startswith("LoRA in 1 of 3 blocks and the head, 7 normalisations too: ")
    )
    assert network(tuning="linear").tuned().startswith("The head: ")
    assert network(tuning="full").tuned().startswith("The whole transformer and the head: ")


@pytest.mark.parametrize(
    "options", [{}, {"learned_scale": True}, {"trained_norms": "all"}, {"tuning": "lora"}]
)
@pytest.mark.parametrize("shape", [SMALL, PLAIN, GIANT], ids=["registers", "plain", "giant"])
def test_an_adapted_network_begins_as_the_frozen_one(
    shape: VitShape, options: dict[str, Any], tmp_path: Path
) -> None:
    safetensors.torch.save_file(published_state(shape), tmp_path / "w.safetensors")
    source = {"source": tmp_path / "w.safetensors", "image_size": 42, "patch_mean": True}
    images = photographs(3, 42)
    frozen, adapted = network(tuning="linear", **source), network(**options, **source)
    assert adapted.adapted_blocks and torch.equal(features(frozen, images), features(adapted, images))
    adapted.train()
    assert torch.equal(adapted.features(images, clinical()), features(frozen, images))


@pytest.mark.parametrize("tuning", TUNINGS)
def test_the_head_sees_features_on_the_scale_of_the_training_cells(tuning: str) -> None:
    model, images = network(tuning=tuning), photographs(8)
    model.first_look(images)
    assert model.training
    seen = features(model, images)
    torch.testing.assert_close(seen.mean(dim=0), torch.zeros(model.n_features), rtol=0, atol=1e-4)
    torch.testing.assert_close(seen.std(dim=0, correction=0), torch.ones(model.n_features), rtol=0, atol=1e-3)
    scale = model.mean.clone(), model.deviation.clone()
    trained(model)
    assert torch.equal(model.mean, scale[0]) and torch.equal(model.deviation, scale[1])


@pytest.mark.parametrize("tuning", TUNINGS)
@pytest.mark.parametrize("norms", ["none", "all"])
def test_training_leaves_the_frozen_weights_the_same_bytes(tuning: str, norms: str) -> None:
    model = network(tuning=tuning, trained_norms=norms)
    before, began = frozen_bytes(model), learned(model)
    told = output(model)
    trained(model)
    assert frozen_bytes(model) == before
    # A bias of all keys alike changes no attention, so its gradient is rounding alone.
    still = [name for name, value in learned(model).items() if torch.equal(value, began[name])]
    assert not [name for name in still if "k_proj" not in name]
    assert not torch.allclose(told, output(model))


@pytest.mark.parametrize("tuning", TUNINGS)
def test_it_learns_what_it_is_shown(tuning: str) -> None:
    model = trained(network(tuning=tuning, takes_clinical=False), steps=25)
    assert torch.equal(output(model, planted()).argmax(dim=1), LABELS)


def test_frozen_features_are_those_that_nothing_trains() -> None:
    assert network(tuning="linear").frozen_features
    assert not network(tuning="linear", trained_norms="final").frozen_features
    assert not any(network(tuning=tuning).frozen_features for tuning in TUNINGS if tuning != "linear")
    model = network(tuning="linear", images_at_once=2)
    assert not model.train().features(photographs(), clinical()).requires_grad


@pytest.mark.parametrize("tuning", TUNINGS)
def test_frozen_modules_stay_in_eval(tuning: str) -> None:
    model = network(tuning=tuning, adapter_dropout=0.5)
    model.backbone.embeddings.dropout.p = 0.5
    images = photographs()
    model.train()
    same = torch.equal(model.features(images, clinical()), model.features(images, clinical()))
    assert same == (tuning != "full")  # a new adapter adds 0, dropped or not
    if tuning in ("adaptformer", "lora"):
        trained(model)
        assert not torch.equal(model.features(images, clinical()), model.features(images, clinical()))
    assert torch.equal(features(model), features(model))


# ---- what goes in and comes out ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [SMALL, PLAIN], ids=["registers", "plain"])
def test_features_are_the_class_token_and_the_patches_without_registers(
    shape: VitShape, tmp_path: Path
) -> None:
    state = published_state(shape)
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    images = photographs(2, 42)
    tokens = reference_tokens(state, images, heads=1)
    expected = torch.cat([tokens[:, 0], tokens[:, 1 + shape.registers :].mean(dim=1)], dim=1)
    assert tokens.shape[1] == 1 + shape.registers + 9
    for patch_mean, width in ((False, 64), (True, 128)):
        model = network(source=tmp_path / "w.safetensors", image_size=42, patch_mean=patch_mean)
        assert model.n_features == width
        torch.testing.assert_close(features(model, images), expected[:, :width], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("size", [14, 112, 224])
def test_images_of_other_sizes_are_seen_through_interpolated_positions(size: int) -> None:
    model = network(image_size=size)
    assert output(model, photographs(1, size)).shape == (1, 2)


@pytest.mark.parametrize(("size", "near"), [(100, 98), (110, 112), (5, 14), (0, 14)])
def test_images_that_cannot_be_cut_into_patches_are_refused(size: int, near: int) -> None:
    with pytest.raises(InputError, match=f"patches of 14 pixels.*112 or 224. Take {near}"):
        network(image_size=size)


def test_images_of_a_size_that_was_not_named_are_refused() -> None:
    with pytest.raises(ValueError, match="images must be"):
        network().features(photographs(2, 42), clinical(2))


@pytest.mark.parametrize("takes", [True, False])
def test_clinical_values_count_where_they_are_taken(takes: bool) -> None:
    model = network(takes_clinical=takes).eval()
    assert model.takes_clinical == takes
    images = photographs()
    with torch.no_grad():
        one, other = model(images, clinical()), model(images, clinical().flip(0))
    assert torch.equal(one, other) != takes and one.shape == (3, 2)


def test_a_patient_is_the_head_of_the_mean_of_its_cells() -> None:
    model = network().eval()
    seen = features(model, photographs(5))
    given = clinical(2)
    expected = model.head(torch.stack([seen[:2].mean(dim=0), seen[2:].mean(dim=0)]), given)
    torch.testing.assert_close(model.bags(seen, Packing(torch.tensor([2, 3])), given), expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tuning": "prompt"}, "tuning cannot be this.*adaptformer, lora, linear, full"),
        ({"trained_norms": "some"}, "trained_norms cannot be this"),
        ({"images_at_once": 0}, "images_at_once cannot be this"),
        ({"adapter_width": 0}, "width"),
        ({"adapter_scale": 0.0}, "scale"),
        ({"adapter_scale": float("nan")}, "scale"),
        ({"adapter_dropout": 1.0}, "drop"),
        ({"blocks": 4}, "blocks"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        network(**options)


def test_the_scale_multiplies_what_adapters_add() -> None:
    """The paper's 0.1 for AdaptFormer, 1 for LoRA, unless said."""
    for tuning, scale in (("adaptformer", 0.1), ("lora", 1.0)):
        model, named = network(tuning=tuning), network(tuning=tuning, adapter_scale=scale)
        other = network(tuning=tuning, adapter_scale=scale / 2)
        trained(model)
        for twin in (named, other):
            twin.load_state_dict(model.state_dict())
        assert torch.equal(output(model), output(named)) and not torch.equal(output(model), output(other))


def test_only_a_random_transformer_is_untrained(tmp_path: Path) -> None:
    model = network(tuning="linear")
    assert not model.weights_sha256
    save_dinov2(model.backbone, tmp_path / "vit")
    assert network(source=tmp_path / "vit").weights_sha256


# ---- memory, precision, copies -----------------------------------------------------------------------------


def gradients(model: DinoNetwork, n: int = 7) -> tuple[dict[str, Tensor], int]:
    """Gradients of what is trained, and the bytes that the forward pass keeps for them."""
    model.zero_grad()
    model.train()
    kept: dict[int, int] = {}
    weights = {p.data_ptr() for p in model.parameters()}

    def keep(value: Tensor) -> Tensor:
        if value.data_ptr() not in weights:
            kept[value.data_ptr()] = value.nbytes
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        logits = model(photographs(n), clinical(n))
    functional.cross_entropy(logits, torch.arange(n) % 2).backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return grads, sum(kept.values())


@pytest.mark.parametrize("tuning", ["adaptformer", "lora", "full"])
@pytest.mark.parametrize(
    "options", [{"checkpointing": True}, {"images_at_once": 3}, {"images_at_once": 2, "checkpointing": True}]
)
def test_memory_is_bounded_and_the_gradients_are_the_same(tuning: str, options: dict[str, Any]) -> None:
    plain, kept = gradients(network(tuning=tuning))
    bounded, kept_bounded = gradients(network(tuning=tuning, **options))
    assert kept_bounded < kept / 2
    assert plain.keys() == bounded.keys()
    assert plain.keys() == learned(network(tuning=tuning)).keys()
    for name, value in plain.items():
        torch.testing.assert_close(bounded[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_groups_are_looked_at_one_after_the_other() -> None:
    model, sizes = network(images_at_once=3), []
    model.backbone.embeddings.register_forward_hook(lambda _m, given, _o: sizes.append(len(given[0])))
    together = features(network(), photographs(7))
    torch.testing.assert_close(features(model, photographs(7)), together, rtol=1e-5, atol=1e-5)
    assert sizes == [3, 3, 1]
    model.train()(photographs(7), clinical(7)).sum().backward()
    assert sizes[3:6] == [3, 3, 1] and sorted(sizes[6:]) == [1, 3, 3], "each once more for the gradient"


@pytest.mark.parametrize("options", [{}, {"images_at_once": 2, "checkpointing": True}, {"tuning": "lora"}])
def test_mixed_precision_trains_and_agrees(options: dict[str, Any]) -> None:
    model = network(**options)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.train()(photographs(), clinical())
        loss = functional.cross_entropy(logits.float(), torch.tensor([0, 1, 0]))
    loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    torch.testing.assert_close(logits.float(), output(model), rtol=0.05, atol=0.05)


def test_predictions_are_the_same_every_time_and_each_row_for_itself() -> None:
    model, images = trained(network()), photographs(4)
    assert torch.equal(output(model, images), output(model, images))
    torch.testing.assert_close(
        features(model, images)[1:2], features(model, images[1:2]), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("shape", [SMALL, PLAIN], ids=["registers", "plain"])
def test_a_copy_is_a_network_of_its_own(shape: VitShape) -> None:
    model = network(shape=shape, image_size=42, tuning="full")
    images = photographs(2, 42)
    twin, before = copy.deepcopy(model), features(model, images)
    with torch.no_grad():
        model.backbone.embeddings.position_embeddings.mul_(3)
    assert torch.equal(features(twin, images), before)
    assert not torch.equal(features(model, images), before)


def test_memory_in_channels_last_changes_no_hash() -> None:
    model = network()
    before = tensors_sha256(model.backbone.state_dict())
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert tensors_sha256(model.backbone.state_dict()) == before


def test_the_package_imports_without_transformers() -> None:
    """And the networks beside it, which must import on a bare machine."""
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "import lymphoscope.models.vit.network, lymphoscope.models.networks.base\n"
        "print('transformers.models' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, timeout=60, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr

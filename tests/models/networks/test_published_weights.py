from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from lymphoscope.errors import InputError
from lymphoscope.files import sha256_file
from lymphoscope.models.image_networks import begin_network
from lymphoscope.models.networks.base import CellNetwork, create_network, load_backbone
from lymphoscope.training.weights import read_weights

PLAIN = "-plain"
"""After the name of a VGG: without batch normalisation."""

WITH_BACKBONE = ("resnet18", "resnet34", "frozen-resnet34", "vgg16", "vgg19", f"vgg16{PLAIN}")
WIDTH = 0.1


def build(name: str, width: float = WIDTH, seed: int = 0, image_size: int = 32) -> CellNetwork:
    torch.manual_seed(seed)
    options = {"batch_norm": False} if name.endswith(PLAIN) else {}
    return create_network(name.removesuffix(PLAIN), width, image_size, options)


def backbone_state(network: CellNetwork) -> dict[str, Tensor]:
    parts = network.pretrained_parts()
    assert parts is not None
    return {prefix + key: value for prefix, part in parts.items() for key, value in part.state_dict().items()}


def checkpoint(name: str, width: float = WIDTH) -> dict[str, Tensor]:
    """A synthetic checkpoint as torchvision publishes it, with its classification head."""
    generator = torch.Generator().manual_seed(7)
    state = {
        key: torch.rand(value.shape, generator=generator) if value.is_floating_point() else value + 3
        for key, value in backbone_state(build(name, width)).items()
    }
    head = ("fc",) if "resnet" in name else ("classifier.0", "classifier.3", "classifier.6")
    return state | {f"{layer}.{kind}": torch.ones(3) for layer in head for kind in ("weight", "bias")}


@pytest.mark.parametrize(
    ("name", "n_keys", "n_parameters"),
    [
        ("resnet18", 120, 11_689_512 - 513_000),
        ("resnet34", 216, 21_797_672 - 513_000),
        ("frozen-resnet34", 216, 21_797_672 - 513_000),
        ("vgg16", 91, 138_365_992 - 123_642_856),
        ("vgg19", 112, 143_678_248 - 123_642_856),
        (f"vgg16{PLAIN}", 26, 138_357_544 - 123_642_856),
        (f"vgg19{PLAIN}", 32, 143_667_240 - 123_642_856),
    ],
)
def test_backbones_have_the_published_keys_and_size(name: str, n_keys: int, n_parameters: int) -> None:
    with torch.device("meta"):
        state = backbone_state(build(name, 1.0, image_size=112))
    assert len(state) == n_keys
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    assert sum(v.numel() for k, v in state.items() if not k.endswith(buffers)) == n_parameters


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        (
            "resnet34",
            {
                "conv1.weight": (64, 3, 7, 7),
                "bn1.running_var": (64,),
                "layer1.0.conv1.weight": (64, 64, 3, 3),
                "layer2.0.downsample.0.weight": (128, 64, 1, 1),
                "layer2.0.downsample.1.num_batches_tracked": (),
                "layer3.5.bn2.bias": (256,),
                "layer4.2.conv2.weight": (512, 512, 3, 3),
            },
        ),
        (
            "vgg16",
            {
                "features.0.weight": (64, 3, 3, 3),
                "features.1.running_var": (64,),
                "features.14.bias": (256,),
                "features.15.num_batches_tracked": (),
                "features.40.weight": (512, 512, 3, 3),
            },
        ),
        (
            f"vgg16{PLAIN}",
            {
                "features.0.weight": (64, 3, 3, 3),
                "features.10.bias": (256,),
                "features.28.weight": (512, 512, 3, 3),
            },
        ),
        ("vgg19", {"features.49.weight": (512, 512, 3, 3), "features.50.running_mean": (512,)}),
        (f"vgg19{PLAIN}", {"features.34.weight": (512, 512, 3, 3), "features.16.weight": (256, 256, 3, 3)}),
    ],
)
def test_keys_carry_the_published_shapes(name: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    with torch.device("meta"):
        state = backbone_state(build(name, 1.0, image_size=112))
    assert {key: tuple(state[key].shape) for key in shapes} == shapes


@pytest.mark.parametrize("name", WITH_BACKBONE)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_a_checkpoint_goes_through_a_file_into_the_backbone(name: str, suffix: str, tmp_path: Path) -> None:
    path, came = tmp_path / f"weights{suffix}", checkpoint(name)
    if suffix == ".safetensors":
        safetensors.torch.save_file(came, path)
    else:
        torch.save(came, path)
    state, sha256 = read_weights(path)
    assert sha256 == sha256_file(path)
    network = build(name)
    dense = {k: v.clone() for k, v in network.state_dict().items() if not k.startswith("backbone.")}
    load_backbone(network, state)
    loaded = backbone_state(network)
    assert all(torch.equal(loaded[key], came[key]) for key in loaded)
    assert all(torch.equal(network.state_dict()[key], value) for key, value in dense.items())


def test_loaded_weights_decide_the_features() -> None:
    came, images = checkpoint("resnet18"), torch.randn(2, 3, 32, 32)
    first, second = build("resnet18", seed=1).eval(), build("resnet18", seed=2).eval()
    assert not torch.equal(
        first.features(images, torch.zeros(2, 3)), second.features(images, torch.zeros(2, 3))
    )
    for network in (first, second):
        load_backbone(network, came)
    assert torch.equal(first.features(images, torch.zeros(2, 3)), second.features(images, torch.zeros(2, 3)))


def test_one_checkpoint_fits_the_trained_and_the_frozen_network() -> None:
    came = checkpoint("resnet34")
    trained, frozen = build("resnet34"), build("frozen-resnet34")
    load_backbone(trained, came)
    load_backbone(frozen, came)
    assert all(not parameter.requires_grad for parameter in frozen.backbone.parameters())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        maps = [network.eval().features(images, torch.zeros(2, 3)) for network in (trained, frozen)]
    assert torch.equal(*maps)


def test_older_checkpoints_without_counters_are_taken() -> None:
    came = {key: value for key, value in checkpoint("resnet18").items() if "num_batches_tracked" not in key}
    network = build("resnet18")
    load_backbone(network, came)
    assert torch.equal(backbone_state(network)["bn1.running_mean"], came["bn1.running_mean"])


def test_half_precision_checkpoints_become_full_precision() -> None:
    came = {
        key: value.half() if value.is_floating_point() else value
        for key, value in checkpoint("vgg16").items()
    }
    network = build("vgg16")
    load_backbone(network, came)
    first = backbone_state(network)["features.0.weight"]
    assert first.dtype == torch.float32 and torch.equal(first, came["features.0.weight"].float())


def _without(key: str) -> dict[str, Tensor]:
    return {k: v for k, v in checkpoint("resnet18").items() if k != key}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (lambda: _without("layer3.1.bn2.running_var"), "missing: layer3.1.bn2.running_var"),
        (dict, "missing: conv1.weight, bn1.weight, bn1.bias and 97 more"),
        (lambda: checkpoint("resnet18") | {"layer5.x": torch.ones(1)}, "not of this backbone: layer5.x"),
        (lambda: {f"module.{k}": v for k, v in checkpoint("resnet18").items()}, "module.conv1.weight"),
        (lambda: checkpoint("resnet34"), "not of this backbone: layer1.2.conv1.weight"),
        (lambda: checkpoint("vgg16"), "missing: conv1.weight.*not of this backbone: features.0.weight"),
        (
            lambda: checkpoint("resnet18") | {"bn1.bias": torch.ones(7)},
            r"does not fit: bn1.bias \(7,\) for \(8,\)",
        ),
        (
            lambda: checkpoint("resnet18") | {"bn1.bias": torch.ones(8, dtype=torch.int64)},
            "bn1.bias torch.int64 for torch.float32",
        ),
        (
            lambda: checkpoint("resnet18") | {"bn1.bias": torch.full((8,), torch.nan)},
            "bn1.bias is not finite",
        ),
        (lambda: checkpoint("resnet18", 0.2), r"conv1.weight \(13, 3, 7, 7\) for \(8, 3, 7, 7\)"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_and_changes_nothing(state: object, words: str) -> None:
    network = build("resnet18")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(InputError, match=words) as caught:
        load_backbone(network, state())
    assert caught.value.allowed is not None and "all 120 keys" in caught.value.allowed
    assert "fc.*" in caught.value.allowed and caught.value.remedy
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("own", "came", "words"),
    [
        (
            "vgg16",
            f"vgg16{PLAIN}",
            r"missing: features\.1\.weight.*not of this backbone: features\.2\.weight",
        ),
        (f"vgg16{PLAIN}", "vgg16", r"not of this backbone: features\.1\.weight"),
    ],
)
def test_weights_with_and_without_batch_normalisation_are_told_apart(own: str, came: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_backbone(build(own), checkpoint(came))


@pytest.mark.parametrize("name", ["unet-encoder", "cnn-clinical", "mobilenet-image", "cnn-attention"])
def test_networks_without_a_published_backbone_say_so(name: str) -> None:
    network = build(name)
    assert network.pretrained_parts() is None
    with pytest.raises(InputError, match="frozen-resnet34, resnet18, resnet34, vgg16, vgg19"):
        load_backbone(network, checkpoint("resnet18"))


class Intruder:
    """Runs a command when it is unpickled by a reader that lets it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    torch.save({"conv1.weight": torch.ones(1), "x": Intruder(target)}, tmp_path / "new.pth")
    (tmp_path / "old.pt").write_bytes(pickle.dumps(Intruder(target), protocol=2))
    for name in ("new.pth", "old.pt"):
        with pytest.raises(InputError, match=r"cannot be read as tensors alone.*convert it.*save_file"):
            read_weights(tmp_path / name)
    assert not target.exists()
    torch.load(tmp_path / "new.pth", weights_only=False)
    assert target.exists(), "the intruder is a real one"


def test_a_vgg_takes_scale_and_bias_from_the_first_cells_it_sees() -> None:
    """Before, what all cells have in common drowns what sets them apart."""
    images = torch.randn(48, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    clinical = torch.zeros(48, 3)
    network = build(f"vgg16{PLAIN}", 0.25).eval()
    told_apart = []
    for _ in range(2):
        with torch.inference_mode():
            seen = network.features(images, clinical)
        told_apart.append(float(seen.std(0).mean() / seen.mean(0).std()))
        network.first_look(images)
    assert told_apart[1] > 4 * told_apart[0]
    with torch.inference_mode():
        given = network.backbone[0](images[torch.linspace(0, 47, 32).long()])  # type: ignore[index, operator]
    torch.testing.assert_close(given.mean((0, 2, 3)), torch.zeros(given.shape[1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(given.std((0, 2, 3)), torch.ones(given.shape[1]), atol=1e-3, rtol=0)


def test_weights_that_are_brought_stay_as_they_are(tmp_path: Path) -> None:
    name = f"vgg16{PLAIN}"
    safetensors.torch.save_file(checkpoint(name), tmp_path / "vgg16.safetensors")
    assert begin_network(lambda _: build(name), None, 0)[0].looks_first
    network, _ = begin_network(lambda _: build(name), str(tmp_path / "vgg16.safetensors"), 0)
    assert not network.looks_first


def test_a_whole_pickled_network_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "network.pth")
    with pytest.raises(InputError, match="tensors alone"):
        read_weights(tmp_path / "network.pth")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize(
    "content", [b"", b"\x00", b"not a checkpoint", b"PK\x03\x04 torn", b"\x80\x02}q\x00."]
)
def test_broken_files_are_refused_by_name(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_backbone(build("resnet18"), read_weights(path)[0])
    assert caught.value.remedy


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_cut_short_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(checkpoint("vgg16"), path)
    else:
        safetensors.torch.save_file(checkpoint("vgg16"), path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match="cannot be read"):
        read_weights(path)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"state_dict": {"conv1.weight": torch.ones(1)}, "epoch": 3}, "state_dict, epoch"),
        ([torch.ones(1)], "list"),
        (torch.ones(1), "Tensor"),
    ],
)
def test_only_a_plain_state_dict_is_taken(content: object, found: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "wrapped.pth")
    with pytest.raises(InputError, match=f"found '{found}'.*Save the state dict alone"):
        read_weights(tmp_path / "wrapped.pth")


def test_other_suffixes_and_missing_files_are_refused_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "weights.ckpt").write_bytes(b"x")
    with pytest.raises(InputError, match=r"found '\.ckpt'; allowed: \.safetensors, \.pth, \.pt.*convert it"):
        read_weights(tmp_path / "weights.ckpt")
    for name in ("missing.pth", "missing.safetensors"):
        with pytest.raises(InputError, match=f"{name}: there is no file.*Give the path"):
            read_weights(tmp_path / name)
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(InputError, match="there is no file"):
        read_weights(str(tmp_path / "folder.pth"))

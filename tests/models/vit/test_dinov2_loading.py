from __future__ import annotations

import math
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from vit_example import (
    GIANT,
    PLAIN,
    SMALL,
    dinobloom_state,
    photographs,
    published_state,
    reference_tokens,
    tokens_of,
    written,
)

from lymphoscope.encoders.dinov2 import load_dinov2, random_dinov2, save_dinov2
from lymphoscope.encoders.published import (
    VitShape,
    published_layout,
    published_shape,
    read_published,
    to_transformers,
)
from lymphoscope.errors import InputError

# ---- published state dicts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "n_parameters"),
    [
        (VitShape(hidden=384, layers=12, registers=0, image_size=518), 22_056_576),
        (VitShape(hidden=384, layers=12, registers=4, image_size=518), 22_056_576 + 4 * 384),
        (VitShape(hidden=768, layers=12, registers=0, image_size=518), 86_580_480),
        (VitShape(hidden=1024, layers=24, registers=0, image_size=518), 304_368_640),
        (VitShape(hidden=1536, layers=40, registers=0, image_size=518, swiglu=True), 1_136_480_768),
    ],
)
def test_the_layout_has_the_size_of_the_published_models(shape: VitShape, n_parameters: int) -> None:
    assert sum(math.prod(size) for size in published_layout(shape).values()) == n_parameters


def test_the_layout_has_the_published_names_and_shapes() -> None:
    small = published_layout(VitShape(hidden=384, layers=12, registers=4, image_size=518))
    assert {name: size for name, size in small.items() if not name.startswith("blocks.")} == {
        "cls_token": (1, 1, 384),
        "register_tokens": (1, 4, 384),
        "mask_token": (1, 384),
        "pos_embed": (1, 1370, 384),
        "patch_embed.proj.weight": (384, 3, 14, 14),
        "patch_embed.proj.bias": (384,),
        "norm.weight": (384,),
        "norm.bias": (384,),
    }
    assert {name: size for name, size in small.items() if name.startswith("blocks.11.")} == {
        "blocks.11.norm1.weight": (384,),
        "blocks.11.norm1.bias": (384,),
        "blocks.11.attn.qkv.weight": (1152, 384),
        "blocks.11.attn.qkv.bias": (1152,),
        "blocks.11.attn.proj.weight": (384, 384),
        "blocks.11.attn.proj.bias": (384,),
        "blocks.11.ls1.gamma": (384,),
        "blocks.11.norm2.weight": (384,),
        "blocks.11.norm2.bias": (384,),
        "blocks.11.mlp.fc1.weight": (1536, 384),
        "blocks.11.mlp.fc1.bias": (1536,),
        "blocks.11.mlp.fc2.weight": (384, 1536),
        "blocks.11.mlp.fc2.bias": (384,),
        "blocks.11.ls2.gamma": (384,),
    }
    giant = published_layout(VitShape(hidden=1536, layers=40, registers=0, image_size=518, swiglu=True))
    assert giant["blocks.39.mlp.w12.weight"] == (8192, 1536) and giant["blocks.0.mlp.w3.weight"] == (
        1536,
        4096,
    )
    assert "register_tokens" not in giant and "blocks.0.mlp.fc1.weight" not in giant


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("size", [42, 56, 98])
@pytest.mark.parametrize("shape", [SMALL, PLAIN, GIANT], ids=["registers", "plain", "giant"])
def test_a_published_file_gives_what_the_original_gives(
    shape: VitShape, size: int, suffix: str, tmp_path: Path
) -> None:
    state = published_state(shape)
    model: Any = load_dinov2(written(state, tmp_path / f"weights{suffix}"))
    assert model.config.num_attention_heads == shape.hidden // 64 and not model.training
    assert model.config._attn_implementation == "sdpa"
    images = photographs(2, size)
    expected = reference_tokens(state, images, heads=shape.hidden // 64)
    torch.testing.assert_close(tokens_of(model, images), expected, rtol=1e-4, atol=2e-5)


def test_every_tensor_matters_to_the_comparison() -> None:
    """The reference would notice a tensor that is left out, all but the token of hidden patches."""
    state, images = published_state(SMALL), photographs(2)
    expected = reference_tokens(state, images, heads=1)
    for name in state:
        other = reference_tokens(
            state | {name: state[name].roll(1, -1) + 0.1 * state[name].flip(0)}, images, heads=1
        )
        # A bias of all keys alike changes no attention.
        assert torch.allclose(other, expected, atol=1e-4) == (name == "mask_token"), name


@pytest.mark.parametrize("wrap", ["teacher", "flat", "backbone", "bare", "chunked"])
def test_dinobloom_is_unwrapped(wrap: str, tmp_path: Path) -> None:
    teacher = dinobloom_state(PLAIN)["teacher"]
    bare = published_state(PLAIN)
    state: Any = {
        "teacher": {"teacher": teacher},
        "flat": {f"teacher.{name}": value for name, value in teacher.items()},
        "backbone": teacher,
        "bare": bare,
        "chunked": {
            f"backbone.{name.replace('blocks.', 'blocks.0.', 1)}": value for name, value in bare.items()
        },
    }[wrap]
    path = written(state, tmp_path / "DinoBloom-S.pth")
    came, sha256 = read_published(path)
    assert came.keys() == bare.keys() and all(torch.equal(came[name], bare[name]) for name in bare)
    assert len(sha256) == 64
    images = photographs(2, 42)
    found = tokens_of(load_dinov2(path), images)
    torch.testing.assert_close(found, reference_tokens(bare, images, heads=1), rtol=1e-4, atol=2e-5)


def test_half_precision_becomes_single_precision(tmp_path: Path) -> None:
    state = {name: value.half() for name, value in published_state().items()}
    model = load_dinov2(written(state, tmp_path / "half.safetensors"))
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
    own = model.state_dict()
    assert all(torch.equal(own[name], value) for name, value in to_transformers(state).items())


def _without(name: str) -> dict[str, Tensor]:
    return {key: value for key, value in published_state().items() if key != name}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (lambda: _without("blocks.2.ls2.gamma"), "missing: blocks.2.ls2.gamma"),
        (lambda: _without("mask_token"), "missing: mask_token"),
        (lambda: _without("cls_token"), "not weights of DINOv2"),
        (dict, "not weights of DINOv2; found 'no tensors'"),
        (lambda: published_state() | {"cls_token": torch.ones(())}, "not weights of DINOv2"),
        (lambda: published_state() | {"patch_embed.proj.weight": torch.ones(64, 3, 0, 0)}, "not weights of"),
        (lambda: {"layer1.0.conv1.weight": torch.ones(3)}, "not weights of DINOv2"),
        (lambda: published_state() | {"head.weight": torch.ones(2)}, "not known: head.weight"),
        (lambda: published_state() | {"norm.bias": torch.ones(9)}, r"norm.bias \(9,\) for \(64,\)"),
        (
            lambda: published_state() | {"norm.bias": torch.full((64,), torch.nan)},
            "not finite numbers: norm.b",
        ),
        (
            lambda: published_state() | {"norm.bias": torch.ones(64, dtype=torch.int64)},
            "not finite numbers: norm.bias",
        ),
        (lambda: published_state() | {"pos_embed": torch.ones(1, 13, 64)}, r"pos_embed \(1, 13, 64\) for"),
        (
            lambda: published_state(VitShape(hidden=96, layers=1, image_size=28)),
            "number of attention heads.*96 numbers per token.*folder with config.json",
        ),
        (lambda: dinobloom_state()["teacher"] | {"optimiser": torch.ones(1)}, "something that is not known"),
        (lambda: {f"module.{k}": v for k, v in published_state().items()}, "not weights of DINOv2"),
    ],
)
def test_other_files_are_refused(state: Any, words: str, tmp_path: Path) -> None:
    path = written(state(), tmp_path / "weights.pth")
    with pytest.raises(InputError, match=words) as caught:
        load_dinov2(path)
    assert "weights.pth" in str(caught.value) and caught.value.allowed


class Intruder:
    """Makes a file when it is unpickled by a reader that lets it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("wrap", ["", "teacher"])
def test_a_file_that_would_run_code_runs_none(wrap: str, tmp_path: Path) -> None:
    target = tmp_path / "ran"
    content: Any = {"cls_token": Intruder(target)}
    torch.save({wrap: content} if wrap else content, tmp_path / "new.pth")
    (tmp_path / "old.pt").write_bytes(pickle.dumps(content, protocol=2))
    for name in ("new.pth", "old.pt"):
        with pytest.raises(InputError, match="tensors alone"):
            load_dinov2(tmp_path / name)
    assert not target.exists()


def test_files_of_another_kind_are_refused_as_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save(published_state(PLAIN), path)
    with pytest.raises(InputError, match=r"weights of this kind are not read.*convert it"):
        load_dinov2(path)


def test_a_checkpoint_of_something_else_under_teacher_is_refused(tmp_path: Path) -> None:
    path = written({"teacher": {"a": {"b": torch.ones(1)}}}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="more than named tensors"):
        load_dinov2(path)


def test_the_size_is_read_from_the_tensors() -> None:
    for shape in (SMALL, PLAIN, GIANT):
        found = published_shape(published_state(shape))
        assert published_layout(found) == published_layout(shape) and found.n_heads == shape.hidden // 64


# ---- random ------------------------------------------------------------------------------------------------


def test_a_random_one_comes_from_the_seed_and_its_registers_differ() -> None:
    torch.manual_seed(4)
    first: Any = random_dinov2(SMALL)
    torch.manual_seed(4)
    second: Any = random_dinov2(SMALL)
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    registers = first.embeddings.register_tokens[0]
    assert torch.cdist(registers, registers)[~torch.eye(4, dtype=torch.bool)].min() > 0.05


@pytest.mark.parametrize(
    "shape",
    [
        VitShape(hidden=64, heads=3),
        VitShape(image_size=100),
        VitShape(layers=0),
        VitShape(registers=-1),
        VitShape(heads=0),
    ],
)
def test_sizes_that_cannot_be_are_refused(shape: VitShape) -> None:
    with pytest.raises(InputError, match="no transformer can have this size"):
        random_dinov2(shape)


def test_loading_draws_nothing_from_the_global_generator(tmp_path: Path) -> None:
    path = written(published_state(), tmp_path / "w.safetensors")
    save_dinov2(random_dinov2(PLAIN), tmp_path / "vit")
    for source in (path, tmp_path / "vit"):
        torch.manual_seed(9)
        load_dinov2(source)
        drawn = torch.rand(1)
        torch.manual_seed(9)
        assert torch.equal(drawn, torch.rand(1))

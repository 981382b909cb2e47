from __future__ import annotations

import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor
from vit_example import (
    GIANT,
    PLAIN,
    SMALL,
    network,
    photographs,
    published_state,
    reference_tokens,
    tokens_of,
    written,
)

from lymphoscope.encoders.dinov2 import load_dinov2, random_dinov2, save_dinov2
from lymphoscope.encoders.encoder import create_encoder
from lymphoscope.encoders.published import (
    VitShape,
)
from lymphoscope.errors import InputError

# ---- folders -----------------------------------------------------------------------------------------------


def test_a_saved_folder_comes_back_the_same(tmp_path: Path) -> None:
    torch.manual_seed(3)
    shape = VitShape(hidden=96, layers=2, heads=4, registers=2, image_size=28)
    model: Any = random_dinov2(shape)
    save_dinov2(model, tmp_path / "vit")
    assert sorted(path.name for path in (tmp_path / "vit").iterdir()) == ["config.json", "model.safetensors"]
    again: Any = load_dinov2(tmp_path / "vit")
    assert again.config.num_attention_heads == 4 and not again.training
    here, there = model.state_dict(), again.state_dict()
    assert here.keys() == there.keys() and all(torch.equal(here[name], there[name]) for name in here)
    images = photographs(2, 42)
    assert torch.equal(tokens_of(model.eval(), images), tokens_of(again, images))


def test_loading_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_dinov2(random_dinov2(PLAIN), tmp_path / "vit")
    load_dinov2(tmp_path / "vit")
    assert capfd.readouterr() == ("", "")


def _folder(tmp_path: Path, shape: VitShape = SMALL) -> tuple[Path, dict[str, Any], dict[str, Tensor]]:
    torch.manual_seed(1)
    save_dinov2(random_dinov2(shape), tmp_path / "vit")
    config = json.loads((tmp_path / "vit/config.json").read_text())
    return tmp_path / "vit", config, safetensors.torch.load_file(tmp_path / "vit/model.safetensors")


@pytest.mark.parametrize("shape", [SMALL, GIANT], ids=["mlp", "swiglu"])
def test_a_folder_with_the_names_on_hugging_face_is_taken(shape: VitShape, tmp_path: Path) -> None:
    """The names that facebook/dinov2-with-registers-* have there, written out."""
    state = published_state(shape)
    d = shape.hidden
    theirs = {f"embeddings.{name}": state[name] for name in ("cls_token", "mask_token", "register_tokens")}
    theirs["embeddings.position_embeddings"] = state["pos_embed"]
    for kind in ("weight", "bias"):
        theirs[f"embeddings.patch_embeddings.projection.{kind}"] = state[f"patch_embed.proj.{kind}"]
        theirs[f"layernorm.{kind}"] = state[f"norm.{kind}"]
        for i in range(shape.layers):
            ours, start = f"blocks.{i}.", f"encoder.layer.{i}."
            for part, name in enumerate(("query", "key", "value")):
                rows = state[f"{ours}attn.qkv.{kind}"][part * d : (part + 1) * d].clone()
                theirs[f"{start}attention.attention.{name}.{kind}"] = rows
            renamed = {"norm1": "norm1", "norm2": "norm2", "attn.proj": "attention.output.dense"}
            swiglu = {"mlp.w12": "mlp.weights_in", "mlp.w3": "mlp.weights_out"}
            renamed |= swiglu if shape.swiglu else {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
            theirs |= {f"{start}{new}.{kind}": state[f"{ours}{old}.{kind}"] for old, new in renamed.items()}
            theirs |= {f"{start}layer_scale{j}.lambda1": state[f"{ours}ls{j}.gamma"] for j in (1, 2)}
    folder, _, _ = _folder(tmp_path, shape)
    safetensors.torch.save_file(theirs, folder / "model.safetensors", {"format": "pt"})
    images = photographs(2, 42)
    expected = reference_tokens(state, images, heads=d // 64)
    torch.testing.assert_close(tokens_of(load_dinov2(folder), images), expected, rtol=1e-4, atol=2e-5)


def test_a_folder_in_half_precision_is_taken_in_single(tmp_path: Path) -> None:
    folder, config, state = _folder(tmp_path)
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "float16"}))
    state = {name: value.half() for name, value in state.items()}
    safetensors.torch.save_file(state, folder / "model.safetensors", {"format": "pt"})
    own = load_dinov2(folder).state_dict()
    assert all(value.dtype == torch.float32 for value in own.values())
    assert torch.equal(own["embeddings.cls_token"], state["embeddings.cls_token"].float())


def test_a_folder_without_registers_is_taken(tmp_path: Path) -> None:
    folder, config, state = _folder(tmp_path, PLAIN)
    config |= {"model_type": "dinov2", "architectures": ["Dinov2Model"], "use_mask_token": True}
    del config["num_register_tokens"], state["embeddings.register_tokens"]
    (folder / "config.json").write_text(json.dumps(config))
    safetensors.torch.save_file(state, folder / "model.safetensors", {"format": "pt"})
    model: Any = load_dinov2(folder)
    assert model.config.num_register_tokens == 0
    assert tokens_of(model, photographs(2, 42)).shape == (2, 1 + 9, 64)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c, s: s.pop("layernorm.bias"), "missing: layernorm.bias"),
        (lambda c, s: s.update({"extra.weight": torch.ones(1)}), "not known: extra.weight"),
        (lambda c, s: s.update({"layernorm.bias": torch.full((64,), torch.inf)}), "finite.*: layernorm.bias"),
        (lambda c, s: s.update({"layernorm.bias": torch.ones(7)}), "does not fit: .*layernorm.bias"),
        (lambda c, s: c.update({"num_hidden_layers": 4}), "missing: encoder.layer.3"),
        (lambda c, s: c.update({"model_type": "vit"}), "not a DINOv2; found 'vit'"),
        (lambda c, s: c.clear(), "not a DINOv2|no DINOv2 can be loaded"),
    ],
)
def test_folders_that_do_not_fit_are_refused(change: Any, words: str, tmp_path: Path) -> None:
    folder, config, state = _folder(tmp_path)
    change(config, state)
    (folder / "config.json").write_text(json.dumps(config))
    safetensors.torch.save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=words) as caught:
        load_dinov2(folder)
    assert str(folder) in str(caught.value) and caught.value.allowed


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"config.json": b"{"},
        {"config.json": b'{"model_type": "dinov2_with_registers"}'},
        {"config.json": b'{"model_type": "dinov2_with_registers"}', "model.safetensors": b"torn"},
        {"config.json": b'{"model_type": "dinov2_with_registers"}', "pytorch_model.bin": b"\x80\x02}q\x00."},
    ],
)
def test_incomplete_folders_are_refused(files: dict[str, bytes], tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    words = "no DINOv2 can be loaded from this folder" if files else "this folder holds no DINOv2"
    with pytest.raises(InputError, match=f"{words}.*model.safetensors"):
        load_dinov2(tmp_path)


# ---- names, and what is not there --------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the network was asked for; it does not answer."""
    asked: list[object] = []

    def ask(*given: object, **_: object) -> None:
        asked.append(given)
        raise socket.gaierror("no network")

    monkeypatch.setattr(socket.socket, "connect", ask)
    monkeypatch.setattr(socket, "getaddrinfo", ask)
    monkeypatch.setattr(time, "sleep", asked.append)
    return asked


@pytest.mark.parametrize(
    "source", ["nobody/nothing-of-this-name", "nowhere", "folder/that/is/not", "a b", "a/--"]
)
def test_without_leave_nothing_is_asked_of_the_network(source: str, asked: list[object]) -> None:
    with pytest.raises(InputError, match=r"no such file, folder, or model.*Download it where") as caught:
        load_dinov2(source)
    assert caught.value.found == source and not asked


def test_folders_and_files_are_read_without_the_network(tmp_path: Path, asked: list[object]) -> None:
    folder, _, _ = _folder(tmp_path)
    load_dinov2(folder)
    load_dinov2(written(published_state(), tmp_path / "w.pth"))
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="from this folder"):
        load_dinov2(folder)
    assert not asked


def test_a_model_in_the_cache_is_taken_by_name(
    tmp_path: Path, asked: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cache = tmp_path / "models--nobody--tiny"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("0a1b")
    torch.manual_seed(2)
    model = random_dinov2(SMALL)
    save_dinov2(model, cache / "snapshots" / "0a1b")
    again = load_dinov2("nobody/tiny").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items()) and not asked
    assert load_dinov2("nobody/tiny", download=True).state_dict().keys() == again.keys() and asked
    asked.clear()
    assert (encoder := create_encoder("nobody/tiny")).name == "tiny" and not asked
    assert encoder.width == 2 * model.config.hidden_size


def test_a_download_that_fails_says_so_soon(asked: list[object]) -> None:
    with pytest.raises(InputError, match=r"could not be fetched.*give the path of its folder"):
        load_dinov2("nobody/nothing-of-this-name", download=True)
    assert asked and sum(pause for pause in asked if isinstance(pause, (int, float))) < 60


def test_a_network_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever listens takes the call and says nothing, as a proxy may."""
    monkeypatch.setattr("lymphoscope.encoders.dinov2._PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        began = time.monotonic()
        with pytest.raises(InputError, match=r"could not be fetched.*give the path of its folder"):
            load_dinov2("nobody/nothing-of-this-name", download=True)
    assert time.monotonic() - began < 20


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"pip install 'lymphoscope\[hub\]'"):
        network()


def test_another_layout_of_transformers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lymphoscope.encoders.dinov2._PARTS", {"encoder.layer.0": ("other",)})
    with pytest.raises(InputError, match=r"transformers builds DINOv2 otherwise.*lymphoscope\[hub\]"):
        random_dinov2(SMALL)

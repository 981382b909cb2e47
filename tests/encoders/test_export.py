"""An encoder as an ONNX file says what the encoder says, of any number of photographs, and what it is."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from made_up_cells import made_up, quick
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from lymphoscope.encoders.architectures import Architecture
from lymphoscope.encoders.encoder import Encoder, create_encoder
from lymphoscope.encoders.export import export_onnx
from lymphoscope.encoders.trained import train_encoder
from lymphoscope.errors import InputError


def photographs(n: int, size: int = 28) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, size, size, 3)).astype(np.uint8)


@pytest.fixture(scope="module", params=["residual", "convnext"])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder = tmp_path_factory.mktemp(request.param)
    architecture = Architecture(request.param, hidden=16, layers=1, image_size=28)
    train_encoder(made_up(folder / "cells", 24, 12), folder / "out", architecture, quick(2))
    return create_encoder(folder / "out")


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_file_says_what_the_encoder_says(encoder: Encoder, n: int, tmp_path: Path) -> None:
    out = tmp_path / "encoder.onnx"
    export_onnx(encoder, out)
    images = photographs(n)
    embedding, *told = ReferenceEvaluator(str(out)).run(None, {"images": images})
    expected = encoder.embed(images)
    assert embedding.dtype == np.float32 and np.allclose(embedding, expected, atol=1e-4, rtol=1e-4)
    assert [each.shape for each in told] == [(n, len(task.classes)) for task in encoder.tasks]
    assert np.allclose(np.hstack(told), encoder.concepts(expected), atol=1e-4)


def test_the_file_says_what_it_is(encoder: Encoder, tmp_path: Path) -> None:
    out = tmp_path / "encoder.onnx"
    export_onnx(encoder, out)
    model = onnx.load(out)
    onnx.checker.check_model(model, full_check=True)
    said = {each.key: each.value for each in model.metadata_props}
    assert said["name"] == "out" and said["sha256"] == encoder.sha256
    assert json.loads(said["answers"]) == {task.name: list(task.classes) for task in encoder.tasks}
    assert [each.name for each in model.graph.input] == ["images"]
    names = [each.name for each in model.graph.output]
    assert names == ["embedding", *(task.name for task in encoder.tasks)]
    kind = model.graph.input[0].type.tensor_type
    sides = [side.dim_param or side.dim_value for side in kind.shape.dim]
    assert kind.elem_type == onnx.TensorProto.UINT8 and sides == ["n", 28, 28, 3]


def test_the_same_encoder_gives_the_same_bytes(encoder: Encoder, tmp_path: Path) -> None:
    for name in ("one", "two"):
        export_onnx(encoder, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


class Module(nn.Module):
    """Somebody's own network; with `fickle` it does something else for dark photographs."""

    def __init__(self, fickle: bool) -> None:
        super().__init__()
        self.layer, self._fickle = nn.Conv2d(3, 4, 4, 4), fickle

    def forward(self, images: Tensor) -> Tensor:
        x = self.layer(images).mean(dim=(2, 3))
        return -x if self._fickle and float(images.mean()) < 0 else x


def test_a_module_of_ones_own_without_tasks(tmp_path: Path) -> None:
    torch.manual_seed(0)
    mine = Encoder("mine", Module(fickle=False), 4, 16)
    export_onnx(mine, tmp_path / "mine.onnx")
    (embedding,) = ReferenceEvaluator(str(tmp_path / "mine.onnx")).run(None, {"images": photographs(3, 16)})
    assert np.allclose(embedding, mine.embed(photographs(3, 16)), atol=1e-5)


def test_a_file_that_would_say_something_else_is_not_written(tmp_path: Path) -> None:
    fickle = Encoder("fickle", Module(fickle=True), 4, 16)
    with pytest.raises(InputError, match=r"says something else.*a difference of"):
        export_onnx(fickle, tmp_path / "fickle.onnx")
    assert not list(tmp_path.iterdir())


def test_a_transformer_is_refused(tmp_path: Path) -> None:
    Architecture("vit", hidden=32, layers=1, image_size=28).build().save(tmp_path / "dino")
    with pytest.raises(InputError, match=r"transformer cannot be written as ONNX.*found 'dino'"):
        export_onnx(create_encoder(tmp_path / "dino"), tmp_path / "dino.onnx")


def test_without_onnx_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r"lymphoscope\[onnx\]"):
        export_onnx(Encoder("mine", Module(fickle=False), 4, 16), tmp_path / "mine.onnx")

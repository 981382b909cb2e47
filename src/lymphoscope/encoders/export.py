"""An encoder as an ONNX file, which runs without this package, without torch and without Python.

What goes in are photographs as they are, bytes and not numbers that have been normalised somehow; what comes
out are embeddings, and of every task the probability of each answer. The file says which answers these are.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lymphoscope.encoders.encoder import Encoder
from lymphoscope.errors import InputError
from lymphoscope.files import write_bytes

IMAGES, EMBEDDING = "images", "embedding"

_OPSET = 18
"""Of 2022: old enough for whatever runs such files, and the first to hold what a transformer asks for."""

_SHOWN, _TOLERANCE = 3, 1e-3
"""Photographs that a file is tried on, other ones and another number than it was made with."""


def export_onnx(encoder: Encoder, out: Path) -> None:
    """Write an encoder as the file `out`.

    Input: `images`, uint8 RGB (n, S, S, 3), for any n. Outputs: `embedding`, float32 (n, width), and under
    the name of each task its calibrated probabilities, float32 (n, n_answers). The file's metadata hold the
    encoder's `name` and `sha256`, and as JSON `answers`, by task in the order of the probabilities.

    Raises
    ------
    InputError : the package onnx is missing, the network does something that ONNX has no word for, or what it
        does depends on what it is shown in a way that is lost.
    """
    whole = _Whole(encoder).eval()
    images = torch.zeros((2, encoder.image_size, encoder.image_size, 3), dtype=torch.uint8)
    names = [EMBEDDING, *(task.name for task in encoder.tasks)]
    onnx = _onnx()
    if hasattr(encoder.network, "transformer"):  # torch would print pages of its graph before it gives up
        raise InputError(
            "a transformer cannot be written as ONNX: it scales its positions in a way that ONNX lacks",
            found=encoder.name,
            allowed="residual and convnext encoders, and modules of your own",
        )
    model = onnx.load_from_string(_exported(whole, images, names))
    answers = {task.name: list(task.classes) for task in encoder.tasks}
    onnx.helper.set_model_props(model, encoder.as_dict() | {"answers": json.dumps(answers)})
    onnx.checker.check_model(model, full_check=True)
    _check_same(encoder, model)
    write_bytes(out, model.SerializeToString(deterministic=True))


class _Whole(nn.Module):
    """Photographs to embeddings and probabilities, as `Encoder.embed` and `Encoder.concepts` make them."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.network = encoder.network
        self.heads = encoder.heads or nn.ModuleDict()
        self._temperatures = encoder.temperatures
        mean, deviation = encoder.normalisation.mean, encoder.normalisation.deviation
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("deviation", torch.tensor(deviation))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        # Not `prepare`: it writes into memory that is there already, which a trace does not see.
        photographs = (images.float() / 255 - self.get_buffer("mean")) / self.get_buffer("deviation")
        embedding = self.network(photographs.permute(0, 3, 1, 2)).float()
        told = zip(self.heads.values(), self._temperatures, strict=True)
        return (embedding, *(torch.softmax(head(embedding) / each, dim=1) for head, each in told))


def _exported(whole: nn.Module, images: Tensor, names: Sequence[str]) -> bytes:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        path = Path(folder, "encoder.onnx")
        # That there is a newer exporter, which needs more packages; and that sizes become constants, as they
        # may: they are always the same.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                whole,
                (images,),
                path,
                dynamo=False,
                opset_version=_OPSET,
                input_names=[IMAGES],
                output_names=list(names),
                dynamic_axes={name: {0: "n"} for name in (IMAGES, *names)},
            )
        except (torch.onnx.OnnxExporterError, RuntimeError) as error:
            raise InputError(
                "this network cannot be written as ONNX",
                found=str(error).partition("\n")[0][:160],
                remedy="Use operations that torch exports: https://docs.pytorch.org/docs/stable/onnx.html.",
            ) from error
        return path.read_bytes()


def _check_same(encoder: Encoder, model: Any) -> None:
    """Refuse a file that says something else of photographs that it was not made with."""
    from onnx.reference import ReferenceEvaluator

    side = encoder.image_size
    chance = np.random.default_rng(0)
    images = chance.integers(0, 256, (_SHOWN, side, side, 3)).astype(np.uint8)
    images[0] = 255  # what is nothing but ground is not like noise
    embeddings = encoder.embed(images)
    expected = np.hstack([embeddings, encoder.concepts(embeddings)])
    found = np.hstack(list(ReferenceEvaluator(model).run(None, {IMAGES: images})))
    if found.shape != expected.shape or not np.allclose(found, expected, atol=_TOLERANCE, rtol=_TOLERANCE):
        raise InputError(
            "written as ONNX this network says something else, so the file is not written",
            found=f"a difference of {np.abs(found - expected).max():.2g}"
            if found.shape == expected.shape
            else f"outputs of the shape {found.shape}",
            allowed=f"at most {_TOLERANCE:g}, on any number of photographs",
        )


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise InputError(
            "the package onnx is missing",
            found="an installation without the extra `onnx`",
            remedy="Install it: pip install 'lymphoscope[onnx]'.",
        ) from error
    return onnx

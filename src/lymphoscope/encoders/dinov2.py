"""DINOv2 through transformers: built from a size, or loaded by name, from a folder, or from a published file.

transformers is imported when one is built, not before; it is an extra of this package.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lymphoscope.encoders.published import (
    VitShape,
    check_layout,
    published_layout,
    published_shape,
    read_published,
    to_transformers,
)
from lymphoscope.errors import InputError
from lymphoscope.files import atomic_directory
from lymphoscope.training.weights import some

RANDOM = "random"
"""The source of a transformer that has learned nothing yet."""

_PATIENCE = 10.0
"""Seconds that Hugging Face's site has to say that it is there."""

_EXTRA = "Install it: pip install 'lymphoscope[hub]'."
_FILES = (".safetensors", ".pth", ".pt")
_MODEL_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_KINDS = ("dinov2_with_registers", "dinov2")
_PARTS = {"encoder.layer.0": ("norm1", "attention", "norm2", "mlp", "layer_scale2"), "": ("layernorm",)}
_PARTS["encoder.layer.0.attention"] = ("q_proj", "k_proj", "v_proj")
_PARTS["embeddings"] = ("mask_token", "register_tokens", "position_embeddings", "patch_embeddings")


def random_dinov2(shape: VitShape) -> nn.Module:
    """A transformer with fresh weights, drawn from torch's global generator.

    Unlike in transformers, where they begin at 0, registers begin different from one another: nothing else
    tells them apart, so equal ones would stay equal for ever.

    Raises
    ------
    InputError : no transformers here, or a size that no transformer can have.
    """
    _check_shape(shape)
    model = _build(shape)
    if shape.registers:
        nn.init.trunc_normal_(model.embeddings.register_tokens, std=0.02)  # type: ignore[union-attr,arg-type]
    return model


def load_dinov2(source: Path | str, *, shape: VitShape | None = None, download: bool = False) -> nn.Module:
    """A DINOv2 with or without registers, in single precision and `eval()`; attention is torch's fused one.

    Parameters
    ----------
    source : a folder with config.json and model.safetensors as transformers saves them; a state dict as
        DINOv2 or DinoBloom publishes it, .safetensors, .pth or .pt; the name of a model, as
        "facebook/dinov2-with-registers-small", that lies in Hugging Face's cache; or "random".
    shape : of a random one; the others bring theirs.
    download : a model by name may be fetched over the network, which where there is none takes half a minute
        to say so. Without it the network is not asked for anything.

    Raises
    ------
    InputError : no transformers here, nothing there under this name, or not weights of a DINOv2.
    """
    if str(source) == RANDOM:
        return random_dinov2(shape or VitShape())
    path = Path(source)
    if path.is_dir():
        return _from_folder(path).eval()
    if path.is_file() or path.suffix.lower() in _FILES:
        return _from_file(path).eval()
    if not _MODEL_NAME.fullmatch(str(source)):
        raise _not_there(source)
    return _from_folder(_fetched(str(source)) if download else _cached(str(source))).eval()


def is_model_name(text: str) -> bool:
    """Whether this could be the name of a published model, OWNER/MODEL."""
    return _MODEL_NAME.fullmatch(text) is not None


def save_dinov2(model: nn.Module, folder: Path) -> None:
    """Write an unadapted model as a folder that `load_dinov2` takes; `folder` must not exist yet."""
    with atomic_directory(folder) as temporary, _quiet():
        model.save_pretrained(temporary)  # type: ignore[operator]


def _build(shape: VitShape) -> nn.Module:
    library = _transformers()
    config = library.Dinov2WithRegistersConfig(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.n_heads,
        num_register_tokens=shape.registers,
        patch_size=shape.patch,
        image_size=shape.image_size,
        mlp_ratio=shape.mlp_ratio,
        use_swiglu_ffn=shape.swiglu,
        attn_implementation="sdpa",
    )
    return _finished(library.Dinov2WithRegistersModel(config))


def _from_file(path: Path) -> nn.Module:
    """The backbone of a published state dict."""
    state, _ = read_published(path)
    shape = published_shape(state, path)
    check_layout(state, published_layout(shape), path)
    with torch.random.fork_rng(devices=[]):  # weights that are replaced at once draw nothing from anybody
        model = _build(shape)
    with torch.no_grad():
        own = model.state_dict()
        for name, value in to_transformers(state).items():
            own[name].copy_(value)
    return model


def _cached(name: str) -> Path:
    """The folder in Hugging Face's cache where the model called `name` lies.

    Its own loaders are not asked: even told to stay offline, they ask its site which programs are agents.
    """
    _transformers()
    library = importlib.import_module("huggingface_hub")
    try:
        found = library.try_to_load_from_cache(name, "config.json")
    except ValueError:  # no name that a model could have
        found = None
    if not isinstance(found, str):
        raise _not_there(name)
    return Path(found).parent


def _fetched(name: str) -> Path:
    """The same after asking Hugging Face's site for what is not there yet; without it, what is there."""
    _transformers()
    library = importlib.import_module("huggingface_hub")
    try:
        library.HfApi().model_info(name, timeout=_PATIENCE)  # the download itself would wait for ever
        return Path(library.snapshot_download(name, allow_patterns=["config.json", "*.safetensors*"]))
    except Exception as error:  # it raises whatever its network does
        with suppress(InputError):
            return _cached(name)  # fetched once already
        raise InputError(
            "this model could not be fetched",
            file=name,
            found=_first_line(error),
            remedy="Download it where there is a network and give the path of its folder.",
        ) from error


def _from_folder(folder: Path) -> nn.Module:
    """A model as transformers saves it."""
    library = _transformers()
    try:
        config = _config(library, folder)
        with torch.random.fork_rng(devices=[]), _quiet():
            model, found = library.Dinov2WithRegistersModel.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                attn_implementation="sdpa",
                use_safetensors=True,  # the other format may hold code
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are asked for below, and refused by name
                local_files_only=True,
            )
    except InputError:
        raise
    except Exception as error:  # the reader raises whatever its parsers and the files do
        raise InputError(
            "no DINOv2 can be loaded from this folder",
            file=folder,
            found=_first_line(error),
            allowed="config.json and model.safetensors, as transformers saves a Dinov2WithRegistersModel",
        ) from error
    _check_loaded(model, found, folder)
    return _finished(model)


def _config(library: Any, folder: Path) -> Any:
    """The configuration in `folder`; one without registers becomes one with 0 of them."""
    if not (folder / "config.json").is_file():
        raise InputError(
            "this folder holds no DINOv2",
            file=folder,
            found="no config.json",
            allowed="config.json and model.safetensors, as transformers saves a Dinov2WithRegistersModel",
            remedy="Name the folder of a model, or a file of weights as DINOv2 or DinoBloom publishes it.",
        )
    fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = fields.get("model_type")
    if kind not in _KINDS:
        raise InputError(
            "this model is not a DINOv2",
            file=folder,
            found=kind,
            allowed=" or ".join(_KINDS),
            remedy="Take facebook/dinov2-with-registers-small, or another of its family.",
        )
    if kind == "dinov2":
        fields |= {"num_register_tokens": 0, "model_type": _KINDS[0]}
    return library.Dinov2WithRegistersConfig.from_dict(fields)


def _check_loaded(model: nn.Module, found: Mapping[str, Any], folder: Path) -> None:
    """Every weight must have come from the file: transformers draws what is missing at random and goes on."""
    here = model.state_dict()
    missing = [key for key in found["missing_keys"] if here[key].numel()]  # no registers: nothing to miss
    strange = [key for key in found["unexpected_keys"] if not key.startswith("classifier.")]
    infinite = [key for key, value in here.items() if not bool(torch.isfinite(value).all())]
    faults = {
        "missing": missing,
        "not known": strange,
        "does not fit": [str(key) for key in found["mismatched_keys"]],
        "not finite numbers": infinite,
    }
    if any(faults.values()):
        raise InputError(
            "the weights of this model are not those of its config.json",
            file=folder,
            found="; ".join(f"{what}: {some(sorted(keys))}" for what, keys in faults.items() if keys),
            allowed=f"the {len(here)} tensors of a DINOv2 of this size",
            remedy="Bring the folder again, complete and unaltered.",
        )


def _not_there(source: Path | str) -> InputError:
    return InputError(
        "there is no such file, folder, or model in Hugging Face's cache",
        found=str(source),
        allowed="a folder with config.json and model.safetensors; a .safetensors or .pth of DINOv2 or "
        f'DinoBloom; a downloaded model by name, as "facebook/dinov2-with-registers-small"; "{RANDOM}"',
        remedy="Download it where there is a network and give the path of its file or folder.",
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:160] or type(error).__name__


def _check_shape(shape: VitShape) -> None:
    whole = {"hidden": shape.hidden, "layers": shape.layers, "heads": shape.n_heads, "patch": shape.patch}
    fits = all(value >= 1 for value in (*whole.values(), shape.mlp_ratio)) and shape.registers >= 0
    if not fits or shape.hidden % shape.n_heads or shape.image_size < 1 or shape.image_size % shape.patch:
        raise InputError(
            "no transformer can have this size",
            found=shape,
            allowed="`hidden` a multiple of `heads`, `image_size` a multiple of `patch`, nothing negative",
        )


# ---- transformers ------------------------------------------------------------------------------------------


def _transformers() -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise InputError(
            "DINOv2 is built with transformers, which is not installed", found=str(error), remedy=_EXTRA
        ) from error


def _finished(model: nn.Module) -> nn.Module:
    """The model with DINOv2's own positions, if its parts are called what this package calls them."""
    try:
        for path, names in _PARTS.items():
            for name in names:
                getattr(model.get_submodule(path), name)
    except AttributeError as error:
        raise InputError(
            "this version of transformers builds DINOv2 otherwise",
            found=f"transformers {_transformers().__version__}: {error}",
            remedy=_EXTRA,
        ) from error
    embeddings: Any = model.embeddings
    if not embeddings.register_tokens.numel():
        embeddings.interpolate_pos_encoding = partial(_plain_positions, embeddings)
    return model


def _plain_positions(embeddings: Any, _tokens: Tensor, height: int, width: int) -> Tensor:
    """The table of positions for images of another size as DINOv2 without registers was trained with it.

    Bicubic, the factor computed with 0.1 patches added to the target, no smoothing before shrinking. With
    registers it is neither (Darcet et al. 2023), and transformers knows that way alone.

    Returns
    -------
    (1, 1 + n_patches, d)
    """
    table: Tensor = embeddings.position_embeddings
    side = round((table.shape[1] - 1) ** 0.5)
    target = [pixels // embeddings.patch_size for pixels in (height, width)]
    if target == [side, side]:
        return table
    grid = table[:, 1:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    factor = [(patches + 0.1) / side for patches in target]
    grid = nn.functional.interpolate(grid, scale_factor=factor, mode="bicubic")
    return torch.cat([table[:, :1], grid.flatten(2).transpose(1, 2).to(table.dtype)], dim=1)


@contextmanager
def _quiet() -> Iterator[None]:
    """While the block runs, transformers draws no progress bars and warns of nothing: it is asked."""
    logs = _transformers().utils.logging
    shown, level = logs.is_progress_bar_enabled(), logs.get_verbosity()
    logs.disable_progress_bar()
    logs.set_verbosity_error()
    try:
        yield
    finally:
        logs.set_verbosity(level)
        if shown:
            logs.enable_progress_bar()

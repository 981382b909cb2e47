"""A fitted model as a folder of three files that can be read without trusting whoever wrote it.

`model.json` says what the model is, `model.safetensors` holds its arrays, `refits.safetensors` those of the
models behind its intervals. Nothing is ever unpickled: the
recipe is looked up by name among the recipes of this program, its parameters are validated like any others,
and arrays are only numbers. The hashes find accidents and careless edits; they are no signature.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata as packages
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from lymphoscope.errors import BundleError, InputError
from lymphoscope.files import atomic_directory, sha256_bytes, sha256_json, to_json
from lymphoscope.models.base import BagClassifier, State
from lymphoscope.models.registry import create_model, recipe_of

SCHEMA_VERSION = 1
FORMAT = "lymphoscope model bundle"
DOCUMENT = "model.json"
ARRAYS = "model.safetensors"
REFITS = "refits.safetensors"
_SHOWN = 200
"""Characters at most of what a library said."""

_LARGEST_DOCUMENT = 16 * 2**20
_REFIT_KINDS = {"n": int, "recipe": str, "parameters": dict}
_REFIT = "Fit the model again with this version, or install the version that made it."


@dataclass(frozen=True, eq=False)
class Bundle:
    """A fitted model with what is needed to use it on new patients.

    Attributes
    ----------
    recipe : its name.
    model : fitted, and of that recipe.
    refits : models of one recipe and one set of parameters, fitted on bootstrap samples of the same
        patients; the spread of their probabilities is the interval of the model's. May be empty.
    metadata : JSON values kept with it, such as preprocessing, the cohort's fingerprint and thresholds.
    packages : versions of what it was fitted with.
    """

    recipe: str
    model: BagClassifier
    refits: tuple[BagClassifier, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=lambda: _versions())


def save_bundle(bundle: Bundle, folder: Path) -> None:
    """Write a fitted model to a new `folder`; the same model gives the same bytes."""
    if folder.exists():
        raise InputError(
            "the folder for the model exists already", file=folder, remedy="Choose a new one, or remove it."
        )
    arrays = save(_state(bundle.model))
    refits = save(
        {
            f"{i:04d}.{name}": array
            for i, each in enumerate(bundle.refits)
            for name, array in _state(each).items()
        }
    )
    document: dict[str, Any] = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "recipe": bundle.recipe,
        "parameters": bundle.model.kept_parameters(),
        "refits": _describe_refits(bundle.refits),
        "sha256": {ARRAYS: sha256_bytes(arrays), REFITS: sha256_bytes(refits)},
        "packages": dict(bundle.packages),
        "metadata": dict(bundle.metadata),
    }
    document["document_sha256"] = sha256_json(document)
    with atomic_directory(folder) as temporary:
        (temporary / DOCUMENT).write_text(to_json(document), encoding="utf-8")
        (temporary / ARRAYS).write_bytes(arrays)
        (temporary / REFITS).write_bytes(refits)


def load_bundle(folder: Path | str, weights: Path | str | None = None) -> Bundle:
    """The bundle in `folder`; its predictions are those of the saved model, bit for bit.

    `weights` are those from elsewhere that the model was fitted on, if it is one that does not hold them.

    Raises
    ------
    BundleError : no bundle, a foreign file, a changed file, a newer or unknown schema, or an unknown recipe.
    """
    folder = Path(folder)
    document = _read_document(folder)
    recipe, refits = document["recipe"], document["refits"]
    states: list[dict[str, Any]] = [{} for _ in range(refits["n"])]
    if weights is not None:
        if not _created(folder / DOCUMENT, recipe, document["parameters"]).built_from_weights:
            raise BundleError(f"{folder}: this model of recipe {recipe} is whole. Leave --weights away.")
        for parameters in (document["parameters"], refits["parameters"]):
            parameters["weights"] = str(weights)
    model = _restored(folder / ARRAYS, recipe, document["parameters"], _read_arrays(folder, ARRAYS, document))
    for key, array in _read_arrays(folder, REFITS, document).items():
        number, _, name = key.partition(".")
        if not number.isdecimal() or int(number) >= len(states):
            raise BundleError(f"{folder / REFITS}: holds {key}, which belongs to no refit. {_REFIT}")
        states[int(number)][name] = array
    return Bundle(
        recipe,
        model,
        tuple(_restored(folder / REFITS, refits["recipe"], refits["parameters"], state) for state in states),
        document["metadata"],
        document["packages"],
    )


def _state(model: BagClassifier) -> State:
    return {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in model.state().items()}


def _describe_refits(refits: Sequence[BagClassifier]) -> dict[str, Any]:
    """What they have in common; a random state may differ and is of no use any more."""
    if not refits:
        return {"n": 0, "recipe": "", "parameters": {}}
    known = refits[0].kept_parameters()
    parameters = known | {"random_state": 0}
    return {
        "n": len(refits),
        "recipe": recipe_of(refits[0]).name,
        "parameters": {name: value for name, value in parameters.items() if name in known},
    }


def _created(document: Path, recipe: str, parameters: dict[str, Any]) -> BagClassifier:
    try:
        return create_model(recipe, **parameters)
    except InputError as error:
        raise BundleError(f"{document}: {error} {_REFIT}") from error
    except (KeyError, ValueError, TypeError) as error:
        raise BundleError(
            f"{document}: these are no parameters of recipe {recipe} ({type(error).__name__}: {error}). "
            f"{_REFIT}"
        ) from error


def _restored(file: Path, recipe: str, parameters: dict[str, Any], state: State) -> BagClassifier:
    model = _created(file.parent / DOCUMENT, recipe, parameters)
    try:
        return model.load_state(state)
    except InputError as error:
        raise BundleError(f"{file.parent / DOCUMENT}: {error} {_REFIT}") from error
    except (KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
        said = shorten(
            f"{type(error).__name__}: {error}", _SHOWN, placeholder=" …"
        )  # torch names every tensor
        raise BundleError(
            f"{file}: holds no state of recipe {recipe} as this version knows it ({said}). {_REFIT}"
        ) from error


def _read_document(folder: Path) -> dict[str, Any]:
    path = folder / DOCUMENT
    text = _read(folder, DOCUMENT, _LARGEST_DOCUMENT)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BundleError(
            f"{path}: is no description of a lymphoscope model. Name the folder called `model` of a run."
        )
    version = document.get("schema_version")
    if type(version) is not int or version < 1:
        raise BundleError(
            f"{path}: has schema version {version!r:.40}, which no lymphoscope ever wrote. Copy the bundle "
            "again from where it came from, or fit the model again."
        )
    if version > SCHEMA_VERSION:
        raise BundleError(
            f"{path}: was written by a newer lymphoscope (schema {version}; this one reads up to "
            f"{SCHEMA_VERSION}). Upgrade lymphoscope, or fit the model again with this version."
        )
    claimed = document.pop("document_sha256", None)
    kinds = {
        "recipe": str,
        "parameters": dict,
        "refits": dict,
        "packages": dict,
        "sha256": dict,
        "metadata": dict,
    }
    whole = all(isinstance(document.get(key), kind) for key, kind in kinds.items())
    whole = whole and all(isinstance(document["refits"].get(k), v) for k, v in _REFIT_KINDS.items())
    if not whole or claimed != sha256_json(document):
        raise BundleError(
            f"{path}: was changed after it was written. Copy the bundle again from where it came from, "
            "or fit the model again."
        )
    return document


def _read_arrays(folder: Path, name: str, document: dict[str, Any]) -> State:
    data = _read(folder, name, None)
    if sha256_bytes(data) != document["sha256"].get(name):
        raise BundleError(
            f"{folder / name}: is not the file that {DOCUMENT} describes (its hash differs). Copy the "
            "bundle again from where it came from, or fit the model again."
        )
    try:
        arrays: State = load(data)
    except SafetensorError as error:
        raise BundleError(f"{folder / name}: holds no state of a model ({error}). {_REFIT}") from error
    return arrays


def _read(folder: Path, name: str, limit: int | None) -> bytes:
    path = folder / name
    if not path.is_file():
        raise BundleError(
            f"{path}: is not there. Name a folder that holds {DOCUMENT}, {ARRAYS} and {REFITS}."
        )
    try:
        if limit is not None and path.stat().st_size > limit:
            raise BundleError(f"{path}: is larger than {limit >> 20} MiB, so it is no {DOCUMENT}.")
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}). Check its permissions.") from error


def _versions() -> dict[str, str]:
    names = ("lymphoscope", "numpy", "scikit-learn", "torch", "safetensors")
    return {"python": platform.python_version(), **{name: packages.version(name) for name in names}}

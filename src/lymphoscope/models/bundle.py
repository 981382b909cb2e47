"""A fitted model as a folder of two files that can be read without trusting whoever wrote it.

`model.json` says what the model is, `model.safetensors` holds its arrays. Nothing is ever unpickled: the
recipe is looked up by name among the recipes of this program, its parameters are validated like any others,
and arrays are only numbers. The hashes find accidents and careless edits; they are no signature.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib import metadata as packages
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from lymphoscope.errors import BundleError, InputError
from lymphoscope.files import atomic_directory, sha256_bytes, sha256_json, to_json
from lymphoscope.models.base import BagClassifier
from lymphoscope.models.registry import create_model, recipe_of

SCHEMA_VERSION = 1
FORMAT = "lymphoscope model bundle"
DOCUMENT = "model.json"
ARRAYS = "model.safetensors"
_LARGEST_DOCUMENT = 16 * 2**20
_REFIT = "Fit the model again with this version, or install the version that made it."


def save_bundle(model: BagClassifier, folder: Path, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a fitted model to a new `folder`; the same model gives the same bytes.

    Parameters
    ----------
    model : fitted, and of a registered recipe.
    folder : must not exist yet.
    metadata : JSON values to keep with it, such as preprocessing, the cohort's fingerprint and calibration.
    """
    if folder.exists():
        raise InputError(
            "the folder for the model exists already", file=folder, remedy="Choose a new one, or remove it."
        )
    state = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in model.state().items()}
    arrays = save(state)
    document: dict[str, Any] = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "recipe": recipe_of(model).name,
        "parameters": model.get_params(deep=False),
        "arrays_sha256": sha256_bytes(arrays),
        "packages": _versions(),
        "metadata": dict(metadata or {}),
    }
    document["document_sha256"] = sha256_json(document)
    with atomic_directory(folder) as temporary:
        (temporary / DOCUMENT).write_text(to_json(document), encoding="utf-8")
        (temporary / ARRAYS).write_bytes(arrays)


def load_bundle(folder: Path) -> tuple[BagClassifier, dict[str, Any]]:
    """The model in `folder` and the metadata kept with it; its predictions are those of the saved model.

    Raises
    ------
    BundleError : no bundle, a foreign file, a changed file, a newer schema, or an unknown recipe.
    """
    document = _read_document(folder)
    data = _read_arrays(folder, document)
    try:
        model = create_model(document["recipe"], **document["parameters"])
    except InputError as error:
        raise BundleError(f"{folder / DOCUMENT}: {error} {_REFIT}") from error
    try:
        model.load_state(load(data))
    except (SafetensorError, KeyError, ValueError, TypeError, IndexError) as error:
        raise BundleError(
            f"{folder / ARRAYS}: holds no state of recipe {document['recipe']} as this version knows it "
            f"({type(error).__name__}: {error}). {_REFIT}"
        ) from error
    return model, document["metadata"]


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
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise BundleError(
            f"{path}: was written by a newer lymphoscope (schema {version}; this one reads up to "
            f"{SCHEMA_VERSION}). Upgrade lymphoscope, or fit the model again with this version."
        )
    claimed = document.pop("document_sha256", None)
    kinds = {"recipe": str, "parameters": dict, "arrays_sha256": str, "metadata": dict}
    whole = all(isinstance(document.get(key), kind) for key, kind in kinds.items())
    if not whole or claimed != sha256_json(document):
        raise BundleError(
            f"{path}: was changed after it was written. Copy the bundle again from where it came from, "
            "or fit the model again."
        )
    return document


def _read_arrays(folder: Path, document: dict[str, Any]) -> bytes:
    data = _read(folder, ARRAYS, None)
    if sha256_bytes(data) != document["arrays_sha256"]:
        raise BundleError(
            f"{folder / ARRAYS}: is not the file that {DOCUMENT} describes (its hash differs). Copy the "
            "bundle again from where it came from, or fit the model again."
        )
    return data


def _read(folder: Path, name: str, limit: int | None) -> bytes:
    path = folder / name
    if not path.is_file():
        raise BundleError(f"{path}: is not there. Name a folder that holds both {DOCUMENT} and {ARRAYS}.")
    try:
        if limit is not None and path.stat().st_size > limit:
            raise BundleError(f"{path}: is larger than {limit >> 20} MiB, so it is no {DOCUMENT}.")
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}). Check its permissions.") from error


def _versions() -> dict[str, str]:
    names = ("lymphoscope", "numpy", "scikit-learn", "safetensors")
    return {"python": platform.python_version(), **{name: packages.version(name) for name in names}}

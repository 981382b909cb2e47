from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from lymphoscope.errors import BundleError, InputError
from lymphoscope.files import sha256_bytes, sha256_json, to_json
from lymphoscope.models.bundle import ARRAYS, DOCUMENT, REFITS, Bundle, load_bundle, save_bundle
from lymphoscope.models.conformance import example_bags
from lymphoscope.models.registry import create_model


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    bags, y = example_bags(40)
    model = create_model("clinical", C=0.5).fit(bags, y)
    refits = tuple(create_model("clinical", C=2.0).fit(bags[20:], y[20:]) for _ in range(2))
    save_bundle(Bundle("clinical", model, refits, {"count_unit": "10^9/L"}), tmp_path / "model")
    return tmp_path / "model"


def _edit(bundle: Path, change: Callable[[dict[str, Any]], None], *, sign: bool) -> None:
    """Change `model.json` by hand; `sign` makes its own hash right again."""
    document = json.loads((bundle / DOCUMENT).read_text())
    change(document)
    if sign:
        document.pop("document_sha256")
        document["document_sha256"] = sha256_json(document)
    (bundle / DOCUMENT).write_text(to_json(document))


def test_a_bundle_brings_back_parameters_metadata_and_predictions(bundle: Path) -> None:
    bags, y = example_bags(40)
    loaded = load_bundle(bundle)
    assert loaded.model.get_params() == {"C": 0.5}
    assert loaded.metadata == {"count_unit": "10^9/L"}
    expected = create_model("clinical", C=0.5).fit(bags, y).predict_proba(bags)
    assert np.array_equal(loaded.model.predict_proba(bags), expected)
    refitted = create_model("clinical", C=2.0).fit(bags[20:], y[20:]).predict_proba(bags)
    assert [np.array_equal(each.predict_proba(bags), refitted) for each in loaded.refits] == [True, True]


def test_a_bundle_says_who_made_it(bundle: Path) -> None:
    document = json.loads((bundle / DOCUMENT).read_text())
    assert document["recipe"] == "clinical"
    assert set(document["packages"]) >= {"lymphoscope", "numpy", "scikit-learn", "python"}
    assert sorted(path.name for path in bundle.iterdir()) == [DOCUMENT, ARRAYS, REFITS]


def test_an_existing_folder_is_never_overwritten(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    before = (bundle / DOCUMENT).read_bytes()
    with pytest.raises(InputError, match="exists already"):
        save_bundle(loaded, bundle)
    assert (bundle / DOCUMENT).read_bytes() == before


def test_a_value_that_is_no_json_leaves_nothing_behind(bundle: Path, tmp_path: Path) -> None:
    loaded = replace(load_bundle(bundle), metadata={"loss": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        save_bundle(loaded, tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("name", [DOCUMENT, ARRAYS, REFITS])
def test_a_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=f"{name}: is not there.*{DOCUMENT}"):
        load_bundle(bundle)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"nowhere.*is not there"):
        load_bundle(tmp_path / "nowhere")


@pytest.mark.parametrize("name", [ARRAYS, REFITS])
@pytest.mark.parametrize("position", [0, 8, 40, -1])
def test_a_changed_byte_in_the_arrays_is_noticed(bundle: Path, name: str, position: int) -> None:
    data = bytearray((bundle / name).read_bytes())
    data[position] ^= 1
    (bundle / name).write_bytes(data)
    with pytest.raises(BundleError, match=r"hash differs.*Copy the bundle again"):
        load_bundle(bundle)


def test_a_truncated_array_file_is_noticed(bundle: Path) -> None:
    data = (bundle / ARRAYS).read_bytes()
    (bundle / ARRAYS).write_bytes(data[: len(data) // 2])
    with pytest.raises(BundleError, match="hash differs"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["parameters"].update(C=100.0),
        lambda d: d["metadata"].update(count_unit="cells/µL"),
        lambda d: d.update(recipe="clinical-bayes"),
        lambda d: d.pop("document_sha256"),
        lambda d: d.pop("metadata"),
        lambda d: d.update(parameters=[]),
    ],
)
def test_an_edited_description_is_noticed(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    _edit(bundle, change, sign=False)
    with pytest.raises(BundleError, match="was changed after it was written"):
        load_bundle(bundle)


@pytest.mark.parametrize("version", [2, 99])
def test_a_newer_schema_asks_for_an_upgrade(bundle: Path, version: int) -> None:
    _edit(bundle, lambda d: d.update(schema_version=version), sign=True)
    with pytest.raises(BundleError, match=r"newer lymphoscope.*Upgrade lymphoscope"):
        load_bundle(bundle)


@pytest.mark.parametrize("version", [0, -1, True, 1.0, "1", None, "x" * 10_000])
def test_a_schema_that_never_was_is_refused(bundle: Path, version: Any) -> None:
    _edit(bundle, lambda d: d.update(schema_version=version), sign=True)
    with pytest.raises(BundleError, match=r"schema version .{1,40}, which no lymphoscope ever wrote"):
        load_bundle(bundle)


@pytest.mark.parametrize("text", ["", "{}", "[1, 2]", '{"format": "other"}', "\x80\x04K\x01.", "[" * 100_000])
def test_a_foreign_description_is_refused(bundle: Path, text: str) -> None:
    (bundle / DOCUMENT).write_text(text, encoding="latin-1")
    with pytest.raises(BundleError, match="no description of a lymphoscope model"):
        load_bundle(bundle)


@pytest.mark.parametrize("recipe", ["no-such-recipe", "../../etc/passwd", "os:system", ""])
def test_an_unknown_recipe_is_refused_and_nothing_is_imported(bundle: Path, recipe: str) -> None:
    _edit(bundle, lambda d: d.update(recipe=recipe), sign=True)
    with pytest.raises(BundleError, match=r"no recipe has this name.*Fit the model again"):
        load_bundle(bundle)


def test_unknown_parameters_are_refused(bundle: Path) -> None:
    _edit(bundle, lambda d: d["parameters"].update(l1_ratio=0.5), sign=True)
    with pytest.raises(BundleError, match=r"no parameter of this name.*Fit the model again"):
        load_bundle(bundle)


def test_arrays_of_another_recipe_are_refused(bundle: Path) -> None:
    arrays = load((bundle / ARRAYS).read_bytes())
    arrays.pop("learned.logistic.coef")
    data = save(arrays)
    (bundle / ARRAYS).write_bytes(data)
    _edit(bundle, lambda d: d["sha256"].update({ARRAYS: sha256_bytes(data)}), sign=True)
    with pytest.raises(BundleError, match=r"holds no state of recipe clinical.*Fit the model again"):
        load_bundle(bundle)


def test_arrays_of_a_network_that_was_built_otherwise_are_refused(tmp_path: Path) -> None:
    """As of VGG kept without batch normalisation by a version that knew no other."""
    bags, y = example_bags(18, image_size=32)
    model = create_model("vgg16@smoke", image_size=32, width=0.05, batch_norm=False).fit(bags, y)
    save_bundle(Bundle("vgg16", model, (), {}), tmp_path / "model")
    _edit(tmp_path / "model", lambda d: d["parameters"].update(options=None), sign=True)
    with pytest.raises(BundleError, match=r"no state of recipe vgg16.*RuntimeError.* …\).*Fit the model"):
        load_bundle(tmp_path / "model")


def test_a_file_that_is_no_safetensors_is_refused(bundle: Path) -> None:
    data = b"\x80\x04cos\nsystem\n."
    (bundle / ARRAYS).write_bytes(data)
    _edit(bundle, lambda d: d["sha256"].update({ARRAYS: sha256_bytes(data)}), sign=True)
    with pytest.raises(BundleError, match="holds no state"):
        load_bundle(bundle)


def test_a_refit_that_is_none_of_those_described_is_refused(bundle: Path) -> None:
    arrays = load((bundle / REFITS).read_bytes())
    data = save(arrays | {"0007.learned.logistic.coef": next(iter(arrays.values()))})
    (bundle / REFITS).write_bytes(data)
    _edit(bundle, lambda d: d["sha256"].update({REFITS: sha256_bytes(data)}), sign=True)
    with pytest.raises(BundleError, match="belongs to no refit"):
        load_bundle(bundle)

"""The encoder that is adapted inside `fit`: to the training cells, whatever their labels, and no others."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lymphoscope.cells.columns import EMBEDDING_PREFIX
from lymphoscope.cohort.bags import Bags
from lymphoscope.encoders.encoder import create_encoder
from lymphoscope.encoders.kept import read_embedder, write_encoder
from lymphoscope.errors import InputError
from lymphoscope.evaluation.folds import out_of_fold
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.models.adapted_encoder import AdaptedEncoder
from lymphoscope.models.bundle import Bundle, load_bundle, save_bundle
from lymphoscope.models.conformance import example_bags
from lymphoscope.models.registry import create_model

SIDE = 32
SMALL = {"image_size": SIDE, "epochs": 1, "batch_size": 32, "learning_rate": 1e-3}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def model(encoder: Path, **settings: Any) -> AdaptedEncoder:
    made = create_model("encoder-adapted-mean", encoder=str(encoder), **(SMALL | settings))
    assert isinstance(made, AdaptedEncoder)
    return made


def weights(fitted: AdaptedEncoder) -> dict[str, np.ndarray]:
    return {name: value for name, value in fitted.state().items() if name.startswith("encoder.")}


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(first[name], second[name]) for name in first)


def test_labels_and_clinical_values_have_no_say_in_the_encoder_and_training_cells_do(
    tiny_encoder: Path,
) -> None:
    bags, y = example_bags(18, image_size=SIDE)
    other, _ = example_bags(18, seed=5, image_size=SIDE)
    first = weights(model(tiny_encoder).fit(bags, y))
    assert same(first, weights(model(tiny_encoder, clinical=True).fit(bags, 1 - y)))
    assert not same(first, weights(model(tiny_encoder).fit(other, y)))
    assert not same(first, {f"encoder.{n}": v.numpy() for n, v in _before(tiny_encoder).items()})


def _before(folder: Path) -> dict[str, torch.Tensor]:
    return dict(create_encoder(folder).network.state_dict())


def test_a_fold_adapts_on_its_training_patients_alone(tiny_encoder: Path) -> None:
    bags, y = example_bags(18, image_size=SIDE)
    (split, *_) = Protocol(folds=3, repeats=1).splits(y)
    cells = bags.cells.copy()
    for patient in split.test:  # the held-out patients' cells become others
        cells[bags.offsets[patient] : bags.offsets[patient + 1]] //= 2
    changed = Bags(cells, bags.offsets, bags.clinical, bags.patient_ids)
    first, then = (
        weights(model(tiny_encoder).fit(each[split.train], y[split.train])) for each in (bags, changed)
    )
    assert same(first, then)


def test_as_good_as_unadapted_it_is_the_recipe_on_the_frozen_encoder(tiny_encoder: Path) -> None:
    bags, y = example_bags(24, image_size=SIDE)
    new, _ = example_bags(9, seed=2, image_size=SIDE)
    encoder = create_encoder(tiny_encoder)
    names = tuple(f"{EMBEDDING_PREFIX}{i:03d}" for i in range(encoder.width))
    numbers = [
        Bags(encoder.embed(each.cells), each.offsets, each.clinical, each.patient_ids, names)
        for each in (bags, new)
    ]
    for recipe in ("encoder-mean", "encoder-mean-clinical"):
        clinical = recipe.endswith("clinical")
        frozen = create_model(recipe).fit(numbers[0], y).predict_proba(numbers[1])
        hardly = model(tiny_encoder, clinical=clinical, learning_rate=1e-12).fit(bags, y)
        assert np.allclose(hardly.predict_proba(new), frozen, atol=1e-3)


def test_a_share_of_the_cells_is_the_same_whatever_their_order(tiny_encoder: Path) -> None:
    bags, y = example_bags(18, image_size=SIDE)
    spans = zip(bags.offsets[:-1], bags.offsets[1:], strict=True)
    turned = np.concatenate([np.arange(start, stop)[::-1] for start, stop in spans])
    other = Bags(bags.cells[turned], bags.offsets, bags.clinical, bags.patient_ids)
    few = {"cells_per_patient": 2}
    first = weights(model(tiny_encoder, **few).fit(bags, y))
    assert same(first, weights(model(tiny_encoder, **few).fit(other, y)))
    assert not same(first, weights(model(tiny_encoder).fit(bags, y)))


def test_a_kept_model_holds_the_encoder_and_no_folder(tiny_encoder: Path, tmp_path: Path) -> None:
    bags, y = example_bags(18, image_size=SIDE)
    fitted = model(tiny_encoder).fit(bags, y)
    save_bundle(Bundle("encoder-adapted-mean", fitted), tmp_path / "model")
    again = load_bundle(tmp_path / "model").model
    assert np.array_equal(again.predict_proba(bags), fitted.predict_proba(bags))
    assert str(tiny_encoder.parent).encode() not in (tmp_path / "model" / "model.json").read_bytes()


def test_folds_on_another_encoder_of_the_same_name_are_not_taken_up(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    bags, y = example_bags(18, image_size=SIDE)
    embedder, card = read_embedder(tiny_encoder)
    with torch.no_grad():
        embedder.body.blocks[-1].second.conv.weight.mul_(-1)  # type: ignore[union-attr,operator]
    heads = load_file(tiny_encoder / "heads.safetensors")
    write_encoder(tmp_path / "other", embedder, heads, card, {})
    place, splits, said = tmp_path / "encoder", Protocol(folds=2, repeats=1).splits(y), []
    for folder in (tiny_encoder, tmp_path / "other"):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder, place)
        found = out_of_fold(model(place), bags, y, splits, pieces=tmp_path / "pieces")
        said.append(found.probability)
    assert not np.array_equal(said[0], said[1])


def test_a_place_without_an_encoder_is_refused(tmp_path: Path) -> None:
    bags, y = example_bags(12, image_size=SIDE)
    with pytest.raises(InputError, match="only an encoder with a card"):
        model(tmp_path).fit(bags, y)

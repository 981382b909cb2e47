"""Encoders ready for use: wherever they come from, photographs go in, embeddings and concepts come out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up_cells import TINY, made_up, quick
from torch import Tensor, nn

from lymphoscope.encoders import encoder as module
from lymphoscope.encoders.architectures import Architecture
from lymphoscope.encoders.dinov2 import load_dinov2
from lymphoscope.encoders.encoder import Encoder, create_encoder
from lymphoscope.encoders.kept import SHIPPED, encoder_folder
from lymphoscope.encoders.labelled_cells import Task, read_labelled_cells
from lymphoscope.encoders.trained import train_encoder
from lymphoscope.errors import InputError
from lymphoscope.training.augmentation import IMAGENET, prepare

RESIDUAL = Architecture("residual", hidden=16, layers=1, image_size=28)
LARGEST = 6 * 2**20
"""Bytes of the shipped folder: everybody who installs this package fetches it."""


def photographs(n: int = 9, size: int = 28, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up(tmp_path_factory.mktemp("made-up") / "cells", 48, 30)


@pytest.fixture(scope="module")
def kept(cells: Path) -> Path:
    """The folder of a residual encoder that has learned a little."""
    train_encoder(cells, cells.parent / "kept", RESIDUAL, quick(4, learning_rate=3e-3))
    return cells.parent / "kept"


@pytest.fixture
def copied(kept: Path, tmp_path: Path) -> Path:
    return shutil.copytree(kept, tmp_path / "copied")


def change_card(folder: Path, **changed: Any) -> None:
    card = json.loads((folder / "card.json").read_text())
    card = {name: value for name, value in (card | changed).items() if value is not None}
    (folder / "card.json").write_text(json.dumps(card))


def test_a_trained_encoder_is_what_its_card_says(kept: Path, cells: Path) -> None:
    found, card = create_encoder(kept), json.loads((kept / "card.json").read_text())
    assert (found.name, found.width, found.image_size) == ("kept", 16, 28)
    assert found.card == card and card["architecture"]["kind"] == "residual"
    assert found.embedding_columns == tuple(f"embedding_{i:03d}" for i in range(16))
    assert found.concept_columns == (
        "concept_cell_type=blue",
        "concept_cell_type=green",
        "concept_cell_type=red",
        "concept_cell_size=big",
        "concept_cell_size=small",
        "concept_nucleus_shape=irregular",
        "concept_nucleus_shape=round",
    )
    splits = read_labelled_cells(cells, size=28)
    concepts = found.concepts(found.embed(splits.validation.images))
    start = 0
    for task in found.tasks:
        told = concepts[:, start : start + len(task.classes)].argmax(axis=1)
        start += len(task.classes)
        truth = splits.validation.targets[:, splits.tasks.index(task)]
        right = (told == truth)[truth >= 0].mean()
        assert right == pytest.approx(card["validation"][task.name]["accuracy"]), task.name
    assert start == concepts.shape[1] == len(found.concept_columns)


def test_loading_it_twice_gives_the_same_bytes(kept: Path, copied: Path) -> None:
    state = torch.get_rng_state()
    one, two = create_encoder(kept), create_encoder(str(copied))
    assert torch.equal(torch.get_rng_state(), state), "whoever draws numbers next draws what they would have"
    images = photographs()
    assert one.embed(images).tobytes() == two.embed(images).tobytes()
    assert one.sha256 == two.sha256
    assert one.as_dict() == {"name": "kept", "sha256": one.sha256}


def test_concepts_are_calibrated_probabilities(kept: Path) -> None:
    found = create_encoder(kept)
    embeddings = found.embed(photographs(20))
    concepts = found.concepts(embeddings)
    assert concepts.dtype == np.float32 and (concepts >= 0).all() and (concepts <= 1).all()
    start, temperatures = 0, found.card["temperatures"]  # type: ignore[index]
    for task in found.tasks:
        told = concepts[:, start : start + len(task.classes)]
        start += len(task.classes)
        assert np.allclose(told.sum(axis=1), 1, atol=1e-6), task.name
        with torch.inference_mode():
            logits = found.heads[task.name](torch.from_numpy(embeddings))  # type: ignore[index]
        expected = torch.softmax(logits / temperatures[task.name], dim=1).numpy()
        assert np.allclose(told, expected, atol=1e-6), task.name
    assert any(value != 1 for value in temperatures.values())


@pytest.mark.parametrize("kind", ["residual", "vit"])
def test_an_embedding_does_not_depend_on_the_others(
    kind: str, kept: Path, cells: Path, tmp_path: Path
) -> None:
    if kind == "vit":
        train_encoder(cells, tmp_path / "vit", TINY, quick(1))
        kept = tmp_path / "vit"
    found, images = create_encoder(kept), photographs(70)
    together = found.embed(images)
    alone = np.concatenate([found.embed(images[i : i + 1]) for i in range(70)])
    assert together.shape == (70, found.width) and together.dtype == np.float32
    assert np.abs(together - alone).max() < 1e-5 < together.std()
    pairs = [found.embed(np.repeat(each[None], 2, axis=0)) for each in images[:5]]
    assert np.array_equal(alone[:5], np.stack(pairs)[:, 0]), "alone is as in company, to the bit"
    backwards = found.embed(np.ascontiguousarray(images[::-1]))[::-1]
    assert np.abs(together - backwards).max() < 1e-5


def test_no_photographs_give_no_rows(kept: Path) -> None:
    found = create_encoder(kept)
    assert found.embed(photographs(0)).shape == (0, 16)
    assert found.concepts(np.empty((0, 16), dtype=np.float32)).shape == (0, len(found.concept_columns))


def test_nothing_in_it_changes_when_it_looks(kept: Path) -> None:
    found = create_encoder(kept)
    assert not found.network.training
    assert not any(each.requires_grad for each in found.network.parameters())
    before = {name: value.clone() for name, value in found.network.state_dict().items()}
    images = photographs()
    given = images.copy()
    first = found.embed(images)
    found.concepts(first)
    assert all(torch.equal(value, before[name]) for name, value in found.network.state_dict().items())
    assert np.array_equal(images, given) and np.array_equal(found.embed(images), first)


def test_a_mistyped_place_is_said_to_be_empty_whatever_is_installed() -> None:
    """A folder and a name below it could also be the name of a published model."""
    with pytest.raises(InputError, match=r"no encoder of this name.*runs/encoer.*meant as OWNER/MODEL"):
        create_encoder("runs/encoer")


class Small(nn.Module):
    """Somebody's own network, as they would make it: with a normalisation, and in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Conv2d(3, 6, 4, 4), nn.BatchNorm2d(6)
        self.dropout = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        return self.dropout(self.norm(self.layer(images)).mean(dim=(2, 3)))


def test_a_module_of_ones_own_works() -> None:
    torch.manual_seed(0)
    network = Small()
    found = Encoder("mine", network, width=6, image_size=32)
    images = photographs(20, 32)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    embeddings = found.embed(images)
    assert embeddings.shape == (20, 6) and np.array_equal(found.embed(images), embeddings)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with torch.inference_mode():
        expected = network.eval()(prepare(torch.from_numpy(images), IMAGENET)).numpy()
    assert np.allclose(embeddings, expected, atol=1e-6)
    assert found.concept_columns == () and found.concepts(embeddings).shape == (20, 0)
    assert len(found.embedding_columns) == 6


def test_heads_of_ones_own_name_concepts() -> None:
    torch.manual_seed(0)
    task = Task("nucleus", ("cleft", "round"))
    heads = nn.ModuleDict({"nucleus": nn.Sequential(nn.Linear(6, 2), nn.Dropout(0.5))})
    found = Encoder("mine", Small(), 6, 32, heads=heads, tasks=(task,), temperatures=(2.0,))
    assert found.concept_columns == ("concept_nucleus=cleft", "concept_nucleus=round")
    embeddings = found.embed(photographs(5, 32))
    concepts = found.concepts(embeddings)
    assert np.array_equal(concepts, found.concepts(embeddings)), "its dropout is off"
    odds = np.log(concepts[:, 0] / concepts[:, 1])
    weight, bias = (each.detach().numpy() for each in heads["nucleus"].parameters())
    logits = embeddings @ weight.T + bias
    assert np.allclose(odds, (logits[:, 0] - logits[:, 1]) / 2, atol=1e-4)


def test_the_hash_covers_all_that_an_embedding_or_a_concept_depends_on() -> None:
    torch.manual_seed(0)
    network, task = Small(), Task("a", ("x", "y"))
    heads = nn.ModuleDict({"a": nn.Linear(6, 2)})
    given: dict[str, Any] = {"heads": heads, "tasks": (task,), "temperatures": (1.0,)}
    first = Encoder("one", network, 6, 32, **given).sha256
    assert Encoder("another name", network, 6, 32, **given).sha256 == first
    other = nn.ModuleDict({"a": nn.Linear(6, 2)})
    changed = [
        Encoder("one", network, 6, 48, **given),
        Encoder("one", network, 6, 32, **given | {"temperatures": (1.5,)}),
        Encoder("one", network, 6, 32, **given | {"heads": other}),
        Encoder("one", network, 6, 32),
        Encoder("one", network, 6, 32, module.Normalisation((0.5,) * 3, (0.5,) * 3), **given),
        Encoder("one", Small(), 6, 32, **given),
    ]
    assert len({first, *(each.sha256 for each in changed)}) == 1 + len(changed)


def test_a_dinov2_folder_is_an_encoder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    Architecture("vit", hidden=64, layers=1, image_size=28).build().save(tmp_path / "dino")
    found = create_encoder(tmp_path / "dino")
    assert (found.name, found.width, found.image_size, found.tasks) == ("dino", 128, 224, ())
    images = photographs(3, 224)
    embeddings = found.embed(images)
    with torch.inference_mode():
        tokens = load_dinov2(tmp_path / "dino").eval()(prepare(torch.from_numpy(images), IMAGENET))
    tokens = tokens.last_hidden_state
    assert tokens.shape[1] == 1 + 4 + 16 * 16
    expected = torch.cat([tokens[:, 0], tokens[:, 5:].mean(dim=1)], dim=1).numpy()
    assert np.allclose(embeddings, expected, atol=1e-5)
    assert not any(each.requires_grad for each in found.network.parameters())


@pytest.mark.parametrize("name", ["model.safetensors", "heads.safetensors", "sources.txt"])
def test_a_file_that_is_not_what_the_card_says_is_refused(copied: Path, name: str) -> None:
    path = copied / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"{name}: this encoder is not what its card says.*SHA-256"):
        create_encoder(copied)
    path.unlink()
    with pytest.raises(InputError, match=rf"{name}.*no such file"):
        create_encoder(copied)


def test_without_its_card_a_folder_is_refused(copied: Path) -> None:
    (copied / "card.json").unlink()
    (copied / "config.json").unlink(missing_ok=True)
    with pytest.raises(
        InputError, match=r"copied: this folder holds no encoder.*card\.json nor config\.json"
    ):
        create_encoder(copied)
    with pytest.raises(InputError, match=r"card\.json: this is no encoder that can be read"):
        module.read_encoder(copied, name="copied")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"sha256": {}}', '{"sha256": 3}'])
def test_a_card_that_is_none_is_refused(copied: Path, content: str) -> None:
    (copied / "card.json").write_text(content)
    with pytest.raises(InputError, match=r"card\.json: this is no encoder that can be read"):
        create_encoder(copied)


@pytest.mark.parametrize(
    "changed",
    [
        {"architecture": None},
        {"architecture": {"kind": "residual", "hidden": 24, "layers": 1, "image_size": 28}},
        {"architecture": {"kind": "residual", "hidden": "many", "layers": 1, "image_size": 28}},
        {"tasks": {"cell_type": ["blue", "green"]}},
        {"tasks": ["cell_type"]},
        {"temperatures": {}},
        {"temperatures": None},
        {"preprocessing": {}},
    ],
)
def test_a_card_of_another_network_is_refused(copied: Path, changed: dict[str, Any]) -> None:
    change_card(copied, **changed)
    with pytest.raises(InputError, match=r"card\.json: this is no encoder that can be read"):
        create_encoder(copied)


def test_an_unknown_architecture_is_named(copied: Path) -> None:
    change_card(copied, architecture={"kind": "unet", "hidden": 16, "layers": 1, "image_size": 28})
    with pytest.raises(InputError, match="unet"):
        create_encoder(copied)


def test_an_unknown_name_says_what_there_is(tmp_path: Path) -> None:
    for unknown in ("pbc-large", str(tmp_path / "nowhere")):
        with pytest.raises(InputError, match=rf"{unknown}.*allowed: {SHIPPED}, a folder"):
            create_encoder(unknown)


def test_the_shipped_encoder_is_small_complete_and_says_what_it_is() -> None:
    folder = encoder_folder(SHIPPED)
    found = create_encoder(SHIPPED)
    assert found.name == SHIPPED and "cell_type" in {task.name for task in found.tasks}
    assert sum(path.stat().st_size for path in folder.iterdir()) <= LARGEST
    card = json.loads((folder / "card.json").read_text())
    assert {*card["sha256"]} | {"card.json"} == {path.name for path in folder.iterdir()}
    assert card["limits"] and card["cells"]["training"]["cells"] > 5000
    assert found.embed(photographs(1, found.image_size)).shape == (1, found.width)

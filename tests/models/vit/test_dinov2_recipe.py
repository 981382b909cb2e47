"""DINOv2 with adapters as a recipe: fitted, kept without its transformer, and used again with it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from vit_example import network

from lymphoscope.cohort.read import ReadOptions
from lymphoscope.encoders.dinov2 import save_dinov2
from lymphoscope.errors import BundleError, InputError
from lymphoscope.evaluation.folds import out_of_fold
from lymphoscope.evaluation.ladder import climb
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.models.bundle import ARRAYS, Bundle, load_bundle, save_bundle
from lymphoscope.models.conformance import example_bags
from lymphoscope.models.networks.base import create_network
from lymphoscope.models.registry import create_model
from lymphoscope.pipeline.plan import RunPlan
from lymphoscope.pipeline.predict import predict_cohort, read_model
from lymphoscope.pipeline.preparation import prepare
from lymphoscope.pipeline.run import run

SIDE, SMALL = 28, {"image_size": 28, "epochs": 2, "warmup_epochs": 1, "adapter_width": 4}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two transformers as transformers saves them."""
    place = tmp_path_factory.mktemp("transformers")
    for seed in (0, 1):
        save_dinov2(network(seed=seed, tuning="linear").backbone, place / f"vit{seed}")
    return place / "vit0", place / "vit1"


def fitted(weights: Path, **settings: Any) -> Any:
    bags, y = example_bags(18, image_size=SIDE)
    return create_model("dinov2-adaptformer", **SMALL, weights=str(weights), **settings).fit(bags, y)


@pytest.mark.parametrize("settings", [{}, {"tuning": "lora"}, {"tuning": "linear"}, {"members": 2}])
def test_only_what_was_trained_is_kept(
    settings: dict[str, Any], folders: tuple[Path, Path], tmp_path: Path
) -> None:
    model = fitted(folders[0], **settings)
    save_bundle(Bundle("dinov2-adaptformer", model), tmp_path / "model")
    kept = {name for name in model.state() if name.startswith("network.0.")}
    trained = [name for name, value in model.networks_[0].named_parameters() if value.requires_grad]
    assert kept == {f"network.0.{name}" for name in (*trained, "encoder.mean", "encoder.deviation")}
    assert str(folders[0]).encode() not in (tmp_path / "model" / "model.json").read_bytes()

    new, _ = example_bags(6, seed=3, image_size=SIDE)
    again = load_bundle(tmp_path / "model", weights=folders[0]).model
    assert np.array_equal(again.predict_proba(new), model.predict_proba(new))
    with pytest.raises(BundleError, match=r"does not hold the weights.*--weights PATH"):
        load_bundle(tmp_path / "model")
    with pytest.raises(BundleError, match="not the weights that the model was built on"):
        load_bundle(tmp_path / "model", weights=folders[1])
    with pytest.raises(BundleError, match="SHA-256 is none"):
        load_bundle(tmp_path / "model", weights="random")


def test_what_is_trained_is_counted_with_the_head_that_is_there(folders: tuple[Path, Path]) -> None:
    model = fitted(folders[0], head="abmil", fusion="gate", tuning="linear")
    network = model.networks_[0]
    count = sum(p.numel() for p in network.bag_head.parameters())
    assert f"The head: {count:,} of " in model.tuned


def test_the_recipes_head_sees_how_alike_the_cells_of_a_patient_are(folders: tuple[Path, Path]) -> None:
    model = fitted(folders[0])
    bags, _ = example_bags(6, seed=3, image_size=SIDE)
    mixed = bags[np.array([0, 1])]
    same = replace(mixed, cells=np.repeat(mixed.cells[mixed.offsets[:-1]], mixed.counts, axis=0))
    one = replace(mixed, cells=mixed.cells[mixed.offsets[:-1]], offsets=np.array([0, 1, 2]))
    alike, single = model.predict_proba(same), model.predict_proba(one)
    np.testing.assert_allclose(alike, single, atol=1e-6)  # many of one cell are as that cell, without spread
    assert not np.allclose(model.predict_proba(mixed), alike, atol=1e-6)


def test_cells_can_be_learned_from_one_by_one(folders: tuple[Path, Path]) -> None:
    model = fitted(folders[0], head=None, unit="cell", batch_size=16, clinical=True)
    assert "network.0.layer.weight" in model.state() and model.takes_clinical
    assert f"the head: {sum(p.numel() for p in model.networks_[0].parameters() if p.requires_grad):,} of" in (
        model.tuned
    )


def test_folds_on_other_weights_of_the_same_name_are_not_taken_up(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    bags, y = example_bags(18, image_size=SIDE)
    said = []
    for number, folder in enumerate(folders):
        shutil.rmtree(tmp_path / "vit", ignore_errors=True)
        shutil.copytree(folder, tmp_path / "vit")
        for pieces in (tmp_path / "pieces", tmp_path / f"fresh{number}"):
            model = create_model("dinov2-adaptformer", **SMALL, weights=str(tmp_path / "vit"))
            splits = Protocol(folds=2, repeats=1).splits(y)
            said.append(out_of_fold(model, bags, y, splits, pieces=pieces).probability)
    assert np.array_equal(said[0], said[1]) and np.array_equal(said[2], said[3])
    assert not np.array_equal(said[0], said[2])


@pytest.mark.parametrize(
    ("weights", "kept"),
    [
        ("facebook/dinov2-with-registers-small", "facebook/dinov2-with-registers-small"),
        ("/home/somebody/vit", "vit"),  # gone since, and still nobody's business
        ("/vit.pth", "vit.pth"),
        ("some/where/else/vit", "vit"),
        ("random", "random"),
        (None, None),
    ],
)
def test_of_weights_a_name_is_kept_and_no_folder(weights: str | None, kept: str | None) -> None:
    assert create_model("dinov2-adaptformer", weights=weights).kept_parameters()["weights"] == kept


def test_a_random_transformer_that_is_trained_whole_is_not_untrained() -> None:
    random = {"weights": "random", "width": 0.2}
    assert create_model("dinov2-adaptformer", **random).untrained  # type: ignore[attr-defined]
    assert not create_model("dinov2-adaptformer", tuning="full", **random).untrained  # type: ignore[attr-defined]


def test_a_model_trained_whole_holds_everything_but_still_names_its_origin(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    model = fitted(folders[0], tuning="full")
    assert "network.0.encoder.backbone.encoder.layer.0.mlp.fc1.weight" in model.state()
    assert model.tuned.startswith("The whole transformer")
    assert model.weights_sha256_ == fitted(folders[0], tuning="linear").weights_sha256_


def test_a_random_transformer_is_kept_whole_and_needs_nothing_again(tmp_path: Path) -> None:
    model = fitted(Path("random"), width=0.2)
    save_bundle(Bundle("dinov2-adaptformer", model), tmp_path / "model")
    new, _ = example_bags(6, seed=3, image_size=SIDE)
    again = load_bundle(tmp_path / "model").model
    assert np.array_equal(again.predict_proba(new), model.predict_proba(new))
    assert model.untrained and not fitted(Path("random"), width=0.2, tuning="linear").weights_sha256_


def test_a_checkpoint_holds_no_frozen_weights(folders: tuple[Path, Path], tmp_path: Path) -> None:
    bags, y = example_bags(18, image_size=SIDE)
    model = create_model("dinov2-adaptformer", **SMALL, weights=str(folders[0]))
    model.fit(bags, y, checkpoint=tmp_path / "training.safetensors")  # type: ignore[call-arg]
    with safe_open(tmp_path / "training.safetensors", framework="pt") as stored:
        names = list(stored.keys())
    assert [name for name in names if "adapter.down" in name]
    assert not [name for name in names if "attention" in name or "mlp.frozen" in name]
    again = create_model("dinov2-adaptformer", **SMALL, weights=str(folders[0]))
    again.fit(bags, y, checkpoint=tmp_path / "training.safetensors")  # type: ignore[call-arg]
    assert np.array_equal(again.predict_proba(bags), model.predict_proba(bags))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "built from a transformer that has learned something; found 'no weights'.*random"),
        ({"weights": "no/such"}, "no such file, folder, or model"),
        ({"weights": "random", "image_size": 32}, "patches of 14 pixels; found 32"),
        ({"weights": "random", "adapter_width": 0}, "cannot have this width"),
        ({"weights": "{vit}", "width": 0.5}, "their own width"),
        ({"weights": "random", "clinical": True}, "clinical values by its fusion"),
        ({"weights": "random", "tuning": "lors"}, "cannot take this value for tuning.*adaptformer, lora"),
    ],
)
def test_what_cannot_be_fitted_is_refused_before_training(
    settings: dict[str, Any], words: str, folders: tuple[Path, Path]
) -> None:
    settings = {k: v.format(vit=folders[0]) if isinstance(v, str) else v for k, v in settings.items()}
    with pytest.raises(InputError, match=words):
        create_model("dinov2-adaptformer", **settings).check_network()  # type: ignore[attr-defined]


def test_without_weights_there_is_a_network_on_paper_alone() -> None:
    with torch.device("meta"):
        assert create_network("dinov2", options={"clinical": True}).takes_clinical
    with pytest.raises(InputError, match="no weights"):
        create_network("dinov2")


def test_an_untrained_transformer_is_compared_with_nothing() -> None:
    torch.set_num_threads(1)
    bags, y = example_bags(24, image_size=SIDE)
    name = "dinov2-adaptformer@smoke:weights=random,width=0.2"
    protocol = Protocol(folds=2, repeats=1, bootstrap=100)
    found = climb(bags, y, protocol, recipes=[("clinical", "clinical"), ("images", name)])
    rows = {row["recipe"]: row for row in found.as_dict()["rows"]}  # type: ignore[attr-defined]
    assert (rows["clinical"]["untrained"], rows[name]["untrained"]) == (False, True)
    assert rows[name]["comparisons"] == [] and rows["clinical"]["comparisons"] == []


def test_a_run_says_what_was_trained_and_predicts_with_the_transformer(
    tiny_cohort: Path, cache: Path, tmp_path: Path, folders: tuple[Path, Path]
) -> None:
    torch.set_num_threads(1)
    plan = RunPlan(
        reading=ReadOptions(min_cells=4),
        protocol=Protocol(folds=2, repeats=1, bootstrap=100),
        recipe=f"dinov2-adaptformer@smoke:weights={folders[0]},adapter_width=4",
    )
    prepared = prepare(tiny_cohort, ReadOptions(min_cells=4), cache=cache, jobs=1)
    out = run(prepared, tmp_path / "run", plan, jobs=1)
    page, written = (out / "report.html").read_text(), json.loads((out / "plan.json").read_text())
    assert "AdaptFormer in 3 of 3 blocks and the head: " in page
    assert f"vit0, SHA-256 {written['weights_sha256']}" in page
    with safe_open(out / "model" / ARRAYS, framework="np") as stored:
        assert not [name for name in stored.keys() if "attention" in name]  # noqa: SIM118 - not a dict
    with pytest.raises(BundleError, match="--weights PATH"):
        read_model(out / "model")
    predict_cohort(read_model(out / "model", folders[0]), prepared, tmp_path / "answers")
    assert "data that the model was fitted on" in (tmp_path / "answers" / "report.html").read_text()
    said = (tmp_path / "answers" / "predictions.csv").read_text()
    for line in (out / "predictions.csv").read_text().splitlines():
        assert line in said


def test_a_page_of_an_untrained_model_says_so_first(tiny_cohort: Path, cache: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    plan = RunPlan(
        reading=ReadOptions(min_cells=4),
        protocol=Protocol(folds=2, repeats=1, bootstrap=100),
        recipe="dinov2-adaptformer@smoke:weights=random,width=0.2,tuning=linear",
    )
    prepared = prepare(tiny_cohort, ReadOptions(min_cells=4), cache=cache, jobs=1)
    page = (run(prepared, tmp_path / "run", plan, jobs=1) / "report.html").read_text()
    notice = page[page.index('class="notice"') : page.index("How far to trust this")]
    assert "The model is untrained" in notice


@pytest.mark.parametrize("recipe", ["clinical", "cnn-baseline@smoke:image_size=32,width=0.2"])
def test_weights_for_a_model_that_holds_all_are_refused(tmp_path: Path, recipe: str) -> None:
    model = create_model(recipe)
    bags, y = example_bags(18, image_size=32 if model.cell_input == "images" else None)
    save_bundle(Bundle(recipe.partition("@")[0], model.fit(bags, y)), tmp_path / "model")
    with pytest.raises(BundleError, match=r"model of recipe \S+ is whole\. Leave --weights away"):
        load_bundle(tmp_path / "model", weights="nowhere.pth")
    assert load_bundle(tmp_path / "model").model.predict(bags).tolist() == model.predict(bags).tolist()

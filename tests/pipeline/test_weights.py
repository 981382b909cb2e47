"""Weights that a run begins with: named and hashed in what it writes, never the folder they lay in."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from lymphoscope.cohort.read import ReadOptions
from lymphoscope.errors import InputError, RunFolderError
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.files import sha256_file
from lymphoscope.models.networks.base import create_network
from lymphoscope.models.registry import create_model
from lymphoscope.pipeline.evaluate import evaluate_cohort
from lymphoscope.pipeline.plan import RunPlan
from lymphoscope.pipeline.predict import predict_cohort, read_model
from lymphoscope.pipeline.preparation import prepare
from lymphoscope.pipeline.run import run

NAME = "frozen-resnet34@smoke:image_size=32,width=0.1,weights={}"
SECRET = "folder-of-the-user"


def checkpoint(path: Path, seed: int) -> Path:
    """Weights that fit the test's narrow backbone."""
    torch.manual_seed(seed)
    parts = create_network("frozen-resnet34", 0.1, 32).pretrained_parts() or {}
    path.parent.mkdir(exist_ok=True)
    save_file(parts[""].state_dict(), path)
    return path


def plan(weights: Path) -> RunPlan:
    return RunPlan(
        reading=ReadOptions(min_cells=4),
        protocol=Protocol(folds=2, repeats=1, bootstrap=100),
        recipe=NAME.format(weights),
    )


def test_a_run_names_its_weights_and_needs_them_no_more(
    tiny_cohort: Path, cache: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    weights = checkpoint(tmp_path / SECRET / "resnet34.safetensors", seed=0)
    prepared = prepare(tiny_cohort, ReadOptions(min_cells=4), cache=cache, jobs=1)
    out = run(prepared, tmp_path / "run", plan(weights), jobs=1)
    sha256, public = sha256_file(weights), NAME.format("resnet34.safetensors")
    written = json.loads((out / "plan.json").read_text())
    assert (written["recipe"], written["weights_sha256"]) == (public, sha256)
    assert json.loads((out / "metrics.json").read_text())["recipe"] == public
    assert public in set(pd.read_parquet(out / "predictions.parquet")["recipe"])
    assert f"resnet34.safetensors, SHA-256 {sha256}" in (out / "report.html").read_text()
    for path in out.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path

    checkpoint(weights, seed=1)
    with pytest.raises(RunFolderError, match="weights_sha256: there"):
        run(prepared, out, plan(weights), jobs=1)

    weights.unlink()
    bundle = read_model(out / "model")
    assert bundle.model.get_params()["weights"] == "resnet34.safetensors"
    predict_cohort(bundle, prepared, tmp_path / "answers")
    said = (tmp_path / "answers" / "predictions.csv").read_text()
    for line in (out / "predictions.csv").read_text().splitlines():
        assert line in said
    assert sha256 in (tmp_path / "answers" / "report.html").read_text()


def test_numbers_carry_the_hash_of_their_weights(tiny_cohort: Path, cache: Path, tmp_path: Path) -> None:
    weights = checkpoint(tmp_path / SECRET / "resnet34.safetensors", seed=0)
    prepared = prepare(tiny_cohort, ReadOptions(min_cells=4), cache=cache, jobs=1)
    protocol = Protocol(folds=2, repeats=1, bootstrap=100)
    evaluate_cohort(prepared, protocol, ["clinical", NAME.format(weights)], out=tmp_path / "numbers.json")
    found = json.loads((tmp_path / "numbers.json").read_text())["weights_sha256"]
    assert found == {NAME.format("resnet34.safetensors"): sha256_file(weights)}


def test_weights_whose_files_are_called_alike_are_not_measured_together(
    tiny_cohort: Path, cache: Path, tmp_path: Path
) -> None:
    names = [NAME.format(checkpoint(tmp_path / str(seed) / "w.safetensors", seed)) for seed in (0, 1)]
    prepared = prepare(tiny_cohort, ReadOptions(min_cells=4), cache=cache, jobs=1)
    with pytest.raises(InputError, match="the same name in the results"):
        evaluate_cohort(prepared, Protocol(folds=2, repeats=1, bootstrap=100), names)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("frozen-resnet34", "frozen features need weights"),
        ("resnet34:weights={missing}", "there is no file of weights here"),
        ("cnn-clinical:weights={weights}", "do not fit a network of this kind"),
        ("resnet18:width=0.1,weights={weights}", "not of the network's backbone"),
        ("cnn-clinical:network=cnn-clinicl", "no network has this name.*Did you mean cnn-clinical"),
    ],
)
def test_what_no_patients_could_mend_is_refused_before_training(
    name: str, words: str, tmp_path: Path
) -> None:
    weights = checkpoint(tmp_path / "resnet34.safetensors", seed=0)
    name = name.format(weights=weights, missing=tmp_path / "nowhere.safetensors")
    with pytest.raises(InputError, match=words):
        create_model(name).check_network()  # type: ignore[attr-defined]

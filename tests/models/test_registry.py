from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lymphoscope import models
from lymphoscope.errors import InputError
from lymphoscope.models import registry
from lymphoscope.models.named_settings import public_name
from lymphoscope.models.registry import (
    create_model,
    estimator_class,
    list_models,
    recipe_info,
    recipe_of,
    with_budget,
)

NAMES = [info.name for info in list_models()]


def test_listing_does_not_import_scikit_learn() -> None:
    code = (
        "import sys; from lymphoscope.models.registry import list_models; assert list_models();"
        "print([m for m in ('sklearn', 'pydantic', 'scipy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_made_with_its_settings_and_belongs_to_itself(name: str) -> None:
    model, info = create_model(name), recipe_info(name)
    parameters = model.get_params()
    parameters |= parameters.get("options") or {}
    assert {k: parameters[k] for k in info.settings} == {
        k: tuple(v) if isinstance(v, list) else v for k, v in info.settings.items()
    }
    assert model.cell_input == info.cell_input
    assert recipe_of(model).name == name
    assert 0 < len(info.title) <= 40
    assert info.summary.endswith(".") and info.source


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_documented_and_only_stored(name: str) -> None:
    kind = estimator_class(recipe_info(name))
    model = create_model(name)
    assert set(vars(model)) == set(model.get_params(deep=False))
    for parameter in model.get_params(deep=False):
        assert f"    {parameter} : " in (kind.__doc__ or ""), parameter


def test_an_unknown_name_lists_what_is_allowed_and_suggests() -> None:
    with pytest.raises(InputError, match=r"rule-2008.*Did you mean clinical"):
        create_model("clinicl")


def test_an_unknown_parameter_lists_what_is_allowed() -> None:
    with pytest.raises(InputError, match=r"no parameter of this name; found 'c'; allowed: C\."):
        create_model("clinical", c=2)


@pytest.mark.parametrize("value", [0, -1.0, "much", float("nan"), None])
def test_a_value_out_of_bounds_is_refused_with_the_bounds(value: object) -> None:
    with pytest.raises(InputError, match="cannot take this value for C"):
        create_model("clinical", C=value)


def test_a_choice_is_listed() -> None:
    with pytest.raises(InputError, match="allowed: chakroun-2021, andrews-2008, muscara-2019"):
        create_model("rule-2008", rule="mine")


def test_a_model_of_no_recipe_is_refused() -> None:
    class Stranger(estimator_class(recipe_info("clinical"))):  # type: ignore[misc]
        pass

    with pytest.raises(InputError, match="belongs to no recipe"):
        recipe_of(Stranger())


def test_a_model_is_found_by_being_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "coin.py").write_text(
        "from lymphoscope.models.tabular import ClinicalLogistic\n"
        "class Coin(ClinicalLogistic):\n"
        "    cell_input = 'none'\n"
    )
    (tmp_path / "coin.yaml").write_text(
        "coin:\n  estimator: Coin\n  cells: none\n  title: Coin\n"
        "  summary: A coin.\n  source: a mint\n  settings: {C: 2}\n"
    )
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    registry._recipes.cache_clear()
    try:
        assert "coin" in [info.name for info in list_models()]
        coin = create_model("coin", C=3)
        assert type(coin).__name__ == "Coin"
        assert recipe_of(coin).name == "coin"
    finally:
        registry._recipes.cache_clear()


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("cnn-clinical@fast:epochs=30,segmented=true", "cnn-clinical@fast:epochs=30,segmented=true"),
        ("resnet34:weights=/home/me/r.pth", "resnet34:weights=r.pth"),
        ("resnet34:weights=../r.pth,epochs=3", "resnet34:weights=r.pth,epochs=3"),
        (r"resnet34:epochs=3,weights=C:\me\r.pth", "resnet34:epochs=3,weights=r.pth"),
        ("resnet34@fast:weights=/a@b:c/r.pth", "resnet34@fast:weights=r.pth"),
    ],
)
def test_a_name_in_results_tells_no_folder(name: str, public: str) -> None:
    assert public_name(name) == public
    assert recipe_info(name).name == recipe_info(public).name


def test_a_budget_is_added_before_settings_that_hold_an_at_sign() -> None:
    assert with_budget("resnet34:weights=/a@b/r.pth", "fast") == "resnet34@fast:weights=/a@b/r.pth"
    assert create_model("resnet34@fast:weights=/a@b/r.pth").get_params()["weights"] == "/a@b/r.pth"


def test_a_model_with_other_settings_belongs_to_the_nearest_recipe() -> None:
    assert recipe_of(create_model("frozen-resnet34@smoke", learning_rate=0.1)).name == "frozen-resnet34"
    assert recipe_of(create_model("cnn-clinical@smoke", width=0.2, segmented=True)).name == "cnn-clinical"


def test_recipes_are_listed_from_those_that_look_at_least() -> None:
    inputs = [info.cell_input for info in list_models()]
    assert inputs == sorted(inputs, key=("none", "numbers", "images").index)


def test_options_of_a_network_that_differ_from_the_recipe_are_kept() -> None:
    changed = create_model("mixture-of-experts-paper", encoder="u-net")
    again = create_model("mixture-of-experts-paper", **changed.kept_parameters())
    assert again.get_params(deep=False) == changed.get_params(deep=False)
    assert again.get_params(deep=False)["options"]["encoder"] == "u-net"

from __future__ import annotations

from typing import Any

import pytest

from lymphoscope.errors import InputError
from lymphoscope.models.base import EpochClassifier
from lymphoscope.models.named_settings import named_settings, public_name, require_heard, with_settings
from lymphoscope.models.registry import create_model, list_models


def made(name: str) -> dict[str, Any]:
    parameters = create_model(name).get_params(deep=False)
    return parameters | (parameters.get("options") or {})


def test_a_name_is_read_as_the_settings_it_carries() -> None:
    assert named_settings("resnet18") == {}
    assert named_settings("resnet18@fast: epochs = 3 ,weights=/a@b:c/r.pth") == {
        "epochs": "3",
        "weights": "/a@b:c/r.pth",
    }


@pytest.mark.parametrize("name", ["resnet18:", "resnet18:epochs", "resnet18:=3", "resnet18:epochs=3,"])
def test_what_is_no_setting_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="NAME=VALUE, separated by commas"):
        named_settings(name)


def test_a_setting_stands_once() -> None:
    with pytest.raises(InputError, match="epochs=1 and epochs=2'; allowed: each setting once"):
        create_model("resnet18:epochs=1,epochs=2")


@pytest.mark.parametrize(
    ("name", "parameter", "value"),
    [
        ("resnet18:epochs=3", "epochs", 3),
        ("resnet18:learning_rate=1e-4", "learning_rate", 1e-4),
        ("resnet18:segmented=true", "segmented", True),
        ("resnet18:segmented=False", "segmented", False),
        ("resnet18:test_time=4", "test_time", 4),
        ("resnet18:cells_per_patient=none", "cells_per_patient", None),
        ("resnet18:cells_per_patient=null", "cells_per_patient", None),
        ("resnet18:balance=none", "balance", "none"),
        ("resnet18:unit=patient,head=abmil,fusion=none", "fusion", "none"),
        ("dinov2-adaptformer:trained_norms=none", "trained_norms", "none"),
        ("dinov2-adaptformer:blocks=0;2", "blocks", (0, 2)),
        ("dinov2-adaptformer:blocks=2", "blocks", 2),
        ("scan-clusters:classifiers=GaussianNB", "classifiers", ("GaussianNB",)),
        ("scan-clusters:classifiers=GaussianNB;SVC", "classifiers", ("GaussianNB", "SVC")),
        ("scan-clusters:classifiers=none", "classifiers", None),
    ],
)
def test_a_value_has_the_type_of_its_parameter(name: str, parameter: str, value: object) -> None:
    found = made(name)[parameter]
    assert (tuple(found) if isinstance(found, list) else found) == value
    assert type(found) is type(value) or isinstance(found, list | tuple)


@pytest.mark.parametrize(
    "place", ["resnet #2.pth", "2024", "dir;x/x.pth", "weights: old.pth", "@home/x.pth", "[1", "{1", "true"]
)
def test_a_place_is_taken_as_it_is_written(place: str) -> None:
    assert made(with_settings("resnet18", {"weights": place}))["weights"] == place


@pytest.mark.parametrize("value", ["[1", "{1", "three", "1;2", "nan", "inf", "", "@"])
def test_a_number_that_is_none_is_refused_and_not_a_traceback(value: str) -> None:
    with pytest.raises(InputError, match="cannot take this value for epochs"):
        create_model(f"resnet18:epochs={value}")


def test_a_value_that_would_be_read_as_two_settings_is_refused() -> None:
    with pytest.raises(InputError, match="no comma, no equals sign"):
        with_settings("resnet18", {"weights": "a,b.pth"})
    assert public_name(with_settings("resnet18", {"weights": "x/a.pth"})) == "resnet18:weights=a.pth"


@pytest.mark.parametrize(
    ("name", "found", "remedy"),
    [
        ("cnn-baseline:balance=none,balance_by=cell", "balance_by with balance=none", "balance=oversample"),
        ("resnet18:schedule=cosine,decay=0.9", "decay with schedule=cosine", "schedule=exponential"),
        ("resnet18:unit=patient,pooling=logit", "pooling with unit=patient", "unit=cell"),
        (
            "cnn-baseline:unit=patient,balance=oversample,balance_by=cell",
            "balance_by with unit=patient",
            "unit=cell",
        ),
        ("cnn-clinical@fast:decay=0.9", "decay with snapshots=3", "snapshots=1"),
        ("resnet18:selection=last,patience=3", "patience with selection=last", "selection=inner"),
        ("resnet18:members=5,validation_share=0.3", "validation_share with members=5", "members=1"),
        ("mixture-of-experts:unit=cell,expert_loss=0.1", "expert_loss with unit=cell", "unit=patient"),
        ("resnet18@fast:schedule=cosine", "schedule with snapshots=3", "snapshots=1"),
    ],
)
def test_a_named_setting_that_would_say_nothing_is_refused(name: str, found: str, remedy: str) -> None:
    with pytest.raises(InputError, match=rf"{found}[\s\S]*(add|set) {remedy}"):
        require_heard(name, made(name))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("frozen-resnet34:augmentation=all", "augmentation=all, but the features of its cells are frozen"),
        ("cnn-baseline:clinical_scaling=minmax", "clinical_scaling=minmax, but the network sees no clinical"),
        ("encoder-tuned:tuning=frozen,augmentation=all", "augmentation=all, but the features"),
        ("dinov2-adaptformer:tuning=linear,augmentation=flips", "augmentation=flips, but the features"),
        ("mil-abmil:clinical_scaling=minmax", "clinical_scaling=minmax, but the network sees no clinical"),
    ],
)
def test_a_named_setting_that_a_model_cannot_hear_is_refused(name: str, found: str) -> None:
    model = create_model(name)
    assert isinstance(model, EpochClassifier)
    with pytest.raises(InputError, match=found):
        require_heard(name, made(name), model.unheard())
    plain = create_model(name.partition(":")[0])
    require_heard(name.partition(":")[0], plain.get_params(deep=False), model.unheard())


def test_settings_that_say_something_and_those_of_recipes_are_taken() -> None:
    names = [
        *(info.name for info in list_models()),
        *(f"{info.name}@{budget}" for info in list_models() for budget in info.budgets),
        "resnet18:schedule=exponential,decay=0.9",
        "resnet18:balance=weighted-sampler,balance_by=cell",
        "mil-abmil:epochs=3",
        "clinical",
    ]
    refused = []
    for name in names:
        try:
            require_heard(name, made(name))
        except InputError as error:
            refused.append((name, str(error)))
    assert refused == []

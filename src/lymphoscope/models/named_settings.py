"""Settings as the name of a recipe carries them, "cnn-clinical@fast:epochs=30,segmented=true".

They are text until a parameter takes them: the same digits may be a number, or the name of a folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from lymphoscope.errors import InputError

_NOTHING = ("none", "null")
_TRUTH = {"true": True, "false": False}


_HEARD_WITH: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "balance_by": {
        "balance": ("oversample", "undersample", "weighted-sampler", "class-weights"),
        "unit": ("cell",),
    },
    "decay": {"schedule": ("exponential",), "snapshots": (1,)},
    "expert_loss": {"unit": ("patient",)},
    "patience": {"selection": ("inner", "scored-fold"), "snapshots": (1,)},
    "pooling": {"unit": ("cell",)},
    "schedule": {"snapshots": (1,)},
    "validation_share": {"members": (1,), "selection": ("inner", "last")},
}
"""Settings that are heard only where others have one of these values."""


class Written(str):
    """The value of a setting as it stands in a recipe's name."""

    __slots__ = ()


def named_settings(name: str) -> dict[str, Written]:
    """The settings that follow the colon of a recipe's name; an `InputError` where they cannot be read."""
    _, colon, text = name.partition(":")
    settings: dict[str, Written] = {}
    for pair in text.split(",") if colon else ():
        key, sign, value = (part.strip() for part in pair.partition("="))
        if not sign or not key:
            raise InputError(
                "the settings of a recipe cannot be read",
                found=pair,
                allowed="NAME=VALUE, separated by commas; several values by semicolons",
            )
        if key in settings:
            raise InputError(
                "a recipe's name gives a setting twice",
                found=f"{key}={settings[key]} and {key}={value}",
                allowed="each setting once",
            )
        settings[key] = Written(value)
    return settings


def with_settings(name: str, settings: Mapping[str, str]) -> str:
    """The recipe's name with `settings` added to those that it may carry."""
    text = ",".join(f"{key}={value}" for key, value in settings.items())
    if any(sign in value for value in settings.values() for sign in ",="):
        raise InputError(
            "a setting of a recipe cannot hold this", found=text, allowed="no comma, no equals sign"
        )
    return f"{name}{',' if ':' in name else ':'}{text}" if text else name


def require_heard(
    name: str, parameters: Mapping[str, Any], unheard: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Raise an `InputError` where a recipe's name carries a setting that its others leave without a say.

    What the recipe itself brings is taken: its settings are those of its report, and change with a budget.

    Parameters
    ----------
    parameters : of the model that `name` makes.
    unheard : settings that say nothing to it, and why.
    """
    for setting, why in unheard.items():
        if setting in named_settings(name):
            raise InputError(
                "a setting in the recipe's name says nothing",
                found=f"{setting}={named_settings(name)[setting]}, but {why}",
                allowed=f"no {setting}",
                remedy=f"Leave {setting} out.",
            )
    named, parameters = named_settings(name), {**parameters, **(parameters.get("options") or {})}
    beside = [(one, other, values) for one in named for other, values in _HEARD_WITH.get(one, {}).items()]
    for setting, other, values in beside:
        if other in parameters and parameters[other] not in values and parameters.get(setting) is not None:
            allowed = " or ".join(f"{other}={value}" for value in values)
            raise InputError(
                "a setting in the recipe's name says nothing beside its others",
                found=f"{setting} with {other}={parameters[other]}",
                allowed=f"{setting} with {allowed}",
                remedy=f"Leave {setting} out, or set {other}={values[0]}.",
            )


def public_name(name: str) -> str:
    """The name as results carry it: of a path among its settings only the file's name is left."""
    return re.sub(r"=[^,]*[/\\]([^,/\\]*)", r"=\1", name)


def typed(value: Any, schema: Mapping[str, Any]) -> Any:
    """What a parameter of this JSON schema takes for a written value; other values as they are.

    A parameter that takes several takes one as well. "none" and "null" are nothing where that is allowed
    and no word of the parameter's own.
    """
    each = schema.get("anyOf", [schema])
    kinds = {one.get("type") for one in each if "enum" not in one and "const" not in one}
    words = [word for one in each for word in one.get("enum", [one["const"]] if "const" in one else [])]
    if not isinstance(value, Written):
        return value
    if str(value) in map(str, words):
        return next(word for word in words if str(word) == value)
    if "null" in kinds and value.lower() in _NOTHING:
        return None
    if "array" in kinds and (";" in value or kinds <= {"array", "null"}):
        return [_scalar(part.strip()) for part in value.split(";") if part.strip()]
    return str(value) if "string" in kinds else _scalar(value)


def _scalar(text: str) -> str | int | float | bool:
    """A whole number, a number, true or false; else the text."""
    if text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return str(text)

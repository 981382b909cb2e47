"""Recipes by name. A model is one Python file of this package and one YAML beside it; nothing is listed here.

A network is one file and one YAML in `networks`, and a model of it is an `ImageClassifier`.

`list_models` reads YAML alone, so that a command line that only lists or completes names stays fast.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_type_hints

import yaml

from lymphoscope import models
from lymphoscope.errors import InputError
from lymphoscope.models import networks
from lymphoscope.models.named_settings import named_settings, typed

if TYPE_CHECKING:
    from lymphoscope.models.base import BagClassifier, CellInput

_FIELDS = {"estimator", "cells", "title", "summary", "source", "settings"}
_OPTIONAL = {"budgets"}

_NETWORKS_MODULE = "image_classifier"
"""The module whose classes train the networks that have a YAML of their own."""

FULL_BUDGET = "paper"
"""The budget that is a recipe's settings as they are."""


@dataclass(frozen=True)
class RecipeInfo:
    """What the registry knows of a recipe without importing its model.

    Attributes
    ----------
    name : what users type.
    title : a few words for tables and figures, at most 40 characters.
    summary : one sentence.
    source : the paper, report or habit it comes from.
    cell_input : "none", "numbers" or "images": what the cells of its bags must be.
    module : file of this package, without suffix, that holds the estimator.
    estimator : name of its class there.
    settings : values that differ from the class's defaults.
    budgets : name of each smaller budget, and what it sets otherwise; empty where there is nothing to save.
    """

    name: str
    title: str
    summary: str
    source: str
    cell_input: CellInput
    module: str
    estimator: str
    settings: Mapping[str, Any]
    budgets: Mapping[str, Mapping[str, Any]]


def list_models() -> tuple[RecipeInfo, ...]:
    """Every recipe, those that look at least first, then by file and in the order of its YAML."""
    return tuple(_recipes().values())


def recipe_info(name: str) -> RecipeInfo:
    """The recipe called `name`; a budget and settings may follow, as `create_model` has them.

    An unknown name is an `InputError` that suggests close ones.
    """
    recipes = _recipes()
    name = re.split("[@:]", name, maxsplit=1)[0]
    if name not in recipes:
        raise InputError(
            "no recipe has this name",
            found=name,
            allowed=", ".join(recipes),
            remedy=_suggestion(name, recipes) or "`lymphoscope models` says what each one is.",
        )
    return recipes[name]


def create_model(name: str, **overrides: Any) -> BagClassifier:
    """An unfitted model of recipe `name`, with some parameters set otherwise than the recipe has them.

    Parameters
    ----------
    name : of the recipe; "name@budget" takes a smaller budget of it, and after a colon settings may follow:
        "cnn-clinical@fast:epochs=30,segmented=true".

    Raises
    ------
    InputError : no such recipe or budget, no such parameter, or a value that its type does not allow.
    """
    info = recipe_info(name)
    estimator = estimator_class(info)
    settings = {**info.settings, **_budget(info, name), **named_settings(name)}
    options = overrides.get("options") or {}  # of the network, which a recipe may set under their own names
    settings = {key: value for key, value in settings.items() if key not in options} | overrides
    return estimator(**_validated(info.name, estimator, settings))


def with_budget(name: str, budget: str | None) -> str:
    """The recipe's name at that budget: `name` itself where it has none or says one already."""
    recipe, colon, settings = name.partition(":")
    if budget in (None, FULL_BUDGET) or not recipe_info(name).budgets or "@" in recipe:
        return name
    named = f"{recipe}@{budget}"
    _budget(recipe_info(recipe), named)
    return f"{named}{colon}{settings}"


def _budget(info: RecipeInfo, name: str) -> Mapping[str, Any]:
    """What the budget that `name` asks for sets otherwise than the recipe."""
    budget = name.partition(":")[0].partition("@")[2] or FULL_BUDGET
    if budget != FULL_BUDGET and budget not in info.budgets:
        raise InputError(
            f"recipe {info.name} has no budget of this name",
            found=budget,
            allowed=", ".join([*info.budgets, FULL_BUDGET]),
        )
    return info.budgets.get(budget, {})


def estimator_class(info: RecipeInfo) -> type[BagClassifier]:
    """The class behind a recipe."""
    module = importlib.import_module(f"lymphoscope.models.{info.module}")
    return cast("type[BagClassifier]", getattr(module, info.estimator))


def recipe_of(model: BagClassifier) -> RecipeInfo:
    """The recipe that `model` is of: same class, and no other recipe differs in fewer parameters.

    So a model some of whose parameters were overridden still belongs to the recipe it came from.
    """
    own = [
        info
        for info in list_models()
        if (info.module, info.estimator) == (type(model).__module__.rpartition(".")[2], type(model).__name__)
    ]
    if not own or estimator_class(own[0]) is not type(model):
        raise InputError(
            "this model belongs to no recipe",
            found=type(model).__qualname__,
            allowed=", ".join(_recipes()),
            remedy="Put its file and a YAML that lists it into lymphoscope/models.",
        )
    parameters = model.get_params(deep=False)
    return max(
        own,
        key=lambda info: sum(
            parameters[name] == value
            for name, value in create_model(info.name).get_params(deep=False).items()
        ),
    )


@cache
def _recipes() -> dict[str, RecipeInfo]:
    recipes: dict[str, RecipeInfo] = {}
    for path, module in _yaml_files():
        for name, entry in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            if set(entry) - _OPTIONAL != _FIELDS or name in recipes:
                raise ValueError(f"{path.name}, {name}: needs the fields {sorted(_FIELDS)}, and a name once")
            recipes[name] = RecipeInfo(
                name=name,
                title=entry["title"],
                summary=entry["summary"],
                source=entry["source"],
                cell_input=entry["cells"],
                module=module,
                estimator=entry["estimator"],
                settings=entry["settings"] or {},
                budgets=entry.get("budgets") or {},
            )
    order = ("none", "numbers", "images")
    return dict(sorted(recipes.items(), key=lambda item: order.index(item[1].cell_input)))


def _yaml_files() -> Iterator[tuple[Path, str]]:
    """Every YAML file of recipes, and the module that holds their classes."""
    for path in _sorted_yaml(models.__path__):
        yield path, path.stem
    for path in _sorted_yaml(networks.__path__):
        yield path, _NETWORKS_MODULE


def _sorted_yaml(folders: Iterable[str]) -> list[Path]:
    return sorted(path for folder in folders for path in Path(folder).glob("*.yaml"))


def _validated(name: str, estimator: type[BagClassifier], settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` checked and converted by pydantic models made from the constructor's signature.

    What the constructor does not know may be an option of the network that it is given.
    """
    schema = settings_schema(estimator)
    if "options" not in schema.model_fields:
        return _checked(name, schema, settings, schema.model_fields)
    network = str(settings.get("network", schema.model_fields["network"].default))
    options = options_schema(network)
    known = [*schema.model_fields, *options.model_fields]
    named = {key: value for key, value in settings.items() if key in options.model_fields}
    rest = {key: value for key, value in settings.items() if key not in named}
    given = {**(rest.pop("options", None) or {}), **named}
    checked = _checked(name, schema, rest, known)
    return checked | {"options": _checked(name, options, given, known) if given else None}


def _checked(name: str, schema: Any, settings: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """`settings` that keep to a pydantic model, as it converts them, and its defaults."""
    from pydantic import ValidationError

    properties = _properties(schema)
    values = {key: typed(value, properties.get(key, {})) for key, value in settings.items()}
    try:
        return dict(schema.model_validate(values))
    except ValidationError as error:
        first = error.errors()[0]
        parameter = str(first["loc"][0])
        if parameter not in schema.model_fields:
            raise InputError(
                f"recipe {name} has no parameter of this name",
                found=parameter,
                allowed=", ".join(known) or "none",
                remedy=_suggestion(parameter, known),
            ) from None
        raise InputError(
            f"recipe {name} cannot take this value for {parameter}",
            found=first["input"],
            allowed=allowed_values(properties[parameter]),
        ) from None


@cache
def _properties(schema: Any) -> Mapping[str, Any]:
    """JSON schema of each parameter of a pydantic model."""
    return dict(schema.model_json_schema()["properties"])


@cache
def settings_schema(estimator: type[BagClassifier]) -> Any:
    """Pydantic model of an estimator's constructor; unknown names are forbidden."""
    from pydantic import ConfigDict, create_model

    hints = get_type_hints(estimator.__init__, include_extras=True)
    fields: dict[str, Any] = {
        parameter.name: (hints[parameter.name], parameter.default)
        for parameter in list(inspect.signature(estimator.__init__).parameters.values())[1:]
    }
    config = ConfigDict(extra="forbid", allow_inf_nan=False)
    return create_model(estimator.__name__, __config__=config, **fields)


@cache
def options_schema(network: str) -> Any:
    """Pydantic model of a network's options; unknown names are forbidden."""
    from pydantic import ConfigDict, create_model

    from lymphoscope.models.networks.base import network_options

    fields: dict[str, Any] = {
        name: (each.annotation, each.default) for name, each in network_options(network).items()
    }
    return create_model(network, __config__=ConfigDict(extra="forbid", allow_inf_nan=False), **fields)


def allowed_values(schema: Mapping[str, Any]) -> str:
    """What a parameter may be, in words, from its JSON schema."""
    if "enum" in schema or "const" in schema:
        return ", ".join(map(str, schema.get("enum", [schema.get("const")])))
    if "anyOf" in schema:
        return " or ".join(allowed_values(each) for each in schema["anyOf"])
    kinds = {"array": "list", "string": "text", "boolean": "true or false", "null": "none"}
    kinds |= {"number": "number", "integer": "whole number", "object": "names with values"}
    bounds = {"exclusiveMinimum": "above", "minimum": "at least"}
    bounds |= {"exclusiveMaximum": "below", "maximum": "at most", "minItems": "of length at least"}
    words = [f"{word} {schema[key]:g}" for key, word in bounds.items() if key in schema]
    return " ".join([kinds[schema["type"]], " and ".join(words)]).strip()


def _suggestion(name: str, known: Any) -> str | None:
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(close)}?" if close else None

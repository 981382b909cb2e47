"""The page of all recipes, made from their YAML, signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from lymphoscope.models.base import BagClassifier
from lymphoscope.models.networks.base import network_builder
from lymphoscope.models.registry import (
    RecipeInfo,
    allowed_values,
    create_model,
    estimator_class,
    list_models,
    options_schema,
    settings_schema,
)

_SEES = {
    "none": "clinical values only",
    "numbers": "per-cell numbers",
    "images": "photographs of cells",
}
_HEAD = """# Models

<!-- Made by `python docs/generate.py`; edit the models instead. -->

A recipe is a model with its settings under a name: `lymphoscope evaluate COHORT --recipe NAME`, or
`create_model("NAME")` in Python. [Add a model](../how-to/add-a-model.md) says how to make one of your own.
[The systems that recipes rebuild](seed-systems.md) says which reports they come from, and what was mended.
[Learn from bags of cells](../how-to/learn-from-bags.md) says which of the `mil-` recipes when.

"""


def page() -> str:
    """Markdown of every recipe: what it is, where it comes from, and its parameters."""
    recipes = list_models()
    rows = [f"| [`{r.name}`](#{r.name}) | {_sees(r)} | {r.summary} |" for r in recipes]
    table = ["| recipe | looks at | in one sentence |", "|---|---|---|", *rows]
    firsts: dict[type[BagClassifier], RecipeInfo] = {}
    sections = [_section(r, firsts.setdefault(estimator_class(r), r)) for r in recipes]
    return _HEAD + "\n".join(table) + "\n\n" + "\n".join(sections)


def parameter_texts(documented: Any) -> dict[str, str]:
    """What the docstring of a class or function says of each parameter, on one line each."""
    doc = inspect.cleandoc(documented.__doc__ or "")
    block = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[^\n]*\n-+\n|\Z)", doc, re.DOTALL | re.MULTILINE)
    parts = re.split(r"^(\w[\w, ]*) : ", block.group(1), flags=re.MULTILINE)[1:] if block else []
    return {
        name: " ".join(text.split())
        for names, text in zip(parts[::2], parts[1::2], strict=True)
        for name in names.split(", ")
    }


def _sees(info: RecipeInfo) -> str:
    return _SEES[info.cell_input]


def _section(info: RecipeInfo, first: RecipeInfo) -> str:
    """One recipe; in full where it is the first of its class, else only what sets it apart from that."""
    estimator = estimator_class(info)
    text = inspect.cleandoc(estimator.__doc__ or "").split("\nParameters\n")[0].strip()
    if info is not first:
        text = f"As [{first.name}](#{first.name}), but for:"
    lines = [
        f"## {info.name}",
        "",
        info.summary,
        "",
        f"Source: {info.source}. Looks at: {_sees(info)}. "
        f"Class: `lymphoscope.models.{info.module}.{info.estimator}`.",
        "",
        text,
        "",
        *_parameter_table(info, first, estimator),
        *_budgets(info),
    ]
    return "\n".join(lines)


def _parameter_table(info: RecipeInfo, first: RecipeInfo, estimator: type[BagClassifier]) -> list[str]:
    properties = settings_schema(estimator).model_json_schema()["properties"]
    values, texts = create_model(info.name).get_params(deep=False), parameter_texts(estimator)
    known = {} if info is first else create_model(first.name).get_params(deep=False)
    rows = [
        f"| `{name}` | `{_shown(values[name])}` | {allowed_values(schema)} | {texts[name]} |"
        for name, schema in properties.items()
        if name != "options" and (name not in known or known[name] != values[name])
    ]
    rows += _option_rows(values)
    return ["| parameter | here | allowed | meaning |", "|---|---|---|---|", *rows, ""]


def _option_rows(values: Mapping[str, Any]) -> list[str]:
    """The options of the recipe's network, if it has a network with options."""
    if (builder := network_builder(str(values.get("network")))) is None:
        return []
    properties = options_schema(str(values["network"])).model_json_schema().get("properties", {})
    texts, given = parameter_texts(builder), values.get("options") or {}
    shown = {name: _shown(given.get(name, schema["default"])) for name, schema in properties.items()}
    return [
        f"| `{name}` | `{shown[name]}` | {allowed_values(schema)} | {texts[name]} |"
        for name, schema in properties.items()
    ]


def _budgets(info: RecipeInfo) -> list[str]:
    """What smaller budgets set otherwise."""
    return [
        f"`{info.name}@{budget}`: "
        + (", ".join(f"`{name}` {_shown(value)}" for name, value in changed.items()) or "the same")
        + ".\n"
        for budget, changed in info.budgets.items()
    ]


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return str(value)

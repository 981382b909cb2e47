"""The page of all recipes, made from their YAML, signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from typing import Any

from lymphoscope.models.base import BagClassifier
from lymphoscope.models.registry import (
    RecipeInfo,
    allowed_values,
    create_model,
    estimator_class,
    list_models,
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

"""


def page() -> str:
    """Markdown of every recipe: what it is, where it comes from, and its parameters."""
    recipes = list_models()
    rows = [f"| [`{r.name}`](#{r.name}) | {_sees(r)} | {r.summary} |" for r in recipes]
    table = ["| recipe | looks at | in one sentence |", "|---|---|---|", *rows]
    return _HEAD + "\n".join(table) + "\n\n" + "\n".join(map(_section, recipes))


def parameter_texts(estimator: type[BagClassifier]) -> dict[str, str]:
    """What the class's docstring says of each parameter, on one line each."""
    doc = inspect.cleandoc(estimator.__doc__ or "")
    block = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[^\n]*\n-+\n|\Z)", doc, re.DOTALL | re.MULTILINE)
    parts = re.split(r"^(\w+) : ", block.group(1), flags=re.MULTILINE)[1:] if block else []
    return {name: " ".join(text.split()) for name, text in zip(parts[::2], parts[1::2], strict=True)}


def _sees(info: RecipeInfo) -> str:
    return _SEES[info.cell_input]


def _section(info: RecipeInfo) -> str:
    estimator = estimator_class(info)
    text = inspect.cleandoc(estimator.__doc__ or "").split("\nParameters\n")[0].strip()
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
        *_parameter_table(info, estimator),
    ]
    return "\n".join(lines)


def _parameter_table(info: RecipeInfo, estimator: type[BagClassifier]) -> list[str]:
    properties = settings_schema(estimator).model_json_schema()["properties"]
    values, texts = create_model(info.name).get_params(deep=False), parameter_texts(estimator)
    rows = [
        f"| `{name}` | `{_shown(values[name])}` | {allowed_values(schema)} | {texts[name]} |"
        for name, schema in properties.items()
    ]
    return ["| parameter | here | allowed | meaning |", "|---|---|---|---|", *rows, ""]


def _shown(value: Any) -> str:
    return (
        ", ".join(value)
        if isinstance(value, tuple)
        else str(value).lower()
        if value in (True, False)
        else str(value)
    )

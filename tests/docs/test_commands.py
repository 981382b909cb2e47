"""Commands of the README and the guides are understood by the program; links between pages lead somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from lymphoscope.cli.app import app
from lymphoscope.errors import InputError
from lymphoscope.models.registry import create_model

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
OF_THE_GUIDE = {"bag-mean", "mean-and-spread"}
"""Recipes that exist once a reader has followed the guide; another test follows it."""


def commands() -> Iterator[tuple[str, str]]:
    """Page and command, continued lines joined, comments removed."""
    for page in PAGES:
        for language, block in FENCED.findall(page.read_text("utf-8")):
            for line in block.replace("\\\n", " ").splitlines() if language in ("", "sh") else ():
                if line.strip().startswith("lymphoscope "):
                    yield page.name, line.partition(" #")[0].strip()


def test_commands_are_found() -> None:
    assert len(list(commands())) > 15


@pytest.mark.parametrize(("page", "text"), list(commands()))
def test_a_documented_command_is_understood(page: str, text: str) -> None:
    name, *arguments = shlex.split(text)[1:]
    group = typer.main.get_command(app)
    with group.make_context("lymphoscope", [name, *arguments], resilient_parsing=True) as parent:
        command = group.get_command(parent, name)  # type: ignore[attr-defined]
        assert command is not None, name
        context = command.make_context(name, list(arguments), parent=parent)
    recipes = context.params.get("recipe") or []
    for recipe in [recipes] if isinstance(recipes, str) else recipes:
        if recipe not in OF_THE_GUIDE:
            create_model(recipe)


def test_a_command_that_is_not_understood_is_noticed() -> None:
    with pytest.raises(InputError):
        create_model("cnn-clinical:epoch=3")
    command = typer.main.get_command(app).commands["check"]  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="No such option"):
        command.make_context("check", ["COHORT", "--imagez", "x"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]*)\)", page.read_text("utf-8")):
        file, _, anchor = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text("utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}
            assert anchor in slugs, target

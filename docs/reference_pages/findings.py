"""The page of all findings, made from their classes."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import lymphoscope
from lymphoscope.cohort.findings import Finding, all_kinds

INTRODUCTION = """\
# Findings

`lymphoscope check COHORT` lists what is wrong or noteworthy about a cohort. Every kind of finding has a code.
An **error** makes results wrong: a run stops, and `check` exits with 1. A **warning** is worth a look, an
**info** says what was done. `--ignore CODE` leaves a kind out; an error that is ignored stops no run, and
what it concerns is treated as its entry here says. `--json` gives the same list to machines.

This page is written from the program by `python docs/generate.py`.
"""

GROUPS = {
    "LYM0": "Patient table",
    "LYM1": "Folders",
    "LYM2": "Photographs",
    "LYM3": "Cells",
    "LYM4": "Shortcuts",
    "LYM5": "Encoders",
}


def page() -> str:
    """The page's Markdown text."""
    kinds = shipped_kinds()
    parts = [INTRODUCTION]
    for prefix, group in GROUPS.items():
        of_group = [kind for kind in kinds if kind.code.startswith(prefix)]
        if of_group:
            parts += [f"## {group}\n", _overview(of_group), *(_entry(kind) for kind in of_group)]
    return "\n".join(parts)


def shipped_kinds() -> list[type[Finding]]:
    """Every kind of finding in the package, by code."""
    for module in pkgutil.walk_packages(lymphoscope.__path__, "lymphoscope."):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:  # of a package that is optional
            if error.name is None or error.name.startswith("lymphoscope"):
                raise
    return [kind for kind in all_kinds() if kind.__module__.startswith("lymphoscope.")]


def _overview(kinds: list[type[Finding]]) -> str:
    rows = [f"| [{kind.code}](#{kind.code.lower()}) | {kind.severity} | {kind.title} |\n" for kind in kinds]
    return "| code | severity | finding |\n|---|---|---|\n" + "".join(rows)


def _entry(kind: type[Finding]) -> str:
    meaning = inspect.cleandoc(kind.__doc__ or "")
    return (
        f"### {kind.code}\n\n**{kind.title}** ({kind.severity}). {meaning}\n\n*What to do:* {kind.remedy}\n"
    )

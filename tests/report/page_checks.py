"""What any page of the project must satisfy, found by parsing it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise

VOID = {"meta", "img", "br", "hr", "link", "input", "col"}


class Page(HTMLParser):
    """Tags, attributes and visible text of a page; complains about tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.faults: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        if self._open:
            self.faults.append(f"never closed: {self._open}")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self.text += data

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def ids(self) -> list[str]:
        return [attrs["id"] for _, attrs in self.tags if "id" in attrs]


def assert_sound(text: str) -> Page:
    """The page is well formed, self-contained, without script, and can be read aloud."""
    page = Page(text)
    assert not page.faults
    assert len(page.ids) == len(set(page.ids)), "two elements share an id"
    assert_nothing_loaded(page, text)
    assert_nothing_runs(page)
    assert_accessible(page)
    return page


def assert_nothing_loaded(page: Page, text: str) -> None:
    for tag, attrs in page.tags:
        for name in ("src", "href", "xlink:href", "data", "poster", "srcset", "action", "background"):
            value = attrs.get(name, "#")
            assert value.startswith(("#", "data:image/")), f"<{tag} {name}={value[:60]!r}>"
            if value.startswith("#") and len(value) > 1:
                assert value[1:] in page.ids, f"{value} points nowhere"
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)'\"]+)", text))
    assert "@import" not in text
    assert "@font-face" not in text
    policy = [attrs["content"] for attrs in page.named("meta") if attrs.get("http-equiv")]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def assert_nothing_runs(page: Page) -> None:
    for tag, attrs in page.tags:
        assert tag not in {"script", "iframe", "object", "embed", "link", "form", "base"}
        assert not [name for name in attrs if name.startswith("on")]
        assert not any(value.strip().lower().startswith("javascript:") for value in attrs.values())


def assert_accessible(page: Page) -> None:
    assert page.named("html")[0]["lang"] == "en"
    assert all(attrs.get("alt") for attrs in page.named("img")), "a picture without alternative text"
    for attrs in page.named("svg"):
        assert attrs.get("aria-label") or attrs.get("aria-hidden") == "true"
    assert all(attrs.get("scope") for attrs in page.named("th")), "a table head without scope"
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels)), "a heading level is skipped"

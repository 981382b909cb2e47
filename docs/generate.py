"""Write the reference pages from the program: `python docs/generate.py`; with `--check` only compare them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import PIL.Image
from reference_pages import encoders, findings, models, morphology, seed_systems

from lymphoscope.files import write_bytes, write_text

REFERENCE = Path(__file__).parent / "reference"
IMAGES = "images"
"""Folder of figures, beside that of the pages."""

PAGES: Mapping[str, Callable[[], str]] = {
    "findings.md": findings.page,
    "models.md": models.page,
    "morphology.md": morphology.page,
    "pbc-small.md": encoders.page,
    "seed-systems.md": seed_systems.page,
}


def stale(reference: Path) -> dict[Path, str]:
    """Pages in the folder `reference` that differ from the program's, each with the text it should have."""
    texts = {reference / name: page() for name, page in PAGES.items()}
    return {path: text for path, text in texts.items() if _read(path) != text}


def stale_figures(images: Path) -> dict[Path, bytes]:
    """Figures in the folder `images` that were drawn from something else, each as it should be.

    What they were drawn from is in their description: another version of a font draws other pixels.
    """
    figures = {images / name: data for name, data in encoders.figures().items()}
    return {path: data for path, data in figures.items() if _described(path) != encoders.key()}


def _described(path: Path) -> str | None:
    if not path.is_file():
        return None
    with PIL.Image.open(path) as image:
        return image.info.get("Description")


def _read(path: Path) -> str | None:
    return path.read_text("utf-8") if path.is_file() else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the stale pages and figures, or with --check only name them and return 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page is stale")
    parser.add_argument("--reference", type=Path, default=REFERENCE, help="folder of the pages")
    options = parser.parse_args(arguments)
    pages = stale(options.reference)
    figures = stale_figures(options.reference.parent / IMAGES)
    for path in (*pages, *figures):
        if options.check:
            print(f"{path}: is out of date; run python docs/generate.py", file=sys.stderr)
        else:
            print(path)
    if options.check:
        return 1 if pages or figures else 0
    for path, text in pages.items():
        write_text(path, text)
    for path, data in figures.items():
        write_bytes(path, data)
    return 0


if __name__ == "__main__":
    sys.exit(main())

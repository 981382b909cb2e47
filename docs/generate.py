"""Write the reference pages from the program: `python docs/generate.py`; with `--check` only compare them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from reference_pages import findings, models, morphology, seed_systems

from lymphoscope.files import write_text

REFERENCE = Path(__file__).parent / "reference"

PAGES: Mapping[str, Callable[[], str]] = {
    "findings.md": findings.page,
    "models.md": models.page,
    "morphology.md": morphology.page,
    "seed-systems.md": seed_systems.page,
}


def stale(reference: Path) -> dict[Path, str]:
    """Pages in the folder `reference` that differ from the program's, each with the text it should have."""
    texts = {reference / name: page() for name, page in PAGES.items()}
    return {path: text for path, text in texts.items() if _read(path) != text}


def _read(path: Path) -> str | None:
    return path.read_text("utf-8") if path.is_file() else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the stale pages, or with --check only name them and return 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page is stale")
    parser.add_argument("--reference", type=Path, default=REFERENCE, help="folder of the pages")
    options = parser.parse_args(arguments)
    pages = stale(options.reference)
    for path, text in pages.items():
        if options.check:
            print(f"{path}: is out of date; run python docs/generate.py", file=sys.stderr)
        else:
            write_text(path, text)
            print(path)
    return 1 if options.check and pages else 0


if __name__ == "__main__":
    sys.exit(main())

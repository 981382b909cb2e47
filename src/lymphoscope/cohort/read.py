"""Read a cohort's table and folders into patients, paths of photographs, and findings."""

from __future__ import annotations

from pathlib import Path

from lymphoscope.cohort.cohort import Cohort
from lymphoscope.cohort.options import ReadOptions

__all__ = ["ReadOptions", "read_cohort"]

DEFAULT_OPTIONS = ReadOptions()


def read_cohort(root: Path, options: ReadOptions = DEFAULT_OPTIONS) -> Cohort:
    """Read the cohort in folder `root`; nothing is decoded and nothing is written."""
    raise NotImplementedError

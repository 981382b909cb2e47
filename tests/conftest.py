from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from lymphoscope.cohort.synthetic import SyntheticPlan, synthesize

# Machines are shared: a slow example says nothing about the code.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")


@pytest.fixture(scope="session")
def tiny_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 labelled and 6 unlabelled synthetic patients of 6 cells each, in the challenge's layout."""
    out = tmp_path_factory.mktemp("synthetic") / "cohort"
    synthesize(SyntheticPlan(patients=24, test=6, cells=6, bag_size_slope=0, bag_size_spread=0), out, jobs=1)
    return out


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of decoded photographs that all tests of a worker share."""
    return tmp_path_factory.mktemp("cache")

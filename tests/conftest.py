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


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a residual encoder that has learned nothing: two blocks a stage, two tasks."""
    import torch  # most tests need none

    from lymphoscope.encoders.architectures import Architecture
    from lymphoscope.encoders.kept import SOURCES, write_encoder
    from lymphoscope.encoders.labelled_cells import Task
    from lymphoscope.encoders.multitask import MultitaskNetwork

    tasks = (Task("cell_type", ("lymphocyte", "monocyte", "neutrophil")), Task("cell_size", ("big", "small")))
    architecture = Architecture("residual", hidden=16, layers=2, image_size=32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = MultitaskNetwork(architecture.build(), tasks)
        for block in network.embedder.body.blocks:  # their branches begin at zero and would say nothing
            torch.nn.init.normal_(block.second.norm.weight)
    network.embedder.finish()
    mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    card = {
        "card_version": 2,
        "architecture": architecture.as_dict() | {"tensors_sha256": network.embedder.sha256()},
        "preprocessing": {"image_size": 32, "normalisation": {"mean": mean, "deviation": deviation}},
        "tasks": {task.name: list(task.classes) for task in tasks},
        "temperatures": {task.name: 1.5 for task in tasks},
        "validation": {"cell_type": {"accuracy": 0.9}},
        "limits": "Made for tests.",
    }
    out = tmp_path_factory.mktemp("encoders") / "tiny"
    lists = {SOURCES: b"lymphocyte/LY_1.jpg\n"}
    write_encoder(out, network.embedder, network.heads.state_dict(), card, lists)
    return out

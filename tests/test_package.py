from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest

import lymphoscope


def test_every_public_name_can_be_imported() -> None:
    for name in lymphoscope.__all__:
        assert getattr(lymphoscope, name) is not None


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import lymphoscope, sys; print([m for m in ('numpy', 'pandas', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


DESK = ("cv2", "pandas", "pydantic", "rich", "simplejpeg", "sklearn", "typer", "yaml")
"""What a machine with nothing but an accelerator need not have."""


@pytest.mark.parametrize(
    ("modules", "missing"),
    [
        (("cohort.bags", "stats.intervals", "stats.metrics"), DESK),
        (
            (
                "cohort.bags",
                "training.loop",
                "models.networks.resnet",
                "models.networks.mixture",
                "models.heads.abmil",
            ),
            (*DESK, "safetensors", "scipy", "transformers"),
        ),
    ],
)
def test_what_counts_imports_on_a_bare_machine(modules: Sequence[str], missing: Sequence[str]) -> None:
    names = ", ".join(f"lymphoscope.{each}" for each in modules)
    code = f"import sys\nfor name in {missing}: sys.modules[name] = None\nimport {names}\nprint('fine')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "fine"

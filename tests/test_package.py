from __future__ import annotations

import subprocess
import sys

import lymphoscope


def test_every_public_name_can_be_imported() -> None:
    for name in lymphoscope.__all__:
        assert getattr(lymphoscope, name) is not None


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import lymphoscope, sys; print([m for m in ('numpy', 'pandas', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_bags_and_stats_run_on_a_bare_machine() -> None:
    code = (
        "import sys\n"
        "for name in ('pydantic', 'rich', 'simplejpeg', 'typer', 'pandas', 'cv2', 'sklearn'):\n"
        "    sys.modules[name] = None\n"
        "import lymphoscope.cohort.bags, lymphoscope.stats.intervals, lymphoscope.stats.metrics\n"
        "print('fine')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "fine"

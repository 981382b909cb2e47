"""Heads by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lymphoscope.errors import InputError
from lymphoscope.models import heads
from lymphoscope.models.heads import base
from lymphoscope.models.heads.base import create_head, head, list_heads
from lymphoscope.training.packing import Packing

NEW_FILE = """
from lymphoscope.models.heads.base import head
from lymphoscope.models.heads.abmil import ABMIL

@head("dropped-in")
def dropped_in(n_features, width):
    return ABMIL(n_features, width / 2)
"""


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    list_heads()
    monkeypatch.setattr(base, "_builders", dict(base._builders))


def test_the_twelve_heads_are_there() -> None:
    assert " ".join(list_heads()) == (
        "abmil chowder clam deepsets dsmil logitmap lse max mean noisy-or topk transmil"
    )


@pytest.mark.usefixtures("restored")
def test_a_head_is_found_by_its_file_being_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dropped_in.py").write_text(NEW_FILE)
    monkeypatch.setattr(heads, "__path__", [*heads.__path__, str(tmp_path)])
    try:
        assert "dropped-in" in list_heads()
        assert create_head("dropped-in", 4, fusion="gate").takes_clinical
    finally:
        sys.modules.pop("lymphoscope.models.heads.dropped_in", None)


@pytest.mark.usefixtures("restored")
def test_two_files_cannot_take_one_name() -> None:
    def another(n_features: int, width: float) -> base.BagHead:
        raise NotImplementedError

    with pytest.raises(ValueError, match="two heads are called abmil"):
        head("abmil")(another)


def test_an_unknown_name_is_answered_with_a_close_one() -> None:
    with pytest.raises(InputError, match=r"found 'trans-mil'; allowed: abmil, .*Did you mean transmil"):
        create_head("trans-mil", 4)
    with pytest.raises(InputError, match=r"clinical values .*found 'gated'; allowed: additive, .*gate"):
        create_head("mean", 4, fusion="gated")


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan"), float("inf")])
def test_a_width_that_cannot_be_is_refused(width: float) -> None:
    with pytest.raises(InputError, match="width"):
        create_head("abmil", 4, width=width)


def test_no_features_are_refused() -> None:
    with pytest.raises(InputError, match="needs features"):
        create_head("abmil", 0)


@pytest.mark.parametrize("name", list_heads())
def test_width_scales_what_is_hidden_and_leaves_no_layer_empty(name: str) -> None:
    with torch.device("meta"):
        tiny, small, large = (
            sum(parameter.numel() for parameter in create_head(name, 4, width=width).parameters())
            for width in (1e-6, 0.25, 1.0)
        )
    assert tiny <= small <= large and (tiny < small < large or name == "logitmap")
    logits = create_head(name, 4, width=1e-6)(
        torch.randn(3, 4), Packing(torch.tensor([1, 2])), torch.zeros(2, 3)
    )
    assert logits.shape == (2, 2)


def test_the_same_seed_gives_the_same_weights() -> None:
    states = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        states.append(create_head("transmil", 4, width=0.1, fusion="gate").state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])


BARE = """
import sys
for name in ("pydantic", "rich", "simplejpeg", "yaml", "typer", "sklearn", "scipy", "pandas", "pyarrow",
             "PIL", "cv2", "safetensors", "joblib", "matplotlib", "jinja2", "threadpoolctl", "torchvision",
             "timm", "torchmil"):
    sys.modules[name] = None
from lymphoscope.models.heads.base import create_head, list_heads
import torch
with torch.device("meta"):
    print(len([create_head(name, 8, width=0.1, fusion="gate") for name in list_heads()]))
"""


def test_heads_build_on_a_bare_machine() -> None:
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(list_heads())


def test_naming_the_package_imports_no_torch() -> None:
    code = "import sys, lymphoscope.models.heads; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

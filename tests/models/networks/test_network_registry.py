from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lymphoscope.errors import InputError
from lymphoscope.models import networks
from lymphoscope.models.networks import base
from lymphoscope.models.networks.base import create_network, list_networks, network

NEW_FILE = """
from lymphoscope.models.networks.base import network
from lymphoscope.models.networks.cnn import ClinicalCNN

@network("dropped-in", smallest_image=20)
def dropped_in(width, image_size):
    return ClinicalCNN(width / 2, image_size)
"""


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_entries", dict(base._entries))


@pytest.mark.usefixtures("restored")
def test_a_network_is_found_by_its_file_being_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dropped_in.py").write_text(NEW_FILE)
    monkeypatch.setattr(networks, "__path__", [*networks.__path__, str(tmp_path)])
    try:
        assert "dropped-in" in list_networks()
        assert create_network("dropped-in", 1.0, 20).takes_clinical
    finally:
        sys.modules.pop("lymphoscope.models.networks.dropped_in", None)


@pytest.mark.usefixtures("restored")
def test_two_files_cannot_take_one_name() -> None:
    assert "vgg16" in list_networks()

    def another(width: float, image_size: int) -> base.CellNetwork:
        raise NotImplementedError

    with pytest.raises(ValueError, match="two networks are called vgg16"):
        network("vgg16")(another)


WITHOUT_WEIGHTS = [name for name in list_networks() if not base._entries[name].from_weights]


def test_names_are_sorted_and_none_is_lost() -> None:
    assert list(list_networks()) == sorted(set(list_networks())) and len(list_networks()) >= 12


def test_an_unknown_name_is_answered_with_a_close_one() -> None:
    with pytest.raises(InputError, match=r"found 'resnet-18'; allowed: .*vgg19.*Did you mean resnet18 or"):
        create_network("resnet-18")
    with pytest.raises(InputError, match=r"allowed: .*unet-encoder") as caught:
        create_network("xyzzy")
    assert caught.value.remedy is None


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan"), float("inf")])
def test_a_width_that_cannot_be_is_refused(width: float) -> None:
    with pytest.raises(InputError, match="width"):
        create_network("vgg16", width)


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_the_smallest_image_works_and_a_smaller_one_is_refused(name: str) -> None:
    smallest = base._entries[name].smallest_image
    images = torch.randn(2, 3, smallest, smallest)
    assert create_network(name, 0.1, smallest).eval()(images, torch.zeros(2, 3)).shape == (2, 2)
    with pytest.raises(InputError, match=f"at least {smallest}"):
        create_network(name, 0.1, smallest - 1)


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_no_width_leaves_a_layer_without_channels(name: str) -> None:
    tiny = create_network(name, 0.001, 32).eval()
    assert tiny(torch.randn(2, 3, 32, 32), torch.zeros(2, 3)).shape == (2, 2)


def test_the_same_seed_gives_the_same_weights() -> None:
    states = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        states.append(create_network("cnn-enhanced", 0.2, 32).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])


BARE = """
import sys
for name in ("pydantic", "rich", "simplejpeg", "yaml", "typer", "sklearn", "scipy", "pandas", "pyarrow",
             "PIL", "cv2", "safetensors", "joblib", "matplotlib", "jinja2", "threadpoolctl", "torchvision",
             "timm"):
    sys.modules[name] = None
from lymphoscope.models.networks.base import create_network, list_networks
import torch
with torch.device("meta"):
    built = [create_network(name, 0.1, 32) for name in list_networks()]
print(len(built), *sorted(m for m in sys.modules if m.startswith("lymphoscope.") and ".networks" not in m))
"""


def test_networks_build_on_a_bare_machine() -> None:
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    count, *modules = done.stdout.split()
    assert int(count) == len(list_networks())
    assert set(modules) == {
        "lymphoscope._version",
        "lymphoscope.encoders",
        "lymphoscope.encoders.dinov2",
        "lymphoscope.encoders.published",
        "lymphoscope.errors",
        "lymphoscope.files",
        "lymphoscope.models",
        "lymphoscope.models.vit",
        "lymphoscope.models.vit.adapters",
        "lymphoscope.models.vit.network",
        "lymphoscope.training",
        "lymphoscope.training.packing",
        "lymphoscope.training.weights",
    }


def test_naming_the_package_imports_no_torch() -> None:
    code = "import sys, lymphoscope.models.networks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

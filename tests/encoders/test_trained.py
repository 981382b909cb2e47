"""Training an encoder and the folder it leaves: it learns what is there, and nothing where nothing is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up_cells import TINY, columns, made_up, quick, write
from safetensors.torch import load_file

from lymphoscope.encoders import supervised
from lymphoscope.encoders.appearance import Appearance
from lymphoscope.encoders.architectures import Architecture
from lymphoscope.encoders.dinov2 import load_dinov2
from lymphoscope.encoders.labelled_cells import read_labelled_cells
from lymphoscope.encoders.multitask import MultitaskNetwork
from lymphoscope.encoders.trained import TrainedEncoder, train_encoder
from lymphoscope.errors import InputError, LymphoscopeError
from lymphoscope.files import sha256_file
from lymphoscope.training.augmentation import prepare

FILES = [
    "card.json",
    "cells.safetensors",
    "config.json",
    "heads.safetensors",
    "model.safetensors",
    "sources.txt",
]


class Killed(Exception):
    """The training ends here."""


class Listening:
    """Progress that is written down, and may end everything at a step."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.started: list[tuple[str, int]] = []
        self.notes: list[str] = []
        self.steps, self._kill_at = 0, kill_at

    def start(self, what: str, total: int) -> None:
        self.started.append((what, total))
        self.steps = 0

    def advance(self, n: int = 1) -> None:
        self.steps += n
        if self.started[-1][0] == "training" and self._kill_at is not None and self.steps >= self._kill_at:
            raise Killed

    def note(self, text: str) -> None:
        self.notes.append(text)

    def spare(self, n: int) -> None:
        pass

    def done(self) -> None:
        pass


def trained(tmp_path: Path, name: str, **settings: Any) -> TrainedEncoder:
    folder = tmp_path / "cells"
    cells = folder if folder.exists() else made_up(folder, 24, 12)
    return train_encoder(cells, tmp_path / name, TINY, quick(**settings))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _accuracy(tmp_path: Path, shuffled: bool) -> dict[str, float]:
    cells = made_up(tmp_path / "cells", 96, 60, shuffled=shuffled)
    found = train_encoder(cells, tmp_path / "out", TINY, quick(14, learning_rate=3e-3))
    return {score.name: score.accuracy for score in found.scores}


def test_it_learns_what_a_colour_says(tmp_path: Path) -> None:
    found = _accuracy(tmp_path, shuffled=False)
    assert found["cell_type"] > 0.9 and found["nucleus_shape"] > 0.9, found


def test_it_learns_nothing_from_labels_that_say_nothing(tmp_path: Path) -> None:
    # Guessing is right in a third of 60 cells, and by chance in more than 0.58 of them once in 15,000 times.
    assert _accuracy(tmp_path, shuffled=True)["cell_type"] < 0.58


def test_the_folder_holds_weights_heads_and_a_card(tmp_path: Path) -> None:
    found = trained(tmp_path, "out")
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == FILES and found.folder == out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells", "out"], "nothing is left beside it"
    modes = {path.stat().st_mode & 0o777 for path in out.iterdir()}
    assert len(modes) == 1 and (tmp_path / "cells/val.parquet").stat().st_mode & 0o777 in modes
    card = json.loads((out / "card.json").read_text())
    assert card["sha256"] == {name: sha256_file(out / name) for name in FILES if name != "card.json"}
    assert card["architecture"]["kind"] == "vit" and card["architecture"]["width"] == 64
    assert card["training"]["epochs"] == 2 and len(card["training"]["losses"]) == 2
    assert card["tasks"]["cell_type"] == ["blue", "green", "red"]
    assert card["cells"]["training"] == {
        "cells": 24,
        "known": {"cell_type": 24, "cell_size": 12, "nucleus_shape": 24},
    }
    assert card["cells"]["left_out"] is None and card["validation"]["cell_size"]["cells"] == 6
    assert card["validation"]["cell_type"]["majority_accuracy"] == pytest.approx(1 / 3)
    assert {"lymphoscope", "torch", "transformers"} <= set(card["versions"])
    assert (out / "sources.txt").read_text().splitlines() == [f"a/{i:03d}.jpg" for i in range(24)]
    assert str(tmp_path) not in (out / "card.json").read_text()


def test_what_was_measured_is_what_was_written(tmp_path: Path) -> None:
    """The transformer through `load_dinov2` and the heads from their file give the accuracy of the card."""
    found = trained(tmp_path, "out", epochs=4)
    splits = read_labelled_cells(tmp_path / "cells", size=28)
    network = MultitaskNetwork(TINY.build(), splits.tasks).eval()
    network.embedder.transformer = load_dinov2(tmp_path / "out")
    network.heads.load_state_dict(load_file(tmp_path / "out" / "heads.safetensors"))
    with torch.inference_mode():
        images = torch.from_numpy(splits.validation.images)
        logits = network(prepare(images, supervised.NORMALISATION))
    told = torch.stack([each.argmax(1) for each in logits], 1).numpy()
    for i, score in enumerate(found.scores):
        known = splits.validation.targets[:, i] >= 0
        right = told[known, i] == splits.validation.targets[known, i]
        assert score.accuracy == pytest.approx(np.mean(right))


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    trained(tmp_path, "one")
    torch.rand(3)  # whoever else draws numbers changes nothing
    state = torch.get_rng_state()
    trained(tmp_path, "two")
    assert torch.equal(torch.get_rng_state(), state)
    trained(tmp_path, "other", seed=1)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    weights = [contents(tmp_path / name)["model.safetensors"] for name in ("one", "other")]
    assert weights[0] != weights[1]


def test_a_training_that_was_killed_ends_with_the_same_bytes(tmp_path: Path) -> None:
    trained(tmp_path, "whole", epochs=4)
    beside = tmp_path / "cut.unfinished.safetensors"
    cut = tmp_path / "cells", tmp_path / "cut", TINY, quick(4)
    with pytest.raises(Killed):
        train_encoder(*cut, progress=Listening(kill_at=5))  # two steps an epoch: in the third
    assert beside.exists() and not (tmp_path / "cut").exists()
    listening = Listening()
    train_encoder(*cut, progress=listening)
    assert listening.started[-1] == ("training", 8) and listening.steps == 8
    assert sum(note.startswith("epoch") for note in listening.notes) == 4, "two epochs were there already"
    assert contents(tmp_path / "whole") == contents(tmp_path / "cut") and not beside.exists()


def test_what_was_begun_otherwise_is_begun_again(tmp_path: Path) -> None:
    trained(tmp_path, "whole")
    cells, out = tmp_path / "cells", tmp_path / "cut"
    with pytest.raises(Killed):
        train_encoder(cells, out, TINY, quick(seed=1), progress=Listening(kill_at=3))
    train_encoder(cells, out, TINY, quick())
    assert contents(tmp_path / "whole") == contents(out)


def test_what_is_left_out_is_counted_and_listed(tmp_path: Path) -> None:
    cells, listed = made_up(tmp_path / "cells", 24, 12), tmp_path / "manifest.csv"
    listed.write_text("source\na/003.jpg\na/007.jpg\nb/000.jpg\n")
    found = train_encoder(cells, tmp_path / "out", TINY, quick(1), leave_out=listed)
    assert (found.training, found.validation, found.left_out) == (22, 11, 3)
    card = json.loads((tmp_path / "out/card.json").read_text())
    assert card["cells"]["left_out"] == ["a/003.jpg", "a/007.jpg", "b/000.jpg"]
    seen = (tmp_path / "out/sources.txt").read_text().split()
    assert len(seen) == 22 and not {"a/003.jpg", "a/007.jpg"} & {*seen}


def test_cells_without_any_attribute_are_enough(tmp_path: Path) -> None:
    parts = []
    for n, name in ((12, "a"), (6, "b")):
        made = columns(n, name, 1)
        parts.append(made | {"cell_size": [None] * n, "nucleus_shape": [None] * n})
    found = train_encoder(write(tmp_path / "cells", *parts), tmp_path / "out", TINY, quick(1))
    assert [score.name for score in found.scores] == ["cell_type"]


def test_half_precision_learns_too_and_is_the_same_every_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        found = trained(tmp_path, name, precision="bfloat16", epochs=1)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert all(
        value.dtype == torch.float32 for value in load_file(found.folder / "model.safetensors").values()
    )


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [quick(10).rate(epoch) for epoch in range(10)]
    assert max(rates) == rates[3] == 1e-3 and rates[:4] == sorted(rates[:4])
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert quick(1).rate(0) == 1e-3


def test_a_training_that_comes_apart_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = lambda logits, *_: sum(each.sum() for each in logits) * float("nan")  # noqa: E731
    monkeypatch.setattr(supervised, "masked_loss", lost)
    with pytest.raises(LymphoscopeError, match=r"epoch 1.*lower learning rate"):
        trained(tmp_path, "out")
    assert not (tmp_path / "out").exists()


def test_without_transformers_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"lymphoscope\[hub\]"):
        train_encoder(tmp_path / "nowhere", tmp_path / "out", TINY, quick())


def test_what_cannot_be_is_said_before_anything_is_read(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(InputError, match="multiple of `patch`"):
        train_encoder(nowhere, tmp_path / "out", Architecture("vit", image_size=30), quick())
    with pytest.raises(InputError, match=r"architecture is unknown.*vit"):
        train_encoder(nowhere, tmp_path / "out", Architecture("unet"), quick())
    with pytest.raises(InputError, match="exists already"):
        train_encoder(nowhere, tmp_path, TINY, quick())
    with pytest.raises(InputError, match="no such file"):
        train_encoder(nowhere, tmp_path / "out", TINY, quick())
    for wrong in ({"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"average": 1.0}, {"seed": -1}):
        with pytest.raises(InputError, match=f"{next(iter(wrong))} is out of range"):
            quick(**wrong)  # type: ignore[arg-type]


def test_every_epoch_shows_every_cell_once_in_another_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    augment = supervised.augment

    def watched(images: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.extend(images.flatten(1).long().sum(1).tolist())
        return augment(images, *rest)

    monkeypatch.setattr(supervised, "augment", watched)
    monkeypatch.setattr(supervised, "APPEARANCE", Appearance())
    trained(tmp_path, "out", epochs=2)
    first, second = seen[:24], seen[24:]
    cells = read_labelled_cells(tmp_path / "cells", size=28).training.images
    assert sorted(first) == sorted(second) == sorted(cells.reshape(24, -1).sum(1, dtype=np.int64).tolist())
    assert first != second


def test_what_is_kept_is_the_average_of_the_steps(tmp_path: Path) -> None:
    for name, average in (("averaged", 0.9), ("last", 0.0)):
        trained(tmp_path, name, average=average)
    averaged, last = (load_file(tmp_path / name / "heads.safetensors") for name in ("averaged", "last"))
    assert averaged.keys() == last.keys()
    assert not torch.equal(averaged["cell_type.bias"], last["cell_type.bias"])

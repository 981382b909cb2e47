"""Embeddings of a whole store: computed once for each photograph and encoder, whatever happens in between."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lymphoscope.encoders import embeddings as module
from lymphoscope.encoders.embeddings import embed_cells
from lymphoscope.encoders.encoder import Encoder
from lymphoscope.files import sha256_bytes


@dataclass
class Store:
    """A store of photographs in memory that tells which were decoded."""

    folder: Path
    photographs: list[np.ndarray]
    decoded: list[int] = field(default_factory=list)
    fail_at: int | None = None

    @property
    def index(self) -> SimpleNamespace:
        digests = b"".join(bytes.fromhex(sha256_bytes(each.tobytes())) for each in self.photographs)
        return SimpleNamespace(digest=np.frombuffer(digests, dtype=np.uint8).reshape(-1, 32))

    def crop(self, i: int, size: int = 112) -> np.ndarray:
        if i == self.fail_at:
            raise KeyboardInterrupt
        self.decoded.append(i)
        return self.photographs[i][:size, :size]


@dataclass
class Told:
    """Progress that remembers what it was told."""

    started: list[tuple[str, int]] = field(default_factory=list)
    advanced: int = 0
    notes: list[str] = field(default_factory=list)
    finished: bool = False

    def start(self, what: str, total: int) -> None:
        self.started.append((what, total))

    def advance(self, n: int = 1) -> None:
        self.advanced += n

    def note(self, text: str) -> None:
        self.notes.append(text)

    def spare(self, n: int) -> None:
        """Nothing is spared here."""

    def done(self) -> None:
        self.finished = True


class Network(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 5)
        chance = torch.Generator().manual_seed(seed)
        nn.init.normal_(self.layer.weight, generator=chance)
        nn.init.normal_(self.layer.bias, generator=chance)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.mean(dim=(2, 3)))


def encoder(seed: int = 0, size: int = 8) -> Encoder:
    return Encoder("made-up", Network(seed), 5, size)


def photographs(n: int, seed: int = 0) -> list[np.ndarray]:
    return [*np.random.default_rng(seed).integers(0, 256, (n, 12, 12, 3)).astype(np.uint8)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache" / "cohort", photographs(11))


def expected(store: Store, looking: Encoder) -> np.ndarray:
    size = looking.image_size
    return looking.embed(np.stack([each[:size, :size] for each in store.photographs]))


@pytest.mark.parametrize("jobs", [1, 3])
def test_embeddings_are_those_of_each_photograph_in_order(
    store: Store, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PART", 4)
    told = Told()
    found = embed_cells(store, encoder(), jobs=jobs, progress=told)
    assert found.dtype == np.float32 and found.shape == (11, 5)
    assert np.allclose(found, expected(store, encoder()), atol=1e-6)
    assert told.started == [("embedding cells (made-up)", 11)] and told.advanced == 11 and told.finished
    assert len(told.notes) == 3 and all(note.endswith("/s") for note in told.notes)


def test_nothing_is_embedded_twice(store: Store) -> None:
    first = embed_cells(store, encoder())
    store.decoded.clear()
    told = Told()
    assert np.array_equal(embed_cells(store, encoder(), progress=told), first)
    assert store.decoded == [] and told.started == []


def test_another_cohort_in_the_same_cache_shares_photographs(store: Store) -> None:
    first = embed_cells(store, encoder())
    other = Store(store.folder.with_name("other"), [*photographs(2, seed=1), store.photographs[3]])
    found = embed_cells(other, encoder())
    assert sorted(other.decoded) == [0, 1]
    assert np.array_equal(found[2], first[3])


def test_another_encoder_or_size_shares_nothing(store: Store) -> None:
    embed_cells(store, encoder())
    for looking in (encoder(seed=1), encoder(size=10)):
        store.decoded.clear()
        found = embed_cells(store, looking)
        assert len(store.decoded) == 11 and np.allclose(found, expected(store, looking), atol=1e-6)
    store.decoded.clear()
    assert np.allclose(embed_cells(store, encoder()), expected(store, encoder()), atol=1e-6)
    assert store.decoded == []


def test_duplicates_are_embedded_once(store: Store) -> None:
    store.photographs[7] = store.photographs[2]
    found = embed_cells(store, encoder())
    assert sorted(store.decoded) == [0, 1, 2, 3, 4, 5, 6, 8, 9, 10]
    assert np.array_equal(found[7], found[2])


def test_an_interrupted_run_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PART", 2)
    store.fail_at = 7
    with pytest.raises(KeyboardInterrupt):
        embed_cells(store, encoder(), jobs=1)
    store.fail_at = None
    store.decoded.clear()
    found = embed_cells(store, encoder(), jobs=1)
    assert sorted(store.decoded) == [6, 7, 8, 9, 10], "of three finished parts nothing is done again"
    assert np.allclose(found, expected(store, encoder()), atol=1e-6)
    assert not list(store.folder.parent.rglob("*.tmp"))


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", b"no numbers", None])
def test_a_damaged_part_is_computed_again(
    store: Store, content: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PART", 4)
    first = embed_cells(store, encoder())
    part = sorted(store.folder.parent.rglob("*.npy"))[0]
    changed = bytearray(part.read_bytes())
    changed[-1] ^= 1
    part.write_bytes(bytes(changed) if content is None else content)
    store.decoded.clear()
    assert np.array_equal(embed_cells(store, encoder()), first)
    assert 3 <= len(store.decoded) <= 4, "and no other part"


def test_half_takes_half_the_disk_and_stands_apart(store: Store) -> None:
    whole = embed_cells(store, encoder())
    kept = set(store.folder.parent.rglob("*.npy"))
    store.decoded.clear()
    halved = embed_cells(store, encoder(), half=True)
    assert len(store.decoded) == 11 and halved.dtype == np.float32
    assert np.array_equal(halved, whole.astype(np.float16).astype(np.float32))
    (new,) = set(store.folder.parent.rglob("*.npy")) - kept
    assert np.load(new)["values"].nbytes * 2 == whole.nbytes
    assert np.array_equal(embed_cells(store, encoder()), whole)


def test_an_empty_store(store: Store) -> None:
    store.photographs = []
    assert embed_cells(store, encoder()).shape == (0, 5)

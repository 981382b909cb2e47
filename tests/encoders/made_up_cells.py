"""Labelled cells that nobody photographed: a disc whose colour says its type, in two parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg

from lymphoscope.encoders.architectures import Architecture
from lymphoscope.encoders.labelled_cells import ATTRIBUTES
from lymphoscope.encoders.supervised import SupervisedSettings

COLOURS = {"blue": (90, 100, 200), "green": (90, 190, 100), "red": (200, 90, 90)}
TINY = Architecture("vit", hidden=32, layers=1, image_size=28)

Columns = dict[str, list[Any]]


def quick(epochs: int = 2, **given: Any) -> SupervisedSettings:
    return SupervisedSettings(**({"epochs": epochs, "batch_size": 16, "average": 0.9} | given))


def columns(n: int, name: str, seed: int, *, shuffled: bool = False) -> Columns:
    """Cells of three types in turn. Half of them have a size; the granularity is null throughout.

    With `shuffled` the labels say nothing about the photographs.
    """
    rng = np.random.default_rng(seed)
    kinds = [sorted(COLOURS)[i % 3] for i in range(n)]
    big = [bool(i % 4 // 2) for i in range(n)]
    images = [_photograph(kind, large, rng) for kind, large in zip(kinds, big, strict=True)]
    if shuffled:
        order = rng.permutation(n)
        kinds, big = [kinds[i] for i in order], [big[i] for i in order]
    made: Columns = {"image": images, "source": [f"{name}/{i:03d}.jpg" for i in range(n)], "cell_type": kinds}
    made |= {attribute: [None] * n for attribute in ATTRIBUTES}
    made["cell_size"] = [("big" if large else "small") if i % 2 else None for i, large in enumerate(big)]
    made["nucleus_shape"] = ["round" if kind == "blue" else "irregular" for kind in kinds]
    return made


def write(folder: Path, training: Columns, validation: Columns) -> Path:
    folder.mkdir(exist_ok=True)
    for part, made in (("train", training), ("val", validation)):
        kinds = {name: pa.binary() if name == "image" else pa.string() for name in made}
        arrays = {name: pa.array(values, kinds[name]) for name, values in made.items()}
        pq.write_table(pa.table(arrays), folder / f"{part}.parquet")
    return folder


def made_up(folder: Path, n: int = 72, held_out: int = 30, *, shuffled: bool = False) -> Path:
    return write(folder, columns(n, "a", 1, shuffled=shuffled), columns(held_out, "b", 2, shuffled=shuffled))


def _photograph(kind: str, big: bool, rng: np.random.Generator) -> bytes:
    side = 32
    away = np.hypot(*(np.mgrid[:side, :side] - (side - 1) / 2))
    inside = (away < (12 if big else 7))[..., None]
    image = np.where(inside, np.array(COLOURS[kind]), np.array((225, 210, 205)))
    noisy = np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)
    return simplejpeg.encode_jpeg(np.ascontiguousarray(noisy), quality=92)

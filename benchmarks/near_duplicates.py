"""How often the search for near-duplicates is right: chance pairs reported, altered copies found.

Needs photographs of distinct cells, by default those of the folder named by LYMPHOSCOPE_DATA.

    python benchmarks/near_duplicates.py --data DATA --json near_duplicates.json
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import simplejpeg

from lymphoscope.cohort.image_frames import luminance, perceptual_hashes, reduce_frame, to_frame
from lymphoscope.cohort.near_duplicates import (
    HASH_RADIUS,
    LEAST_CORRELATION,
    MIRRORED_HASH_RADIUS,
    group_alike,
    look_alike,
)
from lymphoscope.files import to_json

Image = np.ndarray[Any, np.dtype[np.uint8]]


def reencoded(image: Image, quality: int) -> Image:
    return np.asarray(simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality)))


def shifted(image: Image, levels: int) -> Image:
    return np.clip(image.astype(int) + levels, 0, 255).astype(np.uint8)


def scaled(image: Image, factor: float) -> Image:
    return np.clip(image * factor, 0, 255).astype(np.uint8)


def resized(image: Image, size: Sequence[int], interpolation: int = cv2.INTER_LINEAR) -> Image:
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), dtype=np.uint8)


def resampled(image: Image, side: int) -> Image:
    small = resized(image, (side, side), cv2.INTER_AREA)
    return reencoded(resized(small, image.shape[:2], cv2.INTER_CUBIC), 75)


def turned_by(image: Image, degrees: float) -> Image:
    turn = cv2.getRotationMatrix2D((112, 112), degrees, 1)
    turned = cv2.warpAffine(image, turn, (224, 224), borderMode=cv2.BORDER_REFLECT)
    return np.asarray(turned, dtype=np.uint8)


ALTERATIONS: dict[str, Callable[[Image], Image]] = {
    "re-encoded, quality 75": lambda x: reencoded(x, 75),
    "re-encoded, quality 25": lambda x: reencoded(x, 25),
    "20 levels brighter": lambda x: reencoded(shifted(x, 20), 85),
    "30 levels darker": lambda x: reencoded(shifted(x, -30), 85),
    "contrast × 0.8": lambda x: reencoded(scaled(x, 0.8), 85),
    "contrast × 1.2, white clipped": lambda x: reencoded(scaled(x, 1.2), 85),
    "stain (green × 0.92)": lambda x: reencoded((x * np.array([1.0, 0.92, 1.0])).astype(np.uint8), 85),
    "scaled to 112 and back": lambda x: resampled(x, 112),
    "blurred, sigma 2 px": lambda x: np.asarray(cv2.GaussianBlur(x, (0, 0), 2), dtype=np.uint8),
    "mirrored": lambda x: reencoded(x[:, ::-1], 75),
    "turned by a quarter": lambda x: reencoded(np.rot90(x), 75),
    "mirrored, 20 levels brighter": lambda x: reencoded(shifted(x[:, ::-1], 20), 85),
    "moved by 2 + 2 px": lambda x: np.roll(x, (2, 2), axis=(0, 1)),
    "cropped by 4 px": lambda x: resized(x[4:-4, 4:-4], (224, 224)),
    "turned by 2 degrees": lambda x: turned_by(x, 2),
}


def small(image: Image) -> Image:
    return luminance(reduce_frame(to_frame(image))[None])[0]


def photographs(data: Path) -> dict[str, list[Image]]:
    """Photographs of distinct cells, by source."""
    sources = {
        name: [
            np.asarray(simplejpeg.decode_jpeg(path.read_bytes()))
            for path in sorted((data / "cohorts" / name).rglob("*.jpg"))
        ]
        for name in ("dev", "dev_lymph")
    }
    cells: list[Image] = []
    for path in sorted((data / "pbc_cells").glob("*.parquet")):
        encoded = pq.read_table(path, columns=["image"])["image"].to_pylist()
        cells += [np.asarray(simplejpeg.decode_jpeg(content)) for content in encoded]
    return {**sources, "pbc_cells": cells}


def chance_pairs(images: list[Image]) -> dict[str, float]:
    """Distinct cells that are reported all the same, and what the search took."""
    thumbnails = np.stack([small(image) for image in images])
    hashes = perceptual_hashes(thumbnails)
    start = time.perf_counter()
    groups = group_alike(hashes, lambda i: thumbnails[i])
    seconds = time.perf_counter() - start
    pairs = len(images) * (len(images) - 1) // 2
    return {
        "cells": len(images),
        "pairs": pairs,
        "reported_cells": int((groups >= 0).sum()),
        "seconds": seconds,
    }


def found_copies(images: list[Image]) -> dict[str, float]:
    """Share of altered copies that are found beside their originals, by alteration."""
    originals = [small(image) for image in images]
    shares = {}
    for name, alter in ALTERATIONS.items():
        found = 0
        for image, original in zip(images, originals, strict=True):
            copy = small(alter(image))
            hashes = perceptual_hashes(np.stack([original, copy]))
            pair = (original, copy)
            found += int(group_alike(hashes, pair.__getitem__)[0] >= 0 and look_alike(*pair))
        shares[name] = found / len(images)
    return shares


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("LYMPHOSCOPE_DATA"))
    parser.add_argument("--copies", type=int, default=500, help="photographs that are altered in every way")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the data folder (--data, or LYMPHOSCOPE_DATA)")
    sources = photographs(Path(options.data))
    print(
        f"hash radius {HASH_RADIUS} upright, {MIRRORED_HASH_RADIUS} turned; "
        f"correlation ≥ {LEAST_CORRELATION}\n"
    )
    print(f"{'distinct cells of':20} {'cells':>7} {'pairs':>12} {'reported':>9} {'seconds':>8}")
    chance = {name: chance_pairs(images) for name, images in sources.items()}
    for name, r in chance.items():
        print(f"{name:20} {r['cells']:7} {r['pairs']:12} {r['reported_cells']:9} {r['seconds']:8.2f}")
    rng = np.random.default_rng(options.seed)
    chosen = rng.permutation(len(sources["dev"]))[: options.copies]
    shares = found_copies([sources["dev"][i] for i in chosen])
    print(f"\n{'altered copies of dev':32} {'found':>7}   ({len(chosen)} cells)")
    for name, share in shares.items():
        print(f"{name:32} {share:7.3f}")
    if options.json:
        options.json.write_text(to_json({"chance": chance, "found": shares}))


if __name__ == "__main__":
    main()

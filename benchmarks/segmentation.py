"""How well nucleus and cell are outlined, against masks drawn by experts.

The photographs are those of Zheng et al., Micron 2018;107:55–71: `d1_*` (120 px, yellowish, rapid stain)
and `d2_*` (300 px, purple), with masks 0 background, 128 cytoplasm, 255 nucleus. They are not part of this
project. Each data set is split by sorted name: even places are the half that thresholds were tuned on, odd
places are held out. Dice is taken per photograph, then averaged; a cell that is not found counts as 0.

    python benchmarks/segmentation.py DATA/seg_dev --half held-out --json dice.json
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from lymphoscope.cells.segmentation import segment, segment_kmeans
from lymphoscope.files import write_json

DATASETS = ("d1", "d2")
HALVES = {"tune": (0,), "held-out": (1,), "all": (0, 1)}
CYTOPLASM, NUCLEUS = 128, 255

Mask = npt.NDArray[np.bool_]
Method = Callable[[npt.NDArray[np.uint8]], tuple[Mask, Mask]]


def kmeans(image: npt.NDArray[np.uint8]) -> tuple[Mask, Mask]:
    """The one mask of k-means stands for both nucleus and cell."""
    mask = segment_kmeans(image)
    return mask, mask


def nucleus_and_cell(image: npt.NDArray[np.uint8]) -> tuple[Mask, Mask]:
    found = segment(image)
    return found.nucleus, found.cell


METHODS: dict[str, Method] = {"k-means on saturation": kmeans, "segment": nucleus_and_cell}


def dice(found: Mask, truth: Mask) -> float:
    """2 |A ∩ B| / (|A| + |B|)."""
    both = int(np.count_nonzero(found)) + int(np.count_nonzero(truth))
    return 2.0 * np.count_nonzero(found & truth) / max(both, 1)


def read(path: Path, flags: int) -> npt.NDArray[np.uint8]:
    """The picture as OpenCV reads it with these flags."""
    picture = cv2.imread(str(path), flags)
    if picture is None:
        raise SystemExit(f"{path}: cannot be read as a picture")
    return np.asarray(picture, dtype=np.uint8)


def score(folder: Path, dataset: str, half: str, method: Method) -> list[tuple[str, float, float]]:
    """Name, Dice of the nucleus and Dice of the whole cell of each photograph of one half."""
    names = sorted(path.name for path in (folder / "images").glob(f"{dataset}_*.png"))
    rows = []
    for place, name in enumerate(names):
        if place % 2 not in HALVES[half]:
            continue
        image = cv2.cvtColor(read(folder / "images" / name, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        truth = read(folder / "masks" / name, cv2.IMREAD_GRAYSCALE)
        nucleus, cell = method(np.asarray(image, dtype=np.uint8))
        rows.append((name, dice(nucleus, truth == NUCLEUS), dice(cell, truth >= CYTOPLASM)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    shared = os.environ.get("LYMPHOSCOPE_DATA")
    parser.add_argument("folder", type=Path, nargs="?", default=Path(shared) / "seg_dev" if shared else None)
    parser.add_argument("--half", choices=HALVES, default="tune")
    parser.add_argument("--each", action="store_true", help="one line per photograph too")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.folder is None or not (arguments.folder / "masks").is_dir():
        parser.error("give the folder that holds images/ and masks/, or set LYMPHOSCOPE_DATA")
    summary = []
    print(
        f"{'data':4} {'half':8} {'n':>3}  {'method':22} {'nucleus':>8} {'least':>7} {'cell':>8} {'least':>7}"
    )
    for dataset in DATASETS:
        for name, method in METHODS.items():
            rows = score(arguments.folder, dataset, arguments.half, method)
            values = np.array([row[1:] for row in rows])
            (nucleus, cell), (low_nucleus, low_cell) = values.mean(axis=0), values.min(axis=0)
            print(
                f"{dataset:4} {arguments.half:8} {len(rows):3}  {name:22} "
                f"{nucleus:8.3f} {low_nucleus:7.3f} {cell:8.3f} {low_cell:7.3f}"
            )
            if arguments.each:
                for photograph, *pair in rows:
                    print(f"     {photograph:20} {pair[0]:.3f} {pair[1]:.3f}")
            summary.append(
                {
                    "data": dataset,
                    "half": arguments.half,
                    "photographs": len(rows),
                    "method": name,
                    "nucleus_dice": round(float(nucleus), 4),
                    "cell_dice": round(float(cell), 4),
                }
            )
    if arguments.json:
        write_json(arguments.json, summary)


if __name__ == "__main__":
    main()

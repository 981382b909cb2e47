"""What stain and light are normalised to, and what then becomes of colours of stain and of colours of cells.

The open cells ($LYMPHOSCOPE_DATA/pbc_cells, the training part) come in two batches of stain, "main" and
"outlier". First the reference of `cells.stain_normalisation` is printed: medians over lymphocytes of the
main batch. Then cells are put together as patients of 25, all of one batch, and either of one type
("pure", as those of a clone are) or of all types ("mixed"). For every way of normalising, measured on all
photographs of a patient or on each:

- batches: distance in Lab between mean colours of the two batches, of nuclei, cytoplasm and red cells;
  mean over the types of cell;
- patients: variance in Lab between patients' mean colours of nuclei, as a share of what it is untouched;
- types: standard deviation between types of their mean nuclear density, over that within a type; main
  batch.

    python benchmarks/stain_reference.py
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import simplejpeg

from lymphoscope.cells.segmentation import segment
from lymphoscope.cells.stain import density_table, nuclear_density, optical_density
from lymphoscope.cells.stain_normalisation import (
    NUCLEI,
    RED_CELLS,
    REFERENCE,
    WHITE,
    measure_stain,
    normalised,
    patient_stain,
    stain_table,
)

PATIENT = 25


def read(folder: Path, per_type: int) -> pd.DataFrame:
    """A sample of the main batch, as many of each type, and the whole other batch."""
    cells = pd.read_parquet(folder / "train.parquet", columns=["image", "cell_type", "stain_batch"])
    cells = cells[cells["cell_type"] != "platelet"]  # without a nucleus
    main = cells[cells["stain_batch"] == "main"].groupby("cell_type").sample(per_type, random_state=0)
    return pd.concat([main, cells[cells["stain_batch"] == "outlier"]]).reset_index(drop=True)


def parts_of(image: np.ndarray) -> list[np.ndarray] | None:
    """Masks of nucleus, cytoplasm and red cells; None where no cell is found."""
    found = segment(image)
    if not found.ok:
        return None
    near = cv2.dilate(found.cell.view(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    od = optical_density(image, found.white)
    green, blue = od[..., 1], od[..., 2]
    red_cells = ~near & (green > 0.06) & (green < 0.4) & (blue > 0.4 * green)
    return [found.nucleus, found.cell & ~found.nucleus, red_cells]


def mean_colour(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean Lab of these pixels, (3,); NaN of fewer than fifty."""
    if np.count_nonzero(mask) < 50:
        return np.full(3, np.nan)
    pixels = (image[mask] / np.float32(255))[None]
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2Lab)[0].mean(axis=0))


def white_only(white: np.ndarray, stain: np.ndarray) -> np.ndarray:
    """Table of the background alone."""
    return stain_table(white, np.stack([stain[WHITE], *np.full((2, 3), np.nan)]).astype(np.float32))


def amount_too(white: np.ndarray, stain: np.ndarray) -> np.ndarray:
    """Table of background, hue, and how much stain nuclei hold."""
    wanted, own = (float(nuclear_density(each[None, [NUCLEI]])[0, 0]) for each in (REFERENCE, stain))
    density = density_table(REFERENCE[WHITE]) * (wanted / own)
    levels = np.rint(np.clip(REFERENCE[WHITE] * 10.0**-density, 0, 255)).astype(np.uint8)
    return np.take_along_axis(levels, stain_table(white, stain).astype(np.int64), axis=0)


def patients(cells: pd.DataFrame, pure: bool) -> np.ndarray:
    """Number of the patient of each cell: `PATIENT` cells of one batch, and of one type if pure."""
    rng, found, n = np.random.default_rng(0), np.empty(len(cells), dtype=np.int64), 0
    groups = cells.groupby(["stain_batch", "cell_type"] if pure else ["stain_batch"]).indices
    for rows in groups.values():
        for part in np.array_split(rng.permutation(rows), max(1, round(len(rows) / PATIENT))):
            found[part], n = n, n + 1
    return found


def colours(image: np.ndarray, masks: list[np.ndarray], white: np.ndarray) -> np.ndarray:
    """Mean Lab of every part, and mean nuclear density against this white, (10,)."""
    density = nuclear_density(optical_density(image, white))[masks[0]].mean()
    return np.concatenate([*(mean_colour(image, mask) for mask in masks), [density]])


def line(cells: pd.DataFrame, patient: np.ndarray, found: np.ndarray) -> tuple[list[float], float, float]:
    """Distance between batches by part, variance between patients, and spread of types over that within.

    Parameters
    ----------
    found : what `colours` gives of every cell, (n_cells, 10).
    """
    table = pd.DataFrame(found)
    is_main = cells["stain_batch"] == "main"
    main, outlier = (table[rows].groupby(cells["cell_type"][rows]).mean() for rows in (is_main, ~is_main))
    apart = [
        float(np.mean(np.sqrt(((main - outlier)[channels] ** 2).sum(axis=1))))
        for channels in np.arange(9).reshape(3, 3).tolist()
    ]
    between = float(table[[0, 1, 2]].groupby(patient).mean().var().sum())
    density = table[9][is_main].groupby(cells["cell_type"][is_main])
    return apart, between, float(density.mean().std() / np.sqrt(density.var().mean()))


def speed(images: list[np.ndarray]) -> tuple[float, float]:
    """Photographs measured and normalised in a second, and normalised alone at 112 pixels."""
    frames = [np.ascontiguousarray(cv2.resize(each, (224, 224)), dtype=np.uint8) for each in images[:400]]
    started = time.perf_counter()
    for frame in frames:
        stain = measure_stain(frame)
        table = stain_table(stain[WHITE], stain)
        normalised(frame, table)
    whole = len(frames) / (time.perf_counter() - started)
    crops = [np.ascontiguousarray(frame[56:168, 56:168]) for frame in frames]
    started = time.perf_counter()
    for crop in crops:
        normalised(crop, table)
    return whole, len(crops) / (time.perf_counter() - started)


def print_reference(cells: pd.DataFrame, stains: np.ndarray) -> None:
    """The rows of `REFERENCE`."""
    chosen = ((cells["stain_batch"] == "main") & (cells["cell_type"] == "lymphocyte")).to_numpy()
    print(f"reference: {chosen.sum()} lymphocytes of the main batch; red, green and blue")
    for name, row in (("background", WHITE), ("red cells", RED_CELLS), ("nuclei", NUCLEI)):
        print(f"  {name:10}", "  ".join(f"{x:.3f}" for x in np.nanmedian(stains[chosen, row], axis=0)))


def print_effects(
    cells: pd.DataFrame, images: list[np.ndarray], masks: list[list[np.ndarray]], stains: np.ndarray
) -> None:
    """A line for every way of normalising."""
    ways = {"background": white_only, "background, hue": stain_table, "background, hue, amount": amount_too}
    print(f"\n{'':40}|  batches: distance in Lab  | patients |  types")
    print(
        f"{'brought to the reference':26}{'measured on':14}| nuclei cytoplasm red cells | variance | density"
    )
    for kind in ("pure", "mixed"):
        patient = patients(cells, kind == "pure")
        own = [colours(*each) for each in zip(images, masks, stains[:, WHITE], strict=True)]
        _, as_they_are, _ = print_line(cells, patient, np.stack(own), ("nothing", kind), None)
        for unit in (f"{kind} patients", "photograph"):
            group = patient if unit != "photograph" else np.arange(len(cells))
            pooled = {one: patient_stain(stains[group == one]) for one in np.unique(group)}
            for name, table in ways.items():
                shown = [
                    normalised(image, table(stain[WHITE], pooled[one]))
                    for image, stain, one in zip(images, stains, group, strict=True)
                ]
                found = [colours(a, b, REFERENCE[WHITE]) for a, b in zip(shown, masks, strict=True)]
                print_line(cells, patient, np.stack(found), (name, unit), as_they_are)


def print_line(
    cells: pd.DataFrame, patient: np.ndarray, found: np.ndarray, names: tuple[str, str], whole: float | None
) -> tuple[list[float], float, float]:
    apart, between, types = result = line(cells, patient, found)
    distances = f"{apart[0]:6.1f} {apart[1]:9.1f} {apart[2]:9.1f}"
    print(
        f"{names[0]:26}{names[1]:14}| {distances} | {between / (whole or between):8.2f} | {types:7.2f}",
        flush=True,
    )
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("LYMPHOSCOPE_DATA", "."))
    parser.add_argument("--per-type", type=int, default=350, help="cells of the main batch of each type")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    cells = read(options.data / "pbc_cells", options.per_type)
    images = [np.ascontiguousarray(simplejpeg.decode_jpeg(each, "RGB")) for each in cells["image"]]
    masks = [parts_of(each) for each in images]
    kept = [i for i, each in enumerate(masks) if each is not None]
    cells, images = cells.iloc[kept].reset_index(drop=True), [images[i] for i in kept]
    stains = np.stack([measure_stain(each) for each in images])
    print(f"{len(cells)} cells, of the main batch at most {options.per_type} of each type\n")
    print_reference(cells, stains)
    print_effects(cells, images, [each for each in masks if each is not None], stains)
    whole, crops = speed(images)
    print(f"\nphotographs per second, one core: {whole:,.0f} measured and normalised, 224 pixels; ", end="")
    print(f"{crops:,.0f} normalised, 112 pixels")


if __name__ == "__main__":
    main()

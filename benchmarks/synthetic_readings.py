"""Fits what the measurements of a cell make of its latent truth, for cohorts drawn without pixels.

Paints cells of many patients, measures them as any cohort is measured, and regresses every measured number on
the latent traits of the cell and the latent look of its patient. The table it writes is what
`lymphoscope.cohort.synthetic.draw_numbers` reads; run it again whenever the painter or a measurement changes.

    python benchmarks/synthetic_readings.py --cells 24 --write src/lymphoscope/cohort/synthetic/readings.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import joblib
import numpy as np
import numpy.typing as npt
import simplejpeg

from lymphoscope.cells.morphology import MORPHOLOGY_COLUMNS, measure
from lymphoscope.cohort.synthetic.look import LOOK
from lymphoscope.cohort.synthetic.numbers import READINGS_HEADER
from lymphoscope.cohort.synthetic.painter import Scene, encode, paint
from lymphoscope.cohort.synthetic.patients import CELLS, PIXELS, draw_patients, generator
from lymphoscope.cohort.synthetic.plan import SyntheticPlan
from lymphoscope.cohort.synthetic.population import TRAITS, draw_cells
from lymphoscope.cohort.synthetic.tables import csv_text
from lymphoscope.files import write_text

# Enough to describe the cell from every side, few enough for a thousand cohorts; the last four are controls.
KEPT = (
    "nucleus_area_px",
    "nucleus_roundness",
    "nucleus_solidity",
    "nucleus_eccentricity",
    "nucleus_cleft_depth",
    "nucleus_offset",
    "nucleus_lab_l",
    "nucleus_lab_b",
    "nucleus_density_od",
    "chromatin_contrast_od",
    "chromatin_granularity_1px_od",
    "chromatin_granularity_2px_od",
    "chromatin_granularity_4px_od",
    "chromatin_clump_fraction",
    "chromatin_rim_od",
    "cell_area_px",
    "cell_nucleus_ratio",
    "cell_roundness",
    "cell_edge_hairiness",
    "cytoplasm_widest_px",
    "cytoplasm_lab_l",
    "cytoplasm_lab_b",
    "cytoplasm_blueness_od",
    "cytoplasm_granularity_2px_od",
    "cytoplasm_granule_fraction",
    "cytoplasm_vacuole_fraction",
    "neighbours_red_cell_fraction",
    "background_lab_l",
    "background_lab_a",
    "background_lab_b",
)

Table = npt.NDArray[np.float64]


def measured(traits: npt.NDArray[np.float32], look: Table, seed: int, patient: int) -> Table:
    """Measurements of one patient's painted cells, JPEG included, (n_cells, len(MORPHOLOGY_COLUMNS))."""
    cv2.setNumThreads(1)
    rng, scene = generator(seed, PIXELS, patient), Scene.from_look(look, border=False)
    photographs = (simplejpeg.decode_jpeg(encode(paint(row, scene, rng))) for row in traits)
    return np.array([measure(photograph) for photograph in photographs], dtype=np.float64)


def painted_sample(patients: int, cells: int, seed: int, jobs: int) -> tuple[Table, Table]:
    """Latent truth (n, traits and look) and measurements (n, columns) of `patients` × `cells` cells."""
    plan = SyntheticPlan(cells=cells, bag_size_slope=0, bag_size_spread=0)
    drawn = draw_patients(plan, patients, 0, seed)
    truth = draw_cells(drawn.populations, drawn.clinical.n_cells, generator(seed, CELLS))
    values = joblib.Parallel(jobs)(
        joblib.delayed(measured)(truth.traits[truth.patient == i], drawn.looks[i], seed, i)
        for i in range(patients)
    )
    return np.hstack([truth.traits, drawn.looks[truth.patient]]), np.concatenate(values)


def fit_reading(latent: Table, measured_column: Table, *, control: bool) -> tuple[list[float], float]:
    """Base, noise, weights of the least-squares line, and the share of variance that it explains.

    A control column may follow the patient's look alone, so that it holds no signal, not even by chance.
    """
    latent = latent.copy()
    if control:
        latent[:, : len(TRAITS)] = 0
    there = np.isfinite(measured_column)
    design, value = np.column_stack([np.ones(there.sum()), latent[there]]), measured_column[there]
    weights, *_ = np.linalg.lstsq(design, value, rcond=None)
    residual = value - design @ weights
    explained = 1 - residual.var() / value.var()
    return [float(weights[0]), float(residual.std()), *weights[1:].tolist()], float(explained)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=205)
    parser.add_argument("--cells", type=int, default=24, help="painted cells per patient")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--write", type=Path, help="the table to write")
    options = parser.parse_args()
    latent, values = painted_sample(options.patients, options.cells, options.seed, options.jobs)
    rows = []
    names = (*TRAITS, *LOOK)
    for column in KEPT:
        reading, explained = fit_reading(
            latent,
            values[:, MORPHOLOGY_COLUMNS.index(column)],
            control=column.startswith(("background_", "neighbours_")),
        )
        effect = np.abs(reading[2:]) * latent.std(axis=0)
        strongest = ", ".join(names[i] for i in np.argsort(-effect)[:3])
        print(f"{column:32s} R² {explained:.2f}  noise {reading[1]:9.4g}  mostly {strongest}")
        rows.append((column, *(f"{value:.5g}" for value in reading)))
    if options.write:
        write_text(options.write, csv_text(READINGS_HEADER, rows))


if __name__ == "__main__":
    main()

"""From the numbers of the cells to the numbers of the patient: level, spread, quantiles, how alike."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.bags import Bags, FloatArray, IntArray, segment_sum

STATISTICS = ("mean", "sd", "robust_sd", "q10", "q50", "q90")
"""Statistics of every column: mean, standard deviation, (q75 − q25) / 1.349, and three quantiles."""

ALIKENESS = ("pairwise_distance", "log_volume", "effective_dimensions")
"""Measures of how alike the cells of a patient are, see `alikeness`."""

SAMPLED_CELLS = 10
"""Cells in each sample behind a measure that depends on how many cells it is taken from."""

_SAMPLES = 100

_QUANTILES = (0.10, 0.25, 0.50, 0.75, 0.90)
_NORMAL_IQR = 1.349


def summarise(bags: Bags) -> tuple[FloatArray, tuple[str, ...]]:
    """Summary of each patient's cells, shape (n_patients, n_columns · 6), and the names of its columns.

    Names are "column:statistic". Missing numbers are left out; what no cell of a patient has is NaN, the
    standard deviation of a single cell is 0. Nothing here depends on other patients.
    """
    if bags.columns is None:
        raise ValueError("these bags hold images; summaries need named per-cell numbers")
    values = np.asarray(bags.cells, dtype=np.float32)
    present = ~np.isnan(values)
    counts = segment_sum(present, bags.offsets)
    mean, sd = _moments(values, present, counts, bags.offsets)
    q10, q25, q50, q75, q90 = _quantiles(values, counts.astype(np.int64), bags.offsets)
    table = np.stack([mean, sd, (q75 - q25) / _NORMAL_IQR, q10, q50, q90], axis=2)
    names = tuple(f"{column}:{statistic}" for column in bags.columns for statistic in STATISTICS)
    return table.reshape(len(bags), len(names)), names


def _moments(
    values: npt.NDArray[np.float32], present: npt.NDArray[np.bool_], counts: FloatArray, offsets: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Mean and population standard deviation of the present values, each (n_patients, n_columns)."""
    number = np.where(counts > 0, counts, np.nan)
    known = np.where(present, values, 0).astype(np.float64)
    mean = segment_sum(known, offsets) / number
    known -= np.repeat(np.nan_to_num(mean), np.diff(offsets), axis=0)
    known *= present
    return mean, np.sqrt(segment_sum(np.square(known, out=known), offsets) / number)


def _quantiles(values: npt.NDArray[np.float32], counts: IntArray, offsets: IntArray) -> FloatArray:
    """Linearly interpolated quantiles of the present values, shape (n_quantiles, n_patients, n_columns)."""
    ordered = values.T.copy()  # a copy in any case: it is sorted in place
    for start, stop in itertools.pairwise(offsets):
        ordered[:, start:stop].sort(axis=1)  # NaN goes last
    columns = np.arange(values.shape[1])
    out = np.full((len(_QUANTILES), *counts.shape), np.nan)
    some: npt.NDArray[np.bool_] = np.asarray(counts > 0)
    patient, column = np.nonzero(some)
    last = counts[patient, column] - 1
    first = offsets[patient]
    for i, q in enumerate(_QUANTILES):
        place = q * last
        below = np.floor(place).astype(np.int64)
        low = ordered[columns[column], first + below].astype(np.float64)
        high = ordered[columns[column], first + np.minimum(below + 1, last)]
        out[i][some] = low + (place - below) * (high - low)
    return out


def alikeness(
    bags: Bags, scale: npt.ArrayLike, ridge: float = 0.05, seed: int = 0
) -> tuple[FloatArray, tuple[str, ...]]:
    """How alike the cells of each patient are, shape (n_patients, 3), and the names in `ALIKENESS`.

    Columns are divided by `scale` (n_columns,), their spread among the cells of a reference cohort: that is
    learned from other patients, so it belongs to the model that calls this. With C the covariance of scaled
    cells, λ its eigenvalues:

    - pairwise distance: root mean square distance between two cells, √(2 · trace C / n_columns);
    - log volume: mean of log(λ + `ridge`), `ridge` in units of `scale`²;
    - effective dimensions: (Σλ)² / Σλ², 1 when all cells differ along one line, at most `SAMPLED_CELLS` − 1.

    The eigenvalues of few cells are more unequal than those of many from the same population. So that
    patients with few and with many cells can be compared, volume and dimensions are means over random samples
    of `SAMPLED_CELLS` of a patient's cells, whatever their number; they depend on `seed` and the cells alone.

    Cells with a missing number are left out; fewer than two, or `SAMPLED_CELLS` for volume and dimensions,
    give NaN.
    """
    values = np.asarray(bags.cells, dtype=np.float64) / np.asarray(scale, dtype=np.float64)
    out = np.full((len(bags), len(ALIKENESS)), np.nan)
    complete: npt.NDArray[np.bool_] = np.asarray(np.isfinite(values).all(axis=1))
    for i, (start, stop) in enumerate(itertools.pairwise(bags.offsets)):
        cells = values[start:stop][complete[start:stop]]
        if len(cells) >= 2:
            out[i, 0] = np.sqrt(2 * cells.var(axis=0, ddof=1).mean())
        if len(cells) >= SAMPLED_CELLS:
            out[i, 1:] = _volume_and_dimensions(cells, ridge, np.random.default_rng(seed))
    return out, ALIKENESS


def _volume_and_dimensions(cells: FloatArray, ridge: float, rng: np.random.Generator) -> tuple[float, float]:
    """Log volume and effective dimensions of samples of `SAMPLED_CELLS` cells, averaged over the samples."""
    cells = cells[np.lexsort(cells.T)]  # the order of a patient's files says nothing
    order = rng.random((_SAMPLES, len(cells)))
    samples = cells[np.argpartition(order, SAMPLED_CELLS - 1, axis=1)[:, :SAMPLED_CELLS]]
    samples -= samples.mean(axis=1, keepdims=True)
    # Products of cells have the eigenvalues of the covariance, apart from zeros, and are fewer than columns.
    products = samples @ samples.transpose(0, 2, 1) / (SAMPLED_CELLS - 1)
    n_columns = cells.shape[1]
    eigenvalues = np.zeros((_SAMPLES, max(n_columns, SAMPLED_CELLS)))
    eigenvalues[:, -SAMPLED_CELLS:] = np.maximum(np.linalg.eigvalsh(products), 0.0)
    eigenvalues = eigenvalues[:, -n_columns:]  # the largest stand last; all before these are zero
    total, squares = eigenvalues.sum(axis=1), np.square(eigenvalues).sum(axis=1)
    dimensions = np.divide(total**2, squares, out=np.ones_like(total), where=squares > 0)
    return float(np.log(eigenvalues + ridge).mean()), float(dimensions.mean())

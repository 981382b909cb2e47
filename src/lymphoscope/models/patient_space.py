"""From the cells of a patient to a few numbers: level and spread of each column, reduced together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from lymphoscope.cells.columns import CONCEPT_PREFIX, EMBEDDING_PREFIX
from lymphoscope.cells.summary import summarise
from lymphoscope.cohort.bags import Bags, FloatArray, segment_mean, segment_sum
from lymphoscope.errors import InputError
from lymphoscope.models.base import BagClassifier

NOT_THE_CELL = ("background_", "neighbours_")
"""Prefixes of columns that describe what lies around the cell: controls, not sources."""

NOT_MORPHOLOGY = ("segmented", "cell_focus", "cell_on_frame_fraction")
"""Columns that describe the photograph or how well the cell was found."""

Numbers = Literal["morphology", "embedding", "concepts", "embedding-morphology"]
"""Which of a cell's numbers a model takes: measured ones, an encoder's, the concepts that it names."""

_PREFIXES: dict[Numbers, tuple[str, ...]] = {
    "embedding": (EMBEDDING_PREFIX,),
    "concepts": (CONCEPT_PREFIX,),
}

ENCODER_NUMBERS = tuple(_PREFIXES)
"""Kinds of numbers that an encoder gives; the name of a mixed kind contains that of its parts."""

_LIMIT = 4.0
_SMALLEST = 1e-6


def cell_columns(bags: Bags, numbers: Numbers = "morphology") -> tuple[str, ...]:
    """Names of the per-cell numbers of one kind, all of which describe the cell itself.

    Raises
    ------
    InputError : the bags hold images, or no such column.
    """
    if bags.columns is None:
        raise InputError(
            "this recipe needs per-cell numbers",
            found=f"cells of shape {np.shape(bags.cells)} without column names",
            allowed="bags whose cells are named numbers",
            remedy="Measure the cells first, or choose a recipe for images.",
        )
    if numbers == "embedding-morphology":
        return (*cell_columns(bags, "embedding"), *cell_columns(bags))
    names = tuple(name for name in bags.columns if _is_kind(name, numbers))
    if not names:
        raise InputError(
            "no column describes the cells as this recipe takes them",
            found=", ".join(bags.columns[:3]) or "no columns",
            allowed=f"numbers of the kind {numbers!r}",
            remedy="Embeddings and concepts come from an encoder: do not switch it off."
            if numbers != "morphology"
            else None,
        )
    return names


def known_columns(bags: Bags, columns: tuple[str, ...]) -> Bags:
    """`bags` with the columns that were there in training, in that order.

    Raises
    ------
    InputError : one of them is missing.
    """
    have = bags.columns or ()
    missing = [name for name in columns if name not in have]
    if missing:
        raise InputError(
            "per-cell numbers that the model was trained on are missing",
            found=", ".join(have) or "no named columns",
            allowed=f"also {', '.join(missing)}",
            remedy="Measure the cells with the version that trained the model, or fit it again.",
        )
    return bags.select_columns(columns)


def has_numbers(model: BagClassifier, bags: Bags) -> bool:
    """Whether the bags hold the embeddings or concepts that a model takes; an encoder may be switched off."""
    taken = getattr(model, "numbers", "morphology")
    return all(
        any(name.startswith(prefixes) for name in bags.columns or ())
        for kind, prefixes in _PREFIXES.items()
        if kind in taken
    )


def require_numbers(recipe: str, model: BagClassifier, bags: Bags) -> None:
    """Refuse a recipe whose numbers the bags do not hold, before anything is trained: `InputError`."""
    if not has_numbers(model, bags):
        raise InputError(
            "this recipe looks at numbers of an encoder that are not there",
            found=f"{recipe} on {getattr(model, 'numbers', 'numbers')}",
            allowed="pbc-small gives all; an encoder without a card gives embeddings and no concepts",
            remedy="Name another encoder, do not switch it off, or choose another recipe.",
        )


def _is_kind(name: str, numbers: Numbers) -> bool:
    if numbers in _PREFIXES:
        return name.startswith(_PREFIXES[numbers])
    around = name.startswith((*NOT_THE_CELL, EMBEDDING_PREFIX, CONCEPT_PREFIX))
    return not around and name not in NOT_MORPHOLOGY


def level_and_spread(bags: Bags) -> FloatArray:
    """Mean and standard deviation of every column per patient, shape (n_patients, 2 · n_columns).

    The standard deviation is made unbiased (divided by n − 1.5 instead of n, nearly exact for a normal
    column), else it would tell how many cells a patient has. NaN where no cell, or for the spread one cell,
    has the number.
    """
    table, names = summarise(bags)
    mean, sd = (table[:, [name.endswith(end) for name in names]] for end in (":mean", ":sd"))
    n = _present(bags)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.hstack([mean, np.where(n > 1, sd * np.sqrt(n / (n - 1.5)), np.nan)])


@dataclass(frozen=True)
class PatientSpace:
    """Robust scale of the level and spread of each column, and the principal components among patients.

    Attributes
    ----------
    columns : names of the n_columns per-cell numbers used.
    centre, scale : median and normalised interquartile range among training patients, (2 · n_columns,).
    axes : principal axes of the scaled table, spreads weighted, shape (n_components, 2 · n_columns).
    origin : projection of the mean patient on each axis.
    deviations : standard deviation along each axis, descending.
    """

    columns: tuple[str, ...]
    centre: FloatArray
    scale: FloatArray
    axes: FloatArray
    origin: FloatArray
    deviations: FloatArray

    @classmethod
    def fit(
        cls, columns: tuple[str, ...], table: FloatArray, spread_weight: float, max_components: int
    ) -> PatientSpace:
        """Learn from `table`, the `level_and_spread` of the training patients.

        Raises
        ------
        InputError : fewer than two patients have a cell with numbers.
        """
        seen = table[~np.isnan(table).all(axis=1)]
        if len(seen) < 2:
            raise InputError(
                "too few training patients have a measured cell",
                found=f"{len(seen)} of {len(table)} patients",
                allowed="2 or more",
                remedy="Add photographs, or measure a recipe on clinical values alone: "
                "lymphoscope evaluate COHORT --recipe clinical.",
            )
        centre, scale = _robust_scale(seen)
        weight = np.repeat([1.0, spread_weight], len(columns))
        weighted = _scaled(seen, centre, scale) * weight
        mean = weighted.mean(axis=0)
        _, singular, axes = np.linalg.svd(weighted - mean, full_matrices=False)
        deviations = singular / np.sqrt(len(seen))
        kept = min(max_components, max(1, int((deviations > _SMALLEST * deviations[0]).sum())))
        axes = _signed(axes[:kept])
        return cls(
            columns, centre, scale, axes * weight, axes @ mean, np.maximum(deviations[:kept], _SMALLEST)
        )

    def components(self, table: FloatArray) -> FloatArray:
        """Whitened principal components of `level_and_spread`, (n_patients, n_components).

        A number that a patient lacks is taken as the median; NaN all along where no cell was measured.
        """
        out = (_scaled(table, self.centre, self.scale) @ self.axes.T - self.origin) / self.deviations
        out[np.isnan(table).all(axis=1)] = np.nan
        return out

    def cell_shares(self, bags: Bags, coef: FloatArray) -> FloatArray:
        """What each cell adds to `components @ coef`, (n_cells,): their mean per patient is exactly that.

        A patient's level is the mean of its cells' values x, its spread s that of ½ (x − level)² / s + ½ s
        (n − 1.5 instead of n aside). So both divide among the cells without a rest, and what sets a cell
        apart from the patient's others is, to first order, what the log-odds would lose without it. A number
        held at the limit of the scale is divided evenly, and a cell without numbers has no share.
        """
        bags = known_columns(bags, self.columns)
        values, owner = np.asarray(bags.cells, dtype=np.float64), bags.patient_of_cell
        table, n = level_and_spread(bags), _present(bags)
        apart = np.hstack([values, _shares_of_spread(values, table, n, owner)])
        scaled = _scaled(table, self.centre, self.scale)
        with np.errstate(invalid="ignore"):
            free = np.abs((table - self.centre) / self.scale) < _LIMIT
        shares = np.where(free[owner], (apart - self.centre) / self.scale, scaled[owner])
        # The mean runs over all cells, that of a column over the cells that have the number.
        shares *= np.tile(bags.counts[:, None] / np.maximum(n, 1.0), 2)[owner]
        shares[np.isnan(apart)] = 0.0
        measured = np.where(np.isnan(values).all(axis=1), 0.0, 1.0)
        part = measured / np.maximum(segment_mean(measured, bags.offsets)[owner], _SMALLEST)
        slope = coef / self.deviations
        return shares @ (slope @ self.axes) - (slope @ self.origin) * part


def _shares_of_spread(
    values: FloatArray, table: FloatArray, n: FloatArray, owner: npt.NDArray[np.int64]
) -> FloatArray:
    """Numbers per cell, (n_cells, n_columns), whose mean over a patient's cells is the patient's spread."""
    mean, spread = np.hsplit(table, 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        bend = np.where(spread > 0, n / (n - 1.5) / spread, 0.0)
    return 0.5 * ((values - mean[owner]) ** 2 * bend[owner] + spread[owner])


def _present(bags: Bags) -> FloatArray:
    """How many cells of each patient have each number, (n_patients, n_columns)."""
    missing = np.isnan(np.asarray(bags.cells))
    n = np.tile(bags.counts[:, None].astype(np.float64), missing.shape[1])
    return n - segment_sum(missing, bags.offsets) if missing.any() else n


def _robust_scale(table: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Median and (q75 − q25) / 1.349 per column without NaN; a column that hardly varies gets scale 1."""
    low, centre, high = _quantiles(table, (0.25, 0.5, 0.75))
    deviation = np.sqrt(np.nan_to_num((table - centre) ** 2).mean(axis=0))
    width = np.where(high > low, (high - low) / 1.349, deviation)
    varies = width > _SMALLEST * np.maximum(1e-9, np.abs(centre))
    return centre, np.where(varies, width, 1.0)


def _quantiles(table: FloatArray, shares: tuple[float, ...]) -> FloatArray:
    """Linearly interpolated quantiles of each column without NaN, (n_shares, n_columns); 0 without values."""
    ordered = np.sort(table, axis=0)  # NaN goes last
    last = np.maximum((~np.isnan(table)).sum(axis=0) - 1, 0)
    place = np.asarray(shares)[:, None] * last
    below = np.floor(place).astype(np.int64)
    columns = np.arange(table.shape[1])
    first, second = ordered[below, columns], ordered[np.minimum(below + 1, last), columns]
    return np.asarray(np.nan_to_num(first + (place - below) * (second - first)))


def _scaled(table: FloatArray, centre: FloatArray, scale: FloatArray) -> FloatArray:
    """Within ±`_LIMIT`, so that no single odd number decides; a missing one is the median, 0."""
    return np.nan_to_num(np.clip((table - centre) / scale, -_LIMIT, _LIMIT))


def _signed(axes: FloatArray) -> FloatArray:
    """Each axis turned so that its largest weight is positive: else its sign is the library's whim."""
    largest = axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)]
    return axes * np.where(largest < 0, -1.0, 1.0)[:, None]

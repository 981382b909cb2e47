"""Missing values as a joint normal distribution sees them.

A model that is linear in its columns stays one: a missing column is replaced by its expectation given the
columns that are there, and the log-odds are pulled towards 0 by what the missing columns leave open. No
column says that a value is missing, because why one is missing seldom carries over to another hospital.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.bags import FloatArray

_EM_STEPS = 30


@dataclass(frozen=True)
class JointNormal:
    """Mean and covariance of the columns of a design, shapes (n_columns,) and (n_columns, n_columns)."""

    mean: FloatArray
    covariance: FloatArray

    @classmethod
    def fit(cls, x: FloatArray) -> JointNormal:
        """Maximum likelihood from rows with NaN, by expectation-maximisation (Little and Rubin 2019, 11.2).

        Covariances are then shrunk by n_rows / (n_rows + n_columns), so that with many columns none is
        guessed too boldly from the others. A column that is missing everywhere keeps mean 0 and variance 1.
        """
        absent: npt.NDArray[np.bool_] = np.asarray(np.isnan(x).all(axis=0))
        start = np.where(np.isnan(x), 0.0, x)
        counts = np.maximum((~np.isnan(x)).sum(0), 1)
        mean = start.sum(0) / counts
        variance = (np.where(np.isnan(x), 0.0, x - mean) ** 2).sum(0) / counts
        normal = cls(mean, np.diag(np.where(absent, 1.0, variance + 1e-6)))
        for _ in range(_EM_STEPS if np.isnan(x).any() else 1):
            normal = normal._em_step(x, absent)
        diagonal = np.diag(np.diag(normal.covariance))
        trust = len(x) / (len(x) + x.shape[1])
        return cls(normal.mean, diagonal + trust * (normal.covariance - diagonal))

    def _em_step(self, x: FloatArray, absent: npt.NDArray[np.bool_]) -> JointNormal:
        filled, open_covariance = np.empty_like(x), np.zeros_like(self.covariance)
        for rows, _, expected, residual in self._patterns(x):
            filled[rows] = expected
            open_covariance += len(rows) * residual
        mean = np.where(absent, 0.0, filled.mean(0))
        centred = filled - mean
        covariance = (centred.T @ centred + open_covariance) / len(x) + 1e-6 * np.eye(x.shape[1])
        covariance[absent, :] = covariance[:, absent] = 0.0
        covariance[absent, absent] = 1.0
        return JointNormal(mean, covariance)

    def complete(self, x: FloatArray) -> FloatArray:
        """`x` with every NaN replaced by its expectation given the rest of its row."""
        out = x.copy()
        for rows, missing, expected, _ in self._patterns(x):
            if missing.any():
                out[rows] = expected
        return out

    def possible(self, x: FloatArray, draws: int) -> Iterator[FloatArray]:
        """`x` filled in `draws` ways that its missing values may have; the same ways at every call."""
        roots = [
            (rows, expected, _root(residual))
            for rows, missing, expected, residual in self._patterns(x)
            if missing.any()
        ]
        rng = np.random.default_rng(0)
        for _ in range(draws):
            out, noise = x.copy(), rng.standard_normal(x.shape[1])
            for rows, expected, root in roots:
                out[rows] = expected + root @ noise
            yield out

    def open_variance(self, x: FloatArray, coef: FloatArray) -> FloatArray:
        """Variance of `x @ coef` that the missing values of each row leave open, shape (n_rows,)."""
        out = np.zeros(len(x))
        for rows, missing, _, residual in self._patterns(x):
            if missing.any():
                out[rows] = coef @ residual @ coef
        return out

    def _patterns(
        self, x: FloatArray
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], FloatArray, FloatArray]]:
        """Per pattern of missing columns: its rows, the pattern, the filled rows, the residual covariance."""
        patterns, which = np.unique(np.isnan(x), axis=0, return_inverse=True)
        for i, missing in enumerate(patterns):
            rows, seen = np.flatnonzero(which.ravel() == i), ~missing
            expected, residual = x[rows].copy(), np.zeros_like(self.covariance)
            if missing.any():
                block = self.covariance[np.ix_(missing, seen)]
                slope = np.linalg.solve(self.covariance[np.ix_(seen, seen)], block.T).T
                expected[:, missing] = self.mean[missing] + (x[rows][:, seen] - self.mean[seen]) @ slope.T
                residual[np.ix_(missing, missing)] = (
                    self.covariance[np.ix_(missing, missing)] - slope @ block.T
                )
            yield rows, missing, expected, residual


def _root(covariance: FloatArray) -> FloatArray:
    """Matrix whose product with its transpose is `covariance`, which may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def averaged_logit(logit: FloatArray, variance: FloatArray) -> FloatArray:
    """Log-odds of the mean probability when the log-odds are normal with `variance`.

    MacKay 1992, "The evidence framework applied to classification networks", equation for κ(s²).
    """
    return logit / np.sqrt(1.0 + np.pi * variance / 8.0)

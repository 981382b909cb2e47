"""From clusters of a patient's cells to a probability: the best of many classical classifiers, calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import logit

from lymphoscope.cohort.bags import FloatArray, IntArray
from lymphoscope.models.clusters.classifiers import (
    DEFAULT,
    Comparison,
    compare,
    fit_classifier,
    scores,
)
from lymphoscope.models.clusters.features import PatientFeatures, patient_table
from lymphoscope.models.inner_folds import inner_folds
from lymphoscope.models.patient_calibration import PatientCalibration


@dataclass(frozen=True)
class PatientClassifier:
    """A classifier and what it was fitted on, so that it can be fitted again.

    Attributes
    ----------
    table, labels : training patients in an order of their own, (n_patients, n_clusters + 5) as
        `patient_table` gives them, and (n_patients,).
    compared : how every classifier did on training patients held out in inner folds; of none where a class
        has a single patient.
    chosen : name of the one that was kept.
    calibration : from its scores to probabilities, learned from the held-out patients.
    seed : of every classifier.
    """

    table: FloatArray
    labels: IntArray
    compared: Comparison
    chosen: str
    calibration: PatientCalibration
    seed: int

    @classmethod
    def learn(cls, table: FloatArray, y: IntArray, names: Sequence[str], seed: int) -> PatientClassifier:
        """Compare the classifiers `names` in five stratified inner folds, and keep the best."""
        held_out, prevalence = inner_folds(table, y, 1, seed), float(y.mean())
        if len(held_out) == 0:
            nothing = Comparison((), np.empty((0, 0)), np.empty((0, 0), dtype=np.int8), np.empty(0, np.int64))
            chosen = DEFAULT if DEFAULT in names else names[0]
            return cls(table, y, nothing, chosen, PatientCalibration(1.0, 0.0), seed)
        compared = compare(names, table, y, held_out, seed)
        best = compared.best(y)
        calibration = PatientCalibration.fit(compared.scores[best], y, prevalence)
        return cls(table, y, compared, compared.names[best], calibration, seed)

    @cached_property
    def features(self) -> PatientFeatures:
        """What the training patients say of the columns."""
        return PatientFeatures.fit(self.table)

    @cached_property
    def _classifier(self) -> Any:
        return fit_classifier(self.chosen, self.features.inputs(self.table), self.labels, self.seed)

    def probability(self, counts: IntArray, clinical: FloatArray) -> FloatArray:
        """Of malignancy, (n_patients,), from the cells of each patient in each cluster.

        The prevalence where the classifier's answer is no number.
        """
        score = scores(self._classifier, self.features.inputs(patient_table(counts, clinical)))
        p = self.calibration.probability(np.nan_to_num(score))
        return np.where(np.isfinite(score), p, self.labels.mean())

    def held_out_probability(self) -> FloatArray:
        """Of training patients while they were held out, (n_patients,); the prevalence without folds."""
        if not self.compared.names:
            return np.full(len(self.labels), self.labels.mean())
        return self.calibration.probability(self.compared.scores[self.compared.names.index(self.chosen)])

    def left_out(
        self, counts: IntArray, clinical: FloatArray, owner: IntArray, cluster: IntArray
    ) -> FloatArray:
        """How much the log-odds of its patient fall without each cell, (n_cells,).

        Parameters
        ----------
        counts, clinical : of the patients, as in `probability`.
        owner, cluster : of each cell. Cells of one patient in one cluster say the same, and are asked once.
        """
        n_clusters = counts.shape[1]
        pairs, which = np.unique(owner * n_clusters + cluster, return_inverse=True)
        patient, left = np.divmod(pairs, n_clusters)
        without = counts[patient] - np.eye(n_clusters, dtype=np.int64)[left]
        whole, rest = self.probability(counts, clinical), self.probability(without, clinical[patient])
        return np.asarray((_log_odds(whole[patient]) - _log_odds(rest))[which.ravel()])


def _log_odds(p: FloatArray) -> FloatArray:
    return np.asarray(logit(np.clip(p, 1e-12, 1 - 1e-12)))

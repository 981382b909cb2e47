"""From clusters of a patient's cells to a probability: the best of many classical classifiers, calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logit

from lymphoscope.cohort.bags import FloatArray, IntArray
from lymphoscope.models.clusters.classifiers import DEFAULT, Comparison, compare
from lymphoscope.models.clusters.features import PatientFeatures, patient_table
from lymphoscope.models.clusters.kept import KeptClassifier
from lymphoscope.models.inner_folds import inner_folds
from lymphoscope.models.patient_calibration import PatientCalibration


@dataclass(frozen=True)
class PatientClassifier:
    """What is needed to answer for new patients, and nothing more of the training patients.

    Attributes
    ----------
    features : mean, least and greatest value and 90th percentile of each column.
    chosen : name of the classifier that was kept.
    classifier : what is kept of it; see there for the few that hold training patients.
    calibration : from its scores to probabilities, learned from held-out training patients.
    prevalence : share of malignant training patients.
    """

    features: PatientFeatures
    chosen: str
    classifier: KeptClassifier
    calibration: PatientCalibration
    prevalence: float

    @classmethod
    def learn(
        cls, table: FloatArray, y: IntArray, names: Sequence[str], seed: int
    ) -> tuple[PatientClassifier, Comparison]:
        """Compare the classifiers `names` in five stratified inner folds, and keep the best.

        Parameters
        ----------
        table : as `patient_table` gives it, (n_patients, n_clusters + 5).

        Returns
        -------
        what was learned, and how every classifier did on held-out training patients: none where a class has
        a single patient.
        """
        held_out, prevalence = inner_folds(table, y, 1, seed), float(y.mean())
        features = PatientFeatures.fit(table)
        if len(held_out):
            compared = compare(names, table, y, held_out, seed)
            best = compared.best(y)
            chosen = compared.names[best]
            calibration = PatientCalibration.fit(compared.scores[best], y, prevalence)
        else:
            compared = Comparison.of_nothing(len(y))
            chosen = DEFAULT if DEFAULT in names else names[0]
            calibration = PatientCalibration(1.0, 0.0)
        classifier = KeptClassifier.fit(chosen, features.inputs(table), y, seed)
        return cls(features, chosen, classifier, calibration, prevalence), compared

    def probability(self, counts: IntArray, clinical: FloatArray) -> FloatArray:
        """Of malignancy, (n_patients,), from the cells of each patient in each cluster.

        The prevalence where the classifier's answer is no number.
        """
        score = self.classifier.score(self.features.inputs(patient_table(counts, clinical)))
        p = self.calibration.probability(np.nan_to_num(score))
        return np.where(np.isfinite(score), p, self.prevalence)

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


def held_out_probability(compared: Comparison, y: IntArray) -> FloatArray:
    """Of training patients with labels `y` while held out, (n_patients,); their prevalence without folds.

    The patients of a fold have no say in which classifier answers for them, nor in how it is calibrated.
    """
    p = np.full(len(y), float(y.mean()))
    for fold in np.unique(compared.fold[compared.fold >= 0]):
        held, others = compared.fold == fold, compared.fold != fold
        known = compared.of(others)
        best = known.best(y[others])
        p[held] = known.calibrations(y[others])[best].probability(compared.scores[best, held])
    return p


def _log_odds(p: FloatArray) -> FloatArray:
    return np.asarray(logit(np.clip(p, 1e-12, 1 - 1e-12)))

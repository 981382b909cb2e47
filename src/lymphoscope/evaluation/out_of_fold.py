"""What a recipe said of patients that it had not seen, all folds together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.bags import Bags, FloatArray, IntArray
from lymphoscope.cohort.splits import Split
from lymphoscope.evaluation import pieces as store
from lymphoscope.stats.metrics import balanced_accuracy
from lymphoscope.training.balancing import BalanceCounts
from lymphoscope.training.curves import Epoch


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """What a recipe said about patients it had not seen.

    `n_tested` patients are those that are tested at all: everybody in cross-validation, the test side of a
    hold-out or of a fixed split. Every one of them is tested once per repeat.

    Attributes
    ----------
    recipe : its name.
    patients : int64 (n_tested,), ascending indices into the evaluated bags.
    patient_ids : their ids.
    y : int64 (n_tested,), their labels.
    lymphocyte_count : float64 (n_tested,), 10⁹/L, NaN where missing.
    probability : float64 (n_repeats, n_tested), from 0 to 1, never NaN.
    decision : int8 (n_repeats, n_tested), at the threshold of the fold's own model.
    threshold : float64 (n_repeats, n_tested), that threshold.
    fold : int64 (n_repeats, n_tested), the fold in which the patient was tested.
    training_correct : float64 (n_repeats, n_patients): how often, among the models of a repeat that were
        trained on a patient, its training label was repeated; NaN where none was trained on it. Networks are
        shown at most 16 cells of each for it.
    training_patients, training_y : indices and labels of the patients in the columns of `training_correct`.
    training_balanced_accuracy : float64 (n_splits,), of each fitted model on its own training patients.
    referral_threshold : float64 (n_repeats, n_tested) or None if not asked for: probability at and above
        which flow cytometry is advised, chosen within the training patients for `wished_sensitivity`.
    wished_sensitivity : or None.
    refit_low, refit_high : float64 (n_tested,) or None if not asked for: bounds of the probability in the
        first repeat, 2.5th and 97.5th percentile of models refitted on bootstrap samples of the fold's
        training patients.
    splits : repeat and fold of each split, both from 0.
    settings : per split, what the model chose itself (its `chosen_`), empty where it says nothing.
    histories : per split, what was measured after every epoch of a model that is trained in epochs.
    balancing : per split, what balancing did to an epoch's patients and cells; None where it did nothing.
    evidence : per tested patient, `cell_evidence` of its cells in the first repeat, from the model that was
        not fitted on it; None where the model cannot say.
    shares : how much of the decision on each tested patient came from where, (n_tested,) by name, in the
        first repeat; empty where the model cannot say.
    optimistic : the epoch was chosen on the patients that were scored.
    transductive : the cells of the patients that were scored, without anything else, took part in learning.
    untrained : the model builds on weights that have learned nothing: a test of the software, never ranked.
    mean_training_patients : number of patients a model was trained on, mean over splits.
    n_patients : patients in all splits, trained on or tested.
    seconds : fitting and predicting, summed over splits.
    """

    recipe: str
    patients: IntArray
    patient_ids: tuple[str, ...]
    y: IntArray
    lymphocyte_count: FloatArray
    probability: FloatArray
    decision: npt.NDArray[np.int8]
    threshold: FloatArray
    fold: IntArray
    training_correct: FloatArray
    training_patients: IntArray
    training_y: IntArray
    training_balanced_accuracy: FloatArray
    referral_threshold: FloatArray | None
    wished_sensitivity: float | None
    refit_low: FloatArray | None
    refit_high: FloatArray | None
    splits: tuple[tuple[int, int], ...]
    settings: tuple[dict[str, Any], ...]
    histories: tuple[tuple[Epoch, ...], ...]
    balancing: tuple[BalanceCounts | None, ...]
    evidence: tuple[FloatArray | None, ...]
    shares: dict[str, FloatArray]
    optimistic: bool
    untrained: bool
    transductive: bool
    mean_training_patients: float
    n_patients: int
    seconds: float

    @property
    def n_repeats(self) -> int:
        """How often every tested patient was tested."""
        return len(self.probability)

    @property
    def correct(self) -> FloatArray:
        """Share of the repeats in which the decision was right, shape (n_tested,)."""
        return (self.decision == self.y).mean(0)

    @property
    def mean_probability(self) -> FloatArray:
        """Mean over repeats, shape (n_tested,)."""
        return self.probability.mean(0)


def assemble(
    name: str,
    bags: Bags,
    y: IntArray,
    splits: Sequence[Split],
    pieces: Sequence[store.Arrays],
    wished_sensitivity: float | None,
    *,
    optimistic: bool,
    untrained: bool,
    transductive: bool,
) -> OutOfFold:
    """What all folds found, patient by patient; `pieces` in the order of `splits`."""
    repeats = max(split.repeat for split in splits) + 1
    tested = np.unique(np.concatenate([split.test for split in splits]))
    trained = np.unique(np.concatenate([split.train for split in splits]))
    column = np.full(len(y), -1)
    column[tested] = np.arange(len(tested))
    shape = (repeats, len(tested))
    probability, threshold, referral = (np.full(shape, np.nan) for _ in range(3))
    decision, fold = np.full(shape, -1, dtype=np.int8), np.full(shape, -1, dtype=np.int64)
    refits = np.full((len(pieces[0]["refits"]), len(tested)), np.nan)
    correct, times = np.zeros((repeats, len(y))), np.zeros((repeats, len(y)))
    evidence: list[FloatArray | None] = [None] * len(tested)
    shares: dict[str, FloatArray] = {}
    for split, piece in zip(splits, pieces, strict=True):
        at = (split.repeat, column[split.test])
        if (fold[at] >= 0).any() or np.intersect1d(split.train, split.test).size:
            raise ValueError(f"splits: repeat {split.repeat} tests a patient twice or trains on it")
        probability[at], decision[at], fold[at] = piece["probability"], piece["decision"], split.fold
        threshold[at], referral[at] = float(piece["threshold"]), float(piece["referral"])
        if split.repeat == 0:
            refits[:, column[split.test]] = piece["refits"]
            sources = json.loads(piece["share_names"].tobytes())
            for source, share in zip(sources, piece["shares"], strict=True):
                shares.setdefault(source, np.full(len(tested), np.nan))[column[split.test]] = share
            if len(piece["evidence"]):
                cells = np.split(piece["evidence"], np.cumsum(bags.counts[split.test])[:-1])
                for i, each in zip(column[split.test], cells, strict=True):
                    evidence[i] = each
        correct[split.repeat, split.train] += piece["training_decision"] == y[split.train]
        times[split.repeat, split.train] += 1
    if (fold < 0).any():
        raise ValueError("splits: every repeat must test the same patients")
    with np.errstate(invalid="ignore"):
        training_correct = (correct / times)[:, trained]
    bounds = np.quantile(refits, [0.025, 0.975], axis=0) if len(refits) else None
    return OutOfFold(
        recipe=name,
        patients=tested,
        patient_ids=tuple(bags.patient_ids[i] for i in tested),
        y=y[tested],
        lymphocyte_count=bags.clinical[tested, 2],
        probability=probability,
        decision=decision,
        threshold=threshold,
        fold=fold,
        training_correct=training_correct,
        training_patients=trained,
        training_y=y[trained],
        training_balanced_accuracy=np.array(
            [
                balanced_accuracy(y[split.train], piece["training_decision"])
                for split, piece in zip(splits, pieces, strict=True)
            ]
        ),
        referral_threshold=None if wished_sensitivity is None else referral,
        wished_sensitivity=wished_sensitivity,
        refit_low=None if bounds is None else bounds[0],
        refit_high=None if bounds is None else bounds[1],
        splits=tuple((split.repeat, split.fold) for split in splits),
        settings=tuple(json.loads(piece["settings"].tobytes()) for piece in pieces),
        histories=tuple(
            tuple(Epoch.from_dict(each) for each in json.loads(piece["history"].tobytes()))
            for piece in pieces
        ),
        balancing=tuple(_balance_counts(json.loads(piece["balance"].tobytes())) for piece in pieces),
        evidence=tuple(evidence),
        shares=shares,
        optimistic=optimistic,
        untrained=untrained,
        transductive=transductive,
        mean_training_patients=float(np.mean([len(split.train) for split in splits])),
        n_patients=len(np.union1d(tested, trained)),
        seconds=float(sum(float(piece["seconds"]) for piece in pieces)),
    )


def _balance_counts(values: dict[str, list[int]] | None) -> BalanceCounts | None:
    """From the names and pairs that a piece holds."""
    if values is None:
        return None
    return BalanceCounts(**{name: (reactive, malignant) for name, (reactive, malignant) in values.items()})

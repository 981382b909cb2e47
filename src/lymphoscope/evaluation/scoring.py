"""Score predictions whose labels came later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lymphoscope.cohort.table_text import TableText, read_table_text
from lymphoscope.errors import InputError
from lymphoscope.stats.intervals import Interval, PatientBootstrap, clopper_pearson, percentile_interval
from lymphoscope.stats.metrics import auc, brier, pair_wins, squared_error

ID_NAMES = ("id", "patient", "patient_id", "patientid")
VALUE_NAMES = ("predicted", "prediction", "probability", "label", "target", "y")
"""Column names known for the patient and for the answer, in lower case; the first that is there is taken."""

NAMED = 5
"""How many ids a message names before it only counts."""


@dataclass(frozen=True)
class Score:
    """How good predictions were.

    Attributes
    ----------
    n_malignant, n_reactive : patients scored.
    n_unlabelled : predicted patients whose true label is still unknown (-1 or empty); not scored.
    kind : "decisions" where every prediction is 0 or 1 and no threshold was given, else "probabilities".
    threshold : probability at and above which a patient counts as called malignant; None where decisions
        were given.
    balanced_accuracy : with a patient bootstrap's interval.
    sensitivity, specificity : with exact (Clopper-Pearson) intervals.
    auc, brier : of probabilities; None where decisions alone are given.
    missed, false_alarms : ids of malignant patients called reactive, and the other way round.
    sentence : the same in words.
    """

    n_malignant: int
    n_reactive: int
    n_unlabelled: int
    kind: str
    threshold: float | None
    balanced_accuracy: Interval
    sensitivity: Interval
    specificity: Interval
    auc: Interval | None
    brier: Interval | None
    missed: tuple[str, ...]
    false_alarms: tuple[str, ...]
    sentence: str

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        names = ("balanced_accuracy", "sensitivity", "specificity", "auc", "brier")
        intervals: dict[str, Interval | None] = {name: getattr(self, name) for name in names}
        return {
            "n_malignant": self.n_malignant,
            "n_reactive": self.n_reactive,
            "n_unlabelled": self.n_unlabelled,
            "kind": self.kind,
            "threshold": self.threshold,
            **{name: None if value is None else value.as_dict() for name, value in intervals.items()},
            "missed": list(self.missed),
            "false_alarms": list(self.false_alarms),
            "sentence": self.sentence,
        }


@dataclass(frozen=True)
class Answers:
    """One number per patient, from a file or from memory.

    Attributes
    ----------
    ids : patients, as written.
    values : 0, 1, or a probability for predictions; 0, 1 or -1 for the truth.
    file, column, lines : where they come from, for messages: the column's name and the line of each value.
    """

    ids: tuple[str, ...]
    values: tuple[float, ...]
    file: Path | None = None
    column: str | None = None
    lines: tuple[int, ...] = ()


def score(
    predictions: Answers,
    truth: Answers,
    *,
    probabilities: Answers | None = None,
    threshold: float | None = None,
    replicates: int = 2000,
    seed: int = 0,
) -> Score:
    """Compare predictions with the truth, patient by patient.

    Parameters
    ----------
    predictions : 0 or 1, or probabilities of malignancy, one per patient.
    truth : 1 malignant, 0 reactive, -1 still unknown.
    probabilities : of the same patients, where `predictions` are decisions: for AUC and Brier score.
    threshold : to decide from the probabilities, also where decisions stand beside them; without, decisions
        are taken as they are, and probabilities are cut at 0.5.

    Raises
    ------
    InputError : an id twice, a patient without prediction or without truth, a value or threshold out of
        range, a threshold for decisions alone, or one class only.
    """
    if threshold is not None and not 0.0 <= threshold <= 1.0:
        raise InputError("this is no threshold for a probability", found=threshold, allowed="0 to 1")
    for answers, what in ((predictions, "predictions"), (truth, "truth")):
        _check_once(answers, what)
    given = dict(zip(predictions.ids, predictions.values, strict=True))
    labels = dict(zip(truth.ids, truth.values, strict=True))
    _check_same(given, labels, predictions, truth)
    _check_values(predictions, (0.0, 1.0), whole=False)
    _check_values(truth, (-1.0, 1.0), whole=True)
    scored = [patient for patient in truth.ids if labels[patient] >= 0]
    y = np.array([labels[patient] for patient in scored], dtype=int) == 1
    p = np.array([given[patient] for patient in scored], dtype=np.float64)
    if not y.any() or y.all():
        raise InputError(
            "the true labels hold one class only, so that nothing can be scored",
            file=truth.file,
            found=f"{int(y.sum())} malignant and {int((~y).sum())} reactive patients",
            allowed="at least one patient of each class",
        )
    decided = bool(np.isin(list(predictions.values), (0.0, 1.0)).all())
    called = p == 1.0
    if probabilities is not None:
        _check_values(probabilities, (0.0, 1.0), whole=False)
        said = dict(zip(probabilities.ids, probabilities.values, strict=True))
        p = np.array([said[patient] for patient in scored], dtype=np.float64)
    ranked = None if decided and probabilities is None else p
    if threshold is not None and ranked is None:
        raise InputError(
            "a threshold needs probabilities, and these are decisions",
            file=predictions.file,
            column=predictions.column,
            found=threshold,
            remedy="Leave out the threshold, or name the column of probabilities.",
        )
    if threshold is None and not decided:
        threshold = 0.5
    if threshold is not None:
        called = p >= threshold
    unlabelled = len(labels) - len(scored)
    return _score(scored, y, called, ranked, unlabelled, threshold, replicates, seed)


def score_files(
    predictions: Path,
    truth: Path,
    *,
    id_column: str | None = None,
    prediction_column: str | None = None,
    truth_column: str | None = None,
    threshold: float | None = None,
    seed: int = 0,
) -> Score:
    """`score` for two tables of delimited text.

    Parameters
    ----------
    id_column : name of the patients' column in both tables; default: a common name such as `ID`.
    prediction_column, truth_column : names of the answers' columns; default: `Predicted`, `LABEL`, …
        A table that holds decisions and, beside them, a column `probability` gives both.
    """
    both = prediction_column is None and _has_columns(predictions, ("predicted", "probability"))
    return score(
        read_answers(predictions, id_column, prediction_column),
        read_answers(truth, id_column, truth_column, empty=-1.0),
        probabilities=read_answers(predictions, id_column, "probability") if both else None,
        threshold=threshold,
        seed=seed,
    )


def read_answers(
    path: Path, id_column: str | None = None, value_column: str | None = None, empty: float | None = None
) -> Answers:
    """Ids and numbers from a table; an empty field becomes `empty`, or is an `InputError` if that is None."""
    known = {*ID_NAMES, *VALUE_NAMES, *(name.lower() for name in (id_column, value_column) if name)}
    table = read_table_text(path, lambda name: name.strip().lower() in known)
    named = _column(table, id_column, ID_NAMES, "patient")
    ids = table.column(named)
    if "" in ids:
        line = table.lines[ids.index("")]
        raise InputError("the id is empty", file=path, row=line, column=table.header[named])
    at = _column(table, value_column, VALUE_NAMES, "answer")
    values = []
    for text, line in zip(table.column(at), table.lines, strict=True):
        try:
            values.append(empty if empty is not None and not text else float(text))
        except ValueError:
            raise InputError(
                "this is no number",
                file=path,
                row=line,
                column=table.header[at],
                found=text,
                allowed="0, 1 or a probability with a decimal point",
            ) from None
    return Answers(tuple(ids), tuple(values), path, table.header[at], table.lines)


def _has_columns(path: Path, names: Sequence[str]) -> bool:
    table = read_table_text(path, lambda name: name.strip().lower() in {*ID_NAMES, *VALUE_NAMES})
    return set(names) <= {name.strip().lower() for name in table.header}


def _column(table: TableText, wanted: str | None, known: Sequence[str], what: str) -> int:
    lower = [name.strip().lower() for name in table.header]
    if wanted in table.header:
        return table.header.index(wanted)
    for name in known if wanted is None else [wanted.lower()]:
        if name in lower:
            return lower.index(name)
    raise InputError(
        f"no column names the {what}",
        file=table.file,
        found=wanted or ", ".join(table.header),
        allowed=", ".join(table.header) if wanted else ", ".join(known),
        remedy="Name the column.",
    )


def _score(
    ids: Sequence[str],
    y: np.ndarray,
    called: np.ndarray,
    p: np.ndarray | None,
    n_unlabelled: int,
    threshold: float | None,
    replicates: int,
    seed: int,
) -> Score:
    right = (called == y).astype(np.float64)
    draws = PatientBootstrap(y, replicates, seed)
    n_malignant, n_reactive = int(y.sum()), int((~y).sum())
    accuracy = percentile_interval(0.5 * (right[y].mean() + right[~y].mean()), draws.balanced(right))
    missed = tuple(patient for patient, bad in zip(ids, y & ~called, strict=True) if bad)
    false_alarms = tuple(patient for patient, bad in zip(ids, ~y & called, strict=True) if bad)
    return Score(
        n_malignant,
        n_reactive,
        n_unlabelled,
        "decisions" if threshold is None else "probabilities",
        threshold,
        accuracy,
        clopper_pearson(n_malignant - len(missed), n_malignant),
        clopper_pearson(n_reactive - len(false_alarms), n_reactive),
        None if p is None else percentile_interval(auc(y, p), draws.pairs(pair_wins(y, p))),
        None if p is None else percentile_interval(brier(y, p), draws.mean(squared_error(y, p))),
        missed,
        false_alarms,
        f"Balanced accuracy {accuracy.estimate:.3f} ({accuracy.low:.3f} to {accuracy.high:.3f}) on "
        f"{n_malignant} malignant and {n_reactive} reactive patients: {len(missed)} missed, "
        f"{len(false_alarms)} false alarms.",
    )


def _check_once(answers: Answers, what: str) -> None:
    twice = [patient for patient, times in Counter(answers.ids).items() if times > 1]
    if twice:
        raise InputError(
            f"{_count(twice)} more than once in the {what}",
            file=answers.file,
            found=_some(twice),
            remedy="Keep one row per patient.",
        )


def _check_same(
    given: dict[str, float], labels: dict[str, float], predictions: Answers, truth: Answers
) -> None:
    without = [patient for patient in truth.ids if patient not in given and labels[patient] >= 0]
    if without:
        raise InputError(
            f"{_count(without)} without a prediction",
            file=predictions.file,
            found=_some(without),
            remedy="Predict every patient of the truth, or leave it out of the truth.",
        )
    unknown = [patient for patient in predictions.ids if patient not in labels]
    if unknown:
        raise InputError(
            f"{_count(unknown)} predicted but not in the truth",
            file=truth.file,
            found=_some(unknown),
            remedy="Add them to the truth with label -1 if it is still unknown.",
        )


def _check_values(answers: Answers, bounds: tuple[float, float], whole: bool) -> None:
    low, high = bounds
    for i, (patient, value) in enumerate(zip(answers.ids, answers.values, strict=True)):
        if not low <= value <= high or (whole and value != int(value)):
            raise InputError(
                f"patient {patient} has a value that is not allowed",
                file=answers.file,
                row=answers.lines[i] if answers.lines else None,
                column=answers.column,
                found=value,
                allowed="1 malignant, 0 reactive, -1 unknown"
                if whole
                else "0, 1 or a probability from 0 to 1",
            )


def _count(ids: Sequence[str]) -> str:
    return "one patient stands" if len(ids) == 1 else f"{len(ids)} patients stand"


def _some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return ", ".join(ids[:NAMED]) + more

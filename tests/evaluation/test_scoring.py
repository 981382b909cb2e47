from __future__ import annotations

from pathlib import Path

import pytest

from lymphoscope.errors import InputError
from lymphoscope.evaluation.scoring import Answers, score, score_files
from lymphoscope.files import to_json

TRUTH = Answers(("P1", "P2", "P3", "P10"), (1, 1, 0, 0))


def answers(*values: float, ids: tuple[str, ...] = TRUTH.ids) -> Answers:
    return Answers(ids, values)


def test_decisions_are_scored_patient_by_patient_whatever_their_order() -> None:
    found = score(answers(0, 1, 1, 0, ids=("P10", "P1", "P3", "P2")), TRUTH)
    assert found.kind == "decisions"
    assert found.sensitivity.estimate == 0.5
    assert found.specificity.estimate == 0.5
    assert found.missed == ("P2",)
    assert found.false_alarms == ("P3",)
    assert found.auc is None
    assert found.brier is None
    to_json(found.as_dict())


def test_probabilities_are_ranked_too_and_cut_at_the_threshold() -> None:
    found = score(answers(0.9, 0.4, 0.3, 0.1), TRUTH)
    assert found.kind == "probabilities"
    assert found.auc is not None
    assert found.auc.estimate == 1.0
    assert found.missed == ("P2",)
    assert score(answers(0.9, 0.4, 0.3, 0.1), TRUTH, threshold=0.4).missed == ()


def test_a_threshold_decides_from_the_probabilities_that_stand_beside_decisions() -> None:
    decided, said = answers(1, 0, 0, 0), answers(0.9, 0.4, 0.3, 0.1)
    assert score(decided, TRUTH, probabilities=said).as_dict()["threshold"] is None
    found = score(decided, TRUTH, probabilities=said, threshold=0.2)
    assert (found.missed, found.false_alarms, found.kind) == ((), ("P3",), "probabilities")
    assert found.threshold == 0.2
    with pytest.raises(InputError, match="needs probabilities"):
        score(decided, TRUTH, threshold=0.2)


def test_a_perfect_score_still_has_an_interval() -> None:
    perfect = score(Answers(tuple(map(str, range(42))), (1,) * 29 + (0,) * 13), _truth42())
    assert perfect.balanced_accuracy.estimate == 1.0
    assert 0.85 < perfect.balanced_accuracy.low < 0.99
    assert perfect.balanced_accuracy.high == 1.0
    assert perfect.sensitivity.low == pytest.approx(0.025 ** (1 / 29))


def _truth42() -> Answers:
    return Answers(tuple(map(str, range(42))), (1,) * 29 + (0,) * 13)


def test_patients_whose_label_is_still_unknown_are_counted_not_scored() -> None:
    truth = Answers(TRUTH.ids, (1, 0, -1, -1))
    found = score(answers(1, 0, 1, 1), truth)
    assert (found.n_malignant, found.n_reactive, found.n_unlabelled) == (1, 1, 2)


@pytest.mark.parametrize(
    ("predictions", "truth", "message"),
    [
        (Answers(("P1", "P2", "P3"), (1, 1, 0)), TRUTH, "without a prediction.*P10"),
        (Answers((*TRUTH.ids, "P1"), (1, 1, 0, 0, 0)), TRUTH, "more than once in the predictions.*P1"),
        (answers(1, 1, 0, 0), Answers((*TRUTH.ids, "P2"), (1, 1, 0, 0, 1)), "more than once in the truth"),
        (Answers((*TRUTH.ids, "P99"), (1, 1, 0, 0, 0)), TRUTH, "not in the truth.*P99"),
        (answers(1, 1, 0, 2), TRUTH, "patient P10 has a value.*2"),
        (answers(1, 1, 0, float("nan")), TRUTH, "patient P10 has a value"),
        (answers(1, 1, 0, 0), Answers(TRUTH.ids, (1, 1, 0, 0.5)), "patient P10.*1 malignant"),
        (answers(1, 1, 0, 0), Answers(TRUTH.ids, (1, 1, 1, -1)), "one class only"),
    ],
)
def test_faults_name_the_patient(predictions: Answers, truth: Answers, message: str) -> None:
    with pytest.raises(InputError, match=message):
        score(predictions, truth)


def test_many_faults_are_counted_and_some_named() -> None:
    with pytest.raises(InputError, match=r"9 patients.*0, 1, 2, 3, 4 and 4 more"):
        score(Answers(("x",), (1,)), Answers(tuple(map(str, range(9))), (1,) * 5 + (0,) * 4))


def test_tables_are_read_in_the_usual_spellings(tmp_path: Path) -> None:
    predictions, truth = tmp_path / "submission.csv", tmp_path / "truth.csv"
    predictions.write_text("Id,Predicted\nP1,1\nP2,1\nP3,0\nP10,0\n")
    truth.write_text(";ID;LABEL;GENDER\n0;P10;0;F\n1;P3;0;M\n2;P2;1;M\n3;P1;1;f\n")
    assert score_files(predictions, truth).balanced_accuracy.estimate == 1.0
    truth.write_text("ID,LABEL\nP10,0\nP3,\nP2,1\nP1,1\n")
    assert score_files(predictions, truth).n_unlabelled == 1
    predictions.write_text("patient,mine\nP1,0.9\nP2,0.8\nP3,0.1\nP10,0.2\n")
    with pytest.raises(InputError, match=r"submission.csv.*no column names the answer.*patient, mine"):
        score_files(predictions, truth)
    truth.write_text("patient,LABEL\nP10,0\nP3,0\nP2,1\nP1,1\n")
    assert score_files(predictions, truth, prediction_column="mine").auc is not None


def test_decisions_and_probabilities_in_one_table_are_both_used(tmp_path: Path) -> None:
    predictions, truth = tmp_path / "submission.csv", tmp_path / "truth.csv"
    predictions.write_text("Id,Predicted,probability\nP1,1,0.7\nP2,0,0.6\nP3,0,0.65\nP10,0,0.2\n")
    truth.write_text("ID,LABEL\nP1,1\nP2,1\nP3,0\nP10,0\n")
    found = score_files(predictions, truth)
    assert found.missed == ("P2",)
    assert found.auc is not None
    assert found.auc.estimate == 0.75


@pytest.mark.parametrize(
    ("predicted", "label", "words"),
    [
        ("1.5", "1", r"submission.csv, row 4, column Predicted: patient P2 .*; found 1.5"),
        ("-0.1", "1", r"submission.csv, row 4, column Predicted: patient P2 .*; found -0.1"),
        ("nan", "1", r"submission.csv, row 4, column Predicted: patient P2 .*; found nan"),
        ("inf", "1", r"submission.csv, row 4, column Predicted: patient P2 .*; found inf"),
        ("1", "2", r"truth.csv, row 3, column LABEL: patient P2 .*; found 2.0"),
        ("1", "nan", r"truth.csv, row 3, column LABEL: patient P2 .*; found nan"),
    ],
)
def test_a_value_out_of_range_is_an_error_with_file_row_and_column(
    tmp_path: Path, predicted: str, label: str, words: str
) -> None:
    predictions, truth = tmp_path / "submission.csv", tmp_path / "truth.csv"
    predictions.write_text(f"Id,Predicted\nP1,1\n\nP2,{predicted}\n")
    truth.write_text(f"ID,LABEL\nP1,0\nP2,{label}\n")
    with pytest.raises(InputError, match=words):
        score_files(predictions, truth)


def test_what_is_no_number_is_an_error_with_file_row_and_column(tmp_path: Path) -> None:
    predictions, truth = tmp_path / "submission.csv", tmp_path / "truth.csv"
    predictions.write_text("Id,Predicted\nP1,1\nP2,high\n")
    truth.write_text("ID,LABEL\nP1,1\nP2,0\n")
    with pytest.raises(InputError, match=r"submission.csv, row 3, column Predicted.*'high'"):
        score_files(predictions, truth)

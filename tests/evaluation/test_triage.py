from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_models import Nearest, cohort

from lymphoscope.errors import InputError
from lymphoscope.evaluation.evaluator import evaluate
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.evaluation.triage import (
    NO_CELLS_NEEDED,
    advise,
    bootstrap_refits,
    choose_referral_threshold,
    refit_bounds,
    triage,
)
from lymphoscope.files import to_json
from lymphoscope.models.registry import create_model

BAGS, Y = cohort(120, signal=1.2)
PROTOCOL = Protocol(folds=4, repeats=3, wished_sensitivity=0.9, bootstrap=400)
FOUND = evaluate(Nearest(), BAGS, Y, PROTOCOL, refer=True, refits=20)


def one(p: float, low: float, high: float, **options: object) -> str:
    return advise(("P1",), np.array([p]), np.array([low]), np.array([high]), 0.4, **options)[0].decision  # type: ignore[arg-type]


def test_the_three_decisions() -> None:
    assert one(0.6, 0.5, 0.7) == "advised"
    assert one(0.2, 0.1, 0.3) == "not advised"
    assert one(0.45, 0.35, 0.5) == "cannot say"
    assert one(0.35, 0.3, 0.4) == "cannot say"
    # At the threshold a patient is referred.
    assert one(0.4, 0.4, 0.6) == "advised"


def test_nothing_is_said_on_few_cells_or_faulty_data() -> None:
    assert one(0.6, 0.5, 0.7, n_cells=np.array([9])) == "cannot say"
    assert one(0.6, 0.5, 0.7, n_cells=np.array([10])) == "advised"
    assert one(0.1, 0.0, 0.2, n_cells=np.array([3]), min_cells=2) == "not advised"
    assert one(0.1, 0.0, 0.2, with_errors=["P1"]) == "cannot say"
    assert one(0.1, 0.0, 0.2, with_errors=["P10"]) == "not advised"
    assert one(0.6, 0.5, 0.7, n_cells=np.array([NO_CELLS_NEEDED])) == "advised"
    assert one(0.6, 0.5, 0.7, n_cells=np.array([0])) == "cannot say"


def test_where_no_threshold_could_be_chosen_the_words_say_so() -> None:
    found = FOUND.out_of_fold
    assert found.referral_threshold is not None
    assert "The threshold was chosen for 90%." in triage(found, PROTOCOL).overall.sentence
    for fold, said in ((1, "For 25% of the patients"), (None, "For every patient")):
        without = (found.fold == fold) | (fold is None)
        fallen = replace(found, referral_threshold=np.where(without, 0.0, found.referral_threshold))
        decided = triage(fallen, PROTOCOL)
        assert f"{said} the training patients held too few malignant ones" in decided.overall.sentence
        assert "The threshold was chosen" not in decided.overall.sentence
        told = {each.reason for each, no in zip(decided.advice, without[0], strict=True) if no}
        assert told == {"no threshold could be chosen, so everybody is referred"}


def test_held_out_patients_are_counted_as_decided() -> None:
    found = triage(FOUND.out_of_fold, PROTOCOL)
    decisions = np.array([each.decision for each in found.advice])
    spared = decisions == "not advised"
    whole = found.overall
    assert whole.sensitivity is not None
    assert whole.tests_saved is not None
    assert whole.share_referred is not None
    assert whole.share_cannot_say is not None
    assert whole.sensitivity.estimate == pytest.approx(1 - spared[Y == 1].mean())
    assert whole.tests_saved.estimate == pytest.approx(spared.mean())
    assert whole.share_referred.estimate == pytest.approx(1 - spared.mean())
    assert whole.share_referred.low == pytest.approx(1 - whole.tests_saved.high)
    assert whole.share_cannot_say.estimate == pytest.approx((decisions == "cannot say").mean())
    assert 0 < whole.share_cannot_say.estimate < 1
    # Doubtful patients are referred too: nobody more is missed than by the threshold alone.
    bare = triage(evaluate(Nearest(), BAGS, Y, PROTOCOL, refer=True).out_of_fold, PROTOCOL)
    assert bare.overall.share_cannot_say is not None
    assert bare.overall.sensitivity is not None
    assert bare.overall.share_cannot_say.estimate == 0
    assert whole.sensitivity.estimate >= bare.overall.sensitivity.estimate
    to_json(found.as_dict())
    to_json([each.as_dict() for each in found.advice])


def test_without_referral_thresholds_there_is_no_triage() -> None:
    with pytest.raises(ValueError, match="without a referral threshold"):
        triage(evaluate(Nearest(), BAGS, Y, PROTOCOL).out_of_fold, PROTOCOL)


def test_the_wished_sensitivity_is_kept_on_patients_not_seen() -> None:
    kept = []
    for seed in range(12):
        bags, y = cohort(120, signal=1.2, seed=100 + seed)
        found = evaluate(Nearest(), bags, y, Protocol(folds=4, repeats=1, wished_sensitivity=0.9), refer=True)
        kept.append(triage(found.out_of_fold, found.protocol).threshold_only_overall.sensitivity.estimate)  # type: ignore[union-attr]
    assert np.mean(kept) > 0.9 - 3 * 0.3 / np.sqrt(12 * 80)
    assert np.mean(kept) < 0.97


def test_the_threshold_for_new_patients_comes_from_patients_held_out() -> None:
    threshold = choose_referral_threshold(Nearest(), BAGS, Y, 0.9)
    fitted = Nearest().fit(BAGS, Y)
    apparent = np.sort(fitted.predict_proba(BAGS)[Y == 1, 1])
    assert 0 < threshold < 1
    assert choose_referral_threshold(Nearest(), BAGS, Y, 0.9) == threshold
    assert threshold not in apparent


def test_refits_hold_the_probability_and_do_not_depend_on_processes() -> None:
    new, _ = cohort(6, seed=9)
    p = Nearest().fit(BAGS, Y).predict_proba(new)[:, 1]
    low, high = refit_bounds(bootstrap_refits(Nearest(), BAGS, Y, 30, seed=1), new, p)
    assert (low <= p).all()
    assert (p <= high).all()
    assert (low < high).all()
    again = refit_bounds(bootstrap_refits(Nearest(), BAGS, Y, 30, seed=1, jobs=2), new, p)
    assert np.array_equal(low, again[0])
    assert np.array_equal(high, again[1])
    other = refit_bounds(bootstrap_refits(Nearest(), BAGS, Y, 30, seed=2), new, p)
    assert not np.array_equal(low, other[0])
    assert (refit_bounds(bootstrap_refits(Nearest(), BAGS, Y, 5), new, np.ones(6))[1] == 1).all()


def test_refits_work_with_a_single_patient_of_a_class() -> None:
    few = np.concatenate([np.flatnonzero(Y == 1)[:10], np.flatnonzero(Y == 0)[:1]])
    refits = bootstrap_refits(Nearest(), BAGS[few], Y[few], 10)
    assert all(each.threshold_ == 10 / 11 for each in refits)
    with pytest.raises(ValueError, match="n_refits"):
        bootstrap_refits(Nearest(), BAGS, Y, 1)
    with pytest.raises(InputError, match="networks are not refitted"):
        bootstrap_refits(create_model("mil-mean@smoke"), BAGS, Y, 2)

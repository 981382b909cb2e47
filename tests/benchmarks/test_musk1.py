"""MUSK1: what its figures are, rounds that are kept, and a table that nobody can type in."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from lymphoscope.stats.metrics import auc

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def musk1(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import musk1  # type: ignore[import-not-found]

    return musk1


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 bags of 1 to 4 rows in no order; in positive ones the first column is high."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("musk") / "bags.npz"
    y = np.arange(24) % 2
    bag = rng.permutation(np.repeat(np.arange(24), 1 + np.arange(24) % 4))
    rows = rng.normal(size=(len(bag), 5)).astype(np.float32)
    rows[:, 0] += 3 * y[bag]
    np.savez(path, X=rows, bag=bag, y=y)
    return path


def options(data: Path, out: Path, *more: str) -> list[str]:
    words = ["--data", str(data), "--rows", str(out / "rows"), "--out", str(out / "musk1.csv")]
    return [*words, "--heads", "mil-mean", "--settings", "recipe", "--folds", "2", "--rounds", "2", *more]


def test_rows_go_to_their_bags(musk1: ModuleType, data: Path) -> None:
    bags, y = musk1.load(data)
    stored = np.load(data)
    assert len(bags) == 24 and np.isnan(bags.clinical).all() and y.dtype == np.int64
    pooled = musk1.mean_min_max(bags)
    for i in (0, 7, 23):
        own = stored["X"][stored["bag"] == i]
        assert np.allclose(pooled[i], np.concatenate([own.mean(0), own.min(0), own.max(0)]), atol=1e-6)


def test_figures_of_one_round_in_one_fold_are_plain_ones(musk1: ModuleType) -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 60)
    scores = (rng.normal(size=(1, 60)) + y).round(1)
    found = musk1.figures(scores, np.zeros((1, 60), dtype=int), y)
    assert found["accuracy"] == pytest.approx(((scores[0] >= 0) == y).mean(), abs=1e-4)
    assert found["auc"] == pytest.approx(auc(y, scores[0]), abs=1e-4)
    assert found["auc_low"] < found["auc"] < found["auc_high"] and found["auc_sd"] == 0
    error = np.sqrt(found["accuracy"] * (1 - found["accuracy"]) / 60)  # of a share of 60
    assert (found["accuracy_high"] - found["accuracy_low"]) == pytest.approx(3.92 * error, rel=0.2)


def test_only_bags_of_one_fold_are_compared(musk1: ModuleType) -> None:
    y, fold = np.array([0, 1, 0, 1]), np.array([[0, 0, 1, 1], [0, 0, 1, 1]])
    scores = np.array([[1.0, 2.0, 11.0, 12.0], [2.0, 1.0, 11.0, 12.0]])  # another level in each fold
    found = musk1.figures(scores, fold, y)
    assert found["auc"] == 0.75 and found["auc_sd"] == pytest.approx(np.std([1, 0.5], ddof=1), abs=1e-4)


def test_rounds_are_kept_and_shown(
    musk1: ModuleType, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert musk1.main(options(data, tmp_path)) == 0
    table, page = tmp_path / "musk1.csv", tmp_path / "musk1.md"
    assert musk1.main(["--check", str(page)]) == 0
    rows, command, carried = musk1.check.__globals__["read"](table)
    assert [row.method for row in rows] == [*musk1.KERNELS, "mil-mean"]
    assert rows[-1].rounds == 2 and rows[-1].auc > 0.8
    assert "--heads mil-mean --settings recipe --rounds 2 --folds 2" in command
    assert carried in page.read_text("utf-8") and rows[-1].shown("auc") in page.read_text("utf-8")
    first = table.read_bytes()
    monkeypatch.setattr(musk1, "measure", lambda *_: pytest.fail("measured again"))
    assert musk1.main(options(data, tmp_path)) == 0
    assert table.read_bytes() == first
    assert musk1.main(options(data, tmp_path, "--only-show", "--rounds", "3")) == 0  # the third is not there
    with pytest.raises(pytest.fail.Exception, match="measured again"):
        musk1.main(options(data, tmp_path, "--seed", "1"))
    table.write_text(table.read_text("utf-8").replace("mil-mean,recipe,", "mil-mean,recipe,0"), "utf-8")
    assert musk1.main(["--check", str(table)]) == 1


def test_rows_that_are_not_asked_for_stay(musk1: ModuleType, data: Path, tmp_path: Path) -> None:
    words = options(data, tmp_path)
    musk1.main(words)
    first = musk1.read(tmp_path / "musk1.csv")[0]
    musk1.main([each.replace("mil-mean", "mil-max") for each in words])
    then = {row.method: row for row in musk1.read(tmp_path / "musk1.csv")[0]}
    assert {"mil-mean", "mil-max"} < set(then)
    assert then["mil-mean"] == next(row for row in first if row.method == "mil-mean")


def test_rows_of_other_folds_or_bags_do_not_stay(musk1: ModuleType, data: Path, tmp_path: Path) -> None:
    musk1.main(options(data, tmp_path))
    other = options(data, tmp_path, "--folds", "3")
    musk1.main([each.replace("mil-mean", "mil-max") for each in other])
    assert [row.method for row in musk1.read(tmp_path / "musk1.csv")[0]] == [*musk1.KERNELS, "mil-max"]
    with np.load(data) as stored:
        changed = {name: stored[name] for name in stored.files}
    np.savez(tmp_path / "bags.npz", **changed | {"X": changed["X"] + 1})
    musk1.main(options(tmp_path / "bags.npz", tmp_path, "--folds", "3"))
    assert [row.method for row in musk1.read(tmp_path / "musk1.csv")[0]] == [*musk1.KERNELS, "mil-mean"]


def test_the_published_setting_is_not_calibrated(musk1: ModuleType, data: Path) -> None:
    bags, y = musk1.load(data)
    split = musk1.repeated_stratified(y, folds=4, repeats=1, seed=0)[0]
    setting = musk1.Setting({**musk1.SETTINGS["fixed"].changes, "epochs": 2}, calibrated=False)
    scores = musk1.mil_scores("mil-mean", setting, bags, y, split)
    model = musk1.create_model("mil-mean", **setting.changes, random_state=0)
    model.fit(bags[split.train], y[split.train])
    assert len(model.history_) == 2 and model.chosen_ == {"epoch": 2}
    odds = musk1.logit(model.predict_proba(bags[split.test])[:, 1])
    plain = (odds - model.calibration_.offset) / model.calibration_.slope
    assert np.array_equal(scores >= 0, plain >= 0) and np.array_equal(np.argsort(scores), np.argsort(plain))

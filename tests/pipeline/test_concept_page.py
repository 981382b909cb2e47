"""What a run shows of an encoder's concepts: a portrait of each patient, and the classes compared."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up_encoder import made_up_encoder

from lymphoscope.cohort.bags import Bags
from lymphoscope.cohort.read import ReadOptions
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.pipeline import preparation
from lymphoscope.pipeline.concept_page import ALIKE, MOST_ROWS, compare_concepts
from lymphoscope.pipeline.plan import RunPlan
from lymphoscope.pipeline.portraits import portraits
from lymphoscope.pipeline.preparation import Prepared, prepare
from lymphoscope.pipeline.run import run

READING = ReadOptions(min_cells=4)
PLAN = RunPlan(
    reading=READING, protocol=Protocol(folds=2, repeats=1, bootstrap=100), recipe="clinical", refits=2
)
Y = np.array([1] * 9 + [0] * 8)
COLUMNS = (
    "concept_cell_type=lymphocyte", "concept_cell_type=monocyte",
    "concept_cell_size=big", "concept_cell_size=small",
    "concept_granule_type=coarse", "concept_granule_type=nil", "concept_granule_type=small",
)  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tiny_cohort: Path, cache: Path) -> Prepared:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparation, "create_encoder", lambda source: made_up_encoder())
        return prepare(tiny_cohort, READING, cache=cache, jobs=1)


def bags(seed: int = 0) -> Bags:
    """Malignant patients have small cells that are alike; everything else is drawn alike for both."""
    rng = np.random.default_rng(seed)
    cells = []
    for label in Y:
        n = int(rng.integers(8, 14))
        small = np.where(rng.random(n) < (0.95 if label else 0.55), 0.8, 0.2)
        mono, coarse = np.where(rng.random(n) < 0.2, 0.9, 0.1), np.where(rng.random(n) < 0.3, 0.8, 0.1)
        cells.append(
            np.column_stack([1 - mono, mono, 1 - small, small, coarse, 0.9 - coarse, coarse * 0 + 0.1])
        )
    return Bags.from_list(cells, columns=COLUMNS)


def test_the_classes_are_compared_by_their_patients_shares() -> None:
    given = bags()
    found = compare_concepts(given, Y, replicates=200, seed=0)
    assert found is not None
    rows = {row.words: row for row in found.rows}
    small = rows["small cell"]
    assert small.difference.effect.estimate > 0.6 and small.difference.adjusted < 0.05
    shares = [np.mean(given[i].cells[:, 3] > 0.5) for i in range(len(Y))]
    assert small.difference.malignant == pytest.approx(np.mean(np.array(shares)[Y == 1]))
    assert small.difference.reactive == pytest.approx(np.mean(np.array(shares)[Y == 0]))
    assert rows[ALIKE].difference.effect.estimate > 0.3 and not rows[ALIKE].is_share
    effects = [abs(row.difference.effect.estimate) for row in found.rows]
    assert effects == sorted(effects, reverse=True)
    assert (found.n_malignant, found.n_reactive) == (9, 8)


def test_each_thing_is_asked_once_and_rare_answers_not_at_all() -> None:
    found = compare_concepts(bags(), Y, replicates=50, seed=0)
    assert found is not None
    # Of two answers one; nil is no granules; small granules are never the likeliest.
    assert {row.words for row in found.rows} == {
        "small cell",
        "cell type: monocyte",
        "coarse granules",
        ALIKE,
    }
    assert found.n_compared == 4


def test_no_more_than_a_dozen_rows_and_p_values_of_all_that_was_asked() -> None:
    rng = np.random.default_rng(1)
    columns = [f"concept_task{i:02d}={answer}" for i in range(20) for answer in ("no", "yes")]
    yes = rng.random((len(Y), 10, 20))
    cells = [np.stack([1 - each, each], axis=2).reshape(10, 40) for each in yes]
    found = compare_concepts(Bags.from_list(cells, columns=columns), Y, replicates=50, seed=0)
    assert found is not None and len(found.rows) == MOST_ROWS and found.n_compared == 21
    assert (
        min(row.difference.p * 21 for row in found.rows)
        >= min(r.difference.adjusted for r in found.rows) - 1e-9
    )


def test_without_concepts_or_patients_nothing_is_compared() -> None:
    given = bags()
    assert compare_concepts(replace(given, columns=tuple("abcdefg")), Y, replicates=50, seed=0) is None
    assert compare_concepts(given[:9], Y[:9] * 0 + np.arange(9) // 8, replicates=50, seed=0) is None


def test_a_patients_portrait_is_of_the_patients_own_cells(prepared: Prepared) -> None:
    portrait = portraits(prepared.store, prepared.bags, strip=2)
    for i in (0, 5, len(prepared.bags) - 1):
        found = portrait(i)
        assert found is not None
        own = np.asarray(prepared.bags[i].select_columns(["concept_cell_size=small"]).cells)[:, 0]
        assert found.traits[0].words == "small cell"
        assert found.traits[0].share.estimate == pytest.approx(np.mean(own > 0.5))
        first, last = prepared.bags.offsets[i : i + 2]
        names = {path.rpartition("/")[2] for path in prepared.store.index.path[first:last]}
        shown = [cell.name for cell in (*found.typical, *found.untypical)]
        assert set(shown) <= names and len(set(shown)) == len(shown) == 4
        colours = np.asarray(prepared.bags[i].select_columns(
            ["embedding_000", "embedding_001", "embedding_002"]).cells)  # fmt: skip
        away = np.linalg.norm(colours - colours.mean(axis=0), axis=1)
        order = [prepared.store.index.path[first + k].rpartition("/")[2] for k in np.argsort(away)]
        assert [cell.name for cell in found.typical] == order[:2]
        assert [cell.name for cell in found.untypical] == order[:-3:-1]
        assert re.fullmatch(r"lymphocyte 0\.\d\d, (large|small) cell .*cytoplasm .*", found.typical[0].words)
        assert found.typical[0].kind == "lymph"


def test_one_cell_is_typical_and_not_odd(prepared: Prepared) -> None:
    one = replace(prepared.bags, cells=prepared.bags.cells[:1], offsets=np.array([0, 1] + [1] * 29))
    portrait = portraits(prepared.store, one, strip=4)
    found = portrait(0)
    assert found is not None and len(found.typical) == 1 and found.untypical == ()
    assert np.isnan(found.alike)
    assert portrait(1) is None  # no cells


def test_cells_that_are_surely_something_else_are_counted(prepared: Prepared) -> None:
    columns = list(prepared.bags.columns or ())
    cells = np.array(prepared.bags.cells)
    other = [columns.index(f"concept_cell_type={kind}") for kind in ("lymphocyte", "monocyte", "neutrophil")]
    cells[:2, other] = (0.02, 0.03, 0.95)
    found = portraits(prepared.store, replace(prepared.bags, cells=cells), strip=1)(0)
    assert found is not None and found.flagged == {"neutrophil": 2}


def test_a_report_with_an_encoder_says_what_cells_look_like(prepared: Prepared, tmp_path: Path) -> None:
    page = (run(prepared, tmp_path / "run", PLAN, jobs=1) / "report.html").read_text("utf-8")
    assert page.count('<tr class="portrait">') == 30
    assert '<section id="concepts">' in page and "concepts compared" in page
    assert len(re.findall(r'alt="typical cell \d+\.jpg: lymphocyte', page)) == 30 * 3


def test_a_report_without_an_encoder_says_nothing_of_it(
    tiny_cohort: Path, cache: Path, tmp_path: Path
) -> None:
    plain = prepare(tiny_cohort, READING, cache=cache, encoder=None, jobs=1)
    page = (run(plain, tmp_path / "run", PLAN, jobs=1) / "report.html").read_text("utf-8")
    assert 'class="portrait"' not in page and '<section id="concepts">' not in page
    assert "second line says" not in page

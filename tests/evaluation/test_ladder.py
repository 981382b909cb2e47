from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_models import cohort

from lymphoscope.evaluation.ladder import BESIDE, DEFAULT_LADDER, climb
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.files import to_json
from lymphoscope.models.registry import list_models

RUNGS = (
    ("rules", "rule-chakroun-2021"),
    ("rules", "rule-2008"),
    ("clinical", "clinical"),
    ("images", "morphology"),
    ("both", "morphology-clinical"),
)


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    bags, y = cohort(60, cells=8)
    bags = type(bags)(bags.cells, bags.offsets, bags.clinical, bags.patient_ids, ("nucleus_a", "cell_b"))
    protocol = Protocol(folds=3, repeats=2, bootstrap=200)
    return climb(
        bags,
        y,
        protocol,
        recipes=RUNGS,
        refer=["clinical"],
        refits=3,
        pieces=tmp_path_factory.mktemp("pieces"),
    )


def test_every_recipe_of_the_ladder_exists_and_rungs_rise() -> None:
    known = {info.name: info.cell_input for info in list_models()}
    assert all(recipe in known for _, recipe in DEFAULT_LADDER)
    assert [inputs for inputs, _ in DEFAULT_LADDER] == sorted(
        (inputs for inputs, _ in DEFAULT_LADDER), key=["rules", "clinical", "images", "both"].index
    )
    for inputs, recipe in DEFAULT_LADDER:
        assert (known[recipe] == "none") == (inputs in ("rules", "clinical"))


def test_rungs_share_folds_and_are_compared_with_those_below(ladder) -> None:  # type: ignore[no-untyped-def]
    assert [row.recipe for row in ladder.rows] == [recipe for _, recipe in RUNGS]
    folds = [row.evaluation.out_of_fold.fold for row in ladder.rows]
    assert all(np.array_equal(folds[0], each) for each in folds)
    others = {row.recipe: {each.first for each in row.comparisons} for row in ladder.rows}
    assert others == {
        "rule-chakroun-2021": set(),
        "rule-2008": set(),
        "clinical": {"rule-chakroun-2021"},
        "morphology": {"clinical"},
        "morphology-clinical": {"clinical", "morphology"},
    }
    row = ladder.row("morphology-clinical")
    assert row.versus("clinical", "overlap").zone == "overlap"
    assert row.versus("rule-2008") is None
    assert len(ladder.sentences) == 2 * 4
    with pytest.raises(ValueError, match="allowed: rule-chakroun-2021"):
        ladder.row("nobody")


def test_every_pair_is_compared_in_any_order_where_that_is_asked_for() -> None:
    bags, y = cohort(40, cells=8)
    recipes = [
        ("both", "morphology-clinical"),
        ("clinical", "clinical"),
        ("both", "morphology-clinical-late"),
    ]
    found = climb(bags, y, Protocol(folds=2, repeats=1, bootstrap=100), recipes=recipes, every_pair=True)
    assert {each.first for each in found.rows[2].comparisons} == {"morphology-clinical", "clinical"}
    assert {each.first for each in found.rows[1].comparisons} == {"morphology-clinical"}


def test_one_that_is_no_rung_is_compared_with_the_first_that_looks_at_the_same() -> None:
    bags, y = cohort(40, cells=8)
    bags = type(bags)(bags.cells, bags.offsets, bags.clinical, bags.patient_ids, ("nucleus_a", "cell_b"))
    rungs = (RUNGS[0], *RUNGS[2:], ("both", "ensemble"), ("clinical", "clinical-forest"))
    found = climb(bags, y, Protocol(folds=2, repeats=1, bootstrap=100), recipes=rungs)
    others = {
        row.recipe: [each.first for each in row.comparisons if each.zone == "overall"] for row in found.rows
    }
    assert others["ensemble"] == ["rule-chakroun-2021", "clinical", "morphology", "morphology-clinical"]
    assert others["clinical-forest"] == ["rule-chakroun-2021", "clinical"]
    assert others["morphology-clinical"] == ["clinical", "morphology"]


def test_an_encoder_is_compared_with_measured_morphology_and_its_words_with_its_numbers() -> None:
    bags, y = cohort(40, cells=6)
    names = ("nucleus_a", "embedding_000", "concept_cell_size=small", "concept_cell_size=big")
    small = np.random.default_rng(0).random(len(bags.cells))
    cells = np.column_stack([bags.cells[:, :2], small, 1 - small])
    bags = type(bags)(cells, bags.offsets, bags.clinical, bags.patient_ids, names)
    rungs = tuple((kind, name) for kind, name in DEFAULT_LADDER if name in BESIDE or name in BESIDE.values())
    found = climb(bags, y, Protocol(folds=2, repeats=1, bootstrap=100), recipes=rungs)
    others = {
        row.recipe: [each.first for each in row.comparisons if each.zone == "overall"] for row in found.rows
    }
    assert others == {
        "morphology": [],
        "encoder-mean": ["morphology"],
        "morphology-clinical": ["morphology"],
        "encoder-mean-clinical": ["morphology", "morphology-clinical"],
        "concept-clinical": ["morphology", "encoder-mean-clinical"],
    }


def test_referral_thresholds_only_where_asked_for(ladder) -> None:  # type: ignore[no-untyped-def]
    asked = {row.recipe: row.evaluation.out_of_fold.referral_threshold is not None for row in ladder.rows}
    assert [recipe for recipe, yes in asked.items() if yes] == ["clinical"]
    to_json(ladder.as_dict())


def test_pieces_of_all_rungs_lie_in_one_folder(tmp_path: Path) -> None:
    bags, y = cohort(40)
    protocol = Protocol(folds=3, repeats=1, bootstrap=100)
    first = climb(bags, y, protocol, recipes=RUNGS[:3], pieces=tmp_path)
    assert len(list(tmp_path.iterdir())) == 9
    again = climb(bags, y, protocol, recipes=RUNGS[:3], pieces=tmp_path)
    assert to_json(first.as_dict()) == to_json(again.as_dict())
    assert len(list(tmp_path.iterdir())) == 9

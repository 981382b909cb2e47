"""What the page says of balancing, by what was done."""

from __future__ import annotations

from pathlib import Path

import pytest

from lymphoscope.cohort.read import ReadOptions
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.pipeline.evaluate import evaluate_cohort
from lymphoscope.pipeline.preparation import Prepared, prepare
from lymphoscope.pipeline.training_page import training


@pytest.fixture(scope="module")
def prepared(tiny_cohort: Path, cache: Path) -> Prepared:
    return prepare(tiny_cohort, ReadOptions(min_cells=4), cache=cache, jobs=1)


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("mil-mean:epochs=1,balance=class-weights", "of a malignant patient {even:.2f} times"),
        (
            "mil-mean:epochs=1,balance=class-weights,positive_weight=2",
            "of a malignant patient {double:.2f} times",
        ),
        ("mil-mean:epochs=1,balance=oversample", "patients of the smaller class were repeated."),
        ("cnn-clinical@smoke:balance=oversample", "Besides, in the loss malignant ones counted 2 times."),
        (
            "cnn-baseline@smoke:balance=class-weights,balance_by=cell",
            "of a malignant patient {even:.2f} times",
        ),
    ],
)
def test_balancing_is_said_as_it_was(prepared: Prepared, recipe: str, said: str) -> None:
    found = evaluate_cohort(prepared, Protocol(folds=2, repeats=1, bootstrap=100), [recipe])
    (page,) = training(found)
    assert page.balancing is not None
    reactive, malignant = page.balancing.cells_after if "cell" in recipe else page.balancing.patients_before
    even = (reactive + malignant) / (2 * malignant)
    assert said.format(even=even, double=2 * even) in page.balancing.how
    assert ("Besides" in page.balancing.how) == recipe.startswith("cnn-clinical")

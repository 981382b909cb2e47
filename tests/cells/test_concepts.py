"""Which cells are surely no lymphocytes, and what is said of them."""

from __future__ import annotations

import numpy as np
import pytest

from lymphoscope.cells.concepts import (
    SURE,
    SURELY_OTHER,
    Task,
    concepts,
    find_not_lymphocytes,
    not_lymphocytes,
)

TYPES = ("basophil", "eosinophil", "erythroblast", "ig", "lymphocyte", "monocyte", "neutrophil", "platelet")


def told(*cells: dict[str, float]) -> dict[str, Task]:
    """Types of cells by their probabilities; what is left is for lymphocyte."""
    table = np.zeros((len(cells), len(TYPES)))
    for row, probability in zip(table, cells, strict=True):
        for name, value in probability.items():
            row[TYPES.index(name)] = value
        row[TYPES.index("lymphocyte")] += 1 - row.sum()
    return {"cell_type": Task("cell_type", TYPES, table)}


def finding(*cells: dict[str, float], patient: list[int], ids: tuple[str, ...]):
    paths = np.array([f"P/{i:06d}.jpg" for i in range(len(cells))], dtype=object)
    return find_not_lymphocytes(told(*cells), np.array(patient), ids, paths)


def test_concepts_are_read_from_the_names_of_columns() -> None:
    columns = ["cell_area_px", "embedding_000", "concept_cell_size=big", "concept_cell_size=small",
               "concept_cytoplasm_colour=light blue"]  # fmt: skip
    found = concepts(
        np.array([[5, 1, 0.25, 0.75, 1.0], [np.nan, 2, 0.5, 0.5, 1.0]], dtype=np.float32), columns
    )
    assert list(found) == ["cell_size", "cytoplasm_colour"]
    assert found["cell_size"].answers == ("big", "small")
    assert found["cell_size"].probability.tolist() == [[0.25, 0.75], [0.5, 0.5]]
    assert found["cell_size"].likeliest.tolist() == [1, 0]
    assert found["cytoplasm_colour"].answers == ("light blue",)
    assert concepts(np.zeros((2, 1)), ["cell_area_px"]) == {}


@pytest.mark.parametrize("kind", SURELY_OTHER)
def test_a_cell_that_is_surely_something_else_is_flagged(kind: str) -> None:
    flagged = not_lymphocytes(told({kind: SURE}, {kind: SURE - 0.01}, {}))
    assert flagged is not None and flagged.tolist() == [True, False, False]


def test_what_a_malignant_cell_may_look_like_is_never_flagged() -> None:
    assert not not_lymphocytes(told({"monocyte": 1.0}, {"ig": 1.0}, {"erythroblast": 1.0})).any()  # type: ignore[union-attr]


def test_no_lymphocyte_is_enough_whichever_of_the_others_it_is() -> None:
    flagged = not_lymphocytes(told({"neutrophil": 0.5, "eosinophil": 0.45}, {"neutrophil": 0.5, "ig": 0.5}))
    assert flagged is not None and flagged.tolist() == [True, False]


def test_nothing_is_flagged_where_nobody_tells_types_apart() -> None:
    assert not_lymphocytes({}) is None
    assert not_lymphocytes({"cell_type": Task("cell_type", ("blue", "red"), np.ones((3, 2)) / 2)}) is None
    only = Task("cell_type", ("lymphocyte", "monocyte"), np.ones((3, 2)) / 2)
    assert not_lymphocytes({"cell_type": only}) is None


def test_the_finding_counts_types_and_names_photographs_and_patients() -> None:
    (found,) = finding(
        {"platelet": 0.95}, {"neutrophil": 1.0}, {}, {"neutrophil": 0.9}, {}, {}, {}, {},
        patient=[0, 0, 0, 2, 2, 2, 2, 2], ids=("P1", "P2", "P3"),
    )  # fmt: skip
    assert found.code == "LYM304" and found.severity == "info"
    assert found.message == (
        "3 of 8 cells (37.5%) are taken for something else: 2 neutrophil, 1 platelet. In 1 patient they are "
        "more than half of the cells."
    )
    assert found.files == ("P/000000.jpg", "P/000001.jpg", "P/000003.jpg")
    assert found.patients == ("P1",)


def test_where_most_cells_are_flagged_the_cohort_or_the_encoder_is_in_doubt() -> None:
    (found,) = finding({"neutrophil": 1.0}, {"eosinophil": 1.0}, {}, patient=[0, 0, 0], ids=("P1",))
    assert "no cohort of lymphocytes" in found.message and "unlike those" in found.message


def test_without_such_cells_there_is_no_finding() -> None:
    assert finding({}, {"monocyte": 1.0}, patient=[0, 0], ids=("P1",)) == ()

from __future__ import annotations

from pathlib import Path

import pytest

from lymphoscope.models.reference import parameter_texts, reference_page
from lymphoscope.models.registry import estimator_class, list_models, recipe_info

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "models.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference_page(), (
        f"run `python -m lymphoscope.models.reference {PAGE}`"
    )


@pytest.mark.parametrize("name", [info.name for info in list_models()])
def test_every_recipe_has_its_section(name: str) -> None:
    page = reference_page()
    assert f"\n## {name}\n" in page
    assert recipe_info(name).source in page


def test_a_parameters_text_is_joined_to_one_line() -> None:
    texts = parameter_texts(estimator_class(recipe_info("auto")))
    assert list(texts) == ["candidates", "inner_repeats", "random_state"]
    assert texts["inner_repeats"] == "rounds of five inner folds."

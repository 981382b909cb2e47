from __future__ import annotations

import re
from pathlib import Path

import pytest

from lymphoscope import models
from lymphoscope.models import registry
from lymphoscope.models.conformance import check_bag_classifier, separation
from lymphoscope.models.registry import create_model

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "add-a-model.md"


def test_the_model_of_the_guide_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(
        r"```(?:python|yaml)\n# src/lymphoscope/models/(\S+)\n(.*?)```", GUIDE.read_text(), re.DOTALL
    )
    assert [name for name, _ in blocks] == ["bag_mean.py", "bag_mean.yaml"]
    for name, text in blocks:
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    registry._recipes.cache_clear()
    try:
        check_bag_classifier(lambda: create_model("bag-mean"))
        assert separation(lambda: create_model("bag-mean"), effect=2.5).mean() > 0.85
    finally:
        registry._recipes.cache_clear()

from __future__ import annotations

import numpy as np
import pytest

from lymphoscope.cohort.findings import Severity, all_kinds
from lymphoscope.evaluation.probes import Probe, probe_shortcuts
from lymphoscope.files import to_json

NAMES = ("number of photographs", "file size", "border colour", "date format")


def probe(planted: str = "", n: int = 120, seed: int = 0, unlabelled: int = 10) -> dict[str, Probe]:
    """Probes of a cohort in which nothing, or what is named, gives the label away."""
    rng = np.random.default_rng(seed)
    label = np.concatenate([rng.permutation(np.arange(n) < 0.7 * n).astype(int), np.full(unlabelled, -1)])
    shown = (label == 1).astype(float)
    everybody = len(label)
    counts = rng.integers(10, 40, everybody) + (planted == "number of photographs") * 20 * shown.astype(int)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    images = int(offsets[-1])
    size = 18_000 * np.exp(rng.normal(0, 0.1, images) + np.repeat(rng.normal(0, 0.05, everybody), counts))
    border = rng.normal([80, 5, -5], 3, (images, 3))
    border += np.repeat(rng.normal(0, 1, (everybody, 3)), counts, axis=0)
    if planted == "file size":
        size *= np.repeat(1 + 0.15 * shown, counts)
    if planted == "border colour":
        border += np.repeat(shown, counts)[:, None] * [0, 1.5, 1.5]
    slashes = rng.random(everybody) < (0.2 + 0.6 * shown * (planted == "date format"))
    found = probe_shortcuts(
        label,
        offsets=offsets,
        n_bytes=size.astype(int),
        border_lab=border,
        date_layout=np.where(slashes, "M/D/YYYY", "DD-MM-YYYY").tolist(),
        lymphocyte_count=np.exp(rng.normal(2.2, 0.8, everybody)),
        replicates=500,
    )
    assert tuple(each.name for each in found) == NAMES
    return {each.name: each for each in found}


CODES = ("LYM401", "LYM402", "LYM403", "LYM404")


@pytest.mark.parametrize(("name", "code"), list(zip(NAMES, CODES, strict=True)))
def test_a_planted_shortcut_is_found_and_no_other(name: str, code: str) -> None:
    found = probe(name)
    assert found[name].warns
    assert found[name].finding.code == code
    assert found[name].finding.severity == Severity.WARNING
    assert found[name].n_malignant + found[name].n_reactive == 120
    others = [each for each in found.values() if each.name != name]
    assert all(each.finding.code == "LYM410" and not each.warns for each in others)


def test_honest_cohorts_seldom_warn_and_lie_about_chance() -> None:
    found = [probe(seed=seed) for seed in range(8)]
    assert sum(each.warns for probes in found for each in probes.values()) <= 1
    for name in ("file size", "border colour"):  # pairs of different folds would pull these below chance
        areas = [each.auc.estimate for probes in found if (each := probes[name]).auc]
        assert len(areas) == 8
        assert np.mean(areas) == pytest.approx(0.5, abs=0.04)


def test_a_number_that_predicts_backwards_is_found_as_well() -> None:
    label = np.repeat([1, 0], [40, 30])
    counts = np.where(label == 1, 5, 9) + np.arange(70) % 3
    found = probe_shortcuts(
        label,
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        n_bytes=np.full(counts.sum(), 1000),
        border_lab=np.zeros((counts.sum(), 3)),
        date_layout=[""] * 70,
        lymphocyte_count=np.full(70, np.nan),
        replicates=200,
    )
    assert found[0].auc is not None
    assert found[0].auc.estimate > 0.95
    assert found[0].auc_overlap is None
    # What is the same for all is said to be so, and is no finding to worry about.
    for each in found[1:]:
        assert each.auc is None
        assert "the same for all" in each.sentence
        assert each.finding.severity == Severity.INFO
    to_json([each.as_dict() for each in found])


def test_too_few_patients_and_patients_without_photographs_are_said_not_guessed() -> None:
    lone = probe(n=3)  # two malignant, one reactive
    assert all(each.auc is None and "too few" in each.sentence for each in lone.values())
    label = np.repeat([1, 0], 10)
    counts = np.full(20, 4)
    counts[:3] = 0
    found = probe_shortcuts(
        label,
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        n_bytes=np.arange(68) + 1000,
        border_lab=np.random.default_rng(0).normal(size=(68, 3)),
        date_layout=["a", "b"] * 10,
        lymphocyte_count=np.full(20, 5.0),
        replicates=200,
    )
    assert [each.n_malignant for each in found] == [10, 7, 7, 10]


def test_codes_are_registered() -> None:
    codes = {kind.code for kind in all_kinds()}
    assert {"LYM401", "LYM402", "LYM403", "LYM404", "LYM410"} <= codes

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from lymphoscope.cohort.bags import Bags, segment_mean
from lymphoscope.errors import InputError
from lymphoscope.models.base import BagClassifier
from lymphoscope.models.conformance import MEASURED_COLUMNS, example_bags
from lymphoscope.models.patient_space import cell_columns, known_columns, level_and_spread
from lymphoscope.models.pooled import LateFusion, PooledLogistic, _fuse
from lymphoscope.models.registry import create_model

NAMES = ["morphology", "morphology-clinical", "morphology-clinical-late"]
Patients = tuple[Bags, npt.NDArray[np.int64]]


@pytest.fixture(scope="module")
def patients() -> Patients:
    return example_bags(80)


@pytest.fixture(scope="module")
def new_patients() -> Bags:
    return example_bags(40, seed=5)[0]


def cells_log_odds(model: BagClassifier, bags: Bags) -> npt.NDArray[np.float64]:
    """What the cells of each patient add to the log-odds."""
    assert isinstance(model, PooledLogistic | LateFusion)
    components = model.learned_.space.components(
        level_and_spread(known_columns(bags, model.learned_.space.columns))
    )
    if isinstance(model, LateFusion):
        return components @ model.learned_.cells.logistic.coef * model.learned_.fusion.coef[1]
    return components @ model.learned_.expert.logistic.coef[-components.shape[1] :]


@pytest.mark.parametrize("name", NAMES)
def test_evidence_adds_up_to_what_the_cells_say(name: str, patients: Patients, new_patients: Bags) -> None:
    model = create_model(name).fit(*patients)
    evidence = model.cell_evidence(new_patients)
    assert evidence is not None
    assert segment_mean(evidence, new_patients.offsets) == pytest.approx(cells_log_odds(model, new_patients))
    unmeasured = np.isnan(new_patients.cells).all(axis=1)
    assert unmeasured.any()
    assert not evidence[unmeasured].any()


@pytest.mark.parametrize("name", NAMES)
def test_evidence_is_not_inverted(name: str, patients: Patients) -> None:
    model = create_model(name).fit(*patients)
    low, high = (np.full((6, 7), value) for value in (-1.0, 1.0))
    rng = np.random.default_rng(0)
    cells = np.concatenate([low, high]) * 10.0 ** np.arange(7)[::-1] + rng.normal(0, 0.1, (12, 7))
    bags = Bags.from_list([cells], [[60.0, 1.0, 8.0]], columns=MEASURED_COLUMNS)
    evidence = model.cell_evidence(bags)
    assert evidence is not None
    assert evidence[6:].min() > evidence[:6].max()


@pytest.mark.parametrize("name", NAMES)
def test_a_cells_evidence_is_what_would_be_lost_without_it(name: str, patients: Patients) -> None:
    model = create_model(name).fit(*patients)
    rng = np.random.default_rng(1)
    cells = rng.normal(0.2, 1.0, (40, 7)) * 10.0 ** np.arange(7)[::-1]
    bags = Bags.from_list([cells], columns=MEASURED_COLUMNS)
    evidence = model.cell_evidence(bags)
    assert evidence is not None
    whole = cells_log_odds(model, bags)[0]
    lost = [
        39 * (whole - cells_log_odds(model, replace(bags, cells=np.delete(cells, i, 0), offsets=[0, 39]))[0])  # type: ignore[arg-type]
        for i in range(40)
    ]
    assert np.corrcoef(evidence, lost)[0, 1] > 0.99
    assert np.std(evidence) == pytest.approx(np.std(lost), rel=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_background_and_neighbours_are_not_looked_at(name: str, patients: Patients) -> None:
    bags, y = patients
    assert "background_lightness_lab" in (bags.columns or ())
    changed = bags.cells.copy()
    changed[:, -1] = np.random.default_rng(0).normal(size=len(changed)) + 100 * y[bags.patient_of_cell]
    told = create_model(name).fit(replace(bags, cells=changed), y)
    assert np.array_equal(told.predict_proba(bags), create_model(name).fit(bags, y).predict_proba(bags))


def test_columns_about_the_photograph_are_left_out() -> None:
    names = (
        "segmented",
        "cell_focus",
        "cell_on_frame_fraction",
        "neighbours_nucleus_count",
        "nucleus_area_px",
    )
    bags = Bags.from_list([np.zeros((2, 5))], columns=names)
    assert cell_columns(bags) == ("nucleus_area_px",)


def test_the_number_of_cells_tells_nothing() -> None:
    """Patients who differ in nothing but how many cells they have get no better than chance."""
    scores = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        y = np.arange(80) % 2
        counts = np.where(y == 1, 40, 8)
        bags = Bags.from_list([rng.normal(size=(n, 6)) for n in counts], columns=list("abcdef"))
        half = np.arange(80) < 40
        model = create_model("morphology").fit(bags[half], y[half])
        scores.append((model.predict(bags[~half]) == y[~half]).mean())
    assert abs(np.mean(scores) - 0.5) < 0.06


def test_the_spread_is_unbiased_whatever_the_number_of_cells() -> None:
    rng = np.random.default_rng(0)
    bags = Bags.from_list([rng.normal(size=(n, 1)) for n in [4] * 2000 + [50] * 2000], columns=["x"])
    spread = level_and_spread(bags)[:, 1]
    assert spread[:2000].mean() == pytest.approx(1.0, abs=0.03)
    assert spread[2000:].mean() == pytest.approx(1.0, abs=0.01)


def test_a_uniform_population_can_speak_for_malignancy() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(100) % 2
    bags = Bags.from_list([rng.normal(0, 1.0 - 0.5 * label, (30, 5)) for label in y], columns=list("abcde"))
    model = create_model("morphology").fit(bags[:60], y[:60])
    assert (model.predict(bags[60:]) == y[60:]).mean() > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_columns_are_found_by_name(name: str, patients: Patients, new_patients: Bags) -> None:
    model = create_model(name).fit(*patients)
    columns = list(new_patients.columns or ())
    turned = new_patients.select_columns(columns[::-1])
    assert np.array_equal(model.predict_proba(turned), model.predict_proba(new_patients))
    with pytest.raises(InputError, match="cell_area_px"):
        model.predict_proba(new_patients.select_columns([c for c in columns if c != "cell_area_px"]))


@pytest.mark.parametrize("name", NAMES)
def test_images_are_refused_by_name(name: str) -> None:
    bags, y = example_bags(20, image_size=8)
    with pytest.raises(InputError, match="needs per-cell numbers"):
        create_model(name).fit(bags, y)


@pytest.mark.parametrize("name", NAMES)
def test_training_patients_without_any_cell_are_refused_by_name(name: str, patients: Patients) -> None:
    bags, y = patients
    empty = replace(bags, cells=bags.cells[:0], offsets=np.zeros(len(bags) + 1, dtype=np.int64))
    with pytest.raises(InputError, match="too few training patients have a measured cell"):
        create_model(name).fit(empty, y)


@pytest.mark.parametrize("name", NAMES)
def test_some_patients_without_cells_may_be_learned_from_and_predicted(name: str, patients: Patients) -> None:
    bags, y = patients
    lists = [bags.cells[a:b] for a, b in zip(bags.offsets[:-1], bags.offsets[1:], strict=True)]
    for i in range(0, 80, 4):
        lists[i] = lists[i][:0]
    sparse = Bags.from_list(lists, bags.clinical, columns=bags.columns)
    model = create_model(name).fit(sparse, y)
    p = model.predict_proba(sparse)[:, 1]
    assert np.isfinite(p).all()
    assert p[y == 1].mean() > p[y == 0].mean() + 0.1


@pytest.mark.parametrize("name", NAMES)
def test_few_patients_and_one_of_a_class_are_enough(name: str) -> None:
    bags, _ = example_bags(5)
    for y in (np.array([1, 0, 0, 0, 0]), np.array([1, 1, 0, 0, 1])):
        assert np.isfinite(create_model(name).fit(bags, y).predict_proba(bags)).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_constant_or_empty_column_does_no_harm(name: str, patients: Patients) -> None:
    bags, y = patients
    extra = np.column_stack([np.full(len(bags.cells), 3.0), np.full(len(bags.cells), np.nan)])
    wide = replace(
        bags, cells=np.hstack([bags.cells, extra]), columns=(*(bags.columns or ()), "constant", "empty")
    )
    p = create_model(name).fit(wide, y).predict_proba(wide)
    assert p == pytest.approx(create_model(name).fit(bags, y).predict_proba(bags), abs=1e-6)


def test_late_fusion_gives_a_useless_expert_no_say() -> None:
    bags, y = example_bags(120, effect=3.0)
    rng = np.random.default_rng(0)
    noise = replace(bags, cells=rng.normal(size=bags.cells.shape).astype(np.float32))
    model = create_model("morphology-clinical-late").fit(noise, y)
    chosen = model.chosen_  # type: ignore[attr-defined]
    assert 0.0 <= chosen["cells_weight"] < 0.4
    assert chosen["clinical_weight"] > 0.5


def test_an_expert_that_ranks_the_wrong_way_has_no_say_and_does_not_silence_the_other() -> None:
    rng, y = np.random.default_rng(0), (np.arange(90) % 3 > 0).astype(np.int64)
    good = (2 * y - 1) * 0.6 + rng.normal(size=90)
    wrong = -(2 * y - 1) * 2.0 + rng.normal(size=90)
    fused = _fuse(np.column_stack([wrong, good]), y)
    assert fused.coef[0] == 0.0 and fused.coef[1] > 0.0
    nobody = _fuse(np.column_stack([wrong, -good]), y)
    assert nobody.coef.tolist() == [0.0, 0.0]
    assert nobody.intercept == pytest.approx(np.log(2.0))

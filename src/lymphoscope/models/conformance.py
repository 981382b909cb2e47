"""One suite that every recipe passes: what users and the evaluation rely on, whatever the model is.

Run it on a model of your own with `check_bag_classifier(MyModel)`; it raises `AssertionError` with a sentence
at the first promise that is broken. "Refused by name" means an `InputError` whose text says what is missing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from lymphoscope.cells.columns import CONCEPT_PREFIX, EMBEDDING_PREFIX
from lymphoscope.cohort.bags import Bags, FloatArray
from lymphoscope.errors import InputError
from lymphoscope.models.base import BagClassifier
from lymphoscope.models.bundle import Bundle, load_bundle, save_bundle
from lymphoscope.models.registry import recipe_of

Factory = Callable[[], BagClassifier]
TOLERANCE = 1e-5
MEASURED_COLUMNS = (
    "nucleus_area_px",
    "nucleus_roundness",
    "cell_area_px",
    "cytoplasm_blue_lab",
    "chromatin_contrast",
    "profile_lightness_lab",
    "background_lightness_lab",
)
EMBEDDING_COLUMNS = tuple(f"{EMBEDDING_PREFIX}{i:03d}" for i in range(6))
CONCEPT_ANSWERS = {"cell_size": ("big", "small"), "cell_type": ("lymphocyte", "monocyte", "neutrophil")}
CONCEPT_COLUMNS = tuple(
    f"{CONCEPT_PREFIX}{task}={answer}" for task, answers in CONCEPT_ANSWERS.items() for answer in answers
)
EXAMPLE_COLUMNS = MEASURED_COLUMNS + EMBEDDING_COLUMNS + CONCEPT_COLUMNS


def example_bags(
    n_patients: int = 60, seed: int = 0, *, effect: float = 1.5, image_size: int | None = None
) -> tuple[Bags, npt.NDArray[np.int64]]:
    """Small synthetic patients with a signal in age, count, and in numbers (or redness) of cells.

    Of each kind of numbers (measured, embeddings, concepts) the first columns carry the signal.

    Returns
    -------
    bags : per-cell numbers named `EXAMPLE_COLUMNS` (a few cells of them NaN; the concepts of a task sum to
        1), or with `image_size` uint8 images of shape (image_size, image_size, 3).
    y : labels, shape (n_patients,), about two thirds malignant.
    """
    rng = np.random.default_rng(seed)
    y = (np.arange(n_patients) % 3 > 0).astype(np.int64)
    clinical = np.column_stack(
        [
            np.clip(rng.normal(58 + 12 * effect * (y - 0.5), 14), 18, 99),
            rng.integers(0, 2, n_patients),
            4.0 + np.exp(rng.normal(1.2 + effect * (y - 0.5), 0.8)),
        ]
    )
    counts = rng.integers(3, 12, n_patients)
    lean = effect * (y - 0.5) + rng.normal(0, 0.5, n_patients)
    if image_size is not None:
        images = [_images(rng, count, image_size, a) for count, a in zip(counts, lean, strict=True)]
        return Bags.from_list(images, clinical), y
    width = len(MEASURED_COLUMNS)
    direction = np.linspace(1.0, 0.0, width)
    numbers = [rng.normal(a * direction, 1.0, (n, width)) for n, a in zip(counts, lean, strict=True)]
    scale = 10.0 ** np.arange(width)[::-1]
    told = _told(np.random.default_rng([seed, 1]), np.repeat(lean, counts))
    cells = np.hstack([np.concatenate(numbers) * scale, *told]).astype(np.float32)
    cells[::37] = np.nan
    parts = np.split(cells, np.cumsum(counts)[:-1])
    return Bags.from_list(parts, clinical, columns=EXAMPLE_COLUMNS), y


def check_bag_classifier(factory: Factory, *, image_size: int | None = None, n_patients: int = 60) -> None:
    """Check every promise of `BagClassifier` on small synthetic patients.

    Parameters
    ----------
    factory : gives a new unfitted model at each call, always with the same parameters.
    image_size : side in pixels of the example images; needed for models with `cell_input` "images".
    n_patients : how many patients to learn from.
    """
    check_constructor(factory)
    bags, y = example_bags(n_patients, image_size=image_size)
    new, _ = example_bags(17, seed=1, image_size=image_size)
    given = _bags_bytes(bags)
    model = factory().fit(bags, y)
    assert _bags_bytes(bags) == given, "fitting must not write to the bags"
    check_probabilities(model, new)
    check_order_and_batches(model, new)
    check_sparse_patients(model, new)
    check_missing_clinical_values(factory, bags, y, new)
    check_labels_refused(factory, bags)
    check_reproducible(factory, bags, y, new)
    check_state(factory, model, new)
    if _is_of_a_recipe(model):
        check_bundle(model, new)
    check_cell_evidence(model, new)


def check_constructor(factory: Factory) -> None:
    """The constructor only stores parameters; `clone` keeps them; nothing predicts before `fit`."""
    model = factory()
    parameters = model.get_params(deep=False)
    assert {k: v for k, v in vars(model).items() if v is not parameters.get(k)} == {}, (
        "the constructor must store its parameters as they are, and nothing else"
    )
    assert clone(model).get_params(deep=False) == parameters, "clone must keep the parameters"
    bags, _ = example_bags(3)
    for call in (model.predict, model.predict_proba):
        try:
            call(bags)
        except NotFittedError:
            continue
        raise AssertionError(f"{call.__name__} of an unfitted model must raise NotFittedError")


def check_probabilities(model: BagClassifier, bags: Bags) -> None:
    """Probabilities are two columns that sum to 1; `predict` cuts them at `threshold_`; state stays."""
    before, given = _state_bytes(model), _bags_bytes(bags)
    p = model.predict_proba(bags)
    assert p.shape == (len(bags), 2), f"predict_proba must have shape (n_patients, 2), not {p.shape}"
    assert np.all((p >= 0) & (p <= 1)), "probabilities must lie between 0 and 1"
    assert np.allclose(p.sum(1), 1.0), "the two probabilities of a patient must sum to 1"
    assert 0 < model.threshold_ < 1, "threshold_ must be a probability"
    assert np.array_equal(model.predict(bags), p[:, 1] >= model.threshold_), "predict must cut at threshold_"
    assert np.array_equal(model.classes_, [0, 1]), "classes_ must be [0, 1]"
    assert np.array_equal(p, model.predict_proba(bags)), "predicting twice must give the same"
    assert _state_bytes(model) == before, "predicting must change nothing that was learned"
    assert _bags_bytes(bags) == given, "predicting must not write to the bags"
    assert model.predict_proba(bags[:0]).shape == (0, 2), "no patients must give no rows"


def check_order_and_batches(model: BagClassifier, bags: Bags) -> None:
    """Neither the order of cells, nor that of patients, nor their ids, nor who else is asked, matters."""
    rng = np.random.default_rng(0)
    p = model.predict_proba(bags)
    cells = np.concatenate(
        [rng.permutation(np.arange(a, b)) for a, b in zip(bags.offsets[:-1], bags.offsets[1:], strict=True)]
    )
    _close(model, replace(bags, cells=bags.cells[cells]), p, "the order of a patient's cells must not matter")
    order = rng.permutation(len(bags))
    _close(model, bags[order], p[order], "the order of patients must not matter")
    ids = tuple(f"x{i}" for i in order)
    _close(model, replace(bags, patient_ids=ids), p, "patient ids must not matter")
    for size in (1, 5):
        parts = [bags[i : i + size] for i in range(0, len(bags), size)]
        together = np.concatenate([model.predict_proba(part) for part in parts])
        assert np.allclose(together, p, atol=TOLERANCE, rtol=0), "who else is predicted must not matter"


def check_sparse_patients(model: BagClassifier, bags: Bags) -> None:
    """One cell is enough; no cell at all gives a probability or is refused by name."""
    single = _first_cells(bags, 1)
    p = model.predict_proba(single)
    assert np.all(np.isfinite(p)), "patients with a single cell must get a probability"
    _works_or_refuses(lambda: model.predict_proba(_first_cells(bags, 0)), "cell")


def check_missing_clinical_values(factory: Factory, bags: Bags, y: npt.NDArray[np.int64], new: Bags) -> None:
    """Missing clinical values, here and there or everywhere, work or are refused by name."""
    rng = np.random.default_rng(0)
    model = factory().fit(bags, y)
    everywhere = np.full_like(bags.clinical, np.nan)
    scattered = np.where(rng.random(bags.clinical.shape) < 0.3, np.nan, bags.clinical)
    _works_or_refuses(lambda: model.predict_proba(replace(new, clinical=everywhere[: len(new)])), "clinical")
    for table in (scattered, *(_without_column(bags.clinical, i) for i in range(3)), everywhere):
        gaps = replace(bags, clinical=table)
        _works_or_refuses(lambda gaps=gaps: factory().fit(gaps, y).predict_proba(gaps), "clinical")  # type: ignore[misc]


def check_labels_refused(factory: Factory, bags: Bags) -> None:
    """One class only, an unlabelled patient, or a label too few is an `InputError`."""
    n = len(bags)
    for labels in (np.ones(n), np.zeros(n), np.where(np.arange(n) % 2, 1, -1), np.arange(n - 1) % 2):
        try:
            factory().fit(bags, labels.astype(np.int64))
        except InputError:
            continue
        raise AssertionError(f"labels {np.unique(labels)} for {n} patients must be refused with InputError")


def check_reproducible(factory: Factory, bags: Bags, y: npt.NDArray[np.int64], new: Bags) -> None:
    """The same seed gives the same bytes; the order and ids of training patients change nothing."""
    model, again = factory().fit(bags, y), clone(factory()).fit(bags, y)
    assert _state_bytes(model) == _state_bytes(again), "the same seed must give the same model, bit for bit"
    assert model.fit(bags, y) is model, "fit must return the model"
    assert _state_bytes(model) == _state_bytes(again), "fitting again must forget the first fit"
    order = np.random.default_rng(0).permutation(len(bags))
    shuffled = replace(bags[order], patient_ids=tuple(f"x{i}" for i in range(len(bags))))
    _close(
        factory().fit(shuffled, y[order]),
        new,
        model.predict_proba(new),
        "the order and the ids of the training patients must not matter",
    )


def check_state(factory: Factory, model: BagClassifier, bags: Bags) -> None:
    """A new model that takes up the state of a fitted one predicts the same bytes."""
    taken_up = factory().load_state(model.state())
    assert np.array_equal(taken_up.predict_proba(bags), model.predict_proba(bags)), (
        "state and load_state must carry everything that was learned"
    )
    assert all(array.dtype != object for array in model.state().values()), "state must hold plain arrays"


def check_bundle(model: BagClassifier, bags: Bags) -> None:
    """Saved and loaded, a model predicts the same bytes; saved twice, it is the same bytes."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "first"), Path(folder, "second")
        save_bundle(Bundle(recipe_of(model).name, model, (model,), {"note": "ü"}), first)
        bundle = load_bundle(first)
        save_bundle(bundle, second)
        for path in first.iterdir():
            assert path.read_bytes() == (second / path.name).read_bytes(), f"{path.name} must not change"
    assert bundle.metadata == {"note": "ü"}, "metadata must come back"
    for loaded in (bundle.model, *bundle.refits):
        assert np.array_equal(loaded.predict_proba(bags), model.predict_proba(bags)), (
            "a loaded model must predict the same bytes"
        )
    assert loaded.threshold_ == model.threshold_, "threshold_ must be kept"


def check_cell_evidence(model: BagClassifier, bags: Bags) -> None:
    """Evidence is one finite number per cell and points the way the probability goes."""
    evidence = model.cell_evidence(bags)
    if evidence is None:
        return
    assert evidence.shape == (len(bags.cells),), "cell_evidence must have shape (n_cells,)"
    assert np.all(np.isfinite(evidence)), "cell_evidence must be finite"
    without_most = _dropping(model, bags, np.argmax, evidence)
    without_least = _dropping(model, bags, np.argmin, evidence)
    assert np.mean(without_most <= without_least + TOLERANCE) > 0.9, (
        "without the cell that speaks most for malignancy the probability must be lower than without the one "
        "that speaks most against it"
    )


def separation(
    factory: Factory, *, effect: float = 1.5, permuted: bool = False, seeds: int = 3
) -> FloatArray:
    """Balanced accuracy on new example patients per seed, learned from true or from permuted labels."""
    scores = []
    for seed in range(seeds):
        bags, y = example_bags(60, seed=10 + seed, effect=effect)
        new, truth = example_bags(60, seed=100 + seed, effect=effect)
        if permuted:
            y = np.random.default_rng(seed).permutation(y)
        model = factory()
        if "random_state" in model.get_params():  # else all seeds share the prejudice of one untrained model
            model.set_params(random_state=seed)
        right = model.fit(bags, y).predict(new) == truth
        scores.append((right[truth == 1].mean() + right[truth == 0].mean()) / 2)
    return np.array(scores)


def _is_of_a_recipe(model: BagClassifier) -> bool:
    try:
        return bool(recipe_of(model))
    except InputError:
        return False


def _dropping(
    model: BagClassifier, bags: Bags, which: Callable[[FloatArray], np.intp], evidence: FloatArray
) -> FloatArray:
    """Probability of each patient of two or more cells without the cell that `which` picks."""
    patients = np.flatnonzero(bags.counts >= 2)
    picked = [bags.offsets[i] + which(evidence[bags.offsets[i] : bags.offsets[i + 1]]) for i in patients]
    kept = np.setdiff1d(np.arange(len(bags.cells)), picked)
    offsets = np.searchsorted(kept, bags.offsets)
    return model.predict_proba(replace(bags, cells=bags.cells[kept], offsets=offsets))[patients, 1]


def _works_or_refuses(call: Callable[[], FloatArray], word: str) -> None:
    try:
        p = call()
    except InputError as error:
        assert word in str(error), f"a refusal must name what is missing ({word}): {error}"
        return
    assert np.all(np.isfinite(p)) and np.allclose(p.sum(1), 1.0), "probabilities must be finite, or refused"


def _close(model: BagClassifier, bags: Bags, expected: FloatArray, promise: str) -> None:
    assert np.allclose(model.predict_proba(bags), expected, atol=TOLERANCE, rtol=0), promise


def _state_bytes(model: BagClassifier) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {k: (str(v.dtype), v.shape, v.tobytes()) for k, v in sorted(model.state().items())}


def _bags_bytes(bags: Bags) -> tuple[bytes, bytes]:
    return np.asarray(bags.cells).tobytes(), bags.clinical.tobytes()


def _first_cells(bags: Bags, count: int) -> Bags:
    kept = np.concatenate([np.arange(start, start + count) for start in bags.offsets[:-1]])
    offsets = np.arange(len(bags) + 1) * count
    return replace(bags, cells=bags.cells[kept.astype(np.int64)], offsets=offsets)


def _without_column(table: FloatArray, column: int) -> FloatArray:
    out = table.copy()
    out[:, column] = np.nan
    return out


def _told(rng: np.random.Generator, lean: FloatArray) -> tuple[FloatArray, ...]:
    """Embeddings and concepts of cells, as an encoder might tell them, from how far each cell leans."""
    width = len(EMBEDDING_COLUMNS)
    embeddings = rng.normal(lean[:, None] * np.linspace(1.0, 0.0, width), 1.0, (len(lean), width)) * 0.05
    concepts = []
    for answers in CONCEPT_ANSWERS.values():
        direction = np.linspace(1.0, -1.0, len(answers))
        chances = np.exp(lean[:, None] * direction + rng.normal(0.0, 1.0, (len(lean), len(answers))))
        concepts.append(chances / chances.sum(axis=1, keepdims=True))
    return embeddings, *concepts


def _images(rng: np.random.Generator, count: int, size: int, redness: float) -> npt.NDArray[np.uint8]:
    """A disk, for a cell, that is redder or less red than what is around it."""
    images = rng.normal(128, 30, (count, size, size, 3))
    across = np.arange(size) - (size - 1) / 2
    disk = np.hypot(*np.meshgrid(across, across)) < size / 3
    images[:, disk, 0] += 40 * redness
    return np.clip(images, 0, 255).astype(np.uint8)

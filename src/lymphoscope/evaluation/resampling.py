"""Fits on part of the patients: one clone, one seed, one set of patients at a time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from lymphoscope.cohort.bags import Bags, FloatArray, IntArray
from lymphoscope.cohort.splits import repeated_stratified
from lymphoscope.cores import MOST_TOGETHER
from lymphoscope.models.base import BagClassifier, EpochClassifier, Explanation
from lymphoscope.models.registry import create_model
from lymphoscope.models.transductive import cells_alone, is_transductive
from lymphoscope.training.curves import Epoch

Result = TypeVar("Result")
Watch = Callable[[Epoch], None]

INNER_FOLDS = 5


def as_model(recipe: str | BagClassifier) -> BagClassifier:
    """An unfitted model: of the recipe's name, or a clone of the model given."""
    return create_model(recipe) if isinstance(recipe, str) else clone(recipe)


def recipe_name(recipe: str | BagClassifier) -> str:
    """The name a recipe goes by in results."""
    return recipe if isinstance(recipe, str) else type(recipe).__name__


def derived_seed(*parts: int) -> int:
    """A 32-bit seed that depends on `parts` alone, never on the order in which work is done."""
    return int(np.random.SeedSequence(list(parts)).generate_state(1)[0])


def seeded(model: BagClassifier, seed: int) -> BagClassifier:
    """A clone whose `random_state`, if it has one, is `seed`."""
    copy = clone(model)
    return copy.set_params(random_state=seed) if "random_state" in copy.get_params() else copy


def fit(
    model: BagClassifier,
    bags: Bags,
    y: IntArray,
    seed: int,
    *,
    watch: Watch | None = None,
    checkpoint: Path | None = None,
    unlabelled: Bags | None = None,
) -> BagClassifier:
    """A fitted clone of `model`; one that is trained in epochs tells `watch` of each, and is resumed.

    A transductive one is shown the cells of `unlabelled`, who are to be predicted.
    """
    copy = seeded(model, seed)
    if is_transductive(copy) and unlabelled is not None and len(unlabelled):
        return copy.fit(bags, y, unlabelled=cells_alone(unlabelled))
    if isinstance(copy, EpochClassifier):
        return copy.fit(bags, y, watch=watch, checkpoint=checkpoint)
    return copy.fit(bags, y)


def malignancy(model: BagClassifier, bags: Bags) -> FloatArray:
    """Probability of malignancy per patient, shape (n_patients,).

    Raises
    ------
    ValueError : the model gave something that is no probability; the first patient concerned is named.
    """
    return _checked(model, bags, model.predict_proba(bags))


def explained(model: BagClassifier, bags: Bags) -> tuple[FloatArray, Explanation]:
    """The same, and everything that the model says."""
    said = model.explain(bags)
    return _checked(model, bags, said.probability), said


def _checked(model: BagClassifier, bags: Bags, given: FloatArray) -> FloatArray:
    p = np.asarray(given, dtype=np.float64)
    if p.shape != (len(bags), 2):
        raise ValueError(
            f"{type(model).__name__}.predict_proba gave shape {p.shape}; allowed: ({len(bags)}, 2)"
        )
    p = p[:, 1]
    bad = np.flatnonzero(~((p >= 0.0) & (p <= 1.0)))
    if len(bad):
        raise ValueError(
            f"{type(model).__name__} gave {len(bad)} patients no probability from 0 to 1; "
            f"first: patient {bags.patient_ids[bad[0]]}, {p[bad[0]]}"
        )
    return p


def resample(bags: Bags, patients: IntArray) -> Bags:
    """Bags of `patients`, some of which may come more than once: copies get ids of their own."""
    cells = bags.cell_indices(patients)
    return Bags(
        cells=bags.cells[cells],
        offsets=np.concatenate([[0], np.cumsum(bags.counts[patients])]),
        clinical=bags.clinical[patients],
        patient_ids=tuple(f"{bags.patient_ids[i]}#{k}" for k, i in enumerate(patients)),
        columns=bags.columns,
    )


def bootstrap_patients(y: IntArray, rng: np.random.Generator) -> IntArray:
    """Indices of patients drawn with replacement within each class, so that no class is ever lost."""
    return np.concatenate(
        [rng.choice(np.flatnonzero(y == label), int((y == label).sum())) for label in (0, 1)]
    )


def inner_folds(y: IntArray) -> int:
    """Folds within patients of labels `y`: fewer where a class has fewer patients, 0 where it has one."""
    folds = min(INNER_FOLDS, int(y.sum()), int((1 - y).sum()))
    return folds if folds > 1 else 0


def inner_probabilities(
    model: BagClassifier, bags: Bags, y: IntArray, seed: int, watch: Watch | None = None
) -> FloatArray:
    """Out-of-fold probabilities of the patients given, from models fitted on others of them, (n_patients,).

    In stratified folds, `inner_folds` of them.
    """
    out = np.empty(len(y))
    for split in repeated_stratified(y, folds=inner_folds(y), repeats=1, seed=seed):
        fitted = fit(model, bags[split.train], y[split.train], derived_seed(seed, split.fold), watch=watch)
        out[split.test] = malignancy(fitted, bags[split.test])
    return out


def one_thread(model: BagClassifier) -> AbstractContextManager[Any]:
    """Keep numeric libraries to one thread, so that results and speed do not depend on the machine's cores.

    Networks on images are left alone: see `limited_threads`.
    """
    return nullcontext() if model.cell_input == "images" else threadpool_limits(limits=1)


def threads_each(model: BagClassifier, tasks: int) -> int:
    """Threads for each of `tasks` fits of a model: for networks on images, a share of this process's.

    That is an even share for as many as run at a time where nobody says. How many threads add up a sum
    decides its last bits, so it does not depend on how many of the tasks are left, nor on how many are
    worked on at a time.
    """
    if model.cell_input != "images":
        return 1
    import torch

    return max(1, torch.get_num_threads() // min(tasks, MOST_TOGETHER))


@contextmanager
def limited_threads(model: BagClassifier, threads: int) -> Iterator[None]:
    """As `one_thread`, but a network on images gets `threads`, whatever this process has; set back after."""
    if model.cell_input != "images":
        with one_thread(model):
            yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_tasks(
    task: Callable[..., Result], arguments: Sequence[tuple[Any, ...]], jobs: int
) -> Iterator[Result]:
    """Results of `task` for each tuple of arguments, in their order; in this process where `jobs` is 1."""
    if jobs == 1 or len(arguments) < 2:
        return (task(*each) for each in arguments)
    from joblib import Parallel, delayed

    # A worker that has grown is replaced between two tasks; nothing is lost by it, and nobody can act on it.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
    results: Iterator[Result] = Parallel(n_jobs=jobs, return_as="generator", pre_dispatch="2*n_jobs")(
        delayed(task)(*each) for each in arguments
    )
    return results


def check_bags(bags: Bags, y: npt.ArrayLike) -> IntArray:
    """Labels as int64, one per patient of `bags`, each 0 or 1."""
    labels = np.asarray(y)
    if labels.shape != (len(bags),) or not np.isin(labels, (0, 1)).all():
        raise ValueError(f"y: one label, 0 or 1, for each of the {len(bags)} patients")
    return labels.astype(np.int64)

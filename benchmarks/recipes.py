"""Recipes beside the quick models that anybody would try first, on the same folds.

Data are cohort folders (measured first, kept in the cache) or synthetic patients drawn as per-cell numbers.

    python benchmarks/recipes.py --cohort "$LYMPHOSCOPE_DATA/cohorts/dev" --repeats 5
    python benchmarks/recipes.py --numbers 10 --repeats 2
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from lymphoscope.cohort.bags import Bags, FloatArray, IntArray
from lymphoscope.cohort.splits import Split
from lymphoscope.cohort.synthetic import SyntheticPlan, draw_numbers
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.files import write_json
from lymphoscope.models.clinical_values import clinical_columns
from lymphoscope.models.patient_space import cell_columns, level_and_spread
from lymphoscope.models.registry import create_model
from lymphoscope.pipeline.preparation import default_cache, prepare
from lymphoscope.stats.calibration import calibration_slope
from lymphoscope.stats.metrics import auc, balanced_accuracy, log_loss

RECIPES = ("clinical", "morphology", "morphology-clinical", "morphology-clinical-late")
MEASURES = ("BA", "AUC", "log-loss", "slope", "BA zone", "AUC zone", "ms per fit")
OVERLAP_LIMIT = 10.47
Predict = Callable[[Split], tuple[FloatArray, npt.NDArray[np.bool_]]]


def quick_models() -> dict[str, tuple[Pipeline, tuple[str, ...]]]:
    """Pipelines on tables named in the tuple, each standardised."""
    whitened = {
        f"quick: {k} whitened means + clinical": make_pipeline(
            SimpleImputer(), _Blocks(k), LogisticRegression(C=0.3, max_iter=1000)
        )
        for k in (8, 16)
    }
    support = make_pipeline(SimpleImputer(), StandardScaler(), SVC(C=1.0, class_weight="balanced"))
    plain = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    return {
        **{name: (model, ("means", "clinical")) for name, model in whitened.items()},
        "quick: SVM on means + spreads + clinical": (support, ("means", "spreads", "clinical")),
        "quick: ridge on means + spreads + clinical": (plain, ("means", "spreads", "clinical")),
    }


class _Blocks:
    """Whitened components of all but the last three columns, beside these three, standardised."""

    def __init__(self, k: int) -> None:
        self.k = k

    def fit(self, x: FloatArray, y: object = None) -> _Blocks:
        self.scale_ = StandardScaler().fit(x)
        scaled = self.scale_.transform(x)
        self.pca_ = PCA(min(self.k, x.shape[1] - 3), whiten=True, svd_solver="full").fit(scaled[:, :-3])
        return self

    def transform(self, x: FloatArray) -> FloatArray:
        scaled = self.scale_.transform(x)
        return np.hstack([self.pca_.transform(scaled[:, :-3]), scaled[:, -3:]])

    def fit_transform(self, x: FloatArray, y: object = None) -> FloatArray:
        return self.fit(x).transform(x)


def recipe_predictor(name: str, bags: Bags, y: IntArray) -> Predict:
    """Probability of malignancy and decision of the test patients."""

    def predict(split: Split) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        model = create_model(name).fit(bags[split.train], y[split.train])
        p = model.predict_proba(bags[split.test])[:, 1]
        return p, p >= model.threshold_

    return predict


def quick_predictor(model: Pipeline, parts: tuple[str, ...], bags: Bags, y: IntArray) -> Predict:
    """The same of a pipeline; a support vector machine gives scores squashed to 0 to 1 and decides at 0."""
    tables = dict(
        zip(
            ("means", "spreads"),
            np.hsplit(level_and_spread(bags.select_columns(cell_columns(bags))), 2),
            strict=True,
        )
    )
    tables["clinical"] = clinical_columns(bags.clinical)
    x = np.hstack([tables[part] for part in parts])

    def predict(split: Split) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        model.fit(x[split.train], y[split.train])
        if hasattr(model, "predict_proba"):
            p = model.predict_proba(x[split.test])[:, 1]
            return p, p >= y[split.train].mean()
        score = model.decision_function(x[split.test])
        return 1 / (1 + np.exp(-2 * score)), score >= 0

    return predict


def measure(predict: Predict, bags: Bags, y: IntArray, repeats: int) -> list[float]:
    """Mean over repeats of the measures, from pooled out-of-fold predictions of each repeat."""
    splits = Protocol(repeats=repeats).splits(y)
    zone = bags.clinical[:, 2] <= OVERLAP_LIMIT
    p, decision = np.empty((repeats, len(y))), np.empty((repeats, len(y)))
    began = time.process_time()
    for split in splits:
        p[split.repeat, split.test], decision[split.repeat, split.test] = predict(split)
    spent = 1000 * (time.process_time() - began) / len(splits)
    rows = [
        [
            balanced_accuracy(y, d),
            auc(y, each),
            log_loss(y, each),
            float(calibration_slope(y, each)[0]),
            balanced_accuracy(y[zone], d[zone]),
            auc(y[zone], each[zone]),
        ]
        for each, d in zip(p, decision, strict=True)
    ]
    return [*np.mean(rows, axis=0).tolist(), spent]


def table(bags: Bags, y: IntArray, recipes: list[str], repeats: int) -> dict[str, list[float]]:
    """Measures of every recipe and quick model."""
    found = {name: measure(recipe_predictor(name, bags, y), bags, y, repeats) for name in recipes}
    for name, (model, parts) in quick_models().items():
        found[name] = measure(quick_predictor(model, parts, bags, y), bags, y, repeats)
    return found


def show(title: str, rows: dict[str, list[float]]) -> None:
    """Print one table."""
    print(f"\n{title}\n{'':46}" + "".join(f"{name:>11}" for name in MEASURES))
    for name, values in rows.items():
        print(f"{name:46}" + "".join(f"{value:11.3f}" for value in values))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cohort", type=Path, action="append", default=[], help="cohort folder (repeatable)")
    parser.add_argument("--cache", type=Path, default=None, help="where measured cells are kept")
    parser.add_argument(
        "--numbers", type=int, default=0, help="synthetic draws of 163 patients to average over"
    )
    parser.add_argument("--effect", type=float, default=None, help="morphology effect of the synthetic draws")
    parser.add_argument("--repeats", type=int, default=2, help="rounds of five folds")
    parser.add_argument("--recipe", action="append", help="recipes to measure (repeatable)")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    given = parser.parse_args()
    recipes, found = given.recipe or list(RECIPES), {}
    for folder in given.cohort:
        prepared = prepare(folder, cache=given.cache or default_cache())
        found[folder.name] = table(prepared.labelled_bags, prepared.labels, recipes, given.repeats)
        show(f"{folder.name}: {len(prepared.labels)} patients, {given.repeats} × 5 folds", found[folder.name])
    if given.numbers:
        plan = SyntheticPlan() if given.effect is None else SyntheticPlan(morphology_effect=given.effect)
        draws = [table(*_drawn(plan, seed), recipes, given.repeats) for seed in range(given.numbers)]
        found["synthetic"] = {
            name: np.mean([draw[name] for draw in draws], axis=0).tolist() for name in draws[0]
        }
        show(f"synthetic: mean of {given.numbers} draws of 163 patients", found["synthetic"])
    if given.json:
        write_json(given.json, {"measures": MEASURES, "results": found})


def _drawn(plan: SyntheticPlan, seed: int) -> tuple[Bags, IntArray]:
    bags, y = draw_numbers(plan, 163, seed)
    return bags, y.astype(np.int64)


if __name__ == "__main__":
    main()

"""How networks learned, on the page: curves, kept epochs, balancing, and numbers that are too good."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from page_checks import assert_sound
from report_example import example_report, example_training

from lymphoscope.report import figures, training_figures
from lymphoscope.report.content import Comparison, ReportContent
from lymphoscope.report.html import render_report
from lymphoscope.report.training_content import FoldCurves
from lymphoscope.report.wording import curves_caption
from lymphoscope.stats.intervals import Interval

NAN = float("nan")


@pytest.fixture(scope="module")
def content() -> ReportContent:
    return example_report()


def test_section_stands_before_the_methods_and_only_where_there_is_something(content: ReportContent) -> None:
    page = assert_sound(render_report(content))
    assert page.ids.index("probes") < page.ids.index("training") < page.ids.index("methods")
    assert "How the network learned" in page.text
    without = assert_sound(render_report(replace(content, training=())))
    assert "training" not in without.ids
    assert "learned</h2>" not in without.text


def test_two_networks_have_figures_of_their_own(content: ReportContent) -> None:
    other = replace(example_training(2, 3), recipe="other", title="Other", balancing=None)
    page = assert_sound(render_report(replace(content, training=(*content.training, other))))
    assert "How the networks learned" in page.text
    assert page.text.count("Patients of the smaller class were repeated.") == 1


def test_four_panels_a_thin_line_a_fold_and_a_circle_where_it_stopped() -> None:
    training = example_training(folds=3, epochs=8)
    svg = training_figures.curves_figure(training, "curves")
    for word in (
        "Loss",
        "Balanced accuracy",
        "Sensitivity (TPR)",
        "Specificity (TNR)",
        "Epoch",
        "one training",
    ):
        assert f">{word}<" in svg
    lone = training_figures.curves_figure(replace(training, folds=training.folds[:1]), "curves")
    assert "one training" not in lone
    assert "mean" not in lone
    assert lone.count("<path") < svg.count("<path")
    again = training_figures.curves_figure(training, "curves")
    assert again == svg


def test_folds_that_stopped_early_leave_the_mean_of_the_others() -> None:
    mean = training_figures.mean_curve([{"loss": (1.0, 3.0)}, {"loss": (2.0, 4.0, 6.0, NAN)}, {}], "loss")
    assert np.array_equal(mean, [1.5, 3.5, 6.0, NAN], equal_nan=True)
    assert len(training_figures.mean_curve([{}], "loss")) == 0


def test_a_wild_first_epoch_does_not_flatten_the_others() -> None:
    fold = example_training(1, 20).folds[0]
    wild = {**fold.validation, "loss": (250.0, *fold.validation["loss"][1:])}
    training = replace(example_training(), folds=(replace(fold, validation=wild),))
    assert "cut; highest 250" in training_figures.curves_figure(training, "curves")


def test_curves_without_validation_or_with_gaps_are_drawn() -> None:
    curve = dict.fromkeys(("balanced_accuracy", "sensitivity", "specificity"), (NAN, NAN))
    fold = FoldCurves("repeat 1, fold 1", (2,), {"loss": (0.7, 0.6), **curve}, {})
    training = replace(example_training(), folds=(fold, fold))
    assert "nan" not in training_figures.curves_figure(training, "curves").lower()
    assert training.kept("loss") == (0.6, 0.6)


def test_caption_says_which_epochs_were_kept() -> None:
    training = example_training(12, 10)
    kept = [epoch for fold in training.folds for epoch in fold.chosen]
    text = curves_caption(training, 10)
    assert "Of 12 trainings the first 10 are drawn" in text
    assert f"Open circle: the epoch that was kept of each training ({min(kept)} to {max(kept)})." in text
    same = replace(training, folds=(training.folds[0],))
    assert f"Open circle: the epoch that was kept (epoch {kept[0]})." in curves_caption(same, 10)


def test_caption_of_snapshots_names_every_epoch_that_was_kept() -> None:
    folds = tuple(replace(fold, chosen=(2, 4, 6)) for fold in example_training().folds)
    text = curves_caption(replace(example_training(), folds=folds), 10)
    assert "Open circles: the epochs that were kept of each training (2, 4, 6)." in text
    folds = (replace(folds[0], chosen=(3, 5)), *folds[1:])
    text = curves_caption(replace(example_training(), folds=folds), 10)
    assert "Open circles: epochs that were kept, several of each training (2 to 6)." in text


def test_bars_show_the_counts_before_and_after() -> None:
    balancing = example_training().balancing
    assert balancing is not None
    svg = training_figures.balancing_figure(balancing, "balancing")
    assert all(f">{count}<" in svg for count in ("40", "90", "3\u202f210", "7\u202f190"))
    weighed = replace(balancing, patients_after=balancing.patients_before, cells_after=balancing.cells_before)
    content = replace(example_report(), training=(replace(example_training(), balancing=weighed),))
    page = assert_sound(render_report(content))
    assert "small-figure" not in [attrs.get("class") for attrs in page.named("figure")]


def test_an_optimistic_rung_says_so_wherever_its_number_stands(content: ReportContent) -> None:
    ladder = content.ladder
    assert ladder is not None
    last = ladder.rungs[-1]
    title = f"{last.title} (optimistic)"
    optimistic = replace(last, title=title, recipe="x:selection=scored-fold", chosen=False, optimistic=True)
    gain = Comparison(last.title, title, Interval(0.05, 0.01, 0.09))
    ladder = replace(ladder, rungs=(*ladder.rungs, optimistic), optimism=(gain,))
    page = assert_sound(render_report(replace(content, ladder=ladder)))
    assert "optimistic: the epoch was chosen on the patients that are scored" in page.text
    assert "Dashed: optimistic" in page.text
    assert (
        f"“{last.title}” by +0.050 (interval +0.010 to +0.090). No new patient will see any of it."
        in page.text
    )
    svg = figures.ladder_figure(ladder)
    assert "(optimistic)" in svg
    assert "Dashed: optimistic" not in render_report(content)
    unclear = replace(ladder, optimism=(replace(gain, overall=Interval(0.05, -0.01, 0.09)),))
    assert "cannot tell it from nothing" in render_report(replace(content, ladder=unclear))
    worse = render_report(
        replace(
            content, ladder=replace(ladder, optimism=(replace(gain, overall=Interval(-0.06, -0.1, -0.02)),))
        )
    )
    assert "held out within the training patients chose better" in worse
    assert "No new patient will see any of it" not in worse


def test_a_probability_without_interval_is_not_given_one(content: ReportContent) -> None:
    bare = tuple(
        replace(row, probability=Interval(row.probability.estimate, NAN, NAN))
        for row in content.patients
        if row.probability
    )
    page = assert_sound(render_report(replace(content, patients=bare)))
    assert "not known" not in page.text
    assert "the probabilities stand without intervals" in page.text
    assert page.text.count("no interval") >= len(bare)

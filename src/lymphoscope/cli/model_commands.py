"""Commands that learn and predict: run, evaluate, predict, score."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lymphoscope.cli.options import (
    DEFAULT_ENCODER,
    JOBS,
    CacheOption,
    CohortArgument,
    EncoderOption,
    IgnoreOption,
    JobsOption,
    LeaveOutOption,
    SeedOption,
    encoder_of,
    with_reading,
)
from lymphoscope.cli.protocol_options import (
    PANEL,
    FoldsOption,
    KindOption,
    OverlapOption,
    RepeatsOption,
    SensitivityOption,
    TestSizeOption,
    protocol_of,
)

if TYPE_CHECKING:
    from lymphoscope.cohort.read import ReadOptions

RecipeOption = Annotated[str, typer.Option(help="The recipe to fit; `lymphoscope models` lists them.")]
BudgetOption = Annotated[
    Literal["smoke", "fast", "paper"],
    typer.Option(
        help="How long networks are trained: seconds to see that it works, minutes, or as their report did. "
        "Other recipes take no notice.",
        rich_help_panel="Networks",
    ),
]
DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option(help="Where networks are trained.", rich_help_panel="Networks"),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        help="Weights that a network begins with: a checkpoint of torchvision, .safetensors or .pth; for "
        "DINOv2 also a folder, the name of a downloaded model, or random; for encoder-tuned an "
        "encoder's folder.",
        rich_help_panel="Networks",
    ),
]
TrackOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Write every epoch for TensorBoard to this folder while networks are trained; needs the extra "
        "`track`.",
        rich_help_panel="Networks",
    ),
]


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    panel = "Learn and predict"
    app.command(rich_help_panel=panel)(with_reading(run))
    app.command(rich_help_panel=panel)(with_reading(evaluate))
    app.command(rich_help_panel=panel)(with_reading(predict))
    app.command(rich_help_panel=panel)(score)


def run(
    cohort: CohortArgument,
    reading: ReadOptions,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="RUN", help="Folder for the results; resumed if begun.")
    ],
    recipe: RecipeOption = "auto",
    kind: KindOption = "repeated-cv",
    folds: FoldsOption = None,
    repeats: RepeatsOption = None,
    test_size: TestSizeOption = None,
    overlap_limit: OverlapOption = 10.47,
    sensitivity: SensitivityOption = 0.95,
    refits: Annotated[
        int, typer.Option(min=2, help="Refits behind each patient's interval.", rich_help_panel=PANEL)
    ] = 100,
    budget: BudgetOption = "fast",
    device: DeviceOption = "auto",
    weights: WeightsOption = None,
    track: TrackOption = None,
    submission_columns: Annotated[
        str, typer.Option(help="Header of submission.csv, e.g. ID,LABEL.")
    ] = "Id,Predicted",
    submission_values: Annotated[
        Literal["decision", "probability"], typer.Option(help="decision: 0 or 1.")
    ] = "decision",
    labels_note: Annotated[
        str, typer.Option(help="A sentence printed beside every number, if the labels are no diagnoses.")
    ] = "",
    encoder: EncoderOption = DEFAULT_ENCODER,
    leave_out_cells: LeaveOutOption = "none",
    ignore: IgnoreOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace another run in the same folder.")
    ] = False,
    cache: CacheOption = None,
    seed: SeedOption = 0,
    jobs: JobsOption = JOBS,
) -> None:
    """The whole way: check, measure, evaluate the ladder, fit, predict, report."""
    from lymphoscope.cli.console import TerminalProgress, console
    from lymphoscope.pipeline.plan import RunPlan, Submission
    from lymphoscope.pipeline.preparation import prepare
    from lymphoscope.pipeline.run import run as run_cohort
    from lymphoscope.pipeline.run_folder import require_run_folder
    from lymphoscope.pipeline.summary import finding_lines, run_summary
    from lymphoscope.pipeline.tracking import require_tracking, told_if_untracked

    recipe = _trained(recipe, budget, device, weights)
    plan = RunPlan(
        reading=reading,
        protocol=protocol_of(
            *(kind, folds, repeats, test_size, [recipe]),
            seed=seed,
            overlap_limit=overlap_limit,
            wished_sensitivity=sensitivity,
        ),
        recipe=recipe,
        refits=refits,
        ignore=tuple(ignore or ()),
        submission=Submission.parse(submission_columns, submission_values),
        labels_note=labels_note,
    )
    require_run_folder(out)
    require_tracking(track, out)
    with told_if_untracked(track, console.out), TerminalProgress().shown() as progress:
        prepared = prepare(
            cohort,
            reading,
            cache=cache,
            encoder=encoder_of(encoder),
            leave_out=leave_out_cells,
            ignore=plan.ignore,
            jobs=jobs,
            out=out,
            progress=progress,
        )
        folder = run_cohort(
            prepared, out, plan, jobs=jobs, overwrite=overwrite, track=track, progress=progress
        )
    if prepared.left_out is not None:
        console.print(prepared.left_out.sentence())
    for line in (*finding_lines(prepared.findings), *run_summary(folder)):
        console.print(line)


def evaluate(
    cohort: CohortArgument,
    reading: ReadOptions,
    recipe: Annotated[
        list[str] | None,
        typer.Option(help="Recipe to evaluate (repeatable); default: the reference ladder."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="JSON", help="Also write the numbers to this file.")
    ] = None,
    kind: KindOption = "repeated-cv",
    folds: FoldsOption = None,
    repeats: RepeatsOption = None,
    test_size: TestSizeOption = None,
    overlap_limit: OverlapOption = 10.47,
    budget: BudgetOption = "fast",
    device: DeviceOption = "auto",
    weights: WeightsOption = None,
    track: TrackOption = None,
    encoder: EncoderOption = DEFAULT_ENCODER,
    leave_out_cells: LeaveOutOption = "none",
    ignore: IgnoreOption = None,
    cache: CacheOption = None,
    seed: SeedOption = 0,
    jobs: JobsOption = JOBS,
) -> None:
    """Measure recipes on patients they have not seen, with intervals, and compare them."""
    from rich.markup import escape

    from lymphoscope.cli.console import TerminalProgress, console
    from lymphoscope.pipeline import page
    from lymphoscope.pipeline.evaluate import evaluate_cohort
    from lymphoscope.pipeline.preparation import prepare, require_new
    from lymphoscope.pipeline.summary import caution_lines, finding_lines, ladder_lines
    from lymphoscope.pipeline.tracking import require_tracking, told_if_untracked

    recipes = [_trained(name, budget, device, weights) for name in recipe or []]
    protocol = protocol_of(kind, folds, repeats, test_size, recipes, seed=seed, overlap_limit=overlap_limit)
    require_tracking(track)
    if out is not None:
        require_new(out)
    with told_if_untracked(track, console.out), TerminalProgress().shown() as progress:
        prepared = prepare(
            cohort,
            reading,
            cache=cache,
            encoder=encoder_of(encoder),
            leave_out=leave_out_cells,
            ignore=ignore or [],
            jobs=jobs,
            out=out,
            progress=progress,
        )
        found = evaluate_cohort(
            prepared, protocol, recipes, jobs=jobs, out=out, track=track, progress=progress
        )
    if prepared.left_out is not None:
        console.print(prepared.left_out.sentence())
    for line in (
        *finding_lines(prepared.findings),
        *ladder_lines(found.as_dict()),
        *caution_lines(page.cautions(prepared, found)),
    ):
        console.print(line)
    if out is not None:
        console.print(f"Numbers: [bold]{escape(str(out))}[/]")


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A run's folder called `model`.")],
    cohort: CohortArgument,
    reading: ReadOptions,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="New folder for the predictions.")
    ],
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Weights that the model was built on, where it does not hold them: DINOv2's, or an "
            "encoder's folder.",
        ),
    ] = None,
    encoder: EncoderOption = DEFAULT_ENCODER,
    leave_out_cells: LeaveOutOption = "none",
    ignore: IgnoreOption = None,
    cache: CacheOption = None,
    jobs: JobsOption = JOBS,
) -> None:
    """Apply a fitted model to the patients of a folder; labels are neither needed nor looked at."""
    from lymphoscope.cli.console import TerminalProgress, console
    from lymphoscope.pipeline.predict import caveats_of, predict_cohort, read_model
    from lymphoscope.pipeline.preparation import prepare, require_new
    from lymphoscope.pipeline.summary import caution_lines, finding_lines, prediction_summary

    require_new(out)
    bundle = read_model(model, weights)
    with TerminalProgress().shown() as progress:
        prepared = prepare(
            cohort,
            reading,
            cache=cache,
            encoder=encoder_of(encoder),
            leave_out=leave_out_cells,
            ignore=ignore or [],
            jobs=jobs,
            out=out,
            progress=progress,
        )
        answers = predict_cohort(bundle, prepared, out)
    if prepared.left_out is not None:
        console.print(prepared.left_out.sentence())
    for line in (
        *finding_lines(prepared.findings),
        *caution_lines(caveats_of(bundle, prepared)),
        *prediction_summary(answers, out),
    ):
        console.print(line)


def score(
    predictions: Annotated[Path, typer.Argument(help="Table of ids and predictions: 0/1 or probabilities.")],
    truth: Annotated[Path, typer.Argument(help="Table of ids and true labels.")],
    id_column: Annotated[str | None, typer.Option(help="Name of the patients' column.")] = None,
    prediction_column: Annotated[str | None, typer.Option(help="Name of the predictions' column.")] = None,
    truth_column: Annotated[str | None, typer.Option(help="Name of the labels' column.")] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Call malignant from this probability on.",
            show_default="as predicted; 0.5 where there are only probabilities",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Score predictions once the true labels are known."""
    from lymphoscope.cli.console import console
    from lymphoscope.evaluation.scoring import score_files
    from lymphoscope.files import to_json
    from lymphoscope.pipeline.summary import score_lines

    found = score_files(
        predictions,
        truth,
        id_column=id_column,
        prediction_column=prediction_column,
        truth_column=truth_column,
        threshold=threshold,
    )
    if as_json:
        typer.echo(to_json(found.as_dict()), nl=False)
        return
    for line in score_lines(found):
        console.print(line)


def _trained(name: str, budget: str, device: str, weights: Path | None) -> str:
    """The recipe's name with what the command line says of training; other recipes are left as they are."""
    from rich.markup import escape

    from lymphoscope.cli.console import console
    from lymphoscope.encoders.kept import CARD, CELLS, SOURCES
    from lymphoscope.models.base import EpochClassifier
    from lymphoscope.models.named_settings import named_settings, require_heard, with_settings
    from lymphoscope.models.registry import FULL_BUDGET, create_model, recipe_info, with_budget

    takes = create_model(name).get_params(deep=False)
    takes_weights = "weights" in takes
    if weights and not takes_weights:
        console.print(f"{escape(name)} takes no weights: it is as it would be without --weights.")
    if weights and takes_weights and (weights / CARD).is_file() and not (weights / CELLS).is_file():
        console.print(
            f"{escape(weights.name)} has learned from the cells that {escape(str(weights / SOURCES))} lists, "
            "and cannot know them again. If this cohort is made of some of them, its numbers are flattered."
        )
    settings = {"device": device} if device != "auto" and "device" in takes else {}
    settings |= {"weights": str(weights)} if weights and takes_weights else {}
    named = named_settings(name)  # what a name says is meant for that recipe, and the options for the others
    settings = {key: value for key, value in settings.items() if key not in named}
    known = {*recipe_info(name).budgets, FULL_BUDGET}
    name = with_settings(with_budget(name, budget) if budget in known else name, settings)
    model = create_model(name)
    unheard = model.unheard() if isinstance(model, EpochClassifier) else {}
    require_heard(name, model.get_params(deep=False), unheard)
    if not isinstance(model, EpochClassifier):
        model.check_settings()
    else:
        begins = model.check_network()
        if begins.weights_sha256:
            console.print(f"{recipe_info(name).title}: weights of SHA-256 {begins.weights_sha256}.")
        if begins.tuned:
            console.print(f"{recipe_info(name).title}: {escape(begins.tuned)}")
    return name

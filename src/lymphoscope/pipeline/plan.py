"""What a run is asked to do; two runs of one plan on one cohort give the same bytes, times apart."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, cast, get_args

from lymphoscope import _version
from lymphoscope.cohort.read import ReadOptions
from lymphoscope.encoders.encoder import Encoder
from lymphoscope.errors import InputError
from lymphoscope.evaluation.optimism import honest_recipe
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.models.base import EpochClassifier
from lymphoscope.models.named_settings import public_name
from lymphoscope.models.registry import create_model, recipe_info
from lymphoscope.pipeline.left_out import LeaveOut

SubmissionValues = Literal["decision", "probability"]


@dataclass(frozen=True)
class Submission:
    """How `submission.csv` is written.

    Attributes
    ----------
    columns : header of the id and of the value.
    values : "decision" writes 0 or 1 at the model's own threshold, "probability" the probability.
    """

    columns: tuple[str, str] = ("Id", "Predicted")
    values: SubmissionValues = "decision"

    def __post_init__(self) -> None:
        for name in self.columns:
            if not name or not name.isprintable() or name[0] in "=+-@":
                raise InputError(
                    "this is no name for a column of the submission",
                    found=name,
                    allowed="printable text that does not begin with =, +, - or @, as a formula does",
                )
        if self.columns[0].casefold() == self.columns[1].casefold():
            raise InputError("both columns of the submission have the same name", found=self.columns[0])

    @classmethod
    def parse(cls, columns: str, values: str) -> Submission:
        """From text such as "ID,LABEL" and "decision"."""
        names = tuple(name.strip(" ") for name in columns.split(","))
        if len(names) != 2:
            raise InputError(
                "the submission's columns cannot be read", found=columns, allowed="two names, e.g. ID,LABEL"
            )
        if values not in get_args(SubmissionValues):
            allowed = " or ".join(get_args(SubmissionValues))
            raise InputError("the submission's values cannot be read", found=values, allowed=allowed)
        return cls((names[0], names[1]), cast("SubmissionValues", values))


@dataclass(frozen=True)
class RunPlan:
    """Everything that decides what a run's files hold, apart from the cohort itself.

    Attributes
    ----------
    recipe : the model that is fitted on all labelled patients; "auto" chooses one in inner folds. See `kept`.
    refits : models refitted on bootstrap samples of the patients, behind each patient's interval.
    ignore : codes of findings that are left out.
    labels_note : one sentence to print wherever a number rests on the labels, where these are no diagnoses.
    strip : cells shown per patient and side in the report.
    """

    reading: ReadOptions = field(default_factory=ReadOptions)
    protocol: Protocol = field(default_factory=Protocol)
    recipe: str = "auto"
    refits: int = 100
    ignore: tuple[str, ...] = ()
    submission: Submission = field(default_factory=Submission)
    labels_note: str = ""
    strip: int = 4

    def __post_init__(self) -> None:
        recipe_info(self.recipe)
        if self.refits < 2:
            raise InputError("too few refits for an interval", found=self.refits, allowed="2 or more")

    @property
    def has_refits(self) -> bool:
        """Whether the recipe is quick enough to be refitted many times: networks are not."""
        return not recipe_info(self.recipe).budgets

    @property
    def kept(self) -> str:
        """The recipe of the model that is kept and of the predictions.

        New patients cannot choose an epoch: it is honest even where the plan's recipe is not.
        """
        return honest_recipe(self.recipe)

    @property
    def recipe_name(self) -> str:
        """The name of `kept` as results carry it."""
        return public_name(self.kept)

    def as_dict(
        self, cohort_name: str, encoder: Encoder | None, leave_out: LeaveOut = "none"
    ) -> dict[str, Any]:
        """Plain values for plan.json; of weights that are read from a file their hash, not where they lie."""
        reading = asdict(self.reading)
        model = create_model(self.recipe)
        weights = isinstance(model, EpochClassifier) and model.weights
        return {
            "lymphoscope": _version.__version__,
            "cohort": cohort_name,
            "reading": {key: _plain(value) for key, value in reading.items()},
            "protocol": self.protocol.as_dict(),
            "recipe": public_name(self.recipe),
            "encoder": encoder and encoder.as_dict(),
            "leave_out_cells": leave_out,
            "weights_sha256": model.check_network().weights_sha256 if weights else None,
            "refits": self.refits,
            "ignore": sorted(self.ignore),
            "submission": asdict(self.submission),
            "labels_note": self.labels_note,
            "strip": self.strip,
        }


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float | dict) else str(value)

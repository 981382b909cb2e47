"""Everything that decides how a network is trained, apart from the network and the patients."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from lymphoscope.training.augmentation import IMAGENET, Augmentation, Normalisation

Unit = Literal["cell", "patient"]
Pooling = Literal["probability", "logit", "vote"]
Selection = Literal["inner", "last", "scored-fold"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained.

    Attributes
    ----------
    unit : "cell", every cell is an example with its patient's label; "patient", the features of a patient's
        cells are averaged and the patient is the example.
    pooling : with unit "cell", a patient's score is the log-odds of the mean probability of its cells, the
        mean of their log-odds, or the log-odds of the share of cells that vote for malignancy.
    epochs : at most.
    batch_size : cells or patients, by `unit`.
    cells_per_patient : drawn per patient and epoch, anew each time; None takes all. It bounds the memory of
        a step where the unit is the patient.
    select : "best" keeps the weights of the epoch that did best on the patients held out for it, "last" those
        of the last epoch.
    select_by : "loss", or "balanced-accuracy" of patients.
    patience : epochs without a better one after which training stops; None never stops.
    snapshots : more than 1 anneals the learning rate by cosine in as many cycles, trains to the end, and
        keeps the weights that end each cycle (Huang et al. 2017, arXiv:1704.00109): `schedule`, `select` and
        `patience` then have no say.
    clinical_masking : share of examples in which each clinical value is hidden with probability 0.5.
    average : above 0, what predicts is an average of the weights over the steps, in which a step weighs
        `average` times what the next one does (Tarvainen & Valpola 2017, arXiv:1703.01780, section 2); it
        tames networks whose epochs differ wildly.
    clip_norm : largest norm of the gradient; None lets it be.
    precision : of the training; predictions are always made in single precision, so that they do not depend
        on the processor.
    """

    unit: Unit = "cell"
    pooling: Pooling = "probability"
    epochs: int = 20
    batch_size: int = 64
    cells_per_patient: int | None = None
    optimiser: Literal["adam", "adamw", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    schedule: Literal["constant", "exponential", "cosine"] = "constant"
    decay: float = 0.975
    warmup_epochs: int = 0
    loss: Literal["cross-entropy", "focal"] = "cross-entropy"
    positive_weight: float | None = None
    label_smoothing: float = 0.0
    focal_gamma: float = 2.0
    average: float = 0.0
    clip_norm: float | None = None
    balance: Literal["none", "oversample", "undersample", "weighted-sampler", "class-weights"] = "none"
    balance_by: Literal["patient", "cell"] = "patient"
    augmentation: Augmentation = field(default_factory=Augmentation)
    normalisation: Normalisation = IMAGENET
    clinical_masking: float = 0.0
    select: Literal["best", "last"] = "best"
    select_by: Literal["loss", "balanced-accuracy"] = "loss"
    patience: int | None = None
    snapshots: int = 1
    precision: Precision = "float32"
    seed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

"""Networks on photographs of cells, trained by cell or by patient, behind the contract of every model."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor

from lymphoscope.cohort.bags import Bags, IntArray
from lymphoscope.errors import InputError
from lymphoscope.models.base import Stain
from lymphoscope.models.clinical_inputs import Scaling
from lymphoscope.models.headed_network import Fusion, headed
from lymphoscope.models.heads.base import check_head, list_heads
from lymphoscope.models.image_inputs import AUGMENTATIONS, evened, pixels, shrunk
from lymphoscope.models.network_classifier import NetworkClassifier
from lymphoscope.models.networks.base import CellNetwork, create_network, default_weights
from lymphoscope.training.augmentation import IMAGENET, Normalisation
from lymphoscope.training.settings import Pooling, Selection, TrainingSettings, Unit


class ImageClassifier(NetworkClassifier):
    """A network trained on photographs of single cells, with or without the clinical values.

    Every cell carries its patient's label, and a patient is what its cells say together; or the features of
    a patient's cells are averaged and the patient is the example. Some training patients are held out: they
    choose the epoch, if one is chosen, and calibrate the patients' scores, so that probabilities are meant at
    the prevalence of the training patients. Patients without photographs get that prevalence, whatever the
    table says of them, and so count as malignant: without a cell no network should call off a test.

    Parameters
    ----------
    network : name of the network; see `lymphoscope.models.networks`.
    width : multiplies its numbers of channels; 1 is the published size.
    options : of the network, by name; a recipe may set each like a parameter of its own.
    image_size : side in pixels of the centre of each photograph that it sees.
    shrink : squares of so many pixels are averaged into one before, so that it sees the same at less cost.
    segmented : what is not the cell is painted over before the network sees it. This and `stain` are done by
        `pipeline.preparation.Prepared.bags_for`; bags made otherwise must come so already.
    stain : "normalised" brings light and the hue of the stain to those of a reference before the network sees
        the cells, patient by patient, and leaves how much stain there is; "as-is" changes nothing.
    evened : every channel of every photograph is given the same mean and deviation before, so that light and
        the strength of the stain tell patients apart no more.
    head : of multiple-instance learning, in place of the network's own; see `lymphoscope.models.heads`. The
        unit must then be the patient.
    fusion : how the clinical values join such a head; with "none" it does not see them, whatever the
        network's own would.
    unit : what is an example, "cell" or "patient".
    pooling : how cells become a patient where the cell is the example: mean of their "probability", mean of
        their "logit", or "vote".
    clinical_scaling : "standard" (age and log count to variance 1) or "minmax" (age and count to a range of
        1), on the training patients; sex spans 1 either way. The mean is 0, and so is a missing value.
    clinical_masking : share of examples in which each clinical value is hidden with probability 0.5 while
        training; refused where the network does not see them.
    epochs : at most; see `selection` and `patience`.
    batch_size : cells or patients, by `unit`.
    cells_per_patient : drawn anew per patient and epoch; None takes all.
    optimiser : algorithm of descent.
    learning_rate : of the first epoch.
    weight_decay : of the optimiser.
    schedule : how the learning rate changes from epoch to epoch.
    decay : factor per epoch where the schedule is "exponential".
    warmup_epochs : in which the learning rate rises to that of the schedule; at most all but one of `epochs`.
    loss : what is minimised.
    positive_weight : what a malignant example weighs in the loss beside a reactive one, on top of `balance`.
    label_smoothing : share of the target that is spread over both classes.
    average : memory of an average of the weights over the steps, which then predicts; 0 for none.
    clip_norm : largest norm of the gradient.
    balance : how unequal classes are evened out, within the training patients.
    balance_by : what is counted for it, the patients or the cells that they give an epoch.
    augmentation : "none", "flips" (mirroring and quarter turns) or "all" (also free rotation, shift, scale,
        brightness, contrast and stain). Of a network whose features are frozen, and so computed once,
        photographs are not changed.
    normalisation : "imagenet", or the training "cohort"'s own mean and deviation.
    selection : "inner" keeps the epoch with the lowest loss on the patients held out within the training
        patients, "last" the last epoch. "scored-fold" keeps the one with the best balanced accuracy on the
        very patients that are scored, as the reports did, and is optimistic; nobody is left to calibrate on.
    validation_share : of the training patients, held out.
    patience : epochs without improvement after which training ends; None trains on.
    snapshots : more than 1 anneals the learning rate in as many cycles, whatever `schedule` says, the first
        of them after the warm-up, and averages the networks that end them; `selection` and `patience` then
        have no say, and "last" or a `patience` is refused.
    members : networks that are averaged, each trained without one fold of the training patients, which choose
        its epoch where there is one snapshot; all of them together calibrate. There are at most as many as
        the rarer class has training patients. 1 holds out `validation_share` and trains one.
    precision : of the training: "bfloat16" is mixed precision, faster for most networks on some processors;
        "auto" takes it on kinds of processor that are. Predictions are made in single precision.
    test_time : versions of each photograph averaged at prediction: 1, 2 (mirrored), 4 (quarter turns) or 8.
    weights : checkpoint of torchvision for the backbone, .safetensors or .pth, read before training alone; or
        what the network is built from, if it is of that kind, which its predictions need again.
    device : "auto" takes a graphics processor where there is one.
    random_state : seed of everything.
    """

    def __init__(
        self,
        network: str = "cnn-baseline",
        width: Annotated[float, Gt(0)] = 1.0,
        options: dict[str, str | int | float | bool | None] | None = None,
        image_size: Annotated[int, Ge(16), Le(224)] = 112,
        shrink: Annotated[int, Ge(1), Le(4)] = 1,
        segmented: bool = False,
        stain: Stain = "as-is",
        evened: bool = False,
        head: str | None = None,
        fusion: Fusion = "none",
        unit: Unit = "cell",
        pooling: Pooling = "probability",
        clinical_scaling: Scaling = "standard",
        clinical_masking: Annotated[float, Ge(0), Le(1)] = 0.0,
        epochs: Annotated[int, Ge(1)] = 20,
        batch_size: Annotated[int, Ge(2)] = 64,
        cells_per_patient: Annotated[int, Ge(1)] | None = None,
        optimiser: Literal["adam", "adamw", "sgd"] = "adamw",
        learning_rate: Annotated[float, Gt(0)] = 1e-3,
        weight_decay: Annotated[float, Ge(0)] = 1e-4,
        schedule: Literal["constant", "exponential", "cosine"] = "constant",
        decay: Annotated[float, Gt(0), Le(1)] = 0.975,
        warmup_epochs: Annotated[int, Ge(0)] = 0,
        loss: Literal["cross-entropy", "focal"] = "cross-entropy",
        positive_weight: Annotated[float, Gt(0)] | None = None,
        label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0,
        average: Annotated[float, Ge(0), Lt(1)] = 0.0,
        clip_norm: Annotated[float, Gt(0)] | None = None,
        balance: Literal["none", "oversample", "undersample", "weighted-sampler", "class-weights"] = "none",
        balance_by: Literal["patient", "cell"] = "patient",
        augmentation: Literal["none", "flips", "all"] = "flips",
        normalisation: Literal["imagenet", "cohort"] = "imagenet",
        selection: Selection = "inner",
        validation_share: Annotated[float, Gt(0), Lt(1)] = 0.2,
        patience: Annotated[int, Ge(1)] | None = None,
        snapshots: Annotated[int, Ge(1)] = 1,
        members: Annotated[int, Ge(1)] = 1,
        precision: Literal["auto", "float32", "bfloat16"] = "auto",
        test_time: Literal[1, 2, 4, 8] = 1,
        weights: str | None = None,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        random_state: Annotated[int, Ge(0)] = 0,
    ) -> None:
        self.network = network
        self.width = width
        self.options = options
        self.image_size = image_size
        self.shrink = shrink
        self.segmented = segmented
        self.stain = stain
        self.evened = evened
        self.head = head
        self.fusion = fusion
        self.unit = unit
        self.pooling = pooling
        self.clinical_scaling = clinical_scaling
        self.clinical_masking = clinical_masking
        self.epochs = epochs
        self.batch_size = batch_size
        self.cells_per_patient = cells_per_patient
        self.optimiser = optimiser
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.decay = decay
        self.warmup_epochs = warmup_epochs
        self.loss = loss
        self.positive_weight = positive_weight
        self.label_smoothing = label_smoothing
        self.average = average
        self.clip_norm = clip_norm
        self.balance = balance
        self.balance_by = balance_by
        self.augmentation = augmentation
        self.normalisation = normalisation
        self.selection = selection
        self.validation_share = validation_share
        self.patience = patience
        self.snapshots = snapshots
        self.members = members
        self.precision = precision
        self.test_time = test_time
        self.weights = weights
        self.device = device
        self.random_state = random_state

    @property
    def built_from_weights(self) -> bool:
        """Whether predictions need the weights again that the network was built from."""
        with torch.device("meta"):
            return self._build().built_from_weights

    @property
    def untrained(self) -> bool:
        """Whether it keeps weights that have learned nothing, so that no comparison should rank it."""
        return super().untrained and (self.options or {}).get("tuning") not in ("full", "whole")

    def unheard(self) -> dict[str, str]:
        """Also augmentation, where features are frozen and computed once."""
        with torch.device("meta"):
            frozen = self._build().frozen_features
        why = {"augmentation": "the features of its cells are frozen, and computed once"}
        return super().unheard() | (why if frozen else {})

    def begins_with(self) -> str | None:
        """Name or place of the weights that a fit begins with: those given, or the network's own choice."""
        return self.weights or default_weights(self.network)

    def _check_cells(self, bags: Bags) -> None:
        pixels(bags, self.image_size)

    def _learn_levels(self, bags: Bags, rows: IntArray) -> None:
        known = IMAGENET
        if self.normalisation == "cohort":
            known = Normalisation.of(self._cells(bags), rows)
        self.levels_ = np.array(known.mean), np.array(known.deviation)

    def _cells(self, bags: Bags) -> Tensor:
        cells = shrunk(pixels(bags, self.image_size), self.shrink)
        return evened(cells, painted=self.segmented) if self.evened else cells

    def _build(self, weights: str | None = None) -> CellNetwork:
        side = self.image_size // self.shrink
        network = create_network(self.network, self.width, side, self.options, weights)
        if self.head is None:
            if self.fusion != "none":
                raise InputError(
                    "fusion says how the clinical values join a head of multiple-instance learning",
                    found=f"fusion {self.fusion}, no head",
                    allowed=f"a head: {', '.join(list_heads())}; or no fusion",
                )
            return network
        check_head(self.head)
        if network.own_patients:
            raise InputError(
                f"network {self.network} makes a patient of its cells itself, and has no place for a head",
                found=f"head {self.head}",
                allowed="no head",
            )
        if self.unit == "cell":
            raise InputError(
                "a head of multiple-instance learning sees all cells of a patient together",
                found=f"head {self.head}, unit cell",
                allowed="unit patient",
            )
        if (self.options or {}).get("clinical"):
            raise InputError(
                "a head of multiple-instance learning is given the clinical values by its fusion",
                found="clinical=true",
                allowed="fusion: concatenation, additive or gate",
            )
        return headed(network, side, self.head, self.width, self.fusion)

    def _settings(self) -> TrainingSettings:
        known = getattr(self, "levels_", (np.array(IMAGENET.mean), np.array(IMAGENET.deviation)))
        return replace(
            super()._settings(),
            augmentation=AUGMENTATIONS[self.augmentation],
            normalisation=Normalisation(*(tuple(each.tolist()) for each in known)),
        )

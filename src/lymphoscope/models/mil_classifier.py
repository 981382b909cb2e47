"""Multiple-instance learning on numbers that are known of each cell."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from lymphoscope.cohort.bags import Bags, IntArray
from lymphoscope.errors import InputError
from lymphoscope.models.base import Beginning, CellInput, State
from lymphoscope.models.clinical_inputs import Scaling
from lymphoscope.models.headed_network import Fusion, HeadedNetwork
from lymphoscope.models.heads.base import create_head
from lymphoscope.models.learned import pack_text, unpack_text
from lymphoscope.models.network_classifier import NetworkClassifier
from lymphoscope.models.networks.base import CellNetwork
from lymphoscope.models.networks.blocks import scaled
from lymphoscope.models.patient_space import Numbers, cell_columns, known_columns
from lymphoscope.training.machine import device_named
from lymphoscope.training.settings import Selection, Unit

_MOST = 10.0
"""Deviations that a number may be from the mean, so that no single odd one decides on a patient."""


class MilClassifier(NetworkClassifier):
    """A head of multiple-instance learning on the measured morphology of cells, or on embeddings of them.

    Columns are scaled to mean 0 and variance 1 over the cells of the training patients; a missing number is
    the mean. Held-out training patients choose the epoch and calibrate, as for every network. Patients
    without cells get the prevalence of the training patients.

    Parameters
    ----------
    head : how cells become a patient; see `lymphoscope.models.heads`.
    numbers : which numbers of a cell are taken, where they have names; all of them where they have none.
    embedding : hidden units that the head sees in place of a cell's numbers (linear layer, ReLU); 0 shows
        it the numbers.
    width : multiplies the sizes of the head's hidden layers, and `embedding`; 1 is the published size.
    fusion : how age, count and sex join: not at all, beside every cell's numbers, as a linear term, or
        through a gate.
    clinical_scaling : "standard" (age and log count to variance 1) or "minmax" (age and count to a range of
        1), on the training patients; sex spans 1 either way. The mean is 0, and so is a missing value.
    clinical_masking : share of patients whose clinical values are each hidden with probability 0.5 in
        training; refused where the head does not see them.
    epochs : at most; see `selection` and `patience`.
    batch_size : patients.
    cells_per_patient : drawn anew per patient and epoch; None takes all.
    optimiser : algorithm of descent.
    learning_rate : of the first epoch.
    weight_decay : of the optimiser.
    schedule : how the learning rate changes from epoch to epoch.
    average : memory of an average of the weights over the steps, which then predicts; 0 for none.
    positive_weight : what a malignant patient weighs in the loss beside a reactive one, on top of `balance`.
    balance : how unequal classes are evened out, within the training patients.
    selection : "inner" keeps the epoch with the lowest loss on the patients held out within the training
        patients, "last" the last epoch; "scored-fold" is optimistic.
    validation_share : of the training patients, held out.
    patience : epochs without improvement after which training ends; None trains on.
    snapshots : more than 1 anneals the learning rate in as many cycles and averages the networks that end
        them; `selection`, `schedule` and `patience` then have no say.
    members : networks that are averaged, each trained without one fold of the training patients.
    device : "auto" takes a graphics processor where there is one.
    random_state : seed of everything.
    """

    cell_input: ClassVar[CellInput] = "numbers"

    unit: Unit = "patient"
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    test_time: int = 1
    weights: str | None = None

    def __init__(
        self,
        head: str = "abmil",
        numbers: Numbers = "morphology",
        embedding: Annotated[int, Ge(0)] = 64,
        width: Annotated[float, Gt(0)] = 1.0,
        fusion: Fusion = "none",
        clinical_scaling: Scaling = "standard",
        clinical_masking: Annotated[float, Ge(0), Lt(1)] = 0.0,
        epochs: Annotated[int, Ge(1)] = 60,
        batch_size: Annotated[int, Ge(2)] = 8,
        cells_per_patient: Annotated[int, Ge(1)] | None = None,
        optimiser: Literal["adam", "adamw", "sgd"] = "adamw",
        learning_rate: Annotated[float, Gt(0)] = 1e-3,
        weight_decay: Annotated[float, Ge(0)] = 1e-2,
        schedule: Literal["constant", "exponential", "cosine"] = "constant",
        average: Annotated[float, Ge(0), Lt(1)] = 0.9,
        positive_weight: Annotated[float, Gt(0)] | None = None,
        balance: Literal["none", "oversample", "undersample", "weighted-sampler", "class-weights"] = "none",
        selection: Selection = "inner",
        validation_share: Annotated[float, Gt(0), Lt(1)] = 0.2,
        patience: Annotated[int, Ge(1)] | None = 15,
        snapshots: Annotated[int, Ge(1)] = 1,
        members: Annotated[int, Ge(1)] = 1,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        random_state: Annotated[int, Ge(0)] = 0,
    ) -> None:
        self.head = head
        self.numbers = numbers
        self.embedding = embedding
        self.width = width
        self.fusion = fusion
        self.clinical_scaling = clinical_scaling
        self.clinical_masking = clinical_masking
        self.epochs = epochs
        self.batch_size = batch_size
        self.cells_per_patient = cells_per_patient
        self.optimiser = optimiser
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.average = average
        self.positive_weight = positive_weight
        self.balance = balance
        self.selection = selection
        self.validation_share = validation_share
        self.patience = patience
        self.snapshots = snapshots
        self.members = members
        self.device = device
        self.random_state = random_state

    @property
    def takes_clinical(self) -> bool:
        """Whether age, count and sex change the result."""
        return self.fusion != "none"

    def check_network(self) -> Beginning:
        """Nothing, or the `InputError` of `fit` for a head or device that no patients could make fit."""
        device_named(self.device)
        create_head(self.head, 1, width=self.width, fusion=self.fusion)
        self.check_selection()
        self.check_masking()
        return Beginning("", "")

    def _check_cells(self, bags: Bags) -> None:
        if np.ndim(bags.cells) != 2 or not np.issubdtype(np.asarray(bags.cells).dtype, np.floating):
            raise InputError(
                "this model takes numbers per cell",
                found=f"cells of shape {np.shape(bags.cells)} and type {np.asarray(bags.cells).dtype}",
                allowed="numbers of shape (n_cells, n_columns)",
                remedy="Give it the bags of measured cells, not photographs.",
            )

    def _learn_levels(self, bags: Bags, rows: IntArray) -> None:
        self.columns_ = None if bags.columns is None else cell_columns(bags, self.numbers)
        cells = self._numbers(bags)[rows].astype(np.float64)
        known = np.isfinite(cells)
        counts = np.maximum(known.sum(0), 1)
        mean = np.where(known, cells, 0.0).sum(0) / counts
        deviation = np.sqrt(np.where(known, (cells - mean) ** 2, 0.0).sum(0) / counts)
        # Nothing is learned of a number that training never saw differ: it must not count later either.
        self.levels_ = mean, np.where(deviation > 1e-9 * np.maximum(1.0, np.abs(mean)), deviation, np.inf)

    def _cells(self, bags: Bags) -> Tensor:
        mean, deviation = self.levels_
        numbers = self._numbers(bags).astype(np.float64)
        scaled = (np.where(np.isfinite(numbers), numbers, np.nan) - mean) / deviation
        return torch.from_numpy(np.nan_to_num(np.clip(scaled, -_MOST, _MOST)).astype(np.float32))

    def _numbers(self, bags: Bags) -> npt.NDArray[Any]:
        """The numbers that the network sees, (n_cells, n_columns)."""
        return np.asarray((bags if self.columns_ is None else known_columns(bags, self.columns_)).cells)

    def state(self) -> State:
        """The network's, and the names of the columns that it has learned from."""
        return {**super().state(), "columns": pack_text(json.dumps(self.columns_))}

    def load_state(self, state: State) -> Self:
        """Take up what `state` returned."""
        columns = json.loads(unpack_text(state["columns"]))
        self.columns_ = None if columns is None else tuple(columns)
        return super().load_state({name: value for name, value in state.items() if name != "columns"})

    def _build(self, weights: str | None = None) -> CellNetwork:
        n_seen = n_columns = len(self.levels_[0])
        encoder: nn.Module = nn.Identity()
        if self.embedding:
            n_seen = scaled(self.embedding, self.width)
            encoder = nn.Sequential(nn.Linear(n_columns, n_seen), nn.ReLU())
        return HeadedNetwork(encoder, create_head(self.head, n_seen, width=self.width, fusion=self.fusion))

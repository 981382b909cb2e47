"""What all networks share: trained by cell or by patient, calibrated, averaged and kept."""

from __future__ import annotations

import copy
import inspect
import json
from abc import abstractmethod
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from lymphoscope.cohort.bags import Bags, FloatArray, IntArray
from lymphoscope.errors import InputError
from lymphoscope.models.base import (
    SCORED_FOLD,
    Beginning,
    EpochClassifier,
    Explanation,
    Labels,
    State,
    check_labels,
)
from lymphoscope.models.clinical_inputs import ClinicalInputs, Scaling
from lymphoscope.models.image_inputs import (
    HeadAlone,
    canonical_order,
    inner_splits,
    joined,
    seen_once,
    some_cells,
)
from lymphoscope.models.image_networks import begin_network, network_state, networks_of, scores_of
from lymphoscope.models.image_state import FittedParts, training_key
from lymphoscope.models.learned import pack, pack_text, unpack, unpack_text
from lymphoscope.models.networks.base import CellNetwork
from lymphoscope.models.patient_calibration import PatientCalibration
from lymphoscope.training.curves import Epoch
from lymphoscope.training.learner import take_weights
from lymphoscope.training.loop import Watch, balanced_counts, train
from lymphoscope.training.machine import device_named, fastest_precision, same_bits
from lymphoscope.training.measuring import prior_log_odds
from lymphoscope.training.prediction import CellData
from lymphoscope.training.settings import TrainingSettings, Unit

INNER_SPLIT, MEMBER = 1, 2
"""Streams of random numbers beside that of the training itself."""


class NetworkClassifier(EpochClassifier):
    """A network over cells; those that derive from it say what cells are and which network it is.

    Parameters with the names of `TrainingSettings` go to the training.

    Attributes
    ----------
    levels_ : mean and deviation that cells are normalised by, (n_channels,) each.
    """

    unit: Unit
    clinical_scaling: Scaling
    clinical_masking: float
    snapshots: int
    validation_share: float
    precision: Literal["auto", "float32", "bfloat16"]
    test_time: int
    device: Literal["auto", "cpu", "cuda"]
    random_state: int

    networks_: list[CellNetwork]
    clinical_: ClinicalInputs
    levels_: tuple[FloatArray, FloatArray]
    calibration_: PatientCalibration
    weights_sha256_: str
    history_: list[Epoch]
    inner_oof_: FloatArray | None

    @abstractmethod
    def _check_cells(self, bags: Bags) -> None:
        """Raise an `InputError` for cells that are not of this model's kind."""

    @abstractmethod
    def _learn_levels(self, bags: Bags, rows: IntArray) -> None:
        """Set `levels_` by the cells `rows` of `bags`."""

    @abstractmethod
    def _cells(self, bags: Bags) -> Tensor:
        """The cells as `CellData` holds them."""

    @abstractmethod
    def _build(self, weights: str | None = None) -> CellNetwork:
        """The network with fresh weights, drawn from torch's global generator.

        `weights` are those that it is built from, for a network of that kind; the others leave them alone.
        """

    @property
    def takes_clinical(self) -> bool:
        """Whether age, count and sex change the result."""
        with torch.device("meta"):  # no memory, no random numbers
            return self._build().takes_clinical

    def unheard(self) -> dict[str, str]:
        """Scaling, where no clinical values are seen."""
        return {} if self.takes_clinical else {"clinical_scaling": "the network sees no clinical values"}

    @property
    def tuned(self) -> str:
        """What was trained of a fitted model, in a sentence; "" where that is everything."""
        return self.networks_[0].tuned()

    @property
    def holds_out_each(self) -> bool:
        """Whether every training patient is held out by one member, and chooses nothing there."""
        return self.members > 1 and (self.snapshots > 1 or self.selection == "last")

    @property
    def chosen_(self) -> dict[str, Any]:
        """Numbers of the epochs whose weights were kept."""
        self.check_fitted()
        kept = [epoch.number for epoch in self.history_ if epoch.kept]
        return {"epoch": kept[0] if len(kept) == 1 else " ".join(map(str, kept))} if kept else {}

    def fit(
        self,
        bags: Bags,
        y: Labels,
        *,
        scored: tuple[Bags, Labels] | None = None,
        checkpoint: Path | None = None,
        watch: Watch | None = None,
    ) -> Self:
        """Train on `bags` with labels `y`, shape (n_patients,), each 0 or 1; see `EpochClassifier.fit`."""
        labels, n = check_labels(bags, y), len(bags)
        self.check_selection()
        self.check_masking()
        self._check_cells(bags)
        if scored is not None:
            bags, labels = joined(bags, scored[0]), np.concatenate([labels, check_labels(*scored)])
        order, sides = self._sides(bags, labels, n)
        taught = order[np.isin(order, np.concatenate([trained for trained, _ in sides]))]
        self.clinical_ = ClinicalInputs.fit(bags.clinical[taught], self.clinical_scaling)
        self._learn_levels(bags, bags.cell_indices(taught))
        data = self._data(bags)
        self.balance_ = balanced_counts(data, labels, sides[0][0], self._settings())
        self.networks_, self.history_, score = [], [], np.full(len(bags), np.nan)
        self.inner_oof_ = None
        for member, (trained, held_out) in enumerate(sides):
            known = held_out[data.counts[held_out] > 0]
            score[known] = self._train(member, data, labels, trained, held_out, checkpoint, watch)
        self.threshold_ = float(labels[:n].mean())
        known = order[np.isfinite(score[order])]
        if len(known):
            self.calibration_ = PatientCalibration.fit(score[known], labels[known], self.threshold_)
        else:  # nobody is held out, or scored patients alone, who choose the epoch at this very cut, no more
            prior = prior_log_odds(labels, sides[0][0], data.counts, self._settings())
            prior = 0.0 if self._votes else prior  # an even vote decides nothing
            self.calibration_ = PatientCalibration.moved(prior, self.threshold_)
        self.classes_ = np.array([0, 1])
        if len(sides) > 1 and self.holds_out_each:  # each fold of them is calibrated on the others
            oof = np.full(len(bags), self.threshold_)
            for _, held_out in sides:
                own, others = (known[np.isin(known, held_out, invert=other)] for other in (False, True))
                fitted = PatientCalibration.fit(score[others], labels[others], self.threshold_)
                oof[own] = fitted.probability(score[own])
            self.inner_oof_ = oof
        return self

    def predict_proba(self, bags: Bags) -> FloatArray:
        """Probability of reactive and malignant per patient, shape (n_patients, 2), rows sum to 1."""
        return self._answer(bags, evidence=False).probability

    def cell_evidence(self, bags: Bags) -> FloatArray:
        """Log-odds of each cell above the patient's threshold where the cell is the example, (n_cells,).

        Where the patient is, how much its log-odds fall when the cell is left out.
        """
        evidence = self._answer(bags, evidence=True).evidence
        return np.empty(0) if evidence is None else evidence

    def explain(self, bags: Bags) -> Explanation:
        """`predict_proba`, `cell_evidence` and the network's shares in one pass over the cells."""
        return self._answer(bags, evidence=True)

    def state(self) -> State:
        """Weights, calibration, scaling, and the curves of the training."""
        self.check_fitted()
        parts = FittedParts(
            self.threshold_, self.clinical_, self.calibration_, *self.levels_, self.weights_sha256_
        )
        history = json.dumps([epoch.as_dict() | {"seconds": 0.0} for epoch in self.history_])
        return {**network_state(self.networks_), **pack(parts, "parts."), "history": pack_text(history)}

    def load_state(self, state: State) -> Self:
        """Take up what `state` returned."""
        parts: FittedParts = unpack(FittedParts, state, "parts.")
        self.history_ = [Epoch.from_dict(each) for each in json.loads(unpack_text(state["history"]))]
        self.levels_ = parts.mean, parts.deviation
        self.networks_ = networks_of(state, self._build, self.weights, parts.weights_sha256)
        self.clinical_, self.calibration_ = parts.clinical, parts.calibration
        self.classes_ = np.array([0, 1])
        self.threshold_, self.weights_sha256_ = parts.threshold, parts.weights_sha256
        self.inner_oof_ = None  # of the training patients, who are not kept
        return self

    def kept_parameters(self) -> dict[str, Any]:
        """Parameters as they are kept with a fitted model: neither folders nor devices of this machine."""
        name = self.weights
        if name is not None and (name.count("/") != 1 or Path(name).is_absolute() or Path(name).exists()):
            name = Path(name).name  # anything else is the name of a published model, OWNER/MODEL
        kept = super().kept_parameters()
        return kept | {"weights": name} if "weights" in kept else kept

    def check_network(self) -> Beginning:
        """What a fit begins with, or its `InputError` for what no patients could make fit."""
        self.check_selection()
        self.check_masking()
        device_named(self.device)
        network, sha256 = begin_network(self._build, self.weights, 0)
        return Beginning(sha256, network.tuned())

    def check_masking(self) -> None:
        """Raise an `InputError` where clinical values would be hidden from a network that sees none."""
        if self.clinical_masking and not self.takes_clinical:
            raise InputError(
                "clinical values cannot be hidden from a network that does not see them",
                found=f"clinical_masking={self.clinical_masking:g}",
                allowed="0, or a network that sees them",
                remedy="Leave clinical_masking out, or choose a recipe with clinical values.",
            )

    def check_selection(self) -> None:
        """Raise an `InputError` where what chooses the epoch has nothing to choose, or more than one."""
        usual = inspect.signature(type(self)).parameters["patience"].default
        says = {"selection": self.selection == "last", "patience": self.patience not in (None, usual)}
        if self.snapshots > 1 and any(says.values()):
            raise InputError(
                "several snapshots choose no epoch, so that this says nothing",
                found=", ".join(f"{name}={getattr(self, name)}" for name, asked in says.items() if asked),
                allowed=f"with snapshots=1, and not with {self.snapshots}",
                remedy="Add snapshots=1 to the recipe's settings; or, to keep several, patience=null and no "
                "selection.",
            )
        if self.snapshots > self.epochs:
            raise InputError(
                "every snapshot ends a cycle of at least one epoch",
                found=f"{self.snapshots} snapshots, {self.epochs} epochs",
                allowed="at most as many snapshots as epochs",
                remedy="Add snapshots=1 to the recipe's settings, or more epochs.",
            )
        if self.optimistic and (self.members > 1 or self.snapshots > 1):
            raise InputError(
                'selection "scored-fold" chooses one epoch of one network',
                found=f"{self.members} members, {self.snapshots} snapshots",
                allowed="1 of each",
                remedy="Add snapshots=1 or members=1 to the recipe's settings.",
            )
        if self.optimistic and self._votes:
            raise InputError(
                'selection "scored-fold" has no calibration to tell what a majority of votes is worth',
                found="pooling=vote",
                allowed="pooling=logit, pooling=probability",
                remedy="Add one of them to the recipe's settings.",
            )

    @property
    def _votes(self) -> bool:
        """Whether a patient's score is the log-odds of its cells' votes."""
        return self.unit == "cell" and getattr(self, "pooling", None) == "vote"

    def _sides(
        self, bags: Bags, labels: IntArray, n: int
    ) -> tuple[IntArray, list[tuple[IntArray, IntArray]]]:
        """All in an order of their own; and, for every network, who is trained on and who is held out.

        With selection "scored-fold" those after the first `n` are held out.
        """
        if (self.selection == SCORED_FOLD) != (n < len(bags)):
            raise InputError(
                'selection "scored-fold" needs the patients that will be scored, and only it may see them',
                found=f'selection "{self.selection}", {len(bags) - n} scored patients',
                allowed='"inner" or "last" without them',
            )
        order = canonical_order(bags[:n], labels[:n])
        if n < len(bags):
            return order, [(order, np.arange(n, len(bags)))]
        seed = int(np.random.SeedSequence([self.random_state, INNER_SPLIT]).generate_state(1)[0])
        splits = inner_splits(labels[order], self.members, self.validation_share, seed)
        return order, [(order[trained], order[held_out]) for trained, held_out in splits]

    def _data(self, bags: Bags) -> CellData:
        return CellData(
            cells=self._cells(bags),
            starts=bags.offsets[:-1],
            counts=bags.counts,
            clinical=torch.from_numpy(self.clinical_.apply(bags.clinical)),
        )

    def _settings(self) -> TrainingSettings:
        own = {"augmentation", "normalisation", "precision"}
        names = {each.name for each in fields(TrainingSettings)} - own
        values = {name: getattr(self, name) for name in names if hasattr(self, name)}
        return TrainingSettings(
            **values,
            precision=fastest_precision(self._device) if self.precision == "auto" else self.precision,
            select="last" if self.selection == "last" else "best",
            select_by="balanced-accuracy" if self.selection == SCORED_FOLD else "loss",
            seed=self.random_state,
        )

    def _train(
        self,
        member: int,
        data: CellData,
        labels: IntArray,
        trained: IntArray,
        held_out: IntArray,
        checkpoint: Path | None,
        watch: Watch | None,
    ) -> FloatArray:
        """Train one more network on some patients; log-odds of those held out who have cells."""
        seed = self.random_state
        if member:
            seed = int(np.random.SeedSequence([seed, MEMBER, member]).generate_state(1)[0])
            checkpoint = checkpoint and checkpoint.with_name(f"{checkpoint.name}.{member}")
        settings = replace(self._settings(), seed=seed)
        network, self.weights_sha256_ = begin_network(self._build, self.weights, seed)
        if network.looks_first:
            with same_bits(self._device):
                network.to(self._device).first_look(some_cells(data, trained, settings, self._device))
        learner: nn.Module = network
        cells = data
        if network.frozen_features:
            data, learner = seen_once(network, data, settings, self._device), HeadAlone(network)
        history, kept = train(
            learner,
            data,
            labels,
            trained,
            held_out,
            settings,
            device=self._device,
            checkpoint=checkpoint,
            key=training_key(self._trained_with(settings), data, labels, trained),
            watch=None if watch is None else lambda epoch: watch(replace(epoch, member=member)),
        )
        learners: list[Any] = [learner, *(copy.deepcopy(learner) for _ in kept[1:])]
        for each, weights in zip(learners, kept, strict=True):
            take_weights(each, weights)
        self.networks_ += [each.network if isinstance(each, HeadAlone) else each for each in learners]
        self.history_ += [replace(epoch, member=member) for epoch in history]
        known = held_out[cells.counts[held_out] > 0]
        networks = self.networks_[-len(learners) :]
        return scores_of(networks, cells, known, settings, self._device, versions=self.test_time).scores

    @property
    def _device(self) -> torch.device:
        return device_named(self.device)

    def _answer(self, bags: Bags, *, evidence: bool) -> Explanation:
        """Of all patients; with `evidence` of the cells, if it takes more."""
        self.check_fitted()
        malignant, shown = np.full(len(bags), self.threshold_), np.flatnonzero(bags.counts)
        said = scores_of(
            self.networks_,
            self._data(bags),
            shown,
            self._settings(),
            self._device,
            versions=self.test_time,
            evidence=evidence,
        )
        malignant[shown], margin = self.calibration_.probability(said.scores), said.margins
        if self.unit == "cell":
            cut = np.log(self.threshold_ / (1 - self.threshold_)) - self.calibration_.offset
            margin = margin - cut / self.calibration_.slope
        shares = {name: np.full(len(bags), np.nan) for name in said.shares}
        for name, share in said.shares.items():
            shares[name][shown] = share
        return Explanation(np.stack([1.0 - malignant, malignant], axis=1), margin, shares)

    def _trained_with(self, settings: TrainingSettings) -> dict[str, Any]:
        """The parameters, with what "auto" is here, and the content of the weights in place of their path."""
        here = {"precision": settings.precision, "device": self._device.type}
        return self.get_params(deep=False) | here | {"weights": self.weights_sha256_}

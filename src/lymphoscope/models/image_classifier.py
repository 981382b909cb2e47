"""Networks on photographs of cells, trained by cell or by patient, behind the contract of every model."""

from __future__ import annotations

import copy
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import nn

from lymphoscope.cohort.bags import Bags, FloatArray, IntArray
from lymphoscope.errors import InputError
from lymphoscope.models.base import SCORED_FOLD, EpochClassifier, Labels, State, check_labels
from lymphoscope.models.clinical_inputs import ClinicalInputs, Scaling
from lymphoscope.models.image_inputs import (
    AUGMENTATIONS,
    HeadAlone,
    canonical_order,
    inner_splits,
    joined,
    pixels,
    seen_once,
)
from lymphoscope.models.image_networks import begin_network, network_state, networks_of, scores_of
from lymphoscope.models.image_state import FittedParts, training_key
from lymphoscope.models.learned import pack, pack_text, unpack, unpack_text
from lymphoscope.models.networks.base import CellNetwork, create_network
from lymphoscope.models.patient_calibration import PatientCalibration
from lymphoscope.training.augmentation import IMAGENET, Normalisation
from lymphoscope.training.curves import Epoch
from lymphoscope.training.loop import Watch, balanced_counts, train
from lymphoscope.training.machine import fastest_precision
from lymphoscope.training.prediction import CellData
from lymphoscope.training.settings import Pooling, Selection, TrainingSettings, Unit

INNER_SPLIT, MEMBER = 1, 2
"""Streams of random numbers beside that of the training itself."""


class ImageClassifier(EpochClassifier):
    """A network trained on photographs of single cells, with or without the clinical values.

    Every cell carries its patient's label, and a patient is what its cells say together; or the features of
    a patient's cells are averaged and the patient is the example. Some training patients are held out: they
    choose the epoch, if one is chosen, and calibrate the patients' scores, so that probabilities are meant at
    the prevalence of the training patients. Patients without photographs get that prevalence.

    Parameters
    ----------
    network : name of the network; see `lymphoscope.models.networks`.
    width : multiplies its numbers of channels; 1 is the published size.
    image_size : side in pixels of the centre of each photograph that it sees.
    segmented : what is not the cell is painted over before the network sees it.
    unit : what is an example, "cell" or "patient".
    pooling : how cells become a patient where the cell is the example: mean of their "probability", mean of
        their "logit", or "vote".
    clinical_scaling : "standard" (age and log count to variance 1) or "minmax" (age and count to a range of
        1), on the training patients; sex spans 1 either way. The mean is 0, and so is a missing value.
    clinical_masking : share of examples in which each clinical value is hidden with probability 0.5 while
        training.
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
    positive_weight : of malignant examples in the loss, reactive ones weigh 1.
    label_smoothing : share of the target that is spread over both classes.
    clip_norm : largest norm of the gradient.
    balance : how unequal classes are evened out, within the training patients.
    balance_by : what is counted for it.
    augmentation : "none", "flips" (mirroring and quarter turns) or "all" (also free rotation, shift, scale,
        brightness, contrast and stain).
    normalisation : "imagenet", or the training "cohort"'s own mean and deviation.
    selection : "inner" keeps the epoch with the lowest loss on the patients held out within the training
        patients, "last" the last epoch. "scored-fold" keeps the one with the best balanced accuracy on the
        very patients that are scored, as the reports did, at a threshold of 0.5, and is optimistic.
    validation_share : of the training patients, held out.
    patience : epochs without improvement after which training ends; None trains on.
    snapshots : more than 1 anneals the learning rate in as many cycles, whatever `schedule` says, and
        averages the networks that end them; `selection` and `patience` then have no say.
    members : networks that are averaged, each trained without one fold of the training patients, which choose
        its epoch; all of them together calibrate. 1 holds out `validation_share` and trains one.
    precision : of the training: "bfloat16" is mixed precision, twice as fast where the processor has
        instructions for it; "auto" takes it there. Predictions are made in single precision.
    test_time : versions of each photograph averaged at prediction: 1, 2 (mirrored), 4 (quarter turns) or 8.
    weights : checkpoint of torchvision for the backbone, .safetensors or .pth; read before training alone.
    device : "auto" takes a graphics processor where there is one.
    random_state : seed of everything.
    """

    networks_: list[CellNetwork]
    clinical_: ClinicalInputs
    normalisation_: Normalisation
    calibration_: PatientCalibration
    weights_sha256_: str
    history_: list[Epoch]
    inner_oof_: FloatArray

    def __init__(
        self,
        network: str = "cnn-baseline",
        width: Annotated[float, Gt(0)] = 1.0,
        image_size: Annotated[int, Ge(16), Le(224)] = 112,
        segmented: bool = False,
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
        self.image_size = image_size
        self.segmented = segmented
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
    def takes_clinical(self) -> bool:
        """Whether age, count and sex change the result."""
        with torch.device("meta"):  # no memory, no random numbers
            return create_network(self.network, self.width, self.image_size).takes_clinical

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
        pixels(bags, self.image_size)
        if scored is not None:
            bags, labels = joined(bags, scored[0]), np.concatenate([labels, check_labels(*scored)])
        order, sides = self._sides(bags, labels, n)
        taught = order[np.isin(order, np.concatenate([trained for trained, _ in sides]))]
        self.clinical_ = ClinicalInputs.fit(bags.clinical[taught], self.clinical_scaling)
        data = self._data(bags)
        self.normalisation_ = self._normalisation(data, taught)
        self.balance_ = balanced_counts(data, labels, sides[0][0], self._settings())
        self.networks_, self.history_, score = [], [], np.full(len(bags), np.nan)
        for member, (trained, held_out) in enumerate(sides):
            known = held_out[data.counts[held_out] > 0]
            score[known] = self._train(member, data, labels, trained, held_out, checkpoint, watch)
        # Scored patients choose the epoch at even odds, as in the reports, and have no say beyond that.
        known = order[np.isfinite(score[order])] if scored is None else order[:0]
        prevalence = float(labels[:n].mean())
        self.calibration_ = PatientCalibration.fit(score[known], labels[known], prevalence)
        self.classes_ = np.array([0, 1])
        self.threshold_ = prevalence if scored is None else 0.5
        if len(sides) > 1:
            inner = self.calibration_.probability(score)
            self.inner_oof_ = np.where(np.isfinite(inner), inner, self.threshold_)
        return self

    def predict_proba(self, bags: Bags) -> FloatArray:
        """Probability of reactive and malignant per patient, shape (n_patients, 2), rows sum to 1."""
        return self._answer(bags, evidence=False)[0]

    def cell_evidence(self, bags: Bags) -> FloatArray:
        """Log-odds of each cell above the patient's threshold where the cell is the example, (n_cells,).

        Where the patient is, how much its log-odds fall when the cell is left out.
        """
        return self._answer(bags, evidence=True)[1]

    def predict_with_evidence(self, bags: Bags) -> tuple[FloatArray, FloatArray]:
        """`predict_proba` and `cell_evidence` in one pass over the photographs."""
        return self._answer(bags, evidence=True)

    def state(self) -> State:
        """Weights, calibration, scaling, and the curves of the training."""
        self.check_fitted()
        parts = FittedParts(
            self.threshold_, self.clinical_, self.calibration_, *self._levels(), self.weights_sha256_
        )
        history = json.dumps([epoch.as_dict() | {"seconds": 0.0} for epoch in self.history_])
        return {**network_state(self.networks_), **pack(parts, "parts."), "history": pack_text(history)}

    def load_state(self, state: State) -> Self:
        """Take up what `state` returned."""
        parts: FittedParts = unpack(FittedParts, state, "parts.")
        self.history_ = [Epoch.from_dict(each) for each in json.loads(unpack_text(state["history"]))]
        self.networks_ = networks_of(state, self.network, self.width, self.image_size)
        self.clinical_, self.calibration_ = parts.clinical, parts.calibration
        self.normalisation_ = Normalisation(tuple(parts.mean.tolist()), tuple(parts.deviation.tolist()))
        self.classes_ = np.array([0, 1])
        self.threshold_, self.weights_sha256_ = parts.threshold, parts.weights_sha256
        return self

    def kept_parameters(self) -> dict[str, Any]:
        """Parameters as they are kept with a fitted model: neither folders nor devices of this machine."""
        name = None if self.weights is None else Path(self.weights).name
        return super().kept_parameters() | {"weights": name, "device": "auto"}

    def check_network(self) -> None:
        """Raise the `InputError` of `fit` for a network or weights that no patients could make fit."""
        if self.optimistic and (self.members > 1 or self.snapshots > 1):
            raise InputError(
                'selection "scored-fold" chooses one epoch of one network',
                found=f"{self.members} members, {self.snapshots} snapshots",
                allowed="1 of each",
            )
        self._new_network()

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
            cells=pixels(bags, self.image_size),
            starts=bags.offsets[:-1],
            counts=bags.counts,
            clinical=torch.from_numpy(self.clinical_.apply(bags.clinical)),
        )

    def _settings(self) -> TrainingSettings:
        names = {each.name for each in fields(TrainingSettings)} & set(self.get_params(deep=False))
        names -= {"augmentation", "normalisation", "precision"}
        values = {name: getattr(self, name) for name in names}
        return TrainingSettings(
            **values,
            augmentation=AUGMENTATIONS[self.augmentation],
            precision=fastest_precision(self._device) if self.precision == "auto" else self.precision,
            select="last" if self.selection == "last" else "best",
            select_by="balanced-accuracy" if self.selection == "scored-fold" else "loss",
            seed=self.random_state,
        )

    def _normalisation(self, data: CellData, trained: IntArray) -> Normalisation:
        if self.normalisation == "imagenet":
            return IMAGENET
        return Normalisation.of(data.cells, data.rows_of(trained)[0])

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
        settings = replace(self._settings(), normalisation=self.normalisation_, seed=seed)
        network, self.weights_sha256_ = self._new_network(seed)
        learner: nn.Module = network
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
            key=training_key(self._trained_with(), data, labels, trained),
            watch=None if watch is None else lambda epoch: watch(replace(epoch, member=member)),
        )
        learners: list[Any] = [learner, *(copy.deepcopy(learner) for _ in kept[1:])]
        for each, weights in zip(learners, kept, strict=True):
            each.load_state_dict(weights)
        self.networks_ += [each.network if isinstance(each, HeadAlone) else each for each in learners]
        self.history_ += [replace(epoch, member=member) for epoch in history]
        known = held_out[data.counts[held_out] > 0]
        return scores_of(learners, data, known, settings, self._device)[0]

    def _new_network(self, seed: int = 0) -> tuple[CellNetwork, str]:
        return begin_network(self.network, self.width, self.image_size, self.weights, seed)

    @property
    def _device(self) -> torch.device:
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(self.device)

    def _answer(self, bags: Bags, *, evidence: bool) -> tuple[FloatArray, FloatArray]:
        """Probabilities of patients, (n_patients, 2), and the evidence of every cell, (n_cells,)."""
        self.check_fitted()
        malignant, shown = np.full(len(bags), self.threshold_), np.flatnonzero(bags.counts)
        settings = replace(self._settings(), normalisation=self.normalisation_)
        score, margin = scores_of(
            self.networks_,
            self._data(bags),
            shown,
            settings,
            self._device,
            versions=self.test_time,
            evidence=evidence,
        )
        malignant[shown] = self.calibration_.probability(score)
        if self.unit == "cell":
            cut = np.log(self.threshold_ / (1 - self.threshold_)) - self.calibration_.offset
            margin = margin - cut / self.calibration_.slope
        return np.stack([1.0 - malignant, malignant], axis=1), margin

    def _trained_with(self) -> dict[str, Any]:
        """The parameters, with the content of the weights in place of their path."""
        return self.get_params(deep=False) | {"weights": self.weights_sha256_}

    def _levels(self) -> tuple[FloatArray, FloatArray]:
        return np.array(self.normalisation_.mean), np.array(self.normalisation_.deviation)

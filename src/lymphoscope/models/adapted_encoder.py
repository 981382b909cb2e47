"""A pooled logistic regression on the embeddings of an encoder that is adapted to its own training cells."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, cast

import numpy as np
import torch
from annotated_types import Ge, Gt, Le

from lymphoscope.cells.columns import EMBEDDING_PREFIX
from lymphoscope.cohort.bags import Bags, FloatArray, IntArray
from lymphoscope.encoders.architectures import Architecture, Embedder
from lymphoscope.encoders.colours import ColourMap
from lymphoscope.encoders.kept import (
    SHIPPED,
    card_architecture,
    card_normalisation,
    encoder_folder,
    read_embedder,
)
from lymphoscope.encoders.self_supervised import AdaptSettings, adapt_network, embeddings_of
from lymphoscope.errors import InputError
from lymphoscope.models.base import BagClassifier, CellInput, Explanation, Labels, State, check_labels
from lymphoscope.models.image_inputs import pixels
from lymphoscope.models.learned import pack_text, unpack_text
from lymphoscope.models.pooled import PooledLogistic
from lymphoscope.models.registry import create_model
from lymphoscope.training.augmentation import Normalisation
from lymphoscope.training.machine import device_named, fastest_precision

_WEIGHTS, _POOLED, _BUILT = "encoder.", "pooled.", "built"


class AdaptedEncoder(BagClassifier):
    """The encoder goes on learning, without labels, from the cells of the training patients alone.

    Then mean and spread of a patient's embeddings are judged as the recipes `encoder-mean` and
    `encoder-mean-clinical` judge them. So in an evaluation every fold adapts the encoder anew, and no
    held-out patient's cell has taken part. Labels only reach the regression. A fitted model holds the whole
    adapted encoder.

    Parameters
    ----------
    encoder : that is adapted: "pbc-small", which is shipped, or a folder that `lymphoscope encoder train`
        wrote.
    clinical : take age, lymphocyte count and sex as further columns of the regression.
    image_size : side in pixels of the centre of each photograph; the encoder's own is 112.
    epochs : passes over the cells.
    batch_size : cells per step.
    learning_rate : the highest.
    anchor : weight of the distance from what the encoder said before; 0 lets it go where it will.
    cells_per_patient : that the encoder learns from; None takes all. The regression sees all.
    device : "auto" takes a graphics processor where there is one.
    random_state : seed of everything.
    """

    cell_input: ClassVar[CellInput] = "images"

    embedder_: Embedder
    architecture_: Architecture
    normalisation_: Normalisation
    pooled_: PooledLogistic
    losses_: list[float]

    def __init__(
        self,
        encoder: str = SHIPPED,
        clinical: bool = False,
        image_size: Annotated[int, Ge(16), Le(224)] = 112,
        epochs: Annotated[int, Ge(1)] = 10,
        batch_size: Annotated[int, Ge(2)] = 128,
        learning_rate: Annotated[float, Gt(0)] = 1e-4,
        anchor: Annotated[float, Ge(0)] = 1.0,
        cells_per_patient: Annotated[int, Ge(1)] | None = None,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        random_state: Annotated[int, Ge(0)] = 0,
    ) -> None:
        self.encoder = encoder
        self.clinical = clinical
        self.image_size = image_size
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.anchor = anchor
        self.cells_per_patient = cells_per_patient
        self.device = device
        self.random_state = random_state

    @property
    def takes_clinical(self) -> bool:
        """Whether age, count and sex change the result."""
        return self.clinical

    @property
    def chosen_(self) -> dict[str, Any]:
        """What the regression chose."""
        self.check_fitted()
        return self.pooled_.chosen_

    def begins_with(self) -> str:
        """Name or folder of the encoder before it is adapted."""
        return self.encoder

    def built_on(self) -> str:
        """SHA-256 of the encoder before it is adapted."""
        return self._begin()[0].sha256()

    def fit(self, bags: Bags, y: Labels) -> Self:
        """Adapt the encoder to the cells of `bags`, then learn from `y`, shape (n_patients,), each 0 or 1."""
        labels, images = check_labels(bags, y), pixels(bags, self.image_size).numpy()
        embedder, self.architecture_, self.normalisation_ = self._begin()
        shown = _shown(bags, self.cells_per_patient)
        self.losses_ = []
        if len(shown) > 1:
            self.losses_ = adapt_network(
                embedder, images[shown], self.normalisation_, self._settings(), device=self._device
            )
            embedder.cpu().finish()
        self.embedder_ = embedder
        self.pooled_ = self._judge().fit(self._embedded(bags), labels)
        self.classes_, self.threshold_ = np.array([0, 1]), self.pooled_.threshold_
        return self

    def predict_proba(self, bags: Bags) -> FloatArray:
        """Probability of reactive and malignant per patient, shape (n_patients, 2), rows sum to 1."""
        self.check_fitted()
        return self.pooled_.predict_proba(self._embedded(bags))

    def cell_evidence(self, bags: Bags) -> FloatArray:
        """Share of each cell in the log-odds, (n_cells,): their mean per patient is the cells' whole say."""
        self.check_fitted()
        return self.pooled_.cell_evidence(self._embedded(bags))

    def explain(self, bags: Bags) -> Explanation:
        """Both in one pass over the photographs."""
        self.check_fitted()
        return self.pooled_.explain(self._embedded(bags))

    def state(self) -> State:
        """The adapted encoder, how it is built, and what the regression learned."""
        self.check_fitted()
        built = {
            "architecture": self.architecture_.as_dict(),
            "normalisation": [self.normalisation_.mean, self.normalisation_.deviation],
            "losses": self.losses_,
        }
        weights = {f"{_WEIGHTS}{n}": each.cpu().numpy() for n, each in self.embedder_.state_dict().items()}
        pooled = {f"{_POOLED}{name}": value for name, value in self.pooled_.state().items()}
        return {_BUILT: pack_text(json.dumps(built, sort_keys=True)), **weights, **pooled}

    def load_state(self, state: State) -> Self:
        """Take up what `state` returned; the encoder that it began with is not needed."""
        built = json.loads(unpack_text(state[_BUILT]))
        self.architecture_, self.losses_ = Architecture(**built["architecture"]), built["losses"]
        self.normalisation_ = Normalisation(*(tuple(each) for each in built["normalisation"]))
        with torch.random.fork_rng(devices=[]):  # building draws weights that loading then replaces
            embedder = self.architecture_.build()
        embedder.finish()
        weights = {n: torch.from_numpy(v.copy()) for n, v in _under(_WEIGHTS, state).items()}
        if (change := weights.get("colours.change")) is not None:  # the encoder was matched to a laboratory
            embedder.colours = ColourMap(change.numpy(), self.normalisation_)
        embedder.load_state_dict(weights)
        self.embedder_ = embedder.eval().requires_grad_(False)
        self.pooled_ = self._judge().load_state(_under(_POOLED, state))
        self.classes_, self.threshold_ = np.array([0, 1]), self.pooled_.threshold_
        return self

    def kept_parameters(self) -> dict[str, Any]:
        """Parameters as they are kept with a fitted model: neither folders nor devices of this machine."""
        return super().kept_parameters() | {"encoder": Path(self.encoder).name}

    def _begin(self) -> tuple[Embedder, Architecture, Normalisation]:
        """The encoder before it is adapted, how it is built, and how it normalises."""
        folder = encoder_folder(self.encoder)
        if folder is None:
            raise InputError(
                "only an encoder with a card can be adapted",
                found=self.encoder,
                allowed=f"{SHIPPED}, or a folder that `lymphoscope encoder train` wrote",
            )
        embedder, card = read_embedder(folder)
        return embedder, card_architecture(card), card_normalisation(card)

    def _judge(self) -> PooledLogistic:
        """The unfitted recipe on embeddings, with all its settings."""
        recipe = "encoder-mean-clinical" if self.clinical else "encoder-mean"
        return cast("PooledLogistic", create_model(recipe, random_state=self.random_state))

    def _settings(self) -> AdaptSettings:
        return AdaptSettings(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            anchor=self.anchor,
            precision=fastest_precision(self._device),
            seed=self.random_state,
        )

    def _embedded(self, bags: Bags) -> Bags:
        """The same patients with embeddings for photographs."""
        images = pixels(bags, self.image_size).numpy()
        names = tuple(f"{EMBEDDING_PREFIX}{i:03d}" for i in range(self.embedder_.width))
        cells = embeddings_of(self.embedder_, images, self.normalisation_, self._device).numpy()
        return replace(bags, cells=cells, columns=names)

    @property
    def _device(self) -> torch.device:
        return device_named(self.device)


def _shown(bags: Bags, most: int | None) -> IntArray:
    """Rows of the cells that are learned from, in an order that their content alone decides.

    `most` of every patient: the first by that order, which is as good as drawn.
    """
    digests = np.array([hashlib.sha256(cell.tobytes()).digest() for cell in bags.cells], dtype="S32")
    rows: list[IntArray] = []
    for start, stop in zip(bags.offsets[:-1], bags.offsets[1:], strict=True):
        own = start + np.argsort(digests[start:stop], kind="stable")
        rows.append(own[:most])
    chosen = np.concatenate(rows) if rows else np.empty(0, dtype=np.int64)
    return np.asarray(chosen[np.argsort(digests[chosen], kind="stable")], dtype=np.int64)


def _under(start: str, state: State) -> State:
    return {name[len(start) :]: value for name, value in state.items() if name.startswith(start)}

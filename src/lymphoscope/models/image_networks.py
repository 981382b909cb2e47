"""Networks of a model of photographs: begun, kept as arrays, taken up again; and what they say together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lymphoscope.cohort.bags import FloatArray, IntArray
from lymphoscope.errors import BundleError, InputError
from lymphoscope.models.base import State
from lymphoscope.models.networks.base import CellNetwork, load_backbone
from lymphoscope.training.machine import same_bits
from lymphoscope.training.prediction import (
    CellData,
    left_out,
    patient_logits,
    patient_shares,
    pool,
    predict_features,
)
from lymphoscope.training.settings import TrainingSettings
from lymphoscope.training.weights import read_weights

Build = Callable[[str | None], CellNetwork]
"""A network with fresh weights, given those that it is built from, if it is one of that kind."""


def begin_network(build: Build, weights: str | None, seed: int) -> tuple[CellNetwork, str]:
    """The network before training, and the SHA-256 of the weights that it begins with, "" without."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(weights)
    if network.built_from_weights:
        return network, network.weights_sha256
    if weights is not None:
        state, sha256 = read_weights(weights)
        load_backbone(network, state)
        network.looks_first = False  # what it has learned stays as it is
        return network, sha256
    if network.frozen_features:
        raise InputError(
            "frozen features need weights that have learned something",
            found="no weights",
            allowed="a checkpoint of torchvision's ResNet-34, .safetensors or .pth",
            remedy="Download one where there is a network, and name it: --weights resnet34.safetensors.",
        )
    return network, ""


def network_state(networks: Sequence[CellNetwork]) -> State:
    """The weights of all, by number and name, but for those that are found again where they came from."""
    return {
        f"network.{i}.{name}": value.detach().cpu().contiguous().numpy()
        for i, network in enumerate(networks)
        for name, value in network.state_dict().items()
        if name not in set(network.found_again())
    }


def networks_of(
    state: State, build: Build, weights: str | None = None, sha256: str = ""
) -> list[CellNetwork]:
    """The networks whose weights `network_state` gave; what it left out is in `weights`, of this hash."""
    numbers = {int(key.split(".")[1]) for key in state if key.startswith("network.")}
    return [_network_of(state, f"network.{i}.", build, weights, sha256) for i in sorted(numbers)]


def _network_of(state: State, start: str, build: Build, weights: str | None, sha256: str) -> CellNetwork:
    with torch.device("meta"):
        network = build(None)
    if network.built_from_weights:
        network = _built_again(build, weights, sha256)
    else:
        network.to_empty(device="cpu")
    kept = {
        key[len(start) :]: torch.from_numpy(value.copy())
        for key, value in state.items()
        if key.startswith(start)
    }
    whole = network.state_dict()
    network.load_state_dict({name: whole[name] for name in network.found_again()} | kept)
    return network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _built_again(build: Build, weights: str | None, sha256: str) -> CellNetwork:
    """The network on the weights that it was fitted on, and on no others."""
    if not sha256:
        remedy = "The model is whole: leave --weights away."
    else:
        remedy = f"Name the file or folder of those with SHA-256 {sha256}: --weights PATH."
    try:
        network = build(weights)
    except InputError as error:
        raise BundleError(
            f"The model does not hold the weights it was built on, called {weights}. {remedy} ({error})"
        ) from error
    if network.weights_sha256 != sha256:
        raise BundleError(
            f"{weights}: these are not the weights that the model was built on; their SHA-256 is "
            f"{network.weights_sha256 or 'none'}. {remedy}"
        )
    return network


@dataclass(frozen=True, eq=False)
class Said:
    """What networks say of patients and cells, the mean of all.

    Attributes
    ----------
    scores : log-odds of the patients, (n_patients,).
    margins : (n_cells,) log-odds where the unit is the cell; where it is the patient, how much the patient's
        fall without the cell, and empty unless it was asked for.
    shares : how much of each decision came from where, (n_patients,) by name.
    """

    scores: FloatArray
    margins: FloatArray
    shares: dict[str, FloatArray]


def scores_of(
    networks: Sequence[Any],
    data: CellData,
    patients: IntArray,
    settings: TrainingSettings,
    device: torch.device,
    *,
    versions: int = 1,
    evidence: bool = False,
) -> Said:
    """What `networks` say of `patients`, who all have cells; `evidence` of these, even if it takes more."""
    rows, owner = data.rows_of(patients)
    scores: list[FloatArray] = []
    margins: list[FloatArray] = []
    shares: dict[str, list[FloatArray]] = {}
    for network in networks if len(patients) else ():  # one at a time: features of all cells may be large
        network.eval().to(device)
        with same_bits(device):
            given = predict_features(network, data, rows, owner, settings, device=device, versions=versions)
            if settings.unit == "cell":
                margins.append(_log_odds(given))
                scores.append(pool(margins[-1], data.counts[patients], settings.pooling))
                continue
            scores.append(_log_odds(patient_logits(network, given, data.clinical, owner)))
            for name, share in patient_shares(network, given, data.clinical, owner).items():
                shares.setdefault(name, []).append(share)
            if evidence:
                margins.append(left_out(network, given, data.clinical.to(given.device), owner))
    return Said(_mean(scores), _mean(margins), {name: _mean(each) for name, each in shares.items()})


def _log_odds(logits: Tensor) -> FloatArray:
    values: FloatArray = logits.double().cpu().numpy()
    return values[:, 1] - values[:, 0]


def _mean(values: Sequence[FloatArray]) -> FloatArray:
    return np.mean(values, axis=0) if values else np.empty(0)

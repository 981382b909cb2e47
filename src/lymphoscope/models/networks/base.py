"""What every network keeps to, networks by name, and published weights for their backbones.

A network is a function in a file of this package under the decorator `network`; nothing is listed anywhere.
Nothing but torch, the standard library and this package's plain modules is imported, so that networks also
build on a bare machine with an accelerator.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lymphoscope.errors import InputError
from lymphoscope.models import networks
from lymphoscope.training.packing import Packing, segment_mean
from lymphoscope.training.weights import some

Criterion = Callable[[Tensor, Tensor], Tensor]
"""The loss of logits (n, 2) given labels (n,)."""

N_CLINICAL = 3
"""Clinical values beside the images: age, lymphocyte count (or its logarithm) and sex, in this order."""


class CellNetwork(nn.Module, ABC):
    """Photographs and clinical values in, two logits out, in two steps.

    The same network is trained by cell (the head sees every cell) and by patient (`bags` sees all cells of a
    patient together; unless it is overridden, the head sees their mean). So nothing in `head` may depend on
    the number of rows, and batch normalisation does not belong there. In `eval()` a row's result does not
    depend on the other rows.

    Attributes
    ----------
    takes_clinical : whether the clinical values change the result.
    features_take_clinical : whether they change `features` already.
    averages : a patient is the head of the mean features of its cells; else `bags` says what it is.
    own_patients : it is more than features and an end to them, so that no head can take the place of that.
    by_place : features of a cell are those of its places side by side, so that turned versions of it are not
        averaged but more places.
    frozen_features : `features` is not trained: its parameters require no gradient, its modules stay in
        `eval()` whatever `train()` says, and what it gives may be computed once.
    remembered : what frozen features give follows from the network's class (under a head, its encoder's too),
        its frozen tensors and the cell alone: it may be remembered from one fit to the next.
    looks_first : `first_look` is to be called.
    built_from_weights : weights from elsewhere decide its shape, so that it is built from them. What stays
        frozen of them is not kept with a fitted model, but read again.
    weights_sha256 : of the weights that it was built from; "" where there were none.
    """

    takes_clinical: bool
    features_take_clinical: bool = False
    averages: bool = True
    own_patients: bool = False
    by_place: bool = False
    frozen_features: bool = False
    remembered: bool = False
    looks_first: bool = False
    built_from_weights: bool = False
    weights_sha256: str = ""

    @abstractmethod
    def features(self, images: Tensor, clinical: Tensor) -> Tensor:
        """What the network sees in each cell.

        Parameters
        ----------
        images : float32 (n, 3, S, S), normalised, S the `image_size` of the network; any memory format.
        clinical : float32 (n, 3), scaled; 0 stands for missing.

        Returns
        -------
        (n, n_features)
        """

    def maps(self, images: Tensor, clinical: Tensor) -> Tensor:
        """The same by place, (n, n_features, s, s'), for networks that know: else there is one place."""
        return self.features(images, clinical)[:, :, None, None]

    @abstractmethod
    def head(self, features: Tensor, clinical: Tensor) -> Tensor:
        """Logits of reactive and malignant, (n, 2), from features (n, n_features) and clinical (n, 3).

        Rows are cells, or patients whose features were averaged.
        """

    def forward(self, images: Tensor, clinical: Tensor) -> Tensor:
        """`head` of `features`, each cell for itself, (n, 2)."""
        return self.head(self.features(images, clinical), clinical)

    def bags(self, features: Tensor, packing: Packing, clinical: Tensor) -> Tensor:
        """Logits of patients, (n_patients, 2), from features of their cells (n_cells, n_features)."""
        return self.head(segment_mean(features, packing), clinical)

    def bag_loss(
        self, features: Tensor, packing: Packing, clinical: Tensor, labels: Tensor, criterion: Criterion
    ) -> tuple[Tensor, Tensor]:
        """`bags`, and what training by patient minimises: here nothing but the criterion of these logits."""
        logits = self.bags(features, packing, clinical)
        return logits, criterion(logits, labels)

    def shares(self, features: Tensor, packing: Packing, clinical: Tensor) -> dict[str, Tensor]:
        """How much of the decision on each patient came from where, (n_patients,) by name, together 1.

        Empty where the network cannot say.
        """
        return {}

    def before_training(self, clinical: Tensor, labels: Tensor, criterion: Criterion) -> None:
        """Told of those to be trained on, (n_patients, 3) and (n_patients,), before their cells are seen."""

    def first_look(self, images: Tensor) -> None:
        """Shown some cells of those to be trained on, normalised (n, 3, S, S), before all else.

        Not called unless `looks_first` is set.
        """

    def rates(self) -> dict[str, float]:
        """Share of the learning rate by name of parameter, for those whose share is not 1."""
        return {}

    def pretrained_parts(self) -> dict[str, nn.Module] | None:
        """The modules that a public torchvision checkpoint fits, by the prefix of their keys there."""
        return None

    def tuned(self, head: nn.Module | None = None) -> str:
        """One sentence on what is trained of it, for people; "" where that is everything.

        `head` stands in place of its own.
        """
        return ""

    def found_again(self) -> list[str]:
        """Names of the tensors in its state that are read from its weights again, and so not kept."""
        if not self.weights_sha256:
            return []
        return [name for name, parameter in self.named_parameters() if not parameter.requires_grad]


Builder = Callable[..., CellNetwork]


@dataclass(frozen=True)
class _Entry:
    build: Builder
    smallest_image: int
    from_weights: bool
    default_weights: str | None


_entries: dict[str, _Entry] = {}


def network(
    name: str, *, smallest_image: int = 32, from_weights: bool = False, default_weights: str | None = None
) -> Callable[[Builder], Builder]:
    """Make a function (width, image_size, *, options) → network known under `name`.

    Its keyword-only parameters, with types and defaults, are the network's options; recipes set them by name.
    `smallest_image` is the side in pixels below which nothing would be left of the image. `from_weights`
    makes it (width, image_size, weights, *, options): see `CellNetwork.built_from_weights`. Without them, on
    torch's meta device, it gives something that is only asked what the options say; else it takes its
    `default_weights`, or raises an `InputError`.
    """

    def register(build: Builder) -> Builder:
        known = _entries.get(name)
        if known is not None and known.build.__module__ != build.__module__:
            raise ValueError(f"two networks are called {name}: {known.build.__module__}, {build.__module__}")
        _entries[name] = _Entry(build, smallest_image, from_weights, default_weights)
        return build

    return register


def list_networks() -> tuple[str, ...]:
    """Names of all networks, sorted."""
    return tuple(sorted(_found()))


def network_builder(name: str) -> Builder | None:
    """The function that builds a network; None for a name that no network has."""
    entry = _found().get(name)
    return entry.build if entry else None


def default_weights(name: str) -> str | None:
    """What a network is built from where nothing is named; None for one that then has no such weights."""
    entry = _found().get(name)
    return entry.default_weights if entry else None


def network_options(name: str) -> dict[str, inspect.Parameter]:
    """The options of a network by name; none for a name that no network has."""
    builder = network_builder(name)
    parameters = inspect.signature(builder, eval_str=True).parameters if builder else {}
    return {key: each for key, each in parameters.items() if each.kind is each.KEYWORD_ONLY}


def create_network(
    name: str,
    width: float = 1.0,
    image_size: int = 112,
    options: Mapping[str, Any] | None = None,
    weights: str | None = None,
) -> CellNetwork:
    """A network with fresh weights, drawn from torch's global generator.

    Parameters
    ----------
    name : one of `list_networks`.
    width : multiplies all numbers of channels and hidden units; 1 is the published size.
    image_size : side of the images in pixels.
    options : of this network; see `network_options`.
    weights : that it is built from, for a network that is; the others take theirs by `load_backbone`.

    Raises
    ------
    InputError : no such network or option, or a size that it cannot have.
    """
    entries = _found()
    if name not in entries:
        close = difflib.get_close_matches(name, entries, n=3, cutoff=0.5)
        raise InputError(
            "no network has this name",
            found=name,
            allowed=", ".join(sorted(entries)),
            remedy=f"Did you mean {' or '.join(close)}?" if close else None,
        )
    entry = entries[name]
    if not (math.isfinite(width) and width > 0):
        raise InputError(f"network {name} cannot have this width", found=width, allowed="above 0")
    if image_size < entry.smallest_image:
        raise InputError(
            f"network {name} leaves nothing of images this small",
            found=image_size,
            allowed=f"image_size of at least {entry.smallest_image}",
        )
    options = options or {}
    if unknown := sorted(options.keys() - network_options(name).keys()):
        raise InputError(
            f"network {name} has no option of this name",
            found=", ".join(unknown),
            allowed=", ".join(network_options(name)) or "none",
        )
    given = (weights,) if entry.from_weights else ()
    return entry.build(width, image_size, *given, **options)


def _found() -> Mapping[str, _Entry]:
    """Every network of this package; its files are imported the first time somebody asks."""
    for module in pkgutil.iter_modules(networks.__path__):
        importlib.import_module(f"{networks.__name__}.{module.name}")
    return _entries


# ---- published weights -------------------------------------------------------------------------------------

_CLASSIFIER = ("fc.", "classifier.")
_COUNTER = "num_batches_tracked"


def load_backbone(network: CellNetwork, state: Mapping[str, Tensor]) -> None:
    """Put a public torchvision checkpoint into the backbone of `network`.

    Every key of the backbone must be there with its shape and finite values; only the checkpoint's own
    classification head (fc.*, classifier.*) is left over. The counters of batch normalisation
    (num_batches_tracked), which torchvision's older files lack and nothing here reads, may be missing.
    Nothing is loaded unless everything fits.

    Raises
    ------
    InputError : the network has no such backbone, or the checkpoint does not fit it.
    """
    parts = network.pretrained_parts()
    if parts is None:
        raise InputError(
            "published weights do not fit a network of this kind",
            found=type(network).__name__,
            allowed=", ".join(_with_backbone()),
            remedy="Train it without them, or choose one of these networks.",
        )
    own = {prefix + key: value for prefix, part in parts.items() for key, value in part.state_dict().items()}
    missing = [key for key in own if key not in state and not key.endswith(_COUNTER)]
    extra = [key for key in state if key not in own and not key.startswith(_CLASSIFIER)]
    unfit = [f"{key} {why}" for key in own if key in state and (why := _misfit(own[key], state[key]))]
    faults = {"missing": missing, "not of this backbone": extra, "does not fit": unfit}
    if any(faults.values()):
        raise InputError(
            "these weights are not of the network's backbone",
            found="; ".join(f"{what}: {some(keys)}" for what, keys in faults.items() if keys),
            allowed=f"all {len(own)} keys of the backbone ({some(list(own))}) with its shapes, and beside "
            f"them {' and '.join(f'{prefix}*' for prefix in _CLASSIFIER)}",
            remedy="Take torchvision's checkpoint of the same architecture, and width 1.",
        )
    with torch.no_grad():
        for key in own.keys() & state.keys():
            own[key].copy_(state[key])  # the tensors of a state dict are the network's own


def _misfit(own: Tensor, came: Tensor) -> str | None:
    if own.shape != came.shape:
        return f"{tuple(came.shape)} for {tuple(own.shape)}"
    if own.is_floating_point() != came.is_floating_point():
        return f"{came.dtype} for {own.dtype}"
    if not bool(torch.isfinite(came).all()):
        return "is not finite"
    return None


def _with_backbone() -> list[str]:
    with torch.device("meta"):  # no memory, no random numbers
        names = [name for name, entry in _found().items() if not entry.from_weights]
        return sorted(name for name in names if create_network(name).pretrained_parts() is not None)

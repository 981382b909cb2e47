"""What every head keeps to, and heads by name.

A head takes what is known about each row of a bag (features of a cell) and says what the bag is (multiple
instance learning). It is a function in a file of this package under the decorator `head`; nothing is listed
anywhere. Bags are packed (`Packing`), and a head never loops over bags. Nothing is padded, but where rows
look at one another: there bags of like size are padded to the largest of them (`packed_attention`).

Shapes in the docstrings of this package: N rows in all, B bags, d features of a row; bag b has n rows, which
are numbered i. σ is the logistic function.
"""

from __future__ import annotations

import difflib
import importlib
import math
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from lymphoscope.errors import InputError
from lymphoscope.models import heads
from lymphoscope.models.heads.fusion import FUSIONS, Fusion
from lymphoscope.models.networks.base import Criterion
from lymphoscope.models.networks.blocks import two_logits
from lymphoscope.training.packing import Packing


@dataclass(frozen=True, eq=False)
class Seen:
    """What a head makes of the rows.

    Attributes
    ----------
    logit : (B, 1), of malignant.
    rows : whatever the head's loss needs beside it.
    """

    logit: Tensor
    rows: tuple[Tensor, ...] = ()


class BagHead(nn.Module, ABC):
    """Features of the rows of bags in, two logits per bag out.

    A bag's result depends neither on the other bags nor on the order of its rows, in training as in `eval()`.
    A head that is written down says in `see` what a bag is from its rows alone; the clinical values are
    brought in for all heads in the same way, by `fusion`.

    Attributes
    ----------
    takes_clinical : whether the clinical values change the result.
    by_place : on a network, rows are the places of its last map instead of its cells.
    fusion : how the clinical values do.
    """

    takes_clinical: bool = False
    by_place: bool = False
    fusion: Fusion

    def __init__(self) -> None:
        super().__init__()
        self.fusion = Fusion()

    @abstractmethod
    def see(self, features: Tensor, packing: Packing) -> Seen:
        """The bags' logits from the rows alone, (N, d) → (B, 1)."""

    def forward(self, features: Tensor, packing: Packing, clinical: Tensor) -> Tensor:
        """Logits (0, z) of reactive and malignant.

        Parameters
        ----------
        features : float (N, d), rows of a bag are neighbours.
        packing : which row belongs to which bag.
        clinical : float32 (B, 3), scaled; 0 stands for missing.

        Returns
        -------
        (B, 2)
        """
        return self._logits(self._see(features, packing, clinical), clinical)

    def loss(
        self, features: Tensor, packing: Packing, clinical: Tensor, labels: Tensor, criterion: Criterion
    ) -> tuple[Tensor, Tensor]:
        """The logits (B, 2), and what training minimises; `labels` are int64 (B,), 1 for malignant."""
        seen = self._see(features, packing, clinical)
        logits = self._logits(seen, clinical)
        return logits, self.with_rows(criterion(logits, labels), seen, packing, labels, criterion)

    def with_rows(
        self, loss: Tensor, seen: Seen, packing: Packing, labels: Tensor, criterion: Criterion
    ) -> Tensor:
        """The loss of the bags joined by what the head asks of single rows: nothing, unless overridden."""
        return loss

    def shares(self, features: Tensor, packing: Packing, clinical: Tensor) -> dict[str, Tensor]:
        """How much came from "cells" and from "clinical", (B,) each, together 1; {} if not known."""
        return self.fusion.shares(self._see(features, packing, clinical).logit, clinical)

    def _see(self, features: Tensor, packing: Packing, clinical: Tensor) -> Seen:
        return self.see(self.fusion.rows(features, packing, clinical), packing)

    def _logits(self, seen: Seen, clinical: Tensor) -> Tensor:
        return two_logits(self.fusion(seen.logit, clinical))


Builder = Callable[[int, float], BagHead]

_builders: dict[str, Builder] = {}


def head(name: str) -> Callable[[Builder], Builder]:
    """Make a function (n_features, width) → head known under `name`."""

    def register(build: Builder) -> Builder:
        known = _builders.get(name)
        if known is not None and known.__module__ != build.__module__:
            raise ValueError(f"two heads are called {name}: {known.__module__}, {build.__module__}")
        _builders[name] = build
        return build

    return register


def list_heads() -> tuple[str, ...]:
    """Names of all heads, sorted."""
    return tuple(sorted(_found()))


def check_head(name: str) -> None:
    """Raise an `InputError` where no head has this name."""
    _check_name("head", name, _found())


def create_head(name: str, n_features: int, *, width: float = 1.0, fusion: str = "none") -> BagHead:
    """A head with fresh weights, drawn from torch's global generator.

    Parameters
    ----------
    name : one of `list_heads`.
    n_features : d, numbers known about each row.
    width : multiplies the sizes of hidden layers; 1 is the published size, where there is one.
    fusion : how the clinical values come in, one of `fusion.FUSIONS`.

    Raises
    ------
    InputError : no such head or fusion, or a size that it cannot have.
    """
    check_head(name)
    builders = _found()
    _check_name("way to bring in clinical values", fusion, FUSIONS)
    if n_features < 1:
        raise InputError(f"head {name} needs features", found=n_features, allowed="n_features of at least 1")
    if not (math.isfinite(width) and width > 0):
        raise InputError(f"head {name} cannot have this width", found=width, allowed="above 0")
    way = FUSIONS[fusion](width)
    built = builders[name](n_features + way.n_more, width)
    built.fusion, built.takes_clinical = way, fusion != "none"
    return built


def _check_name(what: str, name: str, known: Mapping[str, object]) -> None:
    if name in known:
        return
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    raise InputError(
        f"no {what} has this name",
        found=name,
        allowed=", ".join(sorted(known)),
        remedy=f"Did you mean {' or '.join(close)}?" if close else None,
    )


def _found() -> Mapping[str, Builder]:
    """Every head of this package; its files are imported the first time somebody asks."""
    for module in pkgutil.iter_modules(heads.__path__):
        importlib.import_module(f"{heads.__name__}.{module.name}")
    return _builders

"""Learned state as frozen dataclasses of arrays, and the classifier whose state is one of them."""

from __future__ import annotations

import dataclasses
import json
from abc import abstractmethod
from typing import Any, ClassVar, Self, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from lymphoscope.cohort.bags import Bags, FloatArray
from lymphoscope.models.base import BagClassifier, Labels, State, check_labels


def pack(learned: Any, prefix: str = "") -> State:
    """Flatten a dataclass into named arrays; `unpack` restores it.

    Fields may be arrays, int, float, bool, str, tuples of str, dataclasses, and tuples of dataclasses.
    """
    state: State = {}
    for name, kind in _fields(type(learned)):
        value, key = getattr(learned, name), prefix + name
        if dataclasses.is_dataclass(kind):
            state |= pack(value, f"{key}.")
        elif _is_dataclass_tuple(kind):
            state[key] = np.asarray(len(value))
            for i, item in enumerate(value):
                state |= pack(item, f"{key}.{i}.")
        elif kind is str or get_origin(kind) is tuple:
            state[key] = pack_text(json.dumps(value))
        else:
            state[key] = np.ascontiguousarray(value).reshape(np.shape(value))
    return state


def unpack(kind: type, state: State, prefix: str = "") -> Any:
    """Rebuild a dataclass of type `kind` from what `pack` gave; a missing name is a `KeyError`."""
    values: dict[str, Any] = {}
    for name, field in _fields(kind):
        key = prefix + name
        if dataclasses.is_dataclass(field):
            values[name] = unpack(field, state, f"{key}.")  # type: ignore[arg-type]
        elif _is_dataclass_tuple(field):
            item = get_args(field)[0]
            values[name] = tuple(unpack(item, state, f"{key}.{i}.") for i in range(int(state[key])))
        elif field is str:
            values[name] = json.loads(unpack_text(state[key]))
        elif get_origin(field) is tuple:
            values[name] = tuple(json.loads(unpack_text(state[key])))
        elif field in (int, float, bool):
            values[name] = field(state[key].item())
        else:
            values[name] = state[key]
    return kind(**values)


def pack_text(text: str) -> npt.NDArray[np.uint8]:
    """UTF-8 bytes of `text` as an array, since a state holds arrays alone."""
    return np.frombuffer(text.encode("utf-8"), dtype=np.uint8)


def unpack_text(data: npt.NDArray[Any]) -> str:
    """The text that `pack_text` packed."""
    return data.astype(np.uint8).tobytes().decode("utf-8")


def _fields(kind: type[Any]) -> tuple[tuple[str, Any], ...]:
    hints = get_type_hints(kind)
    return tuple((field.name, hints[field.name]) for field in dataclasses.fields(kind))


def _is_dataclass_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple and dataclasses.is_dataclass(get_args(kind)[0])


class LearnedClassifier(BagClassifier):
    """A classifier whose learned state is one frozen dataclass, `learned_`.

    A subclass names its type in `learned_type` and gives `_learn` and `_probability`.
    """

    learned_type: ClassVar[type]
    learned_: Any

    @abstractmethod
    def _learn(self, bags: Bags, y: npt.NDArray[np.int64]) -> Any:
        """What the patients teach; `y` is checked, both classes occur."""

    @abstractmethod
    def _probability(self, bags: Bags) -> FloatArray:
        """Probability of malignancy per patient, shape (n_patients,)."""

    def fit(self, bags: Bags, y: Labels) -> Self:
        """Learn from `bags` with labels `y`, shape (n_patients,), each 0 or 1."""
        labels = check_labels(bags, y)
        self.learned_ = self._learn(bags, labels)
        self.classes_ = np.array([0, 1])
        self.threshold_ = float(labels.mean())
        return self

    def predict_proba(self, bags: Bags) -> FloatArray:
        """Probability of reactive and malignant per patient, shape (n_patients, 2), rows sum to 1."""
        self.check_fitted()
        malignant = self._probability(bags) if len(bags) else np.empty(0)
        return np.stack([1.0 - malignant, malignant], axis=1)

    def state(self) -> State:
        """`learned_` and `threshold_` as named arrays."""
        self.check_fitted()
        return {"threshold": np.asarray(self.threshold_), **pack(self.learned_, "learned.")}

    def load_state(self, state: State) -> Self:
        """Take up what `state` returned."""
        self.learned_ = unpack(self.learned_type, state, "learned.")
        self.classes_ = np.array([0, 1])
        self.threshold_ = float(state["threshold"])
        return self

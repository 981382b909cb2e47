from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

from lymphoscope.models.learned import pack, pack_text, unpack, unpack_text
from lymphoscope.models.registry import create_model, list_models


@dataclass(frozen=True)
class Leaf:
    values: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tree:
    number: int
    share: float
    on: bool
    name: str
    columns: tuple[str, ...]
    leaf: Leaf
    leaves: tuple[Leaf, ...]


@given(
    number=st.integers(-(2**40), 2**40),
    share=st.floats(allow_nan=False),
    on=st.booleans(),
    name=st.text(),
    columns=st.lists(st.text()),
    sizes=st.lists(st.integers(0, 3)),
)
def test_packed_state_comes_back(
    number: int, share: float, on: bool, name: str, columns: list[str], sizes: list[int]
) -> None:
    leaves = tuple(Leaf(np.arange(float(n))) for n in sizes)
    tree = Tree(number, share, on, name, tuple(columns), Leaf(np.ones((2, 3))[:, ::2]), leaves)
    state = pack(tree)
    assert all(isinstance(array, np.ndarray) and array.dtype != object for array in state.values())
    back = unpack(Tree, state)
    assert (back.number, back.share, back.on, back.name, back.columns) == (
        number,
        share,
        on,
        name,
        tuple(columns),
    )
    assert np.array_equal(back.leaf.values, tree.leaf.values)
    assert [len(leaf.values) for leaf in back.leaves] == sizes


def test_text_survives() -> None:
    assert unpack_text(pack_text("10⁹/L ü")) == "10⁹/L ü"


def test_a_missing_array_is_named() -> None:
    state = pack(Leaf(np.ones(2)))
    with pytest.raises(KeyError, match="values"):
        unpack(Leaf, {name + "x": array for name, array in state.items()})


@pytest.mark.parametrize("name", [info.name for info in list_models() if info.cell_input != "images"])
def test_an_unfitted_model_has_no_state(name: str) -> None:
    with pytest.raises(NotFittedError):
        create_model(name).state()

"""Geometry survives its token, and refuses anything that is not a grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonknee_datasets.errors import GeometryError
from reasonknee_datasets.volumes import Geometry

numbers = st.floats(-1e4, 1e4)
shapes = st.tuples(*[st.integers(1, 2000)] * 3)


@given(shapes, st.lists(numbers, min_size=12, max_size=12), st.booleans())
def test_token_round_trip(shape: tuple[int, int, int], values: list[float], short: bool) -> None:
    rows = np.array(values, np.float32 if short else np.float64).reshape(3, 4)
    grid = Geometry(shape, np.vstack([rows, [0, 0, 0, 1]]))
    token = grid.to_token()
    assert Geometry.from_token(token) == grid
    assert hash(Geometry.from_token(token)) == hash(grid)
    assert not set(token) & set("#?&/ %+=")
    assert len(token) < (90 if short else 160)


def test_it_is_a_value() -> None:
    grid = Geometry([2, 3, 4], np.eye(4).tolist())
    assert grid == Geometry((2, 3, 4), np.eye(4, dtype=np.float32))
    assert eval(repr(grid)) == grid
    assert grid.voxels == 24
    grid.matrix[0, 0] = 5
    assert grid.affine[0][0] == 1
    assert str(grid) == "shape (2, 3, 4), affine [1 0 0 0; 0 1 0 0; 0 0 1 0]"


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 0), (2, 3, 4, 5)])
def test_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(GeometryError, match="is not three positive numbers of voxels"):
        Geometry(shape, np.eye(4))


@pytest.mark.parametrize("affine", [np.eye(3), np.full((4, 4), np.nan), np.ones((4, 4))])
def test_affines(affine: np.ndarray) -> None:
    with pytest.raises(GeometryError, match="is not a finite 4 by 4 matrix"):
        Geometry((2, 3, 4), affine)


@pytest.mark.parametrize("token", ["", "2x3x4", "2x3x4.fAAAA", "2x3x4.f" + "A" * 65, "2x3.fAAAA", "2x3x4.x" + "A" * 64])
def test_tokens(token: str) -> None:
    with pytest.raises(GeometryError, match=r"The geometry token .* does not"):
        Geometry.from_token(token)

"""Examples over phantom knees whose every voxel can be told from every other, and strategies for drawing them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import nibabel as nib
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.phantom import DrawnKnee, KneeSpec, draw_knee, region_of
from reasonknee_datasets.phantom.scan_grids import SIZES, sample_geometry

# Geometry seeds that between them give both array layouts and both handednesses of the second one.
SEEDS = (0, 1, 2, 4, 5, 7)


@lru_cache(maxsize=32)
def knee(seed: int, side: str) -> DrawnKnee:
    """Draw a tiny knee once."""
    geometry = sample_geometry(np.random.default_rng(seed), SIZES["tiny"], side)  # type: ignore[arg-type]
    return draw_knee(KneeSpec(seed, seed, seed, side, {}, geometry))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Case:
    """One question of one knee on an affine of its own.

    The volume holds each voxel's number, counted from 1, so that an array that was cropped, turned or moved tells where
    every one of its voxels came from, and padding is 0.
    """

    seed: int
    side: str
    question: int
    affine: tuple[tuple[float, ...], ...]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The question's region."""
        return np.isin(knee(self.seed, self.side).mask, region_of(self.question))

    @property
    def box(self) -> Box:
        return knee(self.seed, self.side).boxes[self.question]

    def volume(self) -> Any:
        shape = knee(self.seed, self.side).mask.shape
        numbers = np.arange(1, np.prod(shape) + 1, dtype=np.int32).reshape(shape)
        return nib.Nifti1Image(numbers, np.array(self.affine), dtype=np.int32)

    def example(self) -> dict[str, Any]:
        return {
            "id": f"{self.seed:07d}/00M/{self.side}/q{self.question:02d}",
            "side": self.side,
            "volume": self.volume(),
            "box": self.box.to_row(),
            "question": "How far does it reach in the medial compartment?",
            "reasoning": ["Find the medial border.", "Compare it with the lateral one."],
            "answer": '{"size": 1}',
        }

    def marked_inside(self, example: dict[str, Any]) -> set[int]:
        """Number the region's voxels that an example's grid shows inside its box."""
        numbers = np.asarray(example["volume"].dataobj)
        inside = numbers[Box.from_row(example["box"]).clip(numbers.shape).slices]
        inside = inside[inside > 0]
        return set(inside[self.mask.ravel()[inside - 1]].tolist())


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a knee of either side and layout, a question, and a tilt of up to 16 degrees on top of the scan's own."""
    seed, side = draw(st.sampled_from(SEEDS)), draw(st.sampled_from(["left", "right"]))
    question = draw(st.sampled_from(sorted(knee(seed, side).boxes)))
    axis = np.add(draw(st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1))), (0, 0, 1e-3))
    x, y, z = axis / np.linalg.norm(axis)
    angle = np.deg2rad(draw(st.floats(0, 16)))
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    tilt = np.eye(4)
    tilt[:3, :3] += np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)
    affine = tilt @ knee(seed, side).affine
    return Case(seed, side, question, tuple(map(tuple, affine.tolist())))


def plain_case(side: str = "right", seed: int = 1, question: int = 19) -> Case:
    """Return one case without drawing."""
    return Case(seed, side, question, tuple(map(tuple, knee(seed, side).affine.tolist())))

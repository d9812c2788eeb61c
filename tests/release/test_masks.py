"""Masks: every label's extent against counted voxels, and which knee it is against real anatomy."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import VolumeError, WorkerError
from reasonknee_datasets.release import masks
from reasonknee_datasets.release.masks import MaskScan, find_extents, find_side, scan_mask, scan_masks
from tests.helpers.paths import NO_OFFICIAL, OFFICIAL

REAL = OFFICIAL / "knee_mri/dess_right_labels.nrrd"


def knee(shape: tuple[int, int, int] = (160, 384, 384)) -> np.ndarray:
    """Ellipsoids of 25 labels, as NIfTI lays them out."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in shape], indexing="ij", sparse=True)
    mask = np.zeros(shape, np.uint8, order="F")
    rng = np.random.default_rng(0)
    for label in range(40, 65):
        center, radius = rng.uniform(-0.6, 0.6, 3), rng.uniform(0.08, 0.3, 3)
        mask[sum(((axis - c) / r) ** 2 for axis, c, r in zip(axes, center, radius, strict=True)) < 1] = label
    return mask


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.int16, np.int64]), st.tuples(*[st.integers(1, 7)] * 3), elements=st.integers(0, 3)
    ),
    st.permutations(range(3)),
)
def test_extents_are_those_of_the_counted_voxels(mask: np.ndarray, order: list[int]) -> None:
    turned = mask.transpose(order)
    found = find_extents(turned)
    assert set(found) == set(np.unique(turned)) - {0}
    for label, extent in found.items():
        voxels = np.argwhere(turned == label)
        assert extent.box == Box.from_mask(turned, label)
        assert extent.voxels == len(voxels)
        assert extent.center == pytest.approx(voxels.mean(axis=0))


@pytest.mark.slow
def test_a_whole_knee_at_full_size() -> None:
    mask = knee()
    assert {label: extent.box for label, extent in find_extents(mask).items()} == {
        label: Box.from_mask(mask, label) for label in range(40, 65)
    }


def test_a_mask_is_read_with_its_grid(tmp_path: Path) -> None:
    mask = knee((16, 30, 28))
    affine = np.array([[0, 0, -0.7, 5], [-0.4, 0.05, 0, 3], [0.05, 0.4, 0, -2], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(mask, affine), tmp_path / "m.nii.gz")
    scan = scan_mask(tmp_path / "m.nii.gz")
    assert scan.shape == (16, 30, 28)
    assert np.allclose(scan.affine, affine)
    assert scan.oriented
    assert scan.extents == find_extents(mask)


def test_scan_mask_labels_as_floats(tmp_path: Path) -> None:
    mask = knee((16, 30, 28))
    nib.save(nib.Nifti1Image(mask.astype(np.float32), np.eye(4)), tmp_path / "m.nii.gz")
    assert scan_mask(tmp_path / "m.nii.gz").extents == find_extents(mask)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_damaged_mask_gives_its_error_instead(tmp_path: Path, workers: int) -> None:
    paths = [tmp_path / f"{n}.nii.gz" for n in range(3)]
    for n, path in enumerate(paths):
        nib.save(nib.Nifti1Image(np.full((3, 4, 5), n, np.uint8), np.eye(4)), path)
    paths[1].write_bytes(paths[1].read_bytes()[:-9])
    scans = scan_masks(paths, workers)
    first, damaged, last = (scans[path] for path in paths)
    assert isinstance(first, MaskScan)
    assert first.extents == {}
    assert isinstance(damaged, VolumeError)
    assert "1.nii.gz" in str(damaged)
    assert isinstance(last, MaskScan)
    assert list(last.extents) == [2]


def _die(path: Path) -> None:
    import os

    os._exit(1)


@pytest.mark.slow
def test_scan_masks_worker_death(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "_scan_or_error", _die)
    with pytest.raises(WorkerError, match=r"A worker process died unexpectedly, .* Use fewer workers"):
        scan_masks([tmp_path / "a", tmp_path / "b"], workers=2)


def scan_of(mask: np.ndarray, affine: np.ndarray, oriented: bool = True) -> MaskScan:
    i, j, k = mask.shape
    return MaskScan((i, j, k), tuple(map(tuple, affine.tolist())), oriented, find_extents(mask))


def real_mask() -> tuple[np.ndarray, np.ndarray]:
    """The real label map of a right knee, and its affine (it is written in LPS)."""
    header, _, packed = REAL.read_bytes().partition(b"\n\n")
    lines = dict(line.split(": ", 1) for line in header.decode().splitlines() if ": " in line)
    shape = tuple(map(int, lines["sizes"].split()))
    columns = [list(map(float, part.strip("()").split(","))) for part in lines["space directions"].split()]
    affine = np.eye(4)
    affine[:3, :3] = np.array(columns).T
    affine[:3, 3] = list(map(float, lines["space origin"].strip("()").split(",")))
    return np.frombuffer(gzip.decompress(packed), np.uint8).reshape(shape, order="F"), np.diag([-1, -1, 1, 1]) @ affine


@pytest.mark.skipif(not REAL.is_file(), reason=NO_OFFICIAL)
def test_find_side_of_real_knee_by_fibula() -> None:
    mask, affine = real_mask()
    femur, fibula = 5, 8  # the fibula is lateral in every knee
    sides = {femur: "medial", fibula: "lateral"}
    assert find_side(scan_of(mask, affine), sides) == "right"
    assert find_side(scan_of(mask, np.diag([-1, 1, 1, 1]) @ affine), sides) == "left"
    assert find_side(scan_of(mask[::-1, :, ::-1], affine @ _flips(mask.shape)), sides) == "right"


def _flips(shape: tuple[int, ...]) -> np.ndarray:
    """From a mask flipped on its first and last axis back to the mask."""
    flips = np.diag([-1.0, 1, -1, 1])
    flips[0, 3], flips[2, 3] = shape[0] - 1, shape[2] - 1
    return flips


def two(apart: int) -> np.ndarray:
    mask = np.zeros((40, 8, 8), np.uint8)
    mask[10, 2:6, 2:6] = 44
    mask[10 + apart, 2:6, 2:6] = 45
    return mask


def test_find_side_without_evidence_is_none() -> None:
    sides = {44: "medial", 45: "lateral"}
    assert find_side(scan_of(two(20), np.eye(4)), sides) == "right"
    assert find_side(scan_of(two(3), np.eye(4)), sides) is None
    assert find_side(scan_of(two(20), np.eye(4), oriented=False), sides) is None
    assert find_side(scan_of(two(20), np.eye(4)), {44: "medial"}) is None
    assert find_side(scan_of(two(20), np.eye(4)), {44: "medial", 50: "lateral"}) is None


@pytest.mark.parametrize("further", [(1,), (1, 1)])
def test_scan_mask_drops_axes_of_length_one(tmp_path: Path, further: tuple[int, ...]) -> None:
    mask = knee((16, 30, 28))
    for name, array in (("three", mask), ("more", mask.reshape(*mask.shape, *further))):
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}.nii.gz")
    assert scan_mask(tmp_path / "more.nii.gz") == scan_mask(tmp_path / "three.nii.gz")
    nib.save(nib.Nifti1Image(np.stack([mask, mask], -1), np.eye(4)), tmp_path / "two.nii.gz")
    with pytest.raises(VolumeError, match="have three axes"):
        scan_mask(tmp_path / "two.nii.gz")

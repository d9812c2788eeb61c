"""One scan has one voxel hash, however it was converted."""

from __future__ import annotations

import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from reasonknee_datasets.errors import VolumeError
from reasonknee_datasets.orientation import Reorientation
from reasonknee_datasets.volumes import fingerprint, verify_sha256
from tests.helpers.volumes_files import AFFINE, count_opens, knee, save


def test_what_it_tells(tmp_path: Path) -> None:
    path = save(tmp_path / "knee.nii.gz", knee(dtype=">i2"))
    told = fingerprint(path)
    data = path.read_bytes()
    assert (told.shape, told.dtype, told.bytes) == ((12, 14, 10), "int16", len(data))
    assert told.sha256 == hashlib.sha256(data).hexdigest()
    np.testing.assert_array_equal(told.affine, nib.load(path).affine)
    assert told == fingerprint(path)


@pytest.mark.parametrize("turn", list(Reorientation.all())[::5], ids=str)
def test_axes_do_not_matter(tmp_path: Path, turn: Reorientation) -> None:
    array = knee((5, 6, 7))
    affine = np.diag([0.7, 0.4, 0.3, 1.0])
    first = fingerprint(save(tmp_path / "a.nii.gz", array, affine))
    second = fingerprint(save(tmp_path / "b.nii", turn.apply_array(array), turn.apply_affine(affine, array.shape)))
    assert first.voxels_sha256 == second.voxels_sha256
    assert first.sha256 != second.sha256


def test_storage_does_not_matter_and_values_do(tmp_path: Path) -> None:
    array = knee((5, 6, 7), "<i2") // 4
    paths = [
        save(tmp_path / f"{i}.nii.gz", array.astype(dtype)) for i, dtype in enumerate(["<i2", ">i4", "<f4", ">f8"])
    ]
    paths.append(save(tmp_path / "scaled.nii", (array.astype("<i4") - 5).astype("<i2"), slope=1, inter=5))
    assert len({fingerprint(path).voxels_sha256 for path in paths}) == 1
    other = array.copy()
    other[1, 2, 3] += 1
    assert fingerprint(save(tmp_path / "other.nii", other)).voxels_sha256 != fingerprint(paths[0]).voxels_sha256
    transposed = save(tmp_path / "moved.nii", array.transpose(1, 0, 2))
    assert fingerprint(transposed).voxels_sha256 != fingerprint(paths[0]).voxels_sha256


def test_other_voxel_types(tmp_path: Path) -> None:
    rgb = np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    hashes = {
        fingerprint(save(tmp_path / f"{name}.nii", array)).voxels_sha256
        for name, array in {
            "rgb": rgb,
            "complex": knee((3, 4, 5), "<c8"),
            "float": knee((3, 4, 5), "<f4"),
            "nan": np.full((3, 4, 5), np.nan, "<f4"),
            "u8": knee((3, 4, 5), "<u8"),
            "empty": np.zeros((3, 0, 5), "<i2"),
            "flat": knee((3, 4), "<i2"),
            "four": knee((3, 4, 5, 2), "<i2"),
        }.items()
    }
    assert len(hashes) == 8


def test_fingerprint_reads_file_twice(tmp_path: Path) -> None:
    path = save(tmp_path / "knee.nii.gz", knee(), AFFINE)
    with count_opens(path) as opens:
        fingerprint(path)
        assert opens() == 2  # the header, then everything


def test_damage_is_an_error(tmp_path: Path) -> None:
    path = save(tmp_path / "knee.nii.gz", knee())
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(VolumeError, match=r"knee\.nii\.gz does not inflate"):
        fingerprint(path)


def test_a_file_is_compared_with_its_hash(tmp_path: Path) -> None:
    path = save(tmp_path / "knee.nii", knee())
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    verify_sha256(path, expected)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        VolumeError, match=rf"knee\.nii has the sha256 [0-9a-f]{{64}}, but should have {expected}\. Copy"
    ):
        verify_sha256(path, expected)

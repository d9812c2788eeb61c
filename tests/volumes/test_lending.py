"""Crops of one file as views of its decoded array: the voxels that nibabel reads, decoded once."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import VolumeError
from reasonknee_datasets.orientation import Reorientation
from reasonknee_datasets.volumes import DecodeCache, Geometry, LazyVolume, open_volume, use_cache
from reasonknee_datasets.volumes.grid_view import View
from reasonknee_datasets.volumes.lending import LentVolume, file_key, lent_volume
from reasonknee_datasets.volumes.packing import pack

SHAPE = (12, 10, 9)
AFFINE = np.diag([-0.7, 0.4, 0.5, 1.0])
BOX = Box((2, 3, 4), (9, 8, 9))


@pytest.fixture
def array() -> Any:
    return np.random.default_rng(0).integers(0, 400, SHAPE).astype(np.int16)


@pytest.fixture(params=["seekable", "gzip", "plain"])
def path(request: pytest.FixtureRequest, tmp_path: Path, array: Any) -> Path:
    nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / "knee.nii")
    if request.param == "plain":
        return tmp_path / "knee.nii"
    packed = tmp_path / "knee.nii.gz"
    packed.write_bytes(gzip.compress((tmp_path / "knee.nii").read_bytes()))
    if request.param == "seekable":
        pack(packed, packed_path := tmp_path / "packed.nii.gz")
        return packed_path
    return packed


def views() -> list[View]:
    whole = View.whole(SHAPE)
    crop = whole.crop(BOX)
    turned = crop.turn(Reorientation((2, 0, 1), (True, False, True)))
    return [whole, crop, turned, crop.mirror(0), crop.shift((1, -2, 0))]


def test_lend_returns_what_each_volume_reads(path: Path) -> None:
    volume = open_volume(path)
    volumes = [volume.through(view) for view in views()]
    with use_cache(DecodeCache(10**6)):
        lent = LentVolume(volume).lend(volumes)
        for one, array in zip(volumes, lent, strict=True):
            assert array is not None
            assert not array.flags.writeable
            np.testing.assert_array_equal(array, np.asarray(one))


def test_lend_decodes_once(path: Path) -> None:
    if path.suffix == ".nii":
        pytest.skip("a mapped file is not decoded")
    cache = DecodeCache(10**6)
    volume = open_volume(path)
    with use_cache(cache):
        first, second = LentVolume(volume).lend([volume.through(view) for view in views()[1:3]])
    assert cache.info().decodes == 1
    assert first is not None
    assert second is not None
    assert np.shares_memory(first, second)


def test_lend_turns_to_manifest_geometry(path: Path, array: Any) -> None:
    image = nib.as_closest_canonical(nib.Nifti1Image(array, AFFINE))
    volume = open_volume(path, geometry=Geometry(image.shape, image.affine)).through(View.whole(SHAPE).crop(BOX))
    with use_cache(DecodeCache(10**6)):
        (lent,) = LentVolume(volume).lend([volume])
    assert lent is not None
    np.testing.assert_array_equal(lent, np.asarray(image.dataobj)[BOX.slices])


def test_lend_leaves_out_computed_voxels(path: Path) -> None:
    """Padded and interpolated crops are not a view of the stored array; the other crops of the file still are."""
    volume, whole = open_volume(path), View.whole(SHAPE)
    odd = [whole.crop(Box((-1, 0, 0), (3, 3, 3))), whole.crop(Box((8, 0, 0), (13, 3, 3))), whole.rescale((6, 5, 3))]
    with use_cache(DecodeCache(10**6)):
        lent = LentVolume(volume).lend([volume.through(view) for view in (*odd, whole.crop(BOX))])
    assert [array is None for array in lent] == [True, True, True, False]


def test_lend_without_a_decode_cache(tmp_path: Path, array: Any) -> None:
    path = tmp_path / "knee.nii.gz"
    nib.save(nib.Nifti1Image(array, AFFINE), path)
    volume = open_volume(path, cache=None)
    assert LentVolume(volume).lend([volume]) == [None]


def test_lend_leaves_scaled_volumes_to_nibabel(tmp_path: Path, array: Any) -> None:
    image = nib.Nifti1Image(array, AFFINE)
    image.header.set_slope_inter(2.0, 1.0)
    nib.save(image, tmp_path / "knee.nii.gz")
    volume = open_volume(tmp_path / "knee.nii.gz")
    with use_cache(DecodeCache(10**6)):
        assert LentVolume(volume).lend([volume]) == [None]


def test_file_key(tmp_path: Path) -> None:
    one, two = open_volume(tmp_path / "one.nii"), open_volume(tmp_path / "two.nii")
    assert file_key(one) == file_key(open_volume(tmp_path / "one.nii")) == file_key(one.through(View.whole(SHAPE)))
    assert len({file_key(one), file_key(two), file_key(open_volume(tmp_path / "one.nii", cache=None))}) == 3
    assert file_key(LazyVolume(np.zeros(SHAPE, np.int16), AFFINE)) is None
    assert file_key(np.zeros(SHAPE)) is None


def test_lent_volume_of_replaced_file(tmp_path: Path, array: Any) -> None:
    path = tmp_path / "knee.nii.gz"
    nib.save(nib.Nifti1Image(array, AFFINE), path)
    with use_cache(DecodeCache(10**6)):
        old = lent_volume(open_volume(path))
        assert lent_volume(open_volume(path)) is old
        nib.save(nib.Nifti1Image(array[:5] + 1, AFFINE), path)
        os.utime(path, ns=(1, 1))
        with pytest.raises(VolumeError):
            old.lend([open_volume(path).through(View.whole((5, 10, 9)))])
        (lent,) = lent_volume(open_volume(path)).lend([open_volume(path)])
    np.testing.assert_array_equal(lent, array[:5] + 1)  # type: ignore[arg-type]

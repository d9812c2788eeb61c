"""The lazy image gives nibabel's answers, and reads nothing before it is asked."""

from __future__ import annotations

import copy
import pickle
import threading
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices
from nibabel.processing import conform

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import BoxError, GeometryError, VolumeError, VolumeNotFoundError
from reasonknee_datasets.orientation import Reorientation
from reasonknee_datasets.volumes import (
    DecodeCache,
    ExpectedFile,
    Geometry,
    LazyVolume,
    fingerprint,
    index_hash,
    open_volume,
    pack,
)
from reasonknee_datasets.volumes.grid_view import View
from tests.helpers.volumes_files import AFFINE, count_opens, fresh, knee, nifti_bytes, same, save, stored_volumes

KINDS = [nib.Nifti1Image, nib.Nifti2Image]


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # 1e30 in float32, nibabel's too
@settings(
    max_examples=3 * settings.default.max_examples,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(stored_volumes(), st.sampled_from([".nii", ".nii.gz"]), st.booleans(), st.data())
def test_every_answer_is_nibabels(tmp_path: Path, layout: Any, suffix: str, cached: bool, data: st.DataObject) -> None:
    fields, shape, dtype, seed = layout
    path = save(fresh(tmp_path, suffix), knee(shape, dtype, seed), **fields)
    theirs = nib.load(path)
    ours = open_volume(path, cache=DecodeCache(10**6) if cached else None)
    index = data.draw(basic_indices(shape, min_dims=0, max_dims=6, allow_newaxis=True, allow_ellipsis=True))
    expected = np.asarray(theirs.dataobj)[index]
    if expected.size:
        same(ours.dataobj[index], theirs.dataobj[index])
    else:  # nibabel fails to map zero bytes
        assert ours.dataobj[index].shape == expected.shape
    same(np.asanyarray(ours.dataobj), np.asanyarray(theirs.dataobj))
    same(ours.dataobj.get_unscaled(), theirs.dataobj.get_unscaled())
    assert ours.header == theirs.header
    assert ours.header_class is theirs.header_class
    assert ours.shape == theirs.shape
    assert ours.ndim == theirs.ndim
    np.testing.assert_array_equal(ours.affine, theirs.affine)
    if np.dtype(dtype).kind != "c":
        for wanted in (np.float64, np.float32):
            same(ours.get_fdata(dtype=wanted), theirs.get_fdata(dtype=wanted))
            same(ours.dataobj.__array__(wanted), theirs.dataobj.__array__(wanted))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_colour_voxels(tmp_path: Path, suffix: str) -> None:
    array = knee((3, 4, 15), "u1").reshape(3, 4, 5, 3).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    path = save(tmp_path / f"rgb{suffix}", array)
    ours, theirs = open_volume(path), nib.load(path)
    same(ours.dataobj[1:, ::-1], theirs.dataobj[1:, ::-1])
    same(np.asanyarray(ours.dataobj), np.asanyarray(theirs.dataobj))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nibabel_habits(tmp_path: Path, kind: Any, suffix: str) -> None:
    path = save(tmp_path / f"knee{suffix}", knee(), kind=kind, slope=0.5, inter=1)
    ours, theirs = open_volume(path), nib.load(path)
    for image, reference in (
        (ours.slicer[2:9, 4:, 3:4], theirs.slicer[2:9, 4:, 3:4]),
        (ours.slicer[2:9, ::2, 3:4], theirs.slicer[2:9, ::2, 3:4]),
        (ours.slicer[..., 1:3].slicer[3:, 2:5], theirs.slicer[..., 1:3].slicer[3:, 2:5]),
        (nib.as_closest_canonical(ours), nib.as_closest_canonical(theirs)),
        (ours.__class__(ours.dataobj, ours.affine, ours.header), kind(theirs.dataobj, theirs.affine, theirs.header)),
        (nib.Nifti1Image.from_image(ours), nib.Nifti1Image.from_image(theirs)),
        (nib.funcs.squeeze_image(ours), nib.funcs.squeeze_image(theirs)),
        (ours.to_nifti(), theirs),
        (LazyVolume.from_filename(path), nib.Nifti1Image.from_filename(path)) if kind is nib.Nifti1Image else (1, 1),
    ):
        if image == 1:
            continue
        assert isinstance(image, nib.Nifti1Image if isinstance(image, LazyVolume) else type(reference))
        assert type(image.header) is type(reference.header)
        same(np.asanyarray(image.dataobj), np.asanyarray(reference.dataobj))
        np.testing.assert_array_equal(image.affine, reference.affine)
        assert image.header == reference.header
    assert str(ours).splitlines()[2:] == str(theirs).splitlines()[2:]
    assert ours.get_filename() == str(path)
    assert ours.get_data_dtype() == theirs.get_data_dtype()
    assert ours.to_nifti().to_bytes() == theirs.to_bytes()
    assert type(ours.to_nifti()) is type(theirs)
    assert nib.is_proxy(ours.dataobj)
    assert not ours.in_memory
    assert ours.get_fdata() is ours.get_fdata()
    assert ours.in_memory
    ours.uncache()
    assert not ours.in_memory


def test_slicer_reads_nothing(tmp_path: Path) -> None:
    path = save(tmp_path / "knee.nii.gz", array := knee())
    volume = open_volume(path)
    with count_opens(path) as opens:
        assert volume.shape == array.shape
        crop = volume.slicer[2:9, ::-1, 3:4]
        assert (crop.shape, crop.get_filename(), opens()) == ((7, 14, 1), None, 1)
    same(np.asarray(crop), array[2:9, ::-1, 3:4])
    # nibabel's own affine of [::-1] forgets the offset: voxel (0, 0, 0) of the crop is (2, 13, 3) of the volume.
    np.testing.assert_allclose(crop.affine[:, 3], volume.affine @ [2, 13, 3, 1])
    volume.set_sform(np.diag([2.0, 2, 2, 1]), code=2)
    np.testing.assert_allclose(volume.slicer[1:, 2:, 3:].affine[:3, 3], [2, 4, 6])
    assert volume.slicer[1:].reference is None  # the file has another affine
    for index in (np.s_[2:2], np.s_[:, 5:1]):
        with pytest.raises(IndexError, match="Empty slice requested"):
            volume.slicer[index]
    for index in (np.s_[1], np.s_[None], np.s_[:, 3]):
        with pytest.raises(IndexError, match="spatial dimensions"):
            volume.slicer[index]


@pytest.mark.parametrize("turn", list(Reorientation.all())[::5], ids=str)
def test_as_reoriented_is_nibabels_and_lazy(tmp_path: Path, turn: Reorientation) -> None:
    path = save(tmp_path / "knee.nii.gz", knee())
    ornt = np.array([[turn.axes.index(axis), -1 if turn.flips[turn.axes.index(axis)] else 1] for axis in range(3)])
    volume, theirs = open_volume(path), nib.load(path).as_reoriented(ornt)
    with count_opens(path) as opens:
        ours = volume.as_reoriented(ornt)
        assert ours.shape == theirs.shape
        assert opens() == 1
    np.testing.assert_allclose(ours.affine, theirs.affine)
    same(np.asarray(ours), np.asarray(theirs.dataobj))
    assert LazyVolume.from_reference(ours.reference or "").view == ours.view


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("make", ["volume", "canonical", "nifti", "array", "pickle", "crop"])
def test_saving_over_the_file_that_was_opened(tmp_path: Path, suffix: str, make: str) -> None:
    path = save(tmp_path / f"knee{suffix}", array := knee())
    volume = open_volume(path, cache=None)
    canonical = np.array(nib.as_closest_canonical(nib.load(path)).dataobj)  # nibabel maps the file
    image, expected = {
        "volume": lambda: (volume, array),
        "canonical": lambda: (nib.as_closest_canonical(volume), canonical),
        "nifti": lambda: (volume.to_nifti(), array),
        "array": lambda: (nib.Nifti1Image(np.asarray(volume.dataobj), volume.affine), array),
        "pickle": lambda: (pickle.loads(pickle.dumps(volume)), array),
        "crop": lambda: (volume.slicer[2:, :, 1:5], array[2:, :, 1:5]),
    }[make]()
    nib.save(image, path)
    same(np.asarray(nib.load(path).dataobj), expected)


def test_nib_save_converts_to_other_formats(tmp_path: Path) -> None:
    path = save(tmp_path / "knee.nii.gz", array := knee())
    for name in ("k.nii", "k.nii.gz", "k.mgz", "k.img"):
        nib.save(open_volume(path).slicer[1:], tmp_path / name)
        same(np.asarray(nib.load(tmp_path / name).dataobj).astype(np.int16), array[1:])


def test_it_saves_and_changes_like_any_image(tmp_path: Path) -> None:
    path = save(tmp_path / "knee.nii.gz", knee())
    ours, theirs = open_volume(path), nib.load(path)
    for image, name in ((ours, "ours.nii.gz"), (theirs, "theirs.nii.gz")):
        image.header["descrip"] = b"changed"
        image.set_sform(np.diag([2.0, 2, 2, 1]), code=2)
        image.to_filename(tmp_path / name)
    again, reference = nib.load(tmp_path / "ours.nii.gz"), nib.load(tmp_path / "theirs.nii.gz")
    assert again.header == reference.header
    same(np.asanyarray(again.dataobj), np.asanyarray(reference.dataobj))
    assert open_volume(path).header["descrip"] == b""  # what one image changes is its own


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_results_are_the_callers_own(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"knee{suffix}", array := knee())
    volume = open_volume(path, cache=DecodeCache())
    for read in (lambda: volume.dataobj[1:3], lambda: np.asanyarray(volume.dataobj), lambda: np.asarray(volume)):
        read()[...] = 0
    same(np.asarray(volume.dataobj), array)


def test_iterating_rows_opens_nothing(tmp_path: Path) -> None:
    path = save(tmp_path / "knee.nii.gz", knee())
    with count_opens(path) as opens:
        volumes = [open_volume(path) for _ in range(62)]
        assert [repr(volume) for volume in volumes]
        assert pickle.loads(pickle.dumps(volumes))
        assert opens() == 0
        for volume in volumes:
            assert volume.shape == (12, 14, 10)
            assert volume.affine.shape == (4, 4)
            assert volume.header.get_zooms()
            assert volume.dataobj.dtype == np.int16
        assert opens() == 1  # header and affine, once for the file and process
        for volume in volumes:
            volume.dataobj[2:5, 3:6, 1:4]
        assert opens() == 2  # and one decode


def test_threads_that_touch_first_share_one_header(tmp_path: Path) -> None:
    path = save(tmp_path / "knee.nii.gz", knee(seed=7))
    volume, barrier, seen = open_volume(path), threading.Barrier(8), []

    def touch() -> None:
        barrier.wait()
        seen.append(volume.header)

    with count_opens(path) as opens:
        threads = [threading.Thread(target=touch) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert opens() == 1
    assert all(header is volume.header for header in seen)


def test_it_pickles_without_voxels_or_credentials(tmp_path: Path) -> None:
    path = save(tmp_path / "knee.nii.gz", knee((64, 64, 64)))
    volume = open_volume(path, storage_options={"secret": "planted"}, geometry=Geometry((64, 64, 64), AFFINE))
    volume.get_fdata()
    text = pickle.dumps(volume)
    assert len(text) < 1000
    assert b"planted" not in text
    assert "planted" not in repr(volume)
    again = pickle.loads(text)
    same(np.asarray(again), np.asarray(volume))
    volume.header["descrip"] = b"kept"
    assert pickle.loads(pickle.dumps(volume)).header["descrip"] == b"kept"
    assert copy.deepcopy(volume).header["descrip"] == b"kept"
    assert copy.copy(volume).header is not volume.header
    remote = open_volume("s3://bucket/knee.nii.gz", storage_options={"secret": "planted"})
    assert b"planted" not in pickle.dumps(remote)
    assert "planted" not in repr(vars(remote))


def test_array_protocol(tmp_path: Path) -> None:
    path = save(tmp_path / "knee.nii.gz", array := knee(), slope=2, inter=1)
    volume = open_volume(path)
    same(np.asarray(volume), np.asarray(nib.load(path).dataobj))
    same(np.array(volume, dtype=np.float32), (array * 2.0 + 1).astype(np.float32))
    with pytest.raises(ValueError, match="copy=False is impossible"):
        np.array(volume, copy=False)


def test_read_region(tmp_path: Path) -> None:
    volume = open_volume(save(tmp_path / "knee.nii.gz", array := knee()))
    box = Box((1, 2, 3), (5, 9, 10))
    same(volume.read_region(box), array[box.slices])
    with pytest.raises(BoxError, match=r"is outside.*in .*knee\.nii\.gz"):
        volume.read_region(Box((1, 2, 3), (5, 15, 10)))


def test_proxies_copy_and_reshape(tmp_path: Path) -> None:
    path = save(tmp_path / "knee.nii.gz", knee())
    ours, theirs = open_volume(path).dataobj, nib.load(path).dataobj
    same(np.asarray(ours.copy()), np.asarray(theirs.copy()))
    for shape in ((12, 140), (168, -1), (1, 12, 14, 10)):
        same(np.asarray(ours.reshape(shape)), np.asarray(theirs.reshape(shape)))
        same(ours.reshape(shape)[..., 3:5], theirs.reshape(shape)[..., 3:5])


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_empty_arrays(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"none{suffix}", np.zeros((4, 0, 3), np.int16))
    ours, theirs = open_volume(path), nib.load(path)
    assert ours.shape == theirs.shape
    assert np.asarray(ours.dataobj).size == np.asarray(theirs.dataobj).size == 0


@pytest.mark.parametrize("turn", list(Reorientation.all()), ids=str)
def test_a_turned_file_is_put_right(tmp_path: Path, turn: Reorientation) -> None:
    array = knee((5, 6, 7))
    expected = Geometry(array.shape, AFFINE)
    path = save(
        tmp_path / "knee.nii.gz", turn.apply_array(array), turn.apply_affine(AFFINE, array.shape), slope=3, inter=1
    )
    volume = open_volume(path, geometry=expected, cache=None)
    assert volume.shape == array.shape
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)
    np.testing.assert_allclose(volume.header.get_best_affine(), AFFINE, atol=1e-5)
    scaled = array * 3.0 + 1
    for index in (np.s_[...], np.s_[1:4, ::-2, 2], np.s_[::-1, 3, None, 1:7:3], np.s_[4, 5, 6], np.s_[:, 2:2]):
        np.testing.assert_array_equal(volume.dataobj[index], scaled[index])
    np.testing.assert_array_equal(volume.read_region(Box((1, 2, 3), (3, 6, 7))), scaled[1:3, 2:6, 3:7])
    np.testing.assert_array_equal(volume.get_fdata(), scaled)
    sliced = volume.slicer[1:3, 2:, 3:]
    np.testing.assert_allclose(sliced.affine[:3, 3], (AFFINE @ [1, 2, 3, 1])[:3], atol=1e-5)
    again = pickle.loads(pickle.dumps(volume))
    np.testing.assert_array_equal(np.asarray(again), scaled)


def test_another_grid_is_refused_on_first_touch(tmp_path: Path) -> None:
    path = save(tmp_path / "knee.nii.gz", knee((5, 6, 7)))
    moved = AFFINE.copy()
    moved[0, 3] += 1
    volume = open_volume(path, geometry=Geometry((5, 6, 7), moved))
    with pytest.raises(GeometryError, match=r"two grids in .*knee\.nii\.gz and its manifest differ.*up to 1 mm apart"):
        _ = volume.shape
    four = save(tmp_path / "four.nii.gz", knee((5, 6, 7, 2)))
    with pytest.raises(GeometryError, match="states three axes"):
        _ = open_volume(four, geometry=Geometry((5, 6, 7), AFFINE)).affine


def test_missing_file_names_the_setting(tmp_path: Path) -> None:
    volume = open_volume(tmp_path / "absent.nii.gz")
    with pytest.raises(VolumeNotFoundError, match=r"absent\.nii\.gz does not exist.*REASONKNEE_VOLUMES"):
        _ = volume.header
    assert issubclass(VolumeNotFoundError, FileNotFoundError)


def test_a_file_replaced_in_use_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path / "knee.nii.gz", knee())
    volume = open_volume(path)
    volume.dataobj[1]
    save(path, other := knee(seed=1))
    same(np.asarray(volume.dataobj), other)  # the same header: new voxels, not the cached ones
    save(path, knee((3, 4, 5)))
    with pytest.raises(VolumeError, match=r"changed after it was opened: it was replaced .*\. Open it again"):
        volume.dataobj[1]
    with pytest.raises(VolumeError, match=r"changed after it was opened: it was replaced .*\. Open it again"):
        np.asarray(volume.slicer[:1, :1, :1])  # not voxels of another volume, nor padding where it is smaller


def test_indices_are_checked_as_in_nibabel(tmp_path: Path) -> None:
    volume = open_volume(save(tmp_path / "knee.nii.gz", knee()))
    with pytest.raises(ValueError, match="Integer index 12 too large"):
        volume.dataobj[12]
    with pytest.raises(ValueError, match="Cannot handle fancy indexing"):
        volume.dataobj[[1, 2]]
    with pytest.raises(IndexError, match="which has voxels 0 to 11"):
        volume.dataobj[-13]
    with pytest.raises(TypeError, match=r"neither an array nor a sequence\. Use volume\.slicer"):
        volume[1]


def test_file_urls_and_uncommon_names(tmp_path: Path) -> None:
    path = tmp_path / "left knee #1"
    path.write_bytes(nifti_bytes(array := knee()))  # neither suffix nor plain name
    same(np.asarray(open_volume(path)), array)
    same(np.asarray(open_volume(path.as_uri())), array)


def test_conform_and_other_processing(tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    path = save(tmp_path / "knee.nii.gz", knee())
    ours, theirs = (conform(image, (8, 8, 8), (1, 1, 1)) for image in (open_volume(path), nib.load(path)))
    same(np.asarray(ours.dataobj), np.asarray(theirs.dataobj))


class TestExpected:
    """Another file in the place of a volume is noticed on first touch, though its grid is the same."""

    @pytest.fixture
    def prepared(self, tmp_path: Path) -> tuple[Path, ExpectedFile]:
        pack(save(tmp_path / "plain.nii", knee()), tmp_path / "knee.nii.gz")
        return tmp_path / "knee.nii.gz", ExpectedFile(
            (tmp_path / "knee.nii.gz").stat().st_size, index_hash(tmp_path / "knee.nii.gz")
        )

    def swap(self, path: Path, tmp_path: Path) -> None:
        """Put another volume of the same grid and the same size into its place."""
        size, other = path.stat().st_size, knee()
        other[3, 4] = np.sort(other[3, 4])
        pack(save(tmp_path / "other.nii", other), tmp_path / "other.nii.gz")
        data = (tmp_path / "other.nii.gz").read_bytes()
        assert len(data) == size or pytest.skip("the sizes differ by chance")
        path.write_bytes(data)

    def test_the_file_itself(self, prepared: tuple[Path, ExpectedFile], tmp_path: Path) -> None:
        path, expected = prepared
        path = path.rename(tmp_path / "fresh.nii.gz")  # no header of it is known
        with count_opens(path) as opens:
            volume = open_volume(path, expected=expected)
            assert volume.shape == knee().shape
            assert opens() == 1  # no read more than the header's
        same(np.asarray(volume), knee())
        same(np.asarray(LazyVolume.from_reference(volume.reference or "")), knee())

    @pytest.mark.parametrize("touch", [np.asarray, lambda v: v.shape, lambda v: v.affine, lambda v: v.dataobj[1]])
    def test_another_hash(self, prepared: tuple[Path, ExpectedFile], tmp_path: Path, touch: Any) -> None:
        path, expected = prepared
        self.swap(path, tmp_path)
        volume = open_volume(path, expected=expected)
        for again in (volume, pickle.loads(pickle.dumps(volume)), copy.copy(volume)):
            with pytest.raises(
                VolumeError, match=r"knee\.nii\.gz has the size .* index_sha256 is .*prepare the repository"
            ):
                touch(again)

    def test_another_size(self, prepared: tuple[Path, ExpectedFile]) -> None:
        path, expected = prepared
        size = path.stat().st_size
        save(path, knee())
        with pytest.raises(VolumeError, match=rf"has {path.stat().st_size} bytes, but the manifest says {size}"):
            _ = open_volume(path, expected=expected).affine

    def test_swapped_after_it_was_touched(self, prepared: tuple[Path, ExpectedFile], tmp_path: Path) -> None:
        path, expected = prepared
        volume = open_volume(path, expected=expected, cache=None)
        same(volume.dataobj[1], knee()[1])
        self.swap(path, tmp_path)
        with pytest.raises(VolumeError, match="index_sha256"):
            volume.dataobj[1]

    def test_an_ordinary_file_has_a_size_only(self, tmp_path: Path) -> None:
        path = save(tmp_path / "knee.nii", array := knee())
        expected = ExpectedFile(path.stat().st_size, index_hash(path))
        same(np.asarray(open_volume(path, expected=expected)), array)

    @pytest.mark.parametrize("token", ["", "x", "-1", "12-ab", "12-" + "g" * 64])
    def test_a_token_that_was_changed(self, token: str) -> None:
        with pytest.raises(VolumeError, match="is not <bytes>-<sha256>"):
            ExpectedFile.from_token(token)


@pytest.mark.parametrize("further", [(1,), (1, 1)])
@pytest.mark.parametrize("stored", ["nii", "nii.gz", "packed", "padded"])
def test_axes_of_length_one_behind_the_third(tmp_path: Path, further: tuple[int, ...], stored: str) -> None:
    array = knee((12, 14, 10))
    path = save(
        tmp_path / f"k.{'nii' if stored in ('nii', 'packed') else 'nii.gz'}", array.reshape(*array.shape, *further)
    )
    if stored == "packed":
        pack(path, tmp_path / "k.nii.gz", planes=2)
        path = tmp_path / "k.nii.gz"
    if stored == "padded":  # as tapes and some archives leave a gzip stream
        path.write_bytes(path.read_bytes() + bytes(512))
    same(np.asarray(open_volume(path)), np.asarray(nib.load(path).dataobj))  # as nibabel, where nothing else is asked
    turn = Reorientation((2, 0, 1), (True, False, True))
    for geometry, expected in (
        (Geometry(array.shape, AFFINE), array),
        (Geometry(turn.apply_shape(array.shape), turn.apply_affine(AFFINE, array.shape)), turn.apply_array(array)),
    ):
        volume = open_volume(path, geometry=geometry, cache=None)
        assert volume.shape == expected.shape == volume.header.get_data_shape()
        same(np.asarray(volume), expected)
        same(volume.dataobj[1:5, ::-2, 3], expected[1:5, ::-2, 3])
        same(np.asarray(volume.slicer[2:, 1:4, ::-1]), expected[2:, 1:4, ::-1])
    view = View.whole(array.shape).crop(Box((1, 2, 3), (4, 6, 9)))
    same(np.asarray(open_volume(path).through(view)), array[1:4, 2:6, 3:9])
    assert fingerprint(path).shape == array.shape
    assert fingerprint(path).voxels_sha256 == fingerprint(save(tmp_path / "three.nii", array)).voxels_sha256

"""The volume column: a string in every file, a lazy image in an example, voxels nowhere."""

from __future__ import annotations

import copy
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import nibabel as nib
import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, Features, Value, load_from_disk
from datasets.features.nifti import encode_nibabel_image

from reasonknee_datasets.errors import GeometryError, VolumeError
from reasonknee_datasets.feature import VolumeFeature, read_reference, write_reference
from reasonknee_datasets.volumes import Geometry, LazyVolume, open_volume
from reasonknee_datasets.volumes.grid_view import View
from reasonknee_datasets.volumes.reference import ExpectedFile
from tests.helpers.file_servers import serve

GRID = Geometry(
    (160, 384, 384), np.array([[0.7, 0.01, 0, -50], [0, 0.36458, 0, -70], [0, 0, 0.36458, -60], [0, 0, 0, 1]])
)


@pytest.mark.parametrize(
    "place",
    [
        "/data/3dreasonknee/volumes/1/00M_left.nii.gz",
        "s3://bucket/volumes/1.nii.gz",
        "/odd #1/knee#2.nii.gz",
        "C:\\x.nii",
    ],
)
@pytest.mark.parametrize("geometry", [None, GRID])
def test_reference_round_trips(place: str, geometry: Geometry | None) -> None:
    view, expected = View.whole((4, 5, 6)).mirror(0), ExpectedFile(12, "ab" * 32)
    assert read_reference(write_reference(place, geometry)) == (place, geometry, None, None)
    assert read_reference(write_reference(place, geometry, expected)) == (place, geometry, None, expected)
    assert read_reference(write_reference(place, geometry, None, view)) == (place, geometry, view, None)
    assert read_reference(write_reference(place, geometry, expected, view)) == (place, geometry, view, expected)


def test_a_path_is_no_reference() -> None:
    with pytest.raises(
        VolumeError, match=r"A volume reference reads <path or URL>#<geometry>.* this one is /data/x\.nii\.gz"
    ):
        VolumeFeature().decode_example("/data/x.nii.gz")


def test_a_cut_reference_is_refused() -> None:
    with pytest.raises(GeometryError, match=r"geometry token"):
        read_reference(write_reference("/data/x.nii.gz", GRID)[:-3])


def test_decoding_opens_nothing() -> None:
    volume = VolumeFeature().decode_example(write_reference("/no/such/folder/x.nii.gz", GRID))
    assert isinstance(volume, LazyVolume)
    assert "/no/such/folder/x.nii.gz" in repr(volume)


def test_decoding_a_volume_gives_it_back() -> None:
    volume = open_volume("/no/such/x.nii.gz")
    assert VolumeFeature().decode_example(volume) is volume


@pytest.mark.parametrize(
    "storage",
    [
        pa.array([{"bytes": b"\x00" * 8, "path": None}]),
        pa.array([b"\x00" * 8]),
        pa.array([[1, 2, 3]]),
        pa.array([1.5]),
    ],
    ids=lambda storage: str(storage.type),
)
def test_voxels_are_refused(storage: pa.Array) -> None:
    with pytest.raises(VolumeError, match=r"The volume column takes references, never voxels.*remove_columns"):
        VolumeFeature().cast_storage(storage)


def test_encode_example_takes_lazy_volumes_only() -> None:
    volume = open_volume("/no/such/x.nii.gz")
    assert VolumeFeature().encode_example(volume) == "/no/such/x.nii.gz#"
    for image in (nib.Nifti1Image(np.zeros((2, 3, 4), np.int16), np.eye(4)), np.zeros((2, 3, 4))):
        with pytest.raises(VolumeError, match=rf"never voxels, but got {type(image).__name__}"):
            VolumeFeature().encode_example(image)
    with pytest.raises(VolumeError, match=r"never voxels, but got LazyVolume"):
        VolumeFeature().encode_example(LazyVolume(np.zeros((2, 3, 4), np.int16), np.eye(4)))


@pytest.mark.parametrize("url", ["https://me:secret@host/k.nii.gz", "https://host/k.nii.gz?X-Amz-Signature=secret"])
def test_a_reference_holds_no_credentials(url: str) -> None:
    with pytest.raises(
        VolumeError, match=r"The URL of https://host/k\.nii\.gz contains credentials.*set_credentials"
    ) as caught:
        VolumeFeature().encode_example(open_volume(url))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda volume: pickle.loads(pickle.dumps(volume))])
def test_a_copy_is_no_easier_to_embed(again: Callable[[LazyVolume], LazyVolume]) -> None:
    reference = write_reference("/no/such/x.nii.gz", GRID)
    volume = again(VolumeFeature().decode_example(reference))
    assert VolumeFeature().encode_example(volume) == reference
    assert reference.encode() in encode_nibabel_image(volume, force_bytes=True)["bytes"]


@pytest.mark.parametrize("storage", [pa.array(["a#", None]), pa.array(["a#", None], pa.large_string())])
def test_strings_are_kept(storage: pa.Array) -> None:
    assert VolumeFeature().cast_storage(storage).equals(pa.array(["a#", None]))


def test_all_null_is_kept() -> None:
    assert VolumeFeature().cast_storage(pa.nulls(2)).type == pa.string()


def test_datasets_finds_the_type_again() -> None:
    features = Features({"id": Value("string"), "volume": VolumeFeature(decode=False)})
    assert Features.from_dict(features.to_dict()) == features
    assert Features.from_arrow_schema(features.arrow_schema) == features
    assert Features._from_yaml_list(Features({"volume": VolumeFeature()})._to_yaml_list()) == {
        "volume": VolumeFeature()
    }
    assert pickle.loads(pickle.dumps(features)) == features


def test_volume_feature_has_no_secret() -> None:
    # `datasets` writes the fields of a feature into dataset_info.json and into every Arrow schema.
    assert {field.name for field in fields(VolumeFeature)} == {"decode", "id", "_type"}


def test_undecoded_gives_the_reference() -> None:
    features = Features({"volume": VolumeFeature(decode=False)})
    assert features.decode_example({"volume": "a#"}) == {"volume": "a#"}
    assert VolumeFeature(decode=False).flatten() == Value("string")
    assert VolumeFeature().flatten() == VolumeFeature()


@pytest.mark.slow
def test_importing_it_warns_of_nothing() -> None:
    code = "import reasonknee_datasets.feature"
    run = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()


@pytest.mark.slow
@pytest.mark.parametrize(
    "imports",
    [
        "import reasonknee_datasets, datasets",
        "import datasets, reasonknee_datasets",
        "import datasets.arrow_dataset\nimport reasonknee_datasets",
        "from reasonknee_datasets import Box\nfrom datasets import load_from_disk\nimport datasets",
    ],
)
def test_load_from_disk_in_a_fresh_process(tmp_path: Path, imports: str) -> None:
    features = Features({"id": Value("string"), "volume": VolumeFeature()})
    rows = {"id": ["a"], "volume": [write_reference("/no/such/x.nii.gz", GRID)]}
    Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    code = (
        f"{imports}\nimport sys\n"
        "assert 'torch' not in sys.modules\n"
        "assert type(datasets.__loader__).__module__ != 'reasonknee_datasets.registration'\n"
        f"print(repr(datasets.load_from_disk({str(tmp_path / 'saved')!r})[0]['volume']))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, text=True)
    assert "x.nii.gz" in run.stdout, run.stderr
    code = f"import datasets; datasets.load_from_disk({str(tmp_path / 'saved')!r})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, text=True)
    assert "'ReasonkneeVolume' not found" in run.stderr  # what README.md says of a process without the import


@pytest.mark.parametrize("kind", ["text file", "named pipe", "device", "server"])
def test_saved_dataset_shows_no_file_content(kind: str, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    secret = tmp_path / "files" / "secret.txt"
    secret.write_text("planted words\n" * 99, encoding="utf-8")
    os.mkfifo(tmp_path / "files" / "pipe")
    with serve(tmp_path / "files") as served:
        url = f"{served.url}/secret.txt"
        place = {"text file": secret, "named pipe": tmp_path / "files" / "pipe", "device": "/dev/zero"}.get(kind, url)
        made = Dataset.from_dict({"volume": [f"{place}#"]}, features=Features({"volume": VolumeFeature()}))
        made.save_to_disk(str(tmp_path / "saved"))
        row = load_from_disk(str(tmp_path / "saved"))[0]
        assert not served.requests
        with pytest.raises(VolumeError, match=re.escape(str(place))) as caught:
            np.asarray(row["volume"])
        assert bool(served.requests) == (kind == "server")
    assert "planted words" not in str(caught.value)

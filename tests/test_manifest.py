"""The manifest: what is written comes back, and what is damaged is refused with its place and a remedy."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from reasonknee_datasets.errors import RepositoryError, RepositoryNotFoundError
from reasonknee_datasets.manifest import MANIFEST, Manifest, Shard, VolumeRecord
from reasonknee_datasets.volumes.geometry import Geometry

AFFINE = ((0.7, 0.0, 0.01, -50.0), (0.0, 0.36458, 0.0, -70.5), (-0.01, 0.0, 0.36458, -70.0), (0.0, 0.0, 0.0, 1.0))
VOLUME = "volumes/0000001/00M_right.nii.gz"


@pytest.fixture
def manifest() -> Manifest:
    shards = (
        Shard("data/train-00000-of-00002.parquet", 124, 5000, "a" * 64),
        Shard("data/train-00001-of-00002.parquet", 62, 2500, "b" * 64),
    )
    return Manifest(
        synthetic=True,
        source={"revision": None, "files": {"train.json": {"bytes": 10, "sha256": "c" * 64}}},
        versions={"reasonknee_datasets": "0.1.0"},
        box_convention={"name": "x", "agreement": 1.0, "by_question": {"1": 1.0}, "checked": 3, "source": "given"},
        report={"allowed": {"missing image": 1}, "rows_dropped": 62, "grades_nulled": []},
        configs={"quintuples": {"train": shards}, "volumes": {}, "balanced": {}},
        volumes={
            VOLUME: VolumeRecord((160, 384, 384), AFFINE, "int16", 7, "d" * 64, "e" * 64),
            "volumes/0000002/00M_left.nii.gz": VolumeRecord(),
        },
    )


def test_bytes_round_trip(manifest: Manifest) -> None:
    data = manifest.to_bytes()
    again = Manifest.from_bytes(data)
    assert again == manifest
    assert again.to_bytes() == data
    assert again.digest == manifest.digest == hashlib.sha256(data).hexdigest()
    assert pickle.loads(pickle.dumps(again)) == manifest


def test_json_has_the_documented_shape(manifest: Manifest) -> None:
    tree = json.loads(manifest.to_bytes())
    assert list(tree) == [
        *("format", "name", "synthetic", "source", "versions", "box_convention", "report", "configs", "volumes")
    ]
    train = tree["configs"]["quintuples"]["splits"]["train"]
    assert train["rows"] == 186
    assert train["shards"][1] == {
        "path": "data/train-00001-of-00002.parquet",
        "rows": 62,
        "bytes": 2500,
        "sha256": "b" * 64,
    }
    assert tree["volumes"][VOLUME]["affine"] == [list(row) for row in AFFINE]
    assert tree["volumes"]["volumes/0000002/00M_left.nii.gz"]["shape"] is None


def test_lookups(manifest: Manifest) -> None:
    assert manifest.splits() == ("train",)
    assert manifest.rows("quintuples", "train") == 186
    assert [shard.rows for shard in manifest.all_shards()] == [124, 62]
    assert manifest.geometry(VOLUME) == Geometry((160, 384, 384), AFFINE)
    assert manifest.geometry("volumes/0000002/00M_left.nii.gz") is None
    with pytest.raises(RepositoryError, match=r"split must be one of config 'quintuples', got test\. .* has train"):
        manifest.shards("quintuples", "test")
    with pytest.raises(RepositoryError, match=r"config must be one of the manifest's, got rows\. .* has quintuples"):
        manifest.shards("rows", "train")
    with pytest.raises(RepositoryError, match=r"volume must be listed in the manifest, got volumes/9\.nii\.gz"):
        manifest.volume("volumes/9.nii.gz")


@pytest.mark.parametrize("as_url", [False, True], ids=["path", "url"])
def test_load_from_a_folder(manifest: Manifest, tmp_path: Path, as_url: bool) -> None:
    (tmp_path / MANIFEST).write_bytes(manifest.to_bytes())
    assert Manifest.load(tmp_path.as_uri() if as_url else tmp_path) == manifest


def test_load_from_memory_filesystem(manifest: Manifest) -> None:
    import fsspec

    fsspec.filesystem("memory").pipe(f"/manifest-test/{MANIFEST}", manifest.to_bytes())
    assert Manifest.load("memory://manifest-test/") == manifest


def test_missing_manifest_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(RepositoryNotFoundError, match=r"must hold manifest\.json.*reasonknee prepare --release"):
        Manifest.load(tmp_path)
    with pytest.raises(RepositoryNotFoundError, match="nowhere"):
        Manifest.load(tmp_path / "nowhere")


def _set(tree: dict[str, Any], path: str, value: object) -> None:
    *parents, last = path.split("/")
    for key in parents:
        tree = tree[key]
    tree[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format", 2, r"must have format 1, got 2 in here\. Upgrade reasonknee_datasets"),
        ("synthetic", "yes", r"hold 'synthetic' as bool, got 'yes' in here"),
        ("volumes", [], r"hold 'volumes' as dict, got \[\]"),
        ("configs/quintuples/splits/train/rows", 187, r"count 187 rows in the shards of quintuples/train, got 186"),
        ("configs/quintuples/splits/train/rows", True, r"hold 'rows' as int, got True"),
        ("configs/quintuples/splits/train/shards", [{"path": "a"}], r"hold 'rows' as int, got nothing"),
        ("configs/quintuples/splits/train/shards", ["a"], r"hold 'path' as str, got nothing"),
        ("volumes/x", {"shape": [1, 2]}, r"give shape, affine.* of volume x"),
    ],
)
def test_damage_is_named(manifest: Manifest, path: str, value: object, message: str) -> None:
    tree = json.loads(manifest.to_bytes())
    _set(tree, path, value)
    with pytest.raises(RepositoryError, match=message):
        Manifest.from_bytes(json.dumps(tree).encode(), where="here")


def test_a_bad_affine_is_refused(manifest: Manifest) -> None:
    data = manifest.to_bytes().replace(b"-70.5", b"NaN")
    with pytest.raises(RepositoryError, match=r"of volume volumes/0000001/00M_right"):
        Manifest.from_bytes(data)


def test_truncated_json_is_refused(manifest: Manifest) -> None:
    with pytest.raises(RepositoryError, match=r"manifest must be JSON, got .* in here"):
        Manifest.from_bytes(manifest.to_bytes()[:-40], where="here")
    with pytest.raises(RepositoryError, match="must have format 1, got list"):
        Manifest.from_bytes(b"[]")


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a/../../b", "http://elsewhere/x", "C:\\x", "", "a#b"])
def test_paths_stay_inside(manifest: Manifest, path: str) -> None:
    tree = json.loads(manifest.to_bytes())
    tree["configs"]["quintuples"]["splits"]["train"]["shards"][0]["path"] = path
    with pytest.raises(RepositoryError, match="must be relative to the repository and stay inside it"):
        Manifest.from_bytes(json.dumps(tree).encode())
    tree = json.loads(manifest.to_bytes())
    tree["volumes"] = {path: tree["volumes"][VOLUME]}
    with pytest.raises(RepositoryError, match="must be relative to the repository and stay inside it"):
        Manifest.from_bytes(json.dumps(tree).encode())

"""The manifest: what is written comes back, and what is damaged is refused with its place and a remedy."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from reasonknee_datasets.errors import RepositoryError, RepositoryNotFoundError
from reasonknee_datasets.manifest import MANIFEST, Manifest, Shard, VolumeRecord
from reasonknee_datasets.volumes.reference import Geometry
from tests.helpers.prepared_repository import write_official

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
        *("format", "name", "synthetic", "source", "versions", "box_convention", "report"),
        *("labels", "configs", "volumes", "masks", "files", "checksum"),
    ]
    train = tree["configs"]["quintuples"]["splits"]["train"]
    assert train["rows"] == 186
    assert train["shards"][1] == {
        "path": "data/train-00001-of-00002.parquet",
        "rows": 62,
        "bytes": 2500,
        "sha256": "b" * 64,
        "footer_sha256": None,
        "chunk_sha256": None,
    }
    assert tree["volumes"][VOLUME]["affine"] == [list(row) for row in AFFINE]
    assert tree["volumes"]["volumes/0000002/00M_left.nii.gz"]["shape"] is None


def test_lookups(manifest: Manifest) -> None:
    assert manifest.splits() == ("train",)
    assert manifest.rows("quintuples", "train") == 186
    assert [shard.rows for shard in manifest.all_shards()] == [124, 62]
    assert manifest.geometry(VOLUME) == Geometry((160, 384, 384), AFFINE)
    assert manifest.geometry("volumes/0000002/00M_left.nii.gz") is None
    with pytest.raises(RepositoryError, match=r"The config 'quintuples' has no split 'test'\. Available: train"):
        manifest.shards("quintuples", "test")
    with pytest.raises(RepositoryError, match=r"Unknown config 'rows'\. Available: quintuples"):
        manifest.shards("rows", "train")
    with pytest.raises(RepositoryError, match=r"The manifest lists no volume 'volumes/9\.nii\.gz'"):
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
    with pytest.raises(RepositoryNotFoundError, match=r"it has no manifest\.json.*reasonknee prepare --release"):
        Manifest.load(tmp_path)
    with pytest.raises(RepositoryNotFoundError, match="nowhere"):
        Manifest.load(tmp_path / "nowhere")


@pytest.mark.parametrize("inside", ["", "data"])
@pytest.mark.parametrize("name", ["release", "my 'raw' kn\u00e9e"])
def test_load_official_release(tmp_path: Path, name: str, inside: str) -> None:
    root = write_official(tmp_path / name) / inside
    command = f"Run: reasonknee prepare --release {shlex.quote(str(root))} --out 3dreasonknee, and load that."
    with pytest.raises(RepositoryError, match=rf"is the official release, .*{re.escape(command)}"):
        Manifest.load(root)


def test_load_official_release_at_url() -> None:
    import fsspec

    fsspec.filesystem("memory").pipe("/official-test/data/split_files/all_studies.csv", b"patient_id,time\n")
    with pytest.raises(RepositoryError, match=r"is the official release, .*Download it to DIR, then run: reasonknee"):
        Manifest.load("memory://official-test")


def _set(tree: dict[str, Any], path: str, value: object) -> None:
    *parents, last = path.split("/")
    for key in parents:
        tree = tree[int(key)] if isinstance(tree, list) else tree[key]
    tree[last] = value


TRAIN = "configs/quintuples/splits/train"
FIRST = f"{TRAIN}/shards"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format", 3, r"in here has format 3, and this version reads format 2\. Upgrade reasonknee_datasets"),
        ("format", 1, r"in here has format 1, .* An older version wrote it\. Prepare the release again: reasonknee"),
        ("format", "1", r"in here is damaged: its field 'format' must be a whole number from 0 to \d+, not '1'"),
        (
            "synthetic",
            "yes",
            r"field 'synthetic' must be true or false, not 'yes'\. Copy the repository again, or prepare it",
        ),
        ("volumes", [], r"field 'volumes' must be an object, not a list of 0"),
        ("name", "knee\x1b[2J", r"field '[^']*name' must be text without control characters, not 'knee\\x1b\[2J'"),
        ("name", ["x"] * 9, r"field '[^']*name' must be text without control characters, not a list of 9"),
        ("more", 1, r"unknown field 'more'"),
        (f"{TRAIN}/rows", 187, r"counts 187 rows of quintuples/train, and 186 in its shards"),
        (f"{TRAIN}/rows", True, r"field '[^']*rows' must be a whole number .*, not True"),
        (f"{TRAIN}/rows", 1e300, r"field '[^']*rows' must be a whole number .*, not 1e\+300"),
        (FIRST, [{"path": "a"}], r"field 'configs/quintuples/splits/train/shards/0' has no field 'rows'"),
        (FIRST, ["a"], r"field 'configs/quintuples/splits/train/shards/0' must be an object, not 'a'"),
        (f"{FIRST}/0/rows", 10**400, r"field '[^']*rows' must be a whole number .*, not a number of 1329 bits"),
        (f"{FIRST}/0/rows", -1, r"not -1"),
        (f"{FIRST}/0/bytes", None, r"field '[^']*bytes' must be a whole number .*, not None"),
        (f"{FIRST}/0/sha256", "A" * 64, r"field '[^']*sha256' must be a SHA-256 in 64 hexadecimal digits, not 'AAA"),
        (
            "volumes/x",
            {"shape": [1, 2]},
            r"field 'volumes/x/shape' must be a list of 3, not a list of 2",
        ),
        (
            "volumes/x",
            {"shape": [1, 2, 2**40]},
            r"field 'volumes/x/shape/2' must be a whole number from 0 to 32768, not 1099511627776",
        ),
        ("volumes/x", {"affine": [[1, 2, 3, 4]] * 3}, r"field '[^']*affine' must be a list of 4, not a list of 3"),
        ("volumes/x", {"affine": [[1, 2, 3, 10**400]] * 4}, r"must be a finite number, not a number of \d+ bits"),
        ("volumes/x", {"bytes": "7"}, r"field '[^']*bytes' must be a whole number .*, not '7'"),
        ("volumes/x", 7, r"field 'volumes/x' must be an object, not 7"),
        ("source/files", ["train.json"], r"field 'source/files' must be an object"),
        ("source/revision", 7, r"field '[^']*revision' must be text without control characters, not 7"),
        ("box_convention/agreement", "all", r"field '[^']*agreement' must be a finite number, not 'all'"),
        ("box_convention/checked", [], r"field '[^']*checked' must be a whole number"),
        ("report/allowed", {"x": "y"}, r"field 'report/allowed/x' must be a whole"),
        ("report/notes", "x", r"field '[^']*notes' must be a list, not 'x'"),
        ("files", {"priors.json": {"bytes": 1}}, r"field 'files/priors.json' has no field 'sha256'"),
    ],
)
def test_from_bytes_names_wrong_field(manifest: Manifest, path: str, value: object, message: str) -> None:
    tree = json.loads(manifest.to_bytes())
    del tree["checksum"]
    _set(tree, path, value)
    with pytest.raises(RepositoryError, match=message):
        Manifest.from_bytes(json.dumps(tree).encode(), where="here")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Expecting value"),
        (b"\xff\xfe{}", "can't decode byte"),
        (b'{"format": "\xc3"}', "can't decode byte|invalid continuation"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "nested too deeply"),
        (b"[" * 20 + b"]" * 20, "nested too deeply"),
        (b'{"format": NaN}', "NaN is not JSON"),
        (b'{"format": 2' + b"0" * 10_000 + b"}", "Exceeds the limit|number"),
        (b'{"format": 2', "Expecting"),
    ],
)
def test_from_bytes_refuses_what_is_no_json(data: bytes, message: str) -> None:
    with pytest.raises(
        RepositoryError, match=rf"The manifest in here is damaged: it is not readable JSON: .*({message})"
    ) as caught:
        Manifest.from_bytes(data, where="here")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("tree", [[], "x", 1, None])
def test_from_bytes_refuses_json_of_another_kind(tree: object) -> None:
    with pytest.raises(RepositoryError, match=r"The manifest in .* is damaged: it must be an object, not"):
        Manifest.from_bytes(json.dumps(tree).encode())


def test_from_bytes_compares_the_checksum(manifest: Manifest) -> None:
    data = manifest.to_bytes()
    for old, new in ((b"0.1.0", b"0.1.1"), (b"-70.5", b"-70.6"), (b'"rows_dropped": 62', b'"rows_dropped": 63')):
        with pytest.raises(RepositoryError, match="does not match its own checksum"):
            Manifest.from_bytes(data.replace(old, new, 1))
    for other in (data + b" ", data[:-1], data.replace(b'"checksum"', b' "checksum"')):
        with pytest.raises(RepositoryError, match="does not end in its checksum"):
            Manifest.from_bytes(other)


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a/../../b", "http://elsewhere/x", "C:\\x", "", "a#b"])
def test_paths_stay_inside(manifest: Manifest, path: str) -> None:
    tree = json.loads(manifest.to_bytes())
    del tree["checksum"]
    tree["configs"]["quintuples"]["splits"]["train"]["shards"][0]["path"] = path
    with pytest.raises(RepositoryError, match="must be a path that is relative to the repository and stays inside it"):
        Manifest.from_bytes(json.dumps(tree).encode())
    tree = json.loads(manifest.to_bytes())
    del tree["checksum"]
    tree["volumes"] = {path: tree["volumes"][VOLUME]}
    with pytest.raises(RepositoryError, match="must be a path that is relative to the repository and stays inside it"):
        Manifest.from_bytes(json.dumps(tree).encode())

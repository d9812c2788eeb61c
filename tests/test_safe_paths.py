"""Paths are joined as they are, and files and folders are checked before they are trusted."""

from __future__ import annotations

import json
import os
import socket
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonknee_datasets import load_dataset
from reasonknee_datasets.errors import LoaderError, ReasonKneeError, RepositoryError
from reasonknee_datasets.manifest import MANIFEST, Manifest
from reasonknee_datasets.safe_paths import (
    create_private,
    is_url,
    join,
    make_private_folder,
    open_private,
    open_regular,
    stays_inside,
)
from reasonknee_datasets.summary import summarise
from reasonknee_datasets.volumes import set_credentials
from reasonknee_datasets.volumes.byte_source import find_moved
from reasonknee_datasets.volumes.credentials import find_credentials
from tests.helpers.file_servers import Served, serve
from tests.helpers.prepared_repository import list_again, voxels_of, write_repository

SECRET = "planted-s3cret-8f14e45fceea167a"
HOSTILE = [
    "x::{elsewhere}/x",
    "a.parquet::file:///etc/hostname",
    "data/%2e%2e/%2e%2e/private/x",
    "data/%2E./x",
    "data/..%2fprivate",
    "data/x?y=1",
    "data/x#y",
    "{elsewhere}/x",
    "//elsewhere/x",
    "data//x",
    "data/./x",
    "data/",
    "C:x",
    "data\\..\\..\\x",
    "data/x\ny",
    "data/\x1b[2Jx",
    "data/\u202egzip",
    "data/\x00",
    "",
    ".",
    "..",
]


@pytest.mark.parametrize("path", HOSTILE)
@pytest.mark.parametrize("root", ["/data", "https://host/knees", "zip://::s3://bucket/knees.zip"])
def test_join_refuses(root: str, path: str) -> None:
    path = path.format(elsewhere="https://elsewhere")
    assert not stays_inside(path)
    with pytest.raises(RepositoryError, match=r"is not a plain relative path\..*Do not use this repository") as caught:
        join(root, path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "path", ["volumes/9016403/00M_right.nii.gz", "a b/c", "Knie/größe.nii", "a~b/[c]*@d", "..a/b.."]
)
def test_join_takes(path: str) -> None:
    assert join("s3://bucket/knees", path) == f"s3://bucket/knees/{path}"
    assert join("/data/a::b", path) == f"/data/a::b/{path}"
    assert join("/data/https://x::y", path) == f"/data/https://x::y/{path}"
    assert join("simplecache::s3://bucket/knees", path) == f"simplecache::s3://bucket/knees/{path}"
    assert join("zip://::s3://bucket/knees.zip", path) == f"zip://{path}::s3://bucket/knees.zip"
    assert join("zip://in::s3://bucket/knees.zip", path) == f"zip://in/{path}::s3://bucket/knees.zip"


@given(st.text(st.sampled_from("./%:?#2eEfF\\a \n\x7f\u2028"), max_size=12))
def test_what_is_joined_stays_below(path: str) -> None:
    from yarl import URL

    if stays_inside(path):
        found = URL(join("https://host/a/b", path))
        assert str(found.path).startswith("/a/b/")
        assert (found.host, found.query_string, found.fragment) == ("host", "", "")


def test_is_url() -> None:
    assert [is_url(text) for text in ("s3://b", "zip://x::/a.zip", "/a/s3://b", "a::b", "./a://b")] == [
        True,
        True,
        False,
        False,
        False,
    ]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(tmp_path_factory.mktemp("prepared") / "3dreasonknee")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_bytes(b"private")
    with serve(tmp_path / "other") as served:
        yield served


def poison(root: Path, target: Path, path: str, place: str) -> Path:
    """Copy a repository, with one path of its manifest replaced."""
    tree = json.loads((root / MANIFEST).read_text())
    tree.pop("checksum", None)
    if place == "shard":
        tree["configs"]["quintuples"]["splits"]["train"]["shards"][0]["path"] = path
    else:
        tree["volumes"][path] = tree["volumes"].pop(next(iter(tree["volumes"])))
    for file in root.rglob("*"):
        if file.is_file():
            (target / file.relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
            (target / file.relative_to(root)).write_bytes(file.read_bytes())
    (target / MANIFEST).write_text(json.dumps(tree))
    return target


def archive(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w") as file:
        for path in folder.rglob("*"):
            if path.is_file():
                file.write(path, path.relative_to(folder))
    return target


@pytest.mark.parametrize("place", ["shard", "volume"])
@pytest.mark.parametrize("path", HOSTILE[:6])
def test_a_manifest_with_hostile_paths(
    repository: Path, elsewhere: Served, tmp_path: Path, path: str, place: str
) -> None:
    """`info` and loading refuse it from a folder, from an archive and over HTTP, and contact no other host."""
    root = poison(repository, tmp_path / "bad", path.format(elsewhere=elsewhere.url), place)
    zipped = archive(root, tmp_path / "bad.zip")
    with serve(tmp_path) as served:
        for data_dir in (str(root), f"zip://::{zipped}", f"{served.url}/bad"):
            for read in (summarise, lambda where: load_dataset(data_dir=where, cache_dir=str(tmp_path / "cache"))):
                with pytest.raises(RepositoryError, match=r"is relative to the repository and stays inside it"):
                    read(data_dir)
        assert served.paths("private") == []
    assert not elsewhere.requests


def test_a_column_with_hostile_paths(repository: Path, elsewhere: Served, tmp_path: Path) -> None:
    root = poison(repository, tmp_path / "bad", "volumes/x.nii.gz", "volume")
    for shard in (root / "data").glob("train*"):
        table = pq.read_table(shard)
        paths = [f"x::{elsewhere.url}/x"] * table.num_rows
        column = table.schema.get_field_index("volume_path")
        table = table.set_column(column, table.schema.field(column), [paths])
        pq.write_table(table, shard)
    list_again(root)
    with pytest.raises(ReasonKneeError, match=r"does not list the volume_path .x::http"):
        list(load_dataset(data_dir=str(root), split="train", streaming=True, cache_dir=str(tmp_path / "cache")))
    assert not elsewhere.requests


@pytest.mark.parametrize("name", ["a::b", "s3:", "a%20b", "a?b"])
def test_join_local_folder_with_url_characters(repository: Path, tmp_path: Path, name: str) -> None:
    root = tmp_path / name / "3dreasonknee"
    root.parent.mkdir()
    root.symlink_to(repository)
    row = load_dataset(data_dir=str(root), split="train", cache_dir=str(tmp_path / "cache"))[0]
    np.testing.assert_array_equal(np.asarray(row["volume"].dataobj), voxels_of("0000001/00M/left"))
    assert Manifest.load(root).digest == Manifest.load(repository).digest


def test_an_archive_behind_credentials(repository: Path, tmp_path: Path) -> None:
    """A chained URL opens with the credentials of its last hop."""
    archive(repository, tmp_path / "knees.zip")
    with serve(tmp_path, secret=SECRET) as served:
        root, options = f"zip://::{served.url}/knees.zip", {"headers": {"Authorization": f"Bearer {SECRET}"}}
        try:
            loaded = load_dataset(
                data_dir=root, split="train", storage_options=options, cache_dir=str(tmp_path / "cache")
            )
            np.testing.assert_array_equal(np.asarray(loaded[0]["volume"].dataobj), voxels_of("0000001/00M/left"))
            assert find_credentials(f"zip://volumes/x::{served.url}/knees.zip") == {"http": options}
            assert find_credentials(f"zip://volumes/x::{served.url}/other.zip") == {}
        finally:
            set_credentials(f"{served.url}/knees.zip", None)


@pytest.mark.parametrize("rest", ["%2e%2e/x", "a/../../x", "%2E%2E%2Fx", "a/%2e%2e/%2e%2e/x", "..\\x"])
def test_credentials_do_not_leave_their_prefix(rest: str) -> None:
    set_credentials("https://host/knees", {"headers": {"X-Key": SECRET}})
    try:
        assert find_credentials("https://host/knees/a%20b..c/x")
        assert find_credentials(f"https://host/knees/{rest}") == {}
    finally:
        set_credentials("https://host/knees", None)


@pytest.mark.parametrize("file", ["x.nii.gz", "%2e%2e", "..", "x::https:", "x?y", "x\n"])
def test_a_moved_volume_of_a_saved_set(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path in a saved set is joined to REASONKNEE_VOLUMES only where it is plain."""
    monkeypatch.setenv("REASONKNEE_VOLUMES", "https://host/knees")
    moved = find_moved(f"/old/volumes/9016403/{file}")
    assert (None if moved is None else moved.path) == (
        "https://host/knees/volumes/9016403/x.nii.gz" if file == "x.nii.gz" else None
    )


def test_open_regular(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"knee")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        with os.fdopen(open_regular(tmp_path / name), "rb") as file:
            assert file.read() == b"knee"


def test_open_regular_refuses_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        with pytest.raises(OSError, match=r"socket"):
            open_regular(tmp_path / "socket")
    with pytest.raises(OSError, match=r"Not a regular file but a named pipe: '.*pipe'"):
        open_regular(tmp_path / "pipe")
    with pytest.raises(OSError, match=r"Not a regular file but a character device: '/dev/zero'"):
        open_regular("/dev/zero")
    with pytest.raises(IsADirectoryError, match=r"Is a directory"):
        open_regular(tmp_path)
    with pytest.raises(FileNotFoundError, match="absent"):
        open_regular(tmp_path / "absent")


def test_open_regular_closes_what_it_refuses(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    before = sorted(Path("/proc/self/fd").iterdir())
    for _ in range(3):
        with pytest.raises(OSError, match="named pipe"):
            open_regular(tmp_path / "pipe")
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_open_private(tmp_path: Path) -> None:
    os.close(create_private(tmp_path / "file"))
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    os.close(open_private(tmp_path / "file"))
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(OSError, match=r"link"):
        open_private(tmp_path / "link")
    (tmp_path / "file").chmod(0o604)
    with pytest.raises(PermissionError, match=r"Not private: a file of user \d+ with mode 0604"):
        open_private(tmp_path / "file")
    with pytest.raises(FileExistsError, match="file"):
        create_private(tmp_path / "file")
    with pytest.raises(FileExistsError, match="link"):
        create_private(tmp_path / "link")


def test_make_private_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    for _ in range(2):
        make_private_folder(folder, LoaderError, "Remove it.", setting="shared", parents=True)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o770)
    with pytest.raises(LoaderError, match=r"\(shared\) .* a folder of user \d+ with mode 0770\. Remove it\."):
        make_private_folder(folder, LoaderError, "Remove it.", setting="shared")

"""Limits of the manifest hold on S3: an object that is longer than listed is refused without being read whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reasonknee_datasets import load_dataset
from reasonknee_datasets.errors import ReasonKneeError
from reasonknee_datasets.sources import shard_reader
from reasonknee_datasets.volumes import set_credentials
from tests.helpers.prepared_repository import write_repository

SHARD = "data/train-00000-of-00001.parquet"


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[tuple[Any, Path, list[int]]]:
    """Serve a repository from a real S3 API on the loopback, and record the length of each body that is received."""
    pytest.importorskip("s3fs", reason="needs s3fs")
    moto = pytest.importorskip("moto.server", reason="needs moto[server]")
    boto3 = pytest.importorskip("boto3", reason="needs boto3")
    received: list[int] = []
    root = write_repository(tmp_path / "3dreasonknee", shards=1)
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "planted", "region_name": "us-east-1"}
        client = boto3.client("s3", endpoint_url=endpoint, **keys)
        client.create_bucket(Bucket="limits")
        for path in root.rglob("*.*"):
            client.upload_file(str(path), "limits", path.relative_to(root).as_posix())
        set_credentials(
            "s3://limits", {"key": "test", "secret": "planted", "client_kwargs": {"endpoint_url": endpoint}}
        )
        yield client, root, received
    finally:
        set_credentials("s3://limits", None)
        server.stop()


def read(cache: Path) -> list[Any]:
    rows = load_dataset(data_dir="s3://limits", split="train", streaming=True, cache_dir=str(cache))
    return [np.asarray(row["volume"]).sum() for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["manifest", "small shard", "large shard", "volume"])
def test_a_longer_object_is_not_read_whole(
    kind: str, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    client, root, received = bucket
    whole = s3fs.S3FileSystem._cat_file

    async def counting(self: Any, *args: Any, **kwargs: Any) -> bytes:
        data: bytes = await whole(self, *args, **kwargs)
        received.append(len(data))
        return data

    if kind != "volume":  # decoded voxels stay in this process
        assert len(read(tmp_path / "cache")) == 24
    name = {"manifest": "manifest.json", "volume": next(root.rglob("*.nii.gz")).relative_to(root).as_posix()}
    if kind == "large shard":
        monkeypatch.setattr(shard_reader, "_WHOLE", 0)
    if kind == "manifest":
        monkeypatch.setenv("REASONKNEE_MAX_FILE_BYTES", "2000000")
    path = root / name.get(kind, SHARD)
    longer = path.read_bytes() + bytes(8_000_000)
    names = [name.get(kind, SHARD)]
    if kind == "volume":  # whichever is read first
        names = [each.relative_to(root).as_posix() for each in root.rglob("*.nii.gz")]
    for each in names:
        client.put_object(Bucket="limits", Key=each, Body=longer)
    monkeypatch.setattr(s3fs.S3FileSystem, "_cat_file", counting)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(ReasonKneeError, match=r"(more|longer) than|bytes, not|is not the|8,0\d\d,\d\d\d|80\d{5}"):
        read(tmp_path / "other")
    assert max(received, default=0) < 1_000_000

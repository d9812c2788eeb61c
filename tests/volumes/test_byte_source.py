"""Bytes from files and URLs: how often they are asked for, and what happens when they do not come."""

from __future__ import annotations

import pickle
import traceback
from pathlib import Path

import numpy as np
import pytest

from reasonknee_datasets.errors import VolumeError, VolumeNotFoundError
from reasonknee_datasets.volumes import DecodeCache, open_volume, set_credentials
from reasonknee_datasets.volumes.byte_source import find_source
from reasonknee_datasets.volumes.credentials import find_credentials, redact
from tests.helpers.volumes_files import knee, save
from tests.helpers.volumes_server import serve


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_find_source_over_http(tmp_path: Path, suffix: str) -> None:
    array = knee((40, 40, 40))
    save(tmp_path / f"knee{suffix}", array)
    cache = DecodeCache()
    with serve(tmp_path) as server:
        url = f"{server.url}/knee{suffix}"
        volumes = [open_volume(url, cache=cache) for _ in range(62)]
        assert not server.requests
        for volume in volumes:
            assert volume.shape == array.shape
            assert volume.affine is not None
        assert server.count("HEAD") <= 1
        assert server.count("GET") == 1  # header and affine of 62 images
        for volume in volumes:
            np.testing.assert_array_equal(volume.dataobj[3:9, 4, 5:], array[3:9, 4, 5:])
        assert server.count("GET") == 2  # and one decode
        np.testing.assert_array_equal(np.asarray(pickle.loads(pickle.dumps(volumes[0]))), array)


def test_a_missing_url(tmp_path: Path) -> None:
    with serve(tmp_path) as server, pytest.raises(VolumeNotFoundError, match=r"http.*absent\.nii does not exist"):
        _ = open_volume(f"{server.url}/absent.nii").shape


def test_credentials_open_and_stay_out_of_sight(tmp_path: Path) -> None:
    save(tmp_path / "knee.nii.gz", knee())
    with serve(tmp_path) as server:
        server.token = "planted"
        url = f"{server.url}/knee.nii.gz"
        with pytest.raises(VolumeError, match=r"cannot be read \(.*403.*storage_options"):
            _ = open_volume(url).shape
        options = {"headers": {"Authorization": "Bearer planted"}}
        direct = open_volume(url, storage_options=options)
        np.testing.assert_array_equal(np.asarray(direct), knee())
        assert b"planted" not in pickle.dumps(direct)
        set_credentials(server.url, options)
        try:
            found = open_volume(url)
            np.testing.assert_array_equal(np.asarray(found), knee())
            assert b"planted" not in pickle.dumps(found)
            assert "planted" not in repr(find_source(url, options))
            np.testing.assert_array_equal(np.asarray(pickle.loads(pickle.dumps(direct))), knee())
        finally:
            set_credentials(server.url, None)


def test_errors_show_no_secret_of_the_url() -> None:
    url = "http://me:planted@127.0.0.1:9/knee.nii.gz?signature=planted"
    volume = open_volume(url)
    assert "planted" not in repr(volume)
    with pytest.raises(
        VolumeError, match=r"file http://127\.0\.0\.1:9/knee\.nii\.gz cannot be read .* Check"
    ) as caught:
        _ = volume.shape
    assert "planted" not in "".join(traceback.format_exception(caught.value))


def test_the_longest_prefix_wins() -> None:
    for prefix, key in (("s3://a", "short"), ("s3://a/b/", "long")):
        set_credentials(prefix, {"key": key})
    try:
        assert find_credentials("s3://a/b/c.nii")["key"] == "long"
        assert find_credentials("s3://a/bc.nii")["key"] == "short"
        assert find_credentials("s3://ab/c.nii") == {}
        find_credentials("s3://a/b/c.nii")["key"] = "changed"
        assert find_credentials("s3://a/b/c.nii")["key"] == "long"
    finally:
        for prefix in ("s3://a", "s3://a/b"):
            set_credentials(prefix, None)
    assert find_credentials("s3://a/b/c.nii") == {}


def test_which_texts_are_urls() -> None:
    for url in ("s3://b/k.nii", "simplecache::s3://b/k.nii", "zip://k.nii::/data/a.zip", "http://h/k.nii?a=b"):
        assert type(find_source(url)).__name__ == "RemoteSource"
    for path in ("k.nii", "/data/a::b.nii", "a::b.nii", "/data/http://k.nii", "./s3/k.nii", "file:///data/k.nii"):
        assert type(find_source(path)).__name__ == "LocalSource"
    assert find_source("file:///data/a%20b.nii").path == "/data/a b.nii"


def test_redact() -> None:
    assert redact("s3://bucket/a%20b/knee.nii.gz") == "s3://bucket/a%20b/knee.nii.gz"
    assert redact("/data/a?b#c") == "/data/a?b#c"


def test_memory_file_system() -> None:
    """Any fsspec URL will do; this one has no etag and no ranges of its own."""
    fsspec = pytest.importorskip("fsspec")
    from tests.helpers.volumes_files import nifti_bytes

    with fsspec.open("memory://knees/one.nii", "wb") as file:
        file.write(nifti_bytes(knee()))
    np.testing.assert_array_equal(np.asarray(open_volume("memory://knees/one.nii")), knee())

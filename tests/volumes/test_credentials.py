"""Secrets in URLs are never shown, and text that is not a URL is shown as it is."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reasonknee_datasets import load_dataset
from reasonknee_datasets.errors import ReasonKneeError
from reasonknee_datasets.manifest import Manifest
from reasonknee_datasets.summary import summarise
from reasonknee_datasets.volumes import open_volume
from reasonknee_datasets.volumes.credentials import redact, redact_text

PLAIN = [
    "s3://bucket/a%20b/knee.nii.gz",
    "hf://datasets/owner/knees@main/data/x.parquet",
    "https://host:8000/knee.nii.gz",
    "https://[::1]:8000/knee.nii.gz",
    "zip://knee.nii.gz::/data/knees.zip",
    "/data/a?b#c",
    "C:\\data\\a?b",
]
SECRET = "pl4nted"
SIGNED = [
    (f"https://me:{SECRET}@host/knee.nii.gz", "https://host/knee.nii.gz"),
    (f"https://{SECRET}@host/knee.nii.gz", "https://host/knee.nii.gz"),
    (f"https://me:pa@{SECRET}@host/knee.nii.gz", "https://host/knee.nii.gz"),
    (f"https://me:{SECRET}/{SECRET}@host/knee.nii.gz", "https://host/knee.nii.gz"),
    (f"https://me:{SECRET}?{SECRET}@host/knee.nii.gz", "https://host/knee.nii.gz"),
    (f"https://host/knee.nii.gz?X-Amz-Signature={SECRET}&x=1", "https://host/knee.nii.gz"),
    (f"https://host/knee.nii.gz#{SECRET}", "https://host/knee.nii.gz"),
    (f"zip://knee.nii.gz::https://me:{SECRET}@host/k.zip?sig={SECRET}", "zip://knee.nii.gz::https://host/k.zip"),
    (f"simplecache::ftp://me:{SECRET}@host/knee.nii.gz", "simplecache::ftp://host/knee.nii.gz"),
    (f"zip://a::tar://b::http://me:{SECRET}@[::1]:80/c", "zip://a::tar://b::http://[::1]:80/c"),
]


@pytest.mark.parametrize("url", PLAIN)
def test_redact_leaves_what_holds_no_secret(url: str) -> None:
    assert redact(url) == url


@pytest.mark.parametrize(("url", "shown"), SIGNED)
def test_redact(url: str, shown: str) -> None:
    assert redact(url) == shown
    text = "ClientError: 403, url='{0}' (twice: {0})"
    assert redact_text(text.format(url)) == text.format(shown)


@pytest.mark.parametrize(
    "text",
    [
        "grade 0: the answer is 0, grade",
        "Is it graded? Yes: a/b #3 (me@example.org)",
        '{"grade": 2, "box": [0, 1]}',
        "ratio 3:2 at 12:30, key=value?x=1",
        *PLAIN,
    ],
)
def test_redact_text_leaves_ordinary_text(text: str) -> None:
    assert redact_text(text) == text


READS: list[Callable[[str, Path], Any]] = [
    lambda url, tmp: open_volume(url).shape,
    lambda url, tmp: repr(open_volume(url)) + str(open_volume(url).shape),
    lambda url, tmp: Manifest.load(url),
    lambda url, tmp: summarise(url),
    lambda url, tmp: load_dataset(data_dir=url, cache_dir=str(tmp)),
    lambda url, tmp: load_dataset(data_dir=str(tmp), volumes_dir=url, cache_dir=str(tmp)),
]


@pytest.mark.slow
@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize(
    "url",
    [
        f"http://me:{SECRET}@127.0.0.1:9/knees",
        f"http://127.0.0.1:9/knees?X-Amz-Signature={SECRET}",
        f"zip://::http://me:{SECRET}@127.0.0.1:9/knees.zip",
        f"zip://::http://127.0.0.1:9/knees.zip?sig={SECRET}",
        f"simplecache::http://me:{SECRET}@127.0.0.1:9/knees",
    ],
)
def test_errors_show_no_secret_of_a_url(read: Callable[[str, Path], Any], url: str, tmp_path: Path) -> None:
    """Nothing listens there; whatever is said of it, the secret is not."""
    with pytest.raises((ReasonKneeError, OSError)) as caught:
        read(url, tmp_path)
    assert isinstance(caught.value, ReasonKneeError)
    assert SECRET not in "".join(traceback.format_exception(caught.value))

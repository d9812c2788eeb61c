"""From a path or URL to the source of its bytes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from reasonknee_datasets.volumes.local import LocalSource
from reasonknee_datasets.volumes.remote import RemoteSource
from reasonknee_datasets.volumes.source import Source

# A protocol, or a chain of them ("simplecache::s3://..."); a local path may hold colons further on.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(://|::)")


def find_source(path_or_url: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> Source:
    """Choose the source of a path or URL; nothing is opened.

    Examples
    --------
    >>> find_source("s3://bucket/knee.nii.gz").label
    's3://bucket/knee.nii.gz'
    >>> type(find_source("knee.nii.gz")).__name__
    'LocalSource'
    """
    text = os.fspath(path_or_url)
    if text.startswith("file://"):
        text = unquote(urlsplit(text).path)
    if "://" in text and _URL.match(text):
        return RemoteSource(text, dict(storage_options) if storage_options else None)
    return LocalSource(os.path.abspath(text))  # noqa: PTH100 (Path.absolute keeps the ".." that would split identities)

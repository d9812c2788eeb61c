"""From a path or URL to the source of its bytes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from reasonknee_datasets.plain_paths import is_url, join, stays_inside
from reasonknee_datasets.volumes.byte_source import ByteSource
from reasonknee_datasets.volumes.local_source import LocalSource
from reasonknee_datasets.volumes.remote_source import RemoteSource


def find_source(path_or_url: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> ByteSource:
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
    if is_url(text):
        return RemoteSource(text, dict(storage_options) if storage_options else None)
    return LocalSource(os.path.abspath(text))  # noqa: PTH100 (Path.absolute keeps the ".." that would split identities)


def find_moved(path: str) -> ByteSource | None:
    """Find the source of a volume of a moved repository, in the folder or URL that REASONKNEE_VOLUMES names.

    Saved data sets and pickles hold the place where a volume was. Its path within the repository,
    ``volumes/<patient>/<file>``, stays the same.

    Examples
    --------
    >>> find_moved("/old/3dreasonknee/volumes/9016403/00M_right.nii.gz") is None  # the variable is not set
    True
    """
    root = os.environ.get("REASONKNEE_VOLUMES", "").strip()
    parts = re.split(r"[/\\]", path)[-3:]
    if not root or len(parts) != 3 or parts[0] != "volumes" or not stays_inside("/".join(parts)):
        return None
    moved = find_source(join(root, "/".join(parts)))
    return None if moved.path == path else moved

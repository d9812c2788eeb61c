"""Credentials of remote stores, kept in this process only.

A volume's URL travels through Arrow tables, pickles, fingerprints and error messages; what opens it must not. So
storage options are looked up by the URL's prefix at the moment of reading, and this module never gives them a repr.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from reasonknee_datasets.system import call_in_forked_child

_lock = threading.Lock()
_registry: dict[str, dict[str, Any]] = {}


def set_credentials(prefix: str, storage_options: Mapping[str, Any] | None) -> None:
    """Say how URLs that begin with a prefix are opened, for this process and the processes forked from it.

    Parameters
    ----------
    prefix : str
        For example ``"s3://bucket/knees"``; it matches whole path segments only.
    storage_options : mapping or None
        What ``fsspec`` takes: keys, tokens, endpoints. None forgets the prefix. A process that is spawned and not
        forked has to call this again.

    Examples
    --------
    >>> set_credentials("s3://bucket/knees", {"key": "k", "secret": "s"})
    >>> sorted(find_credentials("s3://bucket/knees/1/00M_right.nii.gz"))
    ['key', 'secret']
    >>> find_credentials("s3://bucket/kneesandhips/1.nii.gz")
    {}
    >>> set_credentials("s3://bucket/knees", None)
    """
    key = prefix.rstrip("/")
    with _lock:
        if storage_options is None:
            _registry.pop(key, None)
        else:
            _registry[key] = dict(storage_options)


def find_credentials(url: str) -> dict[str, Any]:
    """Find the storage options of the longest registered prefix of a URL; none is an empty dict."""
    with _lock:
        matches = [prefix for prefix in _registry if url == prefix or url.startswith(prefix + "/")]
        return dict(_registry[max(matches, key=len)]) if matches else {}


def redact(url: str) -> str:
    """Cut user names, passwords and query strings (where signatures stand) out of a URL, for messages.

    Examples
    --------
    >>> redact("https://me:secret@host/knee.nii.gz?X-Amz-Signature=abc")
    'https://host/knee.nii.gz'
    >>> redact("/data/knee.nii.gz")
    '/data/knee.nii.gz'
    """
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _renew_lock() -> None:
    global _lock  # whoever held it is not in the forked process
    _lock = threading.Lock()


call_in_forked_child(_renew_lock)

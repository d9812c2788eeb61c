"""Credentials of remote stores, kept in this process only.

A volume's URL travels through Arrow tables, pickles, fingerprints and error messages; what opens it must not. So
storage options are looked up by the URL's prefix at the moment of reading, and this module never gives them a repr.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from reasonknee_datasets.system import call_in_forked_child

_lock = threading.Lock()
_registry: dict[str, dict[str, Any]] = {}
# A URL in a sentence; the bracket or full stop behind it belongs to the sentence.
_URLS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]*[^\s'\"<>)\].,;:]")
# Part of a request that urllib3 and httpx show: the path with its query, without the host.
_TARGET = re.compile(r"(\burl: /[^\s?]*)\?[^\s)]*")


def set_credentials(prefix: str, storage_options: Mapping[str, Any] | None) -> None:
    """Set how URLs that begin with a prefix are opened, for this process and the processes forked from it.

    Parameters
    ----------
    prefix : str
        For example ``"s3://bucket/knees"``; it matches whole path segments only.
    storage_options : mapping or None
        Options for ``fsspec``: keys, tokens, endpoints. None forgets the prefix. A process that is spawned and not
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
    """Find the storage options of the longest registered prefix of a URL; an empty dict if there is none.

    A chained URL gets its options by protocol, as fsspec takes them: ``{"https": {...}}``. A URL that leaves its prefix
    by ``..`` or ``%2e%2e`` gets none.

    Examples
    --------
    >>> set_credentials("https://host/knees.zip", {"headers": {}})
    >>> find_credentials("zip://1.nii.gz::https://host/knees.zip")
    {'https': {'headers': {}}}
    >>> set_credentials("https://host/knees.zip", None)
    """
    hops = split_hops(url)
    if len(hops) == 1:
        return _find_options(url)
    found = {hop.partition("://")[0]: _find_options(hop) for hop in hops}
    return {protocol: options for protocol, options in found.items() if options}


def _find_options(url: str) -> dict[str, Any]:
    if ".." in re.split(r"[/\\]", unquote(url)):
        return {}
    with _lock:
        matches = [prefix for prefix in _registry if url == prefix or url.startswith(_below(prefix))]
        return dict(_registry[max(matches, key=len)]) if matches else {}


def _below(prefix: str) -> tuple[str, ...]:
    """Return the beginnings of URLs below a prefix; a Hub repository has its revisions there too."""
    return (f"{prefix}/", f"{prefix}@") if prefix.startswith("hf://") else (f"{prefix}/",)


def split_hops(url: str) -> list[str]:
    """Split a chained URL.

    Examples
    --------
    >>> split_hops("zip://1.nii.gz::s3://bucket/knees.zip"), split_hops("s3://bucket/a::b")
    (['zip://1.nii.gz', 's3://bucket/knees.zip'], ['s3://bucket/a', 'b'])
    """
    return url.split("::")


def redact(url: str) -> str:
    """Cut user names, passwords and query strings (which may contain signatures) out of a URL, for messages.

    Examples
    --------
    >>> redact("https://me:secret@host/knee.nii.gz?X-Amz-Signature=abc")
    'https://host/knee.nii.gz'
    >>> redact("zip://knee.nii.gz::https://me:secret@host/knees.zip")
    'zip://knee.nii.gz::https://host/knees.zip'
    >>> redact("/data/knee.nii.gz")
    '/data/knee.nii.gz'
    """
    return "::".join(_redact_hop(hop) for hop in split_hops(url)) if "://" in url else url


def _redact_hop(hop: str) -> str:
    protocol, mark, rest = hop.partition("://")
    if not mark:
        return hop
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    # A password that was not escaped may hold "/", "?" and "#": what seems to be the port is then no number.
    if "@" in authority or not re.fullmatch(r"[^:]*|[^:]*:[0-9]*|\[[^]]*\](:[0-9]*)?", authority):
        rest = rest.rpartition("@")[2] if "@" not in authority else rest[authority.rindex("@") + 1 :]
    return protocol + mark + re.split(r"[?#]", rest, maxsplit=1)[0]


def redact_text(text: str) -> str:
    """Redact every URL in a text, such as the message of an error; other text stays as it is.

    Examples
    --------
    >>> redact_text("404, message='Not Found', url='https://host/knee.nii.gz?X-Amz-Signature=abc'")
    "404, message='Not Found', url='https://host/knee.nii.gz'"
    """
    return _TARGET.sub(r"\1", _URLS.sub(lambda found: redact(found[0]), text))


def shows_secret(error: BaseException) -> bool:
    """Check whether the text of an error, or of an error that caused it, contains something that is redacted."""
    seen: list[BaseException] = []
    chain: BaseException | None = error
    while chain is not None and not any(chain is one for one in seen):
        seen.append(chain)
        chain = chain.__cause__ or chain.__context__
    return any(text != redact_text(text) for one in seen for text in (str(one), repr(one)))


def _renew_lock() -> None:
    global _lock  # the thread that held it is not in the forked process
    _lock = threading.Lock()


call_in_forked_child(_renew_lock)

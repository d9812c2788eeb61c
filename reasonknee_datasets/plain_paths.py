"""Paths that come from a manifest, a column or a release: plain, relative, and joined without being parsed again."""

from __future__ import annotations

import re

from reasonknee_datasets.errors import RepositoryError

# A protocol, or a chain of them ("simplecache::s3://..."); a local path may hold colons further on.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(://|::)")
# "\\" is Windows' separator, ":" a drive or a protocol, "?" and "#" end a URL's path, and "%" begins an escape that a
# server decodes, so that "%2e%2e" is "..".
_SPECIAL = frozenset("\\:?#%")


def is_url(text: str) -> bool:
    """Distinguish an fsspec URL from a local path.

    Examples
    --------
    >>> is_url("s3://bucket/3dreasonknee"), is_url("./3dreasonknee"), is_url("/data/a::b")
    (True, False, False)
    """
    return "://" in text and _URL.match(text) is not None


def stays_inside(path: object) -> bool:
    """Check that a path is plain and stays in the folder or URL that it is joined to, on any system.

    Plain: relative, printable, without empty, ``.`` and ``..`` segments and without a character that means something in
    a URL or on Windows. Links are another matter: only the disk knows them.

    Examples
    --------
    >>> stays_inside("volumes/9016403/00M_right.nii.gz"), stays_inside("volumes/../../x"), stays_inside("C:/x")
    (True, False, False)
    >>> stays_inside("volumes/%2e%2e/x"), stays_inside("x::https://host/y"), stays_inside("x?y")
    (False, False, False)
    """
    if not isinstance(path, str) or not path.isprintable() or _SPECIAL.intersection(path):
        return False
    return not {"", ".", ".."}.intersection(path.split("/"))


def join(root: str, relative: str) -> str:
    """Join a folder or URL and a plain relative path.

    Raises
    ------
    RepositoryError
        If the path is not plain.

    Examples
    --------
    >>> join("s3://bucket/3dreasonknee", "manifest.json")
    's3://bucket/3dreasonknee/manifest.json'
    >>> join("zip://::s3://bucket/3dreasonknee.zip", "manifest.json")
    'zip://manifest.json::s3://bucket/3dreasonknee.zip'
    >>> join("https://host/3dreasonknee", "volumes/%2e%2e/%2e%2e/private")
    Traceback (most recent call last):
        ...
    reasonknee_datasets.errors.RepositoryError: The path 'volumes/%2e%2e/%2e%2e/private' is not a plain ...
    """
    if not stays_inside(relative):
        raise RepositoryError(
            f"The path {ascii(relative)[:200]} is not a plain relative path. Paths in a repository name files below "
            "it, without '..', ':', '?', '#', '%', backslashes and control characters. Do not use this repository."
        )
    first, hop, rest = root.partition("::")
    if hop and "://" in first and is_url(root):  # "simplecache::s3://..." names no path before the chain goes on
        return f"{first.rstrip('/')}{'//' if first.endswith('://') else '/'}{relative}{hop}{rest}"
    return f"{root.rstrip('/')}/{relative}"

"""Checks of paths and files that other people may have written: plain relative paths, regular and private files.

Paths come from manifests, columns and releases, and are joined without being parsed again. Patients' voxels are kept in
folders that only this user can enter, and nothing is read back from a file that another user could have written.
Windows has no such mode bits; there the folder's own access list decides.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from pathlib import Path

from reasonknee_datasets.errors import ReasonKneeError, RepositoryError

# A protocol, or a chain of them ("simplecache::s3://..."); a local path may hold colons further on.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(://|::)")
# "\\" is Windows' separator, ":" a drive or a protocol, "?" and "#" end a URL's path, and "%" begins an escape that a
# server decodes, so that "%2e%2e" is "..".
_SPECIAL = frozenset("\\:?#%")
_KINDS = ((stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a character device"))
# A named pipe opened for reading blocks until something writes to it, unless O_NONBLOCK is given.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


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


def open_regular(path: str | os.PathLike[str]) -> int:
    """Open a regular file for reading and return its descriptor; never block on a named pipe.

    Raises
    ------
    OSError
        If it cannot be opened, or is a folder, a named pipe, a socket or a device.
    """
    return _open(path, _READ)


def read_regular(path: str | os.PathLike[str], limit: int) -> bytes:
    """Read a regular file whole.

    Raises
    ------
    OSError
        If it cannot be opened, is not a regular file, or has more than `limit` bytes.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"Longer than {limit} bytes", os.fspath(path))
    return data


def open_private(path: str | os.PathLike[str]) -> int:
    """Open a regular file that only this user can read or write; links are refused.

    Raises
    ------
    PermissionError
        If another user owns it, or its mode admits others.
    OSError
        If it cannot be opened, is a link, or is not a regular file.
    """
    descriptor = _open(path, _READ | _NO_LINK)
    found = os.fstat(descriptor)
    if not is_private(found):
        os.close(descriptor)
        raise PermissionError(errno.EPERM, f"Not private: {_describe(found)}", os.fspath(path))
    return descriptor


def create_private(path: str | os.PathLike[str]) -> int:
    """Create a new file with mode 0600 and return its descriptor, open for writing."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    return os.open(path, flags, 0o600)


def is_private(found: os.stat_result) -> bool:
    """Check that this user owns a file or folder and that its mode admits no other user."""
    if not hasattr(os, "getuid"):
        return True
    return found.st_uid == os.getuid() and not found.st_mode & 0o077


def is_private_folder(found: os.stat_result) -> bool:
    """Check the ``lstat`` of a folder: a real folder (no link) that only this user can enter."""
    return stat.S_ISDIR(found.st_mode) and is_private(found)


def make_private_folder(
    folder: Path, error: type[ReasonKneeError], remedy: str, *, setting: str, parents: bool = False
) -> None:
    """Create a folder with mode 0700, or check that an existing one is private.

    Parameters
    ----------
    folder : Path
        The folder. It may be gone again afterwards, where another process of this user removed it.
    error : type of ReasonKneeError
        Class of the error.
    remedy : str
        Last sentence of the message.
    setting : str
        Argument that named the folder, for the message.
    parents : bool, optional
        Whether missing parent folders are created.

    Raises
    ------
    ReasonKneeError
        If it is a link or a file, belongs to another user, or can be entered by others. It is of class `error`.
    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=parents)
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return
    if not is_private_folder(found):
        raise error(
            f"The folder {folder} ({setting}) is for patients' voxels and must be readable by this user alone, but it "
            f"is {_describe(found)}. {remedy}"
        )


def _open(path: str | os.PathLike[str], flags: int) -> int:
    descriptor = os.open(path, flags)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    kind = next((name for check, name in _KINDS if check(mode)), "a device")
    raise OSError(errno.EINVAL, f"Not a regular file but {kind}", os.fspath(path))


def _describe(found: os.stat_result) -> str:
    if stat.S_ISLNK(found.st_mode):
        return "a link"
    kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a file"
    return f"{kind} of user {found.st_uid} with mode {stat.S_IMODE(found.st_mode):04o}"

"""A folder that appears whole or not at all.

Everything is written into a hidden sibling of the target and renamed at the end. An error removes the sibling; a kill
leaves it, hidden and without a manifest, for the next run to go on from.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from reasonknee_datasets.errors import PrepareError, ReasonKneeError, explain
from reasonknee_datasets.manifest import MANIFEST

WORK = ".work"
"""Inside the sibling: what helps to write the repository and is no part of it."""

DISK_RULES = {
    errno.ENOSPC: "have room for the prepared repository",
    errno.EDQUOT: "have room for the prepared repository",
    errno.EFBIG: "take files of this size",
    errno.EACCES: "be open to you",
    errno.EPERM: "be open to you",
    errno.EROFS: "be writable",
    errno.EMFILE: "need fewer files than this process may open (ulimit -n)",
    errno.ENFILE: "need fewer files than the system may open (fs.file-max)",
}
"""What a disk must do that refuses to be written to, by errno."""


def hash_file(path: Path) -> str:
    """Give the SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_target(out: Path) -> None:
    """Refuse to replace anything that is not a prepared repository: somebody's files could be in it.

    Raises
    ------
    PrepareError
        If ``out`` is a file, a folder that holds something but no manifest, or one that may not be looked at.
    """
    try:
        if out.is_dir() and not (out / MANIFEST).exists() and any(out.iterdir()):
            rule, got = "be new, empty or a prepared repository", f"a folder without {MANIFEST}"
            raise PrepareError(explain("out", rule, got, "Choose another folder", where=f"at {out}"))
        if out.exists() and not out.is_dir():
            raise PrepareError(explain("out", "be a folder", "a file", "Choose another name", where=f"at {out}"))
    except OSError as error:
        raise _disk_error(error, out) from error


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Give a folder to write into; when the block ends without an error, it becomes ``out``.

    Parameters
    ----------
    out : Path
        The target. Where it exists already it is replaced, after the new one is complete.

    Raises
    ------
    PrepareError
        If another run is writing to the same target, or the disk refuses: full, read-only, no permission.
    """
    folder = out.parent / f".{out.name}.partial"
    try:
        (folder / WORK).mkdir(parents=True, exist_ok=True)
        _restore(out)
    except OSError as error:
        raise _disk_error(error, out) from error
    lock = FileLock(folder / WORK / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        remedy = "Wait for the other run, or end it"
        message = explain("out", "be written by one run at a time", "a second", remedy, where=f"at {out}")
        raise PrepareError(message) from error
    try:
        yield folder
        lock.release()
        shutil.rmtree(folder / WORK)
        _swap(folder, out)
    except Exception as error:
        # KeyboardInterrupt is no Exception: what an interrupted run has hashed and copied is kept for the next one.
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, ReasonKneeError):
            raise _disk_error(error, out) from error
        raise
    finally:
        lock.release()


def clear_leftovers(folder: Path) -> None:
    """Remove what a killed run left of its shards; volumes, which take long and are verified, stay."""
    for path in folder.iterdir():
        if path.name in {WORK, "volumes"}:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _disk_error(error: OSError, out: Path) -> PrepareError:
    """Say what the disk refused; Arrow's errors carry an errno too, but no file name."""
    rule = DISK_RULES.get(error.errno or 0, "serve prepare")
    at = error.filename2 or error.filename  # copying names its source first, and it is the target that is refused
    place = f"at {at}" if at else f"beside {out}"
    remedy = "Nothing was left behind: mend that or choose another folder, then run it again"
    got = os.strerror(error.errno) if error.errno else str(error)
    return PrepareError(explain("disk", rule, got, remedy, where=place))


def _old(out: Path) -> Path:
    return out.parent / f".{out.name}.old"


def _swap(folder: Path, out: Path) -> None:
    """Put the new folder in place of the old one, which is removed last."""
    if out.is_dir():
        out.rename(_old(out))
    folder.rename(out)
    shutil.rmtree(_old(out), ignore_errors=True)


def _restore(out: Path) -> None:
    """Mend what a kill between the two renames of `_swap` left."""
    old = _old(out)
    if old.is_dir() and not out.exists():
        old.rename(out)
    shutil.rmtree(old, ignore_errors=True)

"""A folder that appears whole or not at all.

Everything is written into a hidden sibling of the target and renamed at the end. An error removes the sibling; a kill
leaves it, hidden and without a manifest, and the next run uses the volumes in it that prove to be those of its sources.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from reasonknee_datasets.errors import PrepareError, ReasonKneeError, os_remedy
from reasonknee_datasets.manifest import MANIFEST
from reasonknee_datasets.safe_paths import make_private_folder, open_regular

WORK = ".work"  # folder inside the sibling for files that help to write the repository and are not part of it

_OLD = "old"

DISK_ERRORS = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.EMFILE,
        errno.ENFILE,
    }
)
"""Error numbers of a disk that refuses to be written to."""


def hash_file(path: Path) -> str:
    """Compute the SHA-256 of a regular file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with os.fdopen(open_regular(path), "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_target(out: Path) -> None:
    """Refuse to replace anything that is not a prepared repository: a user's files could be in it.

    Raises PrepareError if ``out`` is a file, a folder with files but no manifest, or a folder that may not be read.
    """
    try:
        if out.is_dir() and not (out / MANIFEST).exists() and any(out.iterdir()):
            raise PrepareError(
                f"{out} is a folder with files but without {MANIFEST}, so it is not a prepared repository and is not "
                "replaced. Choose a new or empty folder."
            )
        if out.exists() and not out.is_dir():
            raise PrepareError(f"{out} is a file, and a folder is needed. Choose another name.")
    except OSError as error:
        raise _disk_error(error, out) from error


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Open a private staging folder for a repository; without an error, it becomes ``out`` at the end of the block.

    The folder has a predictable name, so nothing in it is trusted: it must be a real folder of this user
    with mode 0700, and everything in it except plain files below ``volumes`` is removed, links without following them.
    The volumes that are kept are compared with their sources before they are used.

    Parameters
    ----------
    out : Path
        The target. Where it exists already it is replaced, after the new one is complete.

    Raises
    ------
    PrepareError
        If another run is writing to the same target, the staging folder is not private, or the disk refuses: full,
        read-only, no permission.
    """
    folder = _staging_folder(out)
    remedy = "A run of prepare did not leave it in this state; look at its files, remove it, and run again."
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        make_private_folder(folder, PrepareError, remedy, setting="staging")
        lock = FileLock(_make_work(folder) / "lock")
    except OSError as error:
        if isinstance(error, ReasonKneeError):
            raise
        raise _disk_error(error, out) from error
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise PrepareError(f"Another run is writing {out}. Wait for it, or end it.") from error
    try:
        restore_interrupted(out)
        clear_leftovers(folder)
        yield folder
        lock.release()
        _swap(folder, out)
    except Exception as error:
        # KeyboardInterrupt is not an Exception: volumes that an interrupted run has written are kept for the next one.
        lock.release()
        restore_interrupted(out)
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, ReasonKneeError):
            raise _disk_error(error, out) from error
        raise
    finally:
        lock.release()


def clear_leftovers(folder: Path) -> None:
    """Remove everything from a staging folder except its lock and the plain files below ``volumes``.

    A link is removed and never followed; so is a file with a second name (a hard link), which may be written to
    elsewhere, and anything that is neither a file nor a folder.
    """
    for entry in _entries(folder):
        if entry.name == WORK:
            for inner in _entries(Path(entry.path)):
                if inner.name != "lock":
                    _remove(inner)
        elif entry.name == "volumes" and entry.is_dir(follow_symlinks=False):
            _keep_plain_files(Path(entry.path))
        else:
            _remove(entry)


def _keep_plain_files(folder: Path) -> None:
    """Remove links, special files and temporary files of interrupted writes from the volumes, at any depth."""
    for entry in _entries(folder):
        found = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            _keep_plain_files(Path(entry.path))
        elif not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or not entry.name.endswith(".nii.gz"):
            _remove(entry)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)


def _remove(entry: os.DirEntry[str]) -> None:
    """Remove an entry of a folder; a link goes, and what it leads to stays."""
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry.path)
    else:
        os.unlink(entry.path)  # noqa: PTH108 (a DirEntry is not a Path)


def _make_work(folder: Path) -> Path:
    """Make the work folder; whatever else has its name, or the lock's, is removed first, never followed."""
    work = folder / WORK
    for path, is_kind in ((work, stat.S_ISDIR), (work / "lock", stat.S_ISREG)):
        with suppress(FileNotFoundError):
            found = path.lstat()
            if not is_kind(found.st_mode) or (path != work and found.st_nlink > 1):
                shutil.rmtree(path) if stat.S_ISDIR(found.st_mode) else path.unlink()
        work.mkdir(exist_ok=True)
    return work


def _disk_error(error: OSError, out: Path) -> PrepareError:
    """Describe the error of the disk; Arrow's errors have an errno too, but no file name."""
    at = error.filename2 or error.filename  # copying names its source first, and it is the target that is refused
    place = at or f"the folder of {out}"
    got = os.strerror(error.errno) if error.errno else str(error)
    remedy = os_remedy(error, "Correct that or choose another folder")
    return PrepareError(f"{place} cannot be written: {got}. {remedy}, then run it again. Nothing was left behind.")


def _swap(folder: Path, out: Path) -> None:
    """Put the new folder in place of the old one, which is kept inside it until that is done and then removed."""
    work = folder / WORK
    mode = stat.S_IMODE(work.stat().st_mode)  # as this user's umask makes folders: the staging folder is 0700
    if out.is_dir():
        out.rename(work / _OLD)
    else:
        shutil.rmtree(work)
    folder.rename(out)
    out.chmod(mode)
    shutil.rmtree(out / WORK, ignore_errors=True)


def restore_interrupted(out: Path) -> None:
    """Move the old repository back to its place, after a kill or an error between the two renames of `_swap`."""
    old = _staging_folder(out) / WORK / _OLD
    if (old / MANIFEST).is_file() and not old.is_symlink() and not out.exists():
        old.rename(out)


def _staging_folder(out: Path) -> Path:
    return out.parent / f".{out.name}.partial"

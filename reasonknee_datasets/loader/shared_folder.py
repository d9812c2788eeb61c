"""Session folder in which the processes of one machine share decoded volumes, and the counts of what they decoded.

A session is a folder with a file ``alive`` on which every loader that uses it has a shared lock. The kernel drops the
lock when a process dies, however it dies; so a folder whose lock can be had alone is unused. The last loader removes
it, else the janitor of a process that was killed (see `reasonknee_datasets.loader.janitor`), else the next loader.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import struct
import tempfile
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reasonknee_datasets.errors import LoaderError
from reasonknee_datasets.loader.janitor import ALIVE, Janitor, is_file, remove_if_free
from reasonknee_datasets.loader.slots import alone
from reasonknee_datasets.safe_paths import is_private_folder, make_private_folder
from reasonknee_datasets.system import call_in_forked_child, fcntl

_COUNTS = struct.Struct("<QQ")
_STALE_SECONDS = 60
_MOST_TRIES = 10_000
# Of what is free in memory, the share that a loader may plan to take.
_MOST = 0.8
_JOB = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "SLURM_STEP_ID")


@dataclass(frozen=True, slots=True)
class SharedInfo:
    """Counts and sizes over all processes of a session.

    Attributes
    ----------
    decodes : int
        Volumes that were decoded, or begun to be.
    inflated : int
        Bytes of voxels that were decoded.
    entries, bytes : int
        Volumes that are held, and the size of all slots.
    max_bytes : int
        Most bytes of the slots.
    """

    decodes: int
    inflated: int
    entries: int
    bytes: int
    max_bytes: int


class Session:
    """A session folder, locked as long as this process uses it; ranks of one job on one machine give one name."""

    def __init__(self, base: Path, name: str) -> None:
        self.folder = base / name
        self._descriptor = _hold(self.folder)
        _sessions.add(self)
        _janitor.watch(self.folder)

    def leave(self) -> None:
        """Release the folder, and remove it if no other process uses it; may be called again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing alone would leave a forked child's copy in hold of it
            remove_if_free(self.folder, descriptor)
            with contextlib.suppress(OSError):  # others may have sessions there
                self.folder.parent.rmdir()
        finally:
            os.close(descriptor)

    def forget(self) -> None:
        """Close this process's copy of the descriptor, after a fork; the parent keeps the lock."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def open_session(needed: int, *, folder: str | os.PathLike[str] | None, job: Sequence[str]) -> Session:
    """Choose a place with enough space, and open a session there.

    Parameters
    ----------
    needed : int
        Bytes of decoded volumes that will be shared.
    folder : path or None
        Where; by default shared memory where it is big enough, else the temporary folder.
    job : sequence of str
        Name that the ranks of one job share; empty for a session of this process alone.

    Raises
    ------
    LoaderError
        If no place has room.
    """
    name = f"{os.getpid()}-{secrets.token_hex(4)}"
    if job:
        parts = [*job, *(os.environ.get(variable, "") for variable in _JOB)]
        name = "job-" + hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    places = [Path("/dev/shm"), Path(tempfile.gettempdir())] if folder is None else [Path(folder)]
    for place in places:  # all of them, and first: what a crash left may be what takes the room
        _sweep(place / f"reasonknee-{os.getuid()}", keep=name)
    rooms = []
    for place in places:
        base = place / f"reasonknee-{os.getuid()}"
        free = _free(place)
        if free is None:
            continue
        if (base / name / ALIVE).exists() or needed <= _MOST * free:
            remedy = "Remove it, or pass share_volumes= another folder."
            make_private_folder(base, LoaderError, remedy, setting="share_volumes")
            return Session(base, name)
        rooms.append(f"{free / 1e9:.3g} GB free in {place}")
    got = ", ".join(rooms) or f"no folder that can be written at {', '.join(map(str, places))}"
    raise LoaderError(
        f"Sharing decoded volumes takes {needed / 1e9:.3g} GB, and there is {got}. Pass share_volumes= a folder with "
        "room, choose a smaller volumes_in_flight=, or share_volumes=False to let each worker decode alone."
    )


def _free(place: Path) -> int | None:
    """Count the bytes that may be written to a place; None if the folder does not exist."""
    try:
        stat = os.statvfs(place)
    except OSError:
        return None
    return stat.f_bavail * stat.f_frsize if os.access(place, os.W_OK | os.X_OK) else None


def _hold(folder: Path) -> int:
    """Make a folder and lock it; repeat if another process removed it in between."""
    for _ in range(_MOST_TRIES):
        try:
            for path in (folder.parent, folder):
                with contextlib.suppress(FileExistsError):
                    path.mkdir(mode=0o700)
            descriptor = os.open(folder / ALIVE, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            continue
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if is_file(folder / ALIVE, descriptor):
            return descriptor
        os.close(descriptor)
    raise LoaderError(
        f"The folder {folder} for shared volumes was removed again and again while it was made. Pass share_volumes= "
        "another folder, or find out what removes this one."
    )


def _sweep(base: Path, keep: str) -> None:
    """Remove the sessions that no process uses, in a folder that is private to this user."""
    try:
        if not is_private_folder(base.lstat()):
            return
        folders = [folder for folder in base.iterdir() if folder.name != keep and folder.is_dir()]
    except OSError:  # there is none, or the last process left at this moment
        return
    for folder in folders:
        try:
            descriptor = os.open(folder / ALIVE, os.O_RDWR)
        except OSError:  # made a moment ago, or its removal was interrupted
            with contextlib.suppress(OSError):
                if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)
            continue
        try:
            remove_if_free(folder, descriptor)
        finally:
            os.close(descriptor)


def add_counts(folder: str, decodes: int, inflated: int) -> None:
    """Add to the counts of a session: volumes decoded, bytes inflated."""
    with alone(Path(folder) / "counts") as descriptor:
        data = os.pread(descriptor, _COUNTS.size, 0)
        before = _COUNTS.unpack(data) if data else (0, 0)
        os.pwrite(descriptor, _COUNTS.pack(before[0] + decodes, before[1] + inflated), 0)


def read_counts(folder: str) -> tuple[int, int]:
    """Read how many volumes a session has decoded, and how many bytes."""
    try:
        decodes, inflated = _COUNTS.unpack((Path(folder) / "counts").read_bytes())
    except FileNotFoundError:
        return 0, 0
    return decodes, inflated


def is_first(folder: str, what: str) -> bool:
    """Check whether this is the first process of the session to log this."""
    try:
        os.close(os.open(Path(folder) / what, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True


_sessions: weakref.WeakSet[Session] = weakref.WeakSet()
_janitor = Janitor()


def _forget_all() -> None:
    _janitor.forget()
    for session in list(_sessions):
        session.forget()


call_in_forked_child(_forget_all)

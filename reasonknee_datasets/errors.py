"""Every error that this package raises on purpose.

Each class has a builtin parent, so that callers can catch it without importing this package. A message says in one or
two plain sentences what is wrong, with the value and the place, and then what to do.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from types import UnionType


class ReasonKneeError(Exception):
    """Base of all errors raised on purpose by this package."""


class BoxError(ReasonKneeError, ValueError):
    """A box that is not a box, or does not fit its volume."""


class GradeError(ReasonKneeError, ValueError):
    """A grade, slot or spelling that MOAKS or the official prompts do not have."""


class GeometryError(ReasonKneeError, ValueError):
    """Two grids that differ by more than a permutation and flips of their axes."""


class VolumeError(ReasonKneeError, OSError):
    """A volume file that cannot be read, or that differs from its header."""


class VolumeNotFoundError(VolumeError, FileNotFoundError):
    """A volume file that is missing at the path in the annotations."""


class ReleaseError(ReasonKneeError, ValueError):
    """An official release that differs from what is known of its format."""


class ConvertError(ReasonKneeError, ValueError):
    """An OAI download, series or volume that cannot be converted."""


class PrepareError(ReasonKneeError, RuntimeError):
    """A prepared repository that cannot be written."""


class WorkerError(ReasonKneeError, RuntimeError):
    """A worker process that died."""


class RepositoryError(ReasonKneeError, ValueError):
    """A folder or URL without a sound prepared repository."""


class RepositoryNotFoundError(RepositoryError, FileNotFoundError):
    """No prepared repository at a place that was named."""


class PublishError(ReasonKneeError, RuntimeError):
    """A repository that cannot be published, or a release that cannot be downloaded."""


class CacheError(ReasonKneeError, OSError):
    """The cache of ``datasets``, which cannot be written."""


class LoaderError(ReasonKneeError, ValueError):
    """A training loader that cannot be made, or a saved state that does not belong to it."""


class BenchError(ReasonKneeError, ValueError):
    """Answers, predictions or results that cannot be scored or compared as they are."""


class MissingExtraError(ReasonKneeError, ImportError):
    """An optional dependency that the called function needs."""


def shown(value: object) -> str:
    """Write a value with its type for a message, in short: of a row only some keys, never the row.

    Examples
    --------
    >>> shown("64"), shown(int), shown({"id": "a", "question": "Any tear?"}), shown("long " * 100)
    ("'64' (str)", 'the class int', 'a dict with the keys id, question', 'a value of type str')
    """
    kind = type(value).__name__
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, Mapping):
        keys = [str(key) for key in value]
        return f"a {kind} with the keys {', '.join(keys[:4])}{', ...' if len(keys) > 4 else ''}"
    plain = value is None or isinstance(value, str | int | float | list | tuple) or getattr(value, "ndim", None) == 0
    text = repr(value) if plain else ""
    return f"{text} ({kind})" if text and len(text) <= 60 and "\n" not in text else f"a value of type {kind}"


def check_type(name: str, value: object, kinds: type | UnionType, wanted: str, *, is_secret: bool = False) -> None:
    """Raise a TypeError unless an argument is of one of these types.

    Examples
    --------
    >>> check_type("cache_dir", 7, str, "a path")
    Traceback (most recent call last):
    ...
    TypeError: cache_dir must be a path, not 7 (int).
    """
    if not isinstance(value, kinds):
        raise TypeError(f"{name} must be {wanted}, not {f'a {type(value).__name__}' if is_secret else shown(value)}.")


def nearest(name: str, names: Iterable[str]) -> str:
    """Write the remedy for a misspelt name: ``Did you mean ...?`` where one is near, and what there is.

    Examples
    --------
    >>> nearest("quintuple", ["quintuples", "volumes"])
    "Did you mean 'quintuples'? Available: quintuples, volumes"
    >>> nearest("x", ["quintuples", "volumes"])
    'Available: quintuples, volumes'
    """
    known = list(names)
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    return (f"Did you mean {near[0]!r}? " if near else "") + f"Available: {', '.join(known)}"


def missing_extra(module: str, extra: str, purpose: str) -> MissingExtraError:
    """Build the error for an optional dependency that is not installed.

    Examples
    --------
    >>> print(missing_extra("matplotlib", "figures", "figures.show"))
    matplotlib is needed for figures.show and is not installed. Run: pip install "reasonknee_datasets[figures]"
    """
    return MissingExtraError(
        f'{module} is needed for {purpose} and is not installed. Run: pip install "reasonknee_datasets[{extra}]"'
    )


def os_remedy(error: BaseException, otherwise: str) -> str:
    """Choose the remedy for an error of the operating system by its ``errno``.

    Permissions are not the cause of every file that cannot be read, nor a full disk of every one that cannot be
    written: every translation of an OSError takes its remedy from here.

    Parameters
    ----------
    error : OSError, or any other error
        With an ``errno``, or without one.
    otherwise : str
        Remedy for any other ``errno``.

    Examples
    --------
    >>> os_remedy(OSError(errno.ENOSPC, "No space left on device"), "Check the path")
    'Make room on that disk, or choose a folder on another one'
    >>> os_remedy(FileNotFoundError(errno.ENOENT, "No such file"), "Check the path")
    'Check the path'
    """
    code = getattr(error, "errno", None)
    if code == errno.EMFILE:
        with suppress(ImportError):
            import resource  # not on Windows

            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            return f"This process may open {limit} files at a time: raise that limit (ulimit -n), or use fewer workers"
    return _OS_REMEDIES.get(code or 0, otherwise)


_OS_REMEDIES = {
    errno.EMFILE: "This process has too many files open: use fewer workers",
    errno.ENFILE: "The whole system has too many files open: end other programs, or raise fs.file-max",
    errno.ENOSPC: "Make room on that disk, or choose a folder on another one",
    errno.EDQUOT: "Your quota there is used up: make room, or choose a folder on another disk",
    errno.EFBIG: "Files may not be that large there: raise the limit (ulimit -f), or choose a folder on another disk",
    errno.EROFS: "That file system is read-only: choose a folder on another one",
    errno.EACCES: "Check the permissions of the file and of the folders above it",
    errno.EPERM: "Check the permissions of the file and of the folders above it",
    errno.ENOMEM: "The memory is used up: end other programs, or use fewer workers or smaller batches",
    errno.EIO: "The disk fails to read or write: check it, and copy the file again",
    errno.ESTALE: "The network file system lost the file: check its mount, and try again",
    errno.ETIMEDOUT: "The file system did not answer in time: check its mount or the network, and try again",
}


def add_note(error: BaseException, note: str) -> None:
    """Attach the place to an error on its way up ("while reading ..."), without changing its type or message.

    ``BaseException.add_note`` came with Python 3.11; on 3.10 the note is kept in ``__notes__`` all the same, where
    pytest and rich print it.

    Examples
    --------
    >>> error = BoxError("A box must have three axes, not 2. Pass three numbers.")
    >>> add_note(error, "while reading 9016403/00M/right/q19")
    >>> error.__notes__
    ['while reading 9016403/00M/right/q19']
    """
    if hasattr(error, "add_note"):
        error.add_note(note)
    else:
        error.__dict__.setdefault("__notes__", []).append(note)

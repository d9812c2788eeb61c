"""Errors of the cache of ``datasets``, turned into one that names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import datasets
from datasets.exceptions import DatasetGenerationError

from reasonknee_datasets.errors import CacheError, ReasonKneeError


@contextmanager
def writing_cache(place: str | None) -> Iterator[None]:
    """Raise one error that names the cache where a disk refuses, and this package's own errors unwrapped.

    Code that reads shards and volumes names its own errors: any other OSError is the cache's.

    Parameters
    ----------
    place : str or None
        Folder of the cache; by default that of ``datasets``.

    Raises
    ------
    CacheError
        If the cache cannot be written.
    """
    try:
        yield
    except (DatasetGenerationError, OSError) as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ReasonKneeError | OSError):
            cause = cause.__cause__ or cause.__context__
        if cause is None or (cause is error and isinstance(error, ReasonKneeError)):
            raise
        if isinstance(cause, ReasonKneeError):
            raise cause from None
        where = cause.filename or place or datasets.config.HF_DATASETS_CACHE
        raise CacheError(
            f"The cache of datasets at {where} cannot be written: {cause.strerror or cause}. Free space or change the "
            "permissions there, or name another folder with cache_dir= or HF_DATASETS_CACHE."
        ) from error

"""A dask.distributed cluster as an executor, after a test that its workers have the same files."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from reasonknee_datasets.errors import WorkerError, missing_extra, os_remedy


@contextmanager
def cluster_executor(address: str, shared: str | os.PathLike[str] | None = None) -> Iterator[Executor]:
    """Connect to a dask.distributed scheduler as an executor.

    A worker that dies costs its running tasks, which the scheduler gives to another worker.

    Parameters
    ----------
    address : str
        Address of the scheduler, such as ``tcp://10.0.0.1:8786``, or the path of its ``scheduler-file``.
    shared : path, optional
        Path that every worker must see: a file, which each of them reads, or the folder that tasks write
        to, in which a probe file is written, read by each of them and removed. Without it only versions are compared.

    Raises
    ------
    WorkerError
        If no scheduler answers, it has no workers, or a worker has other files or another version of this package.
    MissingExtraError
        If distributed is not installed.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise missing_extra("distributed", "cluster", "--cluster") from error
    is_file = not address.partition("://")[1] and Path(address).is_file()
    where = {"scheduler_file": address} if is_file else {"address": address}
    connect: Any = Client
    try:
        client = connect(**where, timeout="30s", set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise WorkerError(f"No dask scheduler answers at {address} ({error}). Check the address.") from error
    with client:
        path = None if shared is None else Path(shared).absolute()
        with nullcontext(path) if path is None or path.is_file() else _probe_file(path) as probe:
            _compare_workers(client, address, probe)
        # Tasks write files, so that equal ones must not share a result (pure).
        yield client.get_executor(pure=False)


@contextmanager
def _probe_file(folder: Path) -> Iterator[Path]:
    """Write a file into a folder for a while; folders that had to be made are removed too."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    probe = folder / f".{secrets.token_hex(16)}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_text(secrets.token_hex(16), encoding="ascii")
    except OSError as error:
        raise WorkerError(f"{folder} cannot be written ({error}). {os_remedy(error, 'Check the path')}.") from error
    try:
        yield probe
    finally:
        probe.unlink(missing_ok=True)
        for made in missing:
            with suppress(OSError):
                made.rmdir()


def _compare_workers(client: Any, address: str, file: Path | None) -> None:
    """Check that every worker of a cluster runs this package on this file system."""
    expected = _describe_worker(file)
    found = client.run(_describe_worker, file, on_error="return")
    if not found:
        raise WorkerError(f"The dask scheduler at {address} has no workers. Start some, then run again.")
    version, digest = expected
    for worker, answer in found.items():
        if isinstance(answer, BaseException):
            raise WorkerError(
                f"Worker {worker} of {address} cannot run this package ({type(answer).__name__}: {answer}). Install "
                f"reasonknee_datasets {version} there."
            )
        if answer[0] != version:
            raise WorkerError(
                f"Worker {worker} of {address} has reasonknee_datasets {answer[0]}, and {version} is needed. Install "
                "that version there."
            )
        if answer[1] != digest:
            assert file is not None
            raise WorkerError(
                f"Worker {worker} of {address} cannot read the files of {file.parent}. Mount the same file system "
                "there under the same path."
            )


def _describe_worker(file: Path | None) -> tuple[str, str]:
    """Return the version of this package, and the hash of a file as this process sees it."""
    from reasonknee_datasets import __version__

    try:
        return __version__, "" if file is None else hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return __version__, "no such file"

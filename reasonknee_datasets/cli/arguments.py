"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeAlias

from reasonknee_datasets.safe_paths import is_url

# Adds the arguments; does the work and gives an exit status, None for 0; what `--help` says.
Command: TypeAlias = tuple[Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], "int | None"], str]


def positive(text: str) -> int:
    """Read a whole number of 1 or more."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of 1 or more, not {text}")
    return int(text)


def local(text: str) -> Path:
    """Read a path on this machine; a URL would become a folder named ``https:``."""
    if is_url(text):
        raise argparse.ArgumentTypeError(f"must be a path on this machine, not {text}. Download it first")
    return Path(text)


def numbers(text: str) -> tuple[int, ...]:
    """Read numbers and ranges of them: ``1-15,34``."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            between = range(int(first), int(last or first) + 1)
        except ValueError:
            between = range(0)
        if not between:
            raise argparse.ArgumentTypeError(f"must be numbers such as 1-15,34, not {text!r}")
        found += between
    return tuple(found)


def add_workers(command: argparse._ActionsContainer) -> None:
    """Add the options that choose where tasks run."""
    command.add_argument("--workers", type=positive, help="processes (default: one a core)")
    command.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="run on the dask.distributed scheduler at this address (or in this scheduler file) instead; its workers "
        "need this package, and the same file system under the same paths",
    )


def add_acl(command: argparse._ActionsContainer) -> None:
    """Add the option for the codes of MACLTR in MOAKS tables."""
    command.add_argument(
        "--acl",
        choices=("label", "any", "highest"),
        default="label",
        help="codes of MACLTR that are a complete tear: by the table's labels, 1 and 2, or only 2 "
        "(default: %(default)s)",
    )


def choose_executor(arguments: argparse.Namespace, shared: Path | None) -> AbstractContextManager[Executor | None]:
    """Connect to the cluster of ``--cluster``; without it, the executor is None and local processes are used.

    Parameters
    ----------
    arguments : Namespace
        Arguments of a command with `add_workers`.
    shared : Path or None
        File or folder that every worker must see, see `cluster_executor`.
    """
    if arguments.cluster is None:
        return nullcontext()
    from reasonknee_datasets.cluster import cluster_executor

    return cluster_executor(arguments.cluster, shared)


def add_data(command: argparse._ActionsContainer) -> None:
    """Ask for a prepared repository."""
    command.add_argument(
        "--data",
        metavar="DIR",
        help="a prepared repository: a folder or URL (default: REASONKNEE_DATA, ./3dreasonknee)",
    )


def say(line: str) -> None:
    """Print a line at once, also where the output is a pipe."""
    print(line, flush=True)

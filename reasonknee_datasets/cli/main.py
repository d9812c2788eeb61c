"""The ``reasonknee`` command: one subcommand a job, each a thin call of the function that does it.

Every command imports what it needs itself, so that ``reasonknee --help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, NoReturn

from reasonknee_datasets import __version__
from reasonknee_datasets.cli import bench, browse, convert, data, diff, export_labels, publish
from reasonknee_datasets.cli.terminal import printable_streams
from reasonknee_datasets.errors import ReasonKneeError

_MODULES = (data, diff, convert, export_labels, browse, publish, bench)
_COMMANDS = {name: command for module in _MODULES for name, command in module.COMMANDS.items()}


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser that suggests the nearest name for a misspelt command, value or option."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:  # refused here, where the options of the command are known
            near = get_close_matches(unknown[0].partition("=")[0], self._option_string_actions, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Run: {self.prog} --help"
            self.error(f"unrecognized arguments: {' '.join(unknown)}. {hint}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        if "invalid choice" in message:
            typed, *choices = re.findall(r"'([^']*)'", message) or [""]
            near = get_close_matches(typed, choices or _COMMANDS, n=1)
            message += f". Did you mean {near[0]!r}?" if near else ""
        if message.endswith("required: COMMAND"):
            message = f"no command is given. Run: {self.prog} --help"
        super().error(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 a named problem, 2 wrong usage.

    A problem that this package names is printed as its one sentence; REASONKNEE_TRACEBACK=1 shows where it arose.
    """
    with printable_streams(), _ending_on_sigterm():
        return _run(_parser().parse_args(argv))


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """End on SIGTERM as on an interrupt, so that temporary files next to a target are removed."""

    def end(number: int, frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # no other may set a handler
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(arguments: argparse.Namespace) -> int:
    try:
        return int(arguments.run(arguments) or 0)
    except ReasonKneeError as error:
        if os.environ.get("REASONKNEE_TRACEBACK"):
            traceback.print_exc()
        print(f"error: {_for_command(str(error), arguments)}", file=sys.stderr)
        for note in getattr(error, "__notes__", ()):
            print(f"  {note}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # `reasonknee info DIR | head` is not a failure; python must not complain at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # not of our files, which name their own: a terminal or disk behind the output
        if os.environ.get("REASONKNEE_TRACEBACK"):
            traceback.print_exc()
        print(f"error: {error}; REASONKNEE_TRACEBACK=1 shows where it arose", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _for_command(message: str, arguments: argparse.Namespace) -> str:
    """Name the options of a command, or variables, where a message names arguments of the function behind it."""
    message = message.replace("storage_options= or token=", "AWS_PROFILE, HF_TOKEN or the like in the environment")
    for argument, option in (("data_dir", "data"), ("volumes_dir", "volumes_dir")):
        named = f"--{option.replace('_', '-')}\\1" if hasattr(arguments, option) else ""
        message = re.sub(rf"\b{argument}=( or )?", named, message)
    return message


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="reasonknee", description="Load, train on and score 3DReasonKnee.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"reasonknee_datasets {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (add, run, summary) in _COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        add(command)
        command.set_defaults(run=run)
    return parser

"""The command that compares two prepared repositories."""

from __future__ import annotations

import argparse
import json
import sys

from reasonknee_datasets.cli.arguments import Command


def _add_diff(command: argparse.ArgumentParser) -> None:
    command.add_argument("a", metavar="A", help="a prepared repository: a folder or URL")
    command.add_argument("b", metavar="B", help="another one")
    command.add_argument("--json", action="store_true", help="print the differences as JSON")


def _diff(arguments: argparse.Namespace) -> int:
    """Compare, and return 0 without differences, 1 with some and 2 on trouble, as diff does."""
    from reasonknee_datasets.check.repository_diff import compare_repositories
    from reasonknee_datasets.errors import ReasonKneeError

    try:
        found = compare_repositories(arguments.a, arguments.b)
    except ReasonKneeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(found.to_json(), indent=1) if arguments.json else found)
    return 0 if found.is_empty else 1


COMMANDS: dict[str, Command] = {
    "diff": (
        _add_diff,
        _diff,
        "list what differs between two prepared repositories (exit status 0: nothing, 1: something, 2: an error)",
    )
}

"""The commands that publish a prepared repository and download the official release."""

from __future__ import annotations

import argparse
from pathlib import Path

from reasonknee_datasets.cli.arguments import Command, positive


def _add_previews(command: argparse.ArgumentParser) -> None:
    command.add_argument("dir", metavar="DIR", type=Path, help="a prepared repository in a local folder")
    command.add_argument("--volumes-dir", metavar="DIR", help="the place that holds volumes/, if not the repository")
    command.add_argument("--overwrite", action="store_true", help="draw previews again where there are some")
    command.add_argument("--workers", type=positive, help="processes (default: one a core)")


def _previews(arguments: argparse.Namespace) -> None:
    from reasonknee_datasets.publish import add_previews

    manifest = add_previews(
        arguments.dir,
        volumes_dir=arguments.volumes_dir,
        workers=arguments.workers,
        overwrite=arguments.overwrite,
    )
    rows = sum(manifest.rows("quintuples", split) for split in manifest.splits("quintuples"))
    montages = sum(manifest.rows("preview", split) for split in manifest.splits("preview"))
    print(f"{arguments.dir}: {rows:,} previews and {montages:,} montages")


def _add_doctor(command: argparse.ArgumentParser) -> None:
    command.add_argument("dir", metavar="DIR", help="a prepared repository: a folder, hf://datasets/owner/name or URL")
    command.add_argument("--volumes-dir", metavar="DIR", help="the place that holds volumes/, if not the repository")
    command.add_argument("--no-hashes", action="store_true", help="do not read every file to compare its SHA-256")
    command.add_argument("--json", action="store_true", help="write the report as JSON")


def _doctor(arguments: argparse.Namespace) -> int:
    from reasonknee_datasets.publish import examine

    report = examine(arguments.dir, volumes_dir=arguments.volumes_dir, hashes=not arguments.no_hashes)
    print(report.to_json() if arguments.json else report)
    return 1 if report.errors else 0


COMMANDS: dict[str, Command] = {
    "previews": (_add_previews, _previews, "add a picture to every row of a prepared repository, for the Hub's viewer"),
    "doctor": (_add_doctor, _doctor, "check what the Hub, its viewer and loaders need of a prepared repository"),
}

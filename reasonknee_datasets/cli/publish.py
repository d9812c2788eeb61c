"""The commands that publish a prepared repository and download the official release."""

from __future__ import annotations

import argparse

from reasonknee_datasets.cli.arguments import Command, add_workers, choose_executor, local


def _add_previews(command: argparse.ArgumentParser) -> None:
    command.add_argument("dir", metavar="DIR", type=local, help="a prepared repository in a local folder")
    command.add_argument("--volumes-dir", metavar="DIR", help="the place that contains volumes/, if not the repository")
    command.add_argument("--overwrite", action="store_true", help="draw previews again where there are some")
    add_workers(command)


def _previews(arguments: argparse.Namespace) -> None:
    from reasonknee_datasets.publish import add_previews

    with choose_executor(arguments, arguments.dir.absolute()) as executor:
        manifest = add_previews(
            arguments.dir,
            volumes_dir=arguments.volumes_dir,
            workers=arguments.workers,
            overwrite=arguments.overwrite,
            executor=executor,
        )
    rows = sum(manifest.rows("quintuples", split) for split in manifest.splits("quintuples"))
    montages = sum(manifest.rows("preview", split) for split in manifest.splits("preview"))
    print(f"{arguments.dir}: {rows:,} previews and {montages:,} montages")


def _add_doctor(command: argparse.ArgumentParser) -> None:
    command.add_argument("dir", metavar="DIR", help="a prepared repository: a folder, hf://datasets/owner/name or URL")
    command.add_argument("--volumes-dir", metavar="DIR", help="the place that contains volumes/, if not the repository")
    command.add_argument("--no-hashes", action="store_true", help="do not read every file to compare its SHA-256")
    command.add_argument("--json", action="store_true", help="write the report as JSON")


def _doctor(arguments: argparse.Namespace) -> int:
    from reasonknee_datasets.publish import examine

    report = examine(arguments.dir, volumes_dir=arguments.volumes_dir, hashes=not arguments.no_hashes)
    print(report.to_json() if arguments.json else report)
    return 1 if report.errors else 0


def _add_push(command: argparse.ArgumentParser) -> None:
    command.add_argument("dir", metavar="DIR", type=local, help="a prepared repository in a local folder")
    command.add_argument(
        "--repo", metavar="OWNER/NAME", required=True, help="the dataset repository; created if absent"
    )
    command.add_argument("--include-volumes", action="store_true", help="upload volumes and previews too")
    command.add_argument(
        "--i-may-redistribute",
        action="store_true",
        help="state that the terms of the images allow it; needed with --include-volumes unless the data are synthetic",
    )
    command.add_argument(
        "--public", action="store_true", help="make a new repository public (it is gated all the same)"
    )
    command.add_argument(
        "--gate", choices=("manual", "auto"), default="manual", help="how requests for access are answered"
    )
    command.add_argument("--tag", help="tag of the upload (default: v and the version of this package)")
    command.add_argument(
        "--dry-run", action="store_true", help="check, show what would be uploaded, and upload nothing"
    )


def _push(arguments: argparse.Namespace) -> None:
    from reasonknee_datasets.publish import push

    plan = push(
        arguments.dir,
        arguments.repo,
        include_volumes=arguments.include_volumes,
        i_may_redistribute=arguments.i_may_redistribute,
        private=not arguments.public,
        gate=arguments.gate,
        tag=arguments.tag,
        dry_run=arguments.dry_run,
    )
    print(plan)
    print("nothing was uploaded (--dry-run)" if arguments.dry_run else "uploaded")


def _add_download(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", metavar="DIR", type=local, required=True, help="the folder of the official release")
    command.add_argument("--revision", help="commit, tag or branch (default: the commit this version was written for)")
    command.add_argument("--repo", metavar="OWNER/NAME", help="another dataset repository than the official one")
    command.add_argument("--no-masks", action="store_true", help="leave out the segmentation masks")


def _download(arguments: argparse.Namespace) -> None:
    from reasonknee_datasets.publish import download

    given = {"revision": arguments.revision, "repo_id": arguments.repo}
    options = {name: value for name, value in given.items() if value is not None}
    print(download(arguments.out, masks=not arguments.no_masks, **options))


COMMANDS: dict[str, Command] = {
    "previews": (_add_previews, _previews, "add a picture to every row of a prepared repository, for the Hub's viewer"),
    "doctor": (_add_doctor, _doctor, "check what the Hub, its viewer and loaders need of a prepared repository"),
    "push": (_add_push, _push, "upload a prepared repository to the Hub, private and gated, without images by default"),
    "download": (_add_download, _download, "download the official annotations, without images, and verify them"),
}

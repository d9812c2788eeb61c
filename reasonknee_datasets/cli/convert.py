"""The command that converts OAI downloads to the official images."""

from __future__ import annotations

import argparse
from pathlib import Path

from reasonknee_datasets.cli.arguments import Command, add_workers, choose_executor, local


def _add_convert(command: argparse.ArgumentParser) -> None:
    command.add_argument("--oai", type=local, metavar="DIR", help="an OAI download: NDA package, results tree, folders")
    command.add_argument(
        "--nifti",
        type=local,
        metavar="DIR",
        help="volumes converted already: by dcm2niix, OAIZIB-CM, plain folders",
    )
    command.add_argument(
        "--release",
        type=local,
        metavar="DIR",
        help="the official release; without it every DESS series is converted",
    )
    command.add_argument(
        "--series", type=local, metavar="DIR", help="convert one series by itself: a folder or archive"
    )
    command.add_argument("--out", type=local, required=True, help="a folder for the images; with --series a .nii.gz")
    command.add_argument(
        "--dry-run", action="store_true", help="only report present and missing series, and list those to order"
    )
    add_workers(command)


def _convert(arguments: argparse.Namespace) -> int:
    from reasonknee_datasets.errors import ConvertError

    if arguments.series is not None:
        if arguments.oai or arguments.nifti or arguments.release or arguments.dry_run or arguments.cluster:
            raise ConvertError(
                "--series converts one series by itself. Leave out --oai, --nifti, --release, --dry-run, --cluster."
            )
        return _convert_series(arguments.series, arguments.out)
    from reasonknee_datasets.oai import convert

    with choose_executor(arguments, arguments.out) as executor:
        report = convert(
            arguments.out,
            oai=arguments.oai,
            nifti=arguments.nifti,
            release=arguments.release,
            dry_run=arguments.dry_run,
            workers=arguments.workers,
            executor=executor,
        )
    print(report)
    # A row that is missing is the user's choice of what to download; one that is refused needs a look.
    return 1 if report.kinds else 0


def _convert_series(source: Path, out: Path) -> int:
    from reasonknee_datasets.oai import convert_series
    from reasonknee_datasets.orientation import describe_geometry

    volume, placed = convert_series(source, out)
    header = volume.header
    print(f"{out}: {describe_geometry(placed.affine, placed.voxels.shape)}, {placed.voxels.dtype}")
    print(f"  {header.description or 'no SeriesDescription'}, {len(volume.instances)} slices")
    for note in volume.notes:
        print(f"  {note}")
    return 0


COMMANDS: dict[str, Command] = {
    "convert": (_add_convert, _convert, "turn an OAI download into the images of the release, each on its mask's grid"),
}

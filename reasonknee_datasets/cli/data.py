"""The commands that make, prepare, pack and show data."""

from __future__ import annotations

import argparse
from pathlib import Path

from reasonknee_datasets.cli.arguments import Command, add_acl, add_workers, choose_executor, local, positive, say
from reasonknee_datasets.errors import RepositoryError


def _add_demo(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--out", type=local, default=Path("reasonknee_demo"), help="a new folder (default: %(default)s)"
    )
    _add_phantom_size(command, patients=6)
    command.add_argument("--open", action="store_true", help="then open the example in the dataset browser (extra app)")


def _demo(arguments: argparse.Namespace) -> None:
    from reasonknee_datasets.demo import run_demo

    if arguments.open:
        from reasonknee_datasets.browse import check_browser

        check_browser()  # before the work, not after it
    demo = run_demo(arguments.out, patients=arguments.patients, size=arguments.size, seed=arguments.seed, say=print)
    if arguments.open:
        from reasonknee_datasets.browse import build_app, run_browser

        app = build_app(str(demo.repository))
        run_browser(app, page=f"/example/{demo.example_id}", open_page=True, say=say)


def _add_phantom_size(command: argparse.ArgumentParser, *, patients: int | None, told: str = "%(default)s") -> None:
    command.add_argument("--patients", type=positive, default=patients, help=f"number of patients (default: {told})")
    command.add_argument("--size", choices=("tiny", "oai"), default="tiny", help="voxel grid (default: %(default)s)")
    command.add_argument("--seed", type=int, default=0, help="same seed, same bytes (default: %(default)s)")


def _add_phantom(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=local, required=True, help="a new folder for the synthetic release")
    _add_phantom_size(command, patients=None, told="6; 18 with --dicom")
    command.add_argument(
        "--dicom",
        action="store_true",
        help="write OAI-like downloads with planted defects below oai/ in place of images, in three forms",
    )
    command.add_argument("--annotations-only", action="store_true", help="records without voxels, for scale")
    command.add_argument(
        "--box-convention",
        metavar="NAME",
        help="write the released boxes in this convention (default: slice0-x1-y2, which is short for "
        "slice0-x1-y2-pairs-inclusive-voxel; all names: docs/reference/names.md)",
    )
    command.add_argument(
        "--anatomical-boxes",
        action="store_true",
        help="write boxes in anatomical directions instead of array axes",
    )
    command.add_argument("--workers", type=positive, help="processes (default: one a core)")


def _phantom(arguments: argparse.Namespace) -> None:
    from reasonknee_datasets.phantom import PhantomError, check_downloads, write_downloads, write_release

    if arguments.dicom and arguments.annotations_only:
        raise PhantomError("--dicom needs voxels. Leave out --annotations-only.")
    patients = arguments.patients or (18 if arguments.dicom else 6)  # each planted defect takes a separate volume
    if arguments.dicom:
        check_downloads(arguments.out, patients, size=arguments.size, seed=arguments.seed)
    options = {} if arguments.box_convention is None else {"box_convention": arguments.box_convention}
    write_release(
        arguments.out,
        patients=patients,
        size=arguments.size,
        seed=arguments.seed,
        annotations_only=arguments.annotations_only,
        workers=arguments.workers,
        anatomical_boxes=arguments.anatomical_boxes,
        **options,
    )
    print(f"SYNTHETIC release of {patients} patients: {arguments.out}")
    if arguments.dicom:
        for folder, notes in write_downloads(arguments.out).items():
            print(f"SYNTHETIC download: {folder}, its defects in {notes.name}")


# The kinds of release.KINDS that may be allowed; importing it takes half a second, which --help need not.
_ALLOWED = (
    *("missing-file", "split-row", "duplicate-volume", "question-file"),
    *("record-shape", "unknown-volume", "wrong-split", "unknown-question", "prompt-mismatch", "duplicate-record"),
    *("incomplete-volume", "bad-grade", "unreadable-answer", "truth-mismatch", "unknown-balanced", "changed-balanced"),
    *("missing-image", "bad-image", "missing-mask", "bad-mask", "unknown-label", "geometry", "side-mismatch"),
    *("bad-box", "box-outside", "box-mask", "box-question"),
)


def _add_prepare(command: argparse.ArgumentParser) -> None:
    command.add_argument("--release", type=local, required=True, help="the official release")
    command.add_argument("--images", type=local, help="the images, if they are not in the release's data/images")
    command.add_argument("--out", type=local, required=True, help="the prepared repository to write")
    command.add_argument(
        "--volumes",
        choices=("pack", "copy", "link", "none"),
        default="pack",
        help="what becomes of the images: made seekable (about 3 s of one core each), copied as they are, linked, or "
        "left where they are (default: %(default)s)",
    )
    command.add_argument(
        "--masks", action="store_true", help="keep the segmentation masks, made seekable, on the grids of their images"
    )
    command.add_argument(
        "--grades-source",
        choices=("released", "moaks"),
        default="released",
        help="take grades and answers from the records, or from MOAKS tables, where missing is null and never 0 "
        "(default: %(default)s)",
    )
    command.add_argument(
        "--moaks-tables",
        type=local,
        metavar="TABLE",
        action="append",
        default=[],
        help="a table of OAI, or a folder of them; repeatable (default: the release's data/labels)",
    )
    command.add_argument(
        "--readings",
        choices=("agree", "first", "latest"),
        default="agree",
        help="rule for several readings of one knee and visit in the tables (default: %(default)s)",
    )
    add_acl(command)
    command.add_argument(
        "--box-convention",
        metavar="NAME",
        help="convention of the boxes, such as slice0-x1-y2, which is short for slice0-x1-y2-pairs-inclusive-voxel "
        "(pairs or corners, inclusive or exclusive, voxel or normalised; all names: docs/reference/names.md); "
        "by default it is established from the masks",
    )
    command.add_argument(
        "--allow",
        metavar="NAME",
        action="append",
        default=[],
        help="accept this kind of problem, or the errors of this data check (`reasonknee check --help`); repeatable. "
        "Problems of the release: " + ", ".join(_ALLOWED),
    )
    command.add_argument("--overwrite", action="store_true", help="replace a repository made from other input")
    command.add_argument(
        "--previews", action="store_true", help="add a picture to every row (as `reasonknee previews` does later)"
    )
    add_workers(command)


def _prepare(arguments: argparse.Namespace) -> None:
    from reasonknee_datasets.prepare import prepare
    from reasonknee_datasets.summary import summarise

    if arguments.previews:
        import reasonknee_datasets.publish.preview_images  # noqa: F401 - raises here, before the work, without Pillow
    with choose_executor(arguments, arguments.out.absolute().parent) as executor:
        done = prepare(
            arguments.release,
            arguments.out,
            images=arguments.images,
            volumes=arguments.volumes,
            masks=arguments.masks,
            grades_source=arguments.grades_source,
            moaks_tables=arguments.moaks_tables,
            readings=arguments.readings,
            acl=arguments.acl,
            box_convention=arguments.box_convention,
            allow=frozenset(arguments.allow),
            workers=arguments.workers,
            overwrite=arguments.overwrite,
            executor=executor,
        )
    if not done.written:
        print(f"nothing to do: {arguments.out} was made from this release")
    if arguments.previews:
        from reasonknee_datasets.publish import add_previews

        add_previews(arguments.out, workers=arguments.workers)
    print(summarise(arguments.out))


def _add_pack(command: argparse.ArgumentParser) -> None:
    command.add_argument("files", metavar="FILE", nargs="+", help="a .nii.gz or .nii")
    where = command.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=local, metavar="DIR", help="where to write them; nothing there is ever replaced")
    where.add_argument(
        "--in-place", action="store_true", help="replace each .nii.gz by its seekable form; the NIfTI inside stays"
    )
    # 6 is volumes.packing.LEVEL, whose module takes half a second to import.
    command.add_argument("--level", type=int, default=6, help="of zlib, 0 to 9 (default: %(default)s)")


def _pack(arguments: argparse.Namespace) -> None:
    from reasonknee_datasets.volumes import pack_files

    for report in pack_files(arguments.files, arguments.out, level=arguments.level):
        sizes = f"{report.bytes_before:,} bytes to {report.bytes_after:,}"
        print(f"{report.path}: {sizes}; {report.slabs:,} slabs of {report.slab_bytes:,} bytes", flush=True)


def _add_info(command: argparse.ArgumentParser) -> None:
    command.add_argument("dir", metavar="DIR", help="a prepared repository: a folder or URL")


def _info(arguments: argparse.Namespace) -> None:
    from reasonknee_datasets.summary import summarise

    print(summarise(arguments.dir))


def _add_check(command: argparse.ArgumentParser) -> None:
    command.add_argument("dir", metavar="DIR", help="a prepared repository: a folder or URL")
    command.add_argument(
        "--files",
        action="store_true",
        help="compare every file with its size and SHA-256 instead of checking rows and images",
    )
    command.add_argument("--volumes-dir", metavar="DIR", help="the place that contains volumes/, if not the repository")
    command.add_argument(
        "--allow",
        metavar="NAME",
        action="append",
        default=[],
        help="do not count errors of this check; repeatable",
    )
    command.add_argument(
        "--report",
        type=local,
        metavar="DIR",
        help="write check.json, and check.html with pictures of the worst, here",
    )
    add_workers(command)


def _check(arguments: argparse.Namespace) -> int:
    from reasonknee_datasets.check import check_data, check_files, make_check_folder, write_check_report

    if arguments.report is not None and arguments.files:
        raise RepositoryError("--report is of the rows and images, which --files does not check. Leave out one.")
    if arguments.files:
        files = check_files(arguments.dir, volumes_dir=arguments.volumes_dir)
        print(files)
        return 1 if files.problems else 0
    if arguments.report is not None:
        make_check_folder(arguments.report)
    manifest = Path(arguments.dir, "manifest.json")
    with choose_executor(arguments, manifest if manifest.is_file() else None) as executor:
        report = check_data(
            arguments.dir,
            volumes_dir=arguments.volumes_dir,
            allow=arguments.allow,
            workers=arguments.workers,
            executor=executor,
        )
    print(report)
    if arguments.report is not None:
        print(*write_check_report(report, arguments.report, arguments.dir), sep="\n")
    return 1 if report.refused else 0


def _add_show(command: argparse.ArgumentParser) -> None:
    command.add_argument("dir", metavar="DIR", help="a prepared repository: a folder or URL")
    command.add_argument("id", metavar="ID", help="the row, for example 9016403/00M/right/q19")
    command.add_argument("--out", type=local, required=True, help="the picture to write: .png, .pdf or .svg")


def _show(arguments: argparse.Namespace) -> None:
    from reasonknee_datasets.figures import show
    from reasonknee_datasets.load import find_example

    show(find_example(arguments.dir, arguments.id), out=arguments.out)
    print(arguments.out)


COMMANDS: dict[str, Command] = {
    "demo": (_add_demo, _demo, "make, prepare, load, crop and draw synthetic data, end to end"),
    "phantom": (_add_phantom, _phantom, "write a synthetic release in the official layout"),
    "prepare": (_add_prepare, _prepare, "turn the official release and OAI images into a repository that loads"),
    "pack": (_add_pack, _pack, "write .nii.gz files again so that a region of them reads fast; they open everywhere"),
    "info": (_add_info, _info, "print the contents of a prepared repository"),
    "check": (
        _add_check,
        _check,
        "check the rows and images of a prepared repository, or its files against the manifest",
    ),
    "show": (_add_show, _show, "draw one row: three planes, box, question, reasoning and grades"),
}

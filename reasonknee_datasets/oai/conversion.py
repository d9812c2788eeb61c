"""The conversion of a whole download: rows, where their series are, and one report of all of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from contextlib import closing, suppress
from pathlib import Path

from reasonknee_datasets.atomic_files import remove_stale_parts
from reasonknee_datasets.errors import ConvertError
from reasonknee_datasets.oai.archives import SeriesPlace
from reasonknee_datasets.oai.conversion_errors import Refusal
from reasonknee_datasets.oai.conversion_report import (
    FOLDER,
    ConversionReport,
    RowOutcome,
    make_report_folder,
    write_reports,
)
from reasonknee_datasets.oai.download_index import DownloadIndex, index_download
from reasonknee_datasets.oai.image_files import ImageFile
from reasonknee_datasets.oai.image_grids import TargetGrid, read_mask_grid
from reasonknee_datasets.oai.image_index import ImageIndex, index_images
from reasonknee_datasets.oai.row_conversion import ConvertTask, convert_row
from reasonknee_datasets.oai.series_identity import Claim
from reasonknee_datasets.parallel import cores, each_done
from reasonknee_datasets.release.paths import find_root
from reasonknee_datasets.release.report import Problems
from reasonknee_datasets.release.split_files import Study, read_splits

_SHOWN = 3  # unreadable places in an error
_SERIAL = 4  # rows, below which starting processes takes longer than the work


def convert(
    out: str | os.PathLike[str],
    *,
    oai: str | os.PathLike[str] | None = None,
    nifti: str | os.PathLike[str] | None = None,
    release: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    workers: int | None = None,
    progress: bool = True,
    executor: Executor | None = None,
) -> ConversionReport:
    """Convert OAI series to the official images, each on the grid of its mask.

    A refused or missing row never stops the others; the report has its reason. A second run converts what the first
    one did not, and recognises the files of the first by their headers.

    Parameters
    ----------
    out : path
        Images are written below ``images`` in it, under their official names, and the report next to them. Pass it to
        `prepare` as ``images``.
    oai : path, optional
        An OAI download in any of its forms.
    nifti : path, optional
        Volumes that were converted by other tools. They are used where ``oai`` has no series of the row.
    release : path, optional
        The official release: its split files list the series, and its masks have the grids. Without it, every
        sagittal DESS series of ``oai`` is converted, on axes closest to RAS+.
    dry_run : bool
        Only find each row's series and prove it by its first header. Nothing but the report is written.
    workers : int, optional
        Processes; one a core by default. Each takes about 0.3 GB for a full DESS series.
    progress : bool
        Whether progress bars are shown.
    executor : concurrent.futures.Executor, optional
        Where rows are converted instead of in processes of this machine, for example
        `reasonknee_datasets.cluster.cluster_executor`. The files have the same bytes.

    Returns
    -------
    ConversionReport
        Also written to ``convert_report`` below ``out``.

    Raises
    ------
    ConvertError
        If a folder is missing or has nothing to convert, or the report cannot be written.
    ReleaseError
        If no release is there.
    WorkerError
        If a process dies; the report then lists the rows that were done.
    """
    if oai is None and nifti is None:
        raise ConvertError("No input to convert. Name an OAI download with --oai or volumes with --nifti.")
    if release is None and nifti is not None:
        raise ConvertError("--nifti needs --release: only split files and masks identify the volumes.")
    target = Path(out).absolute()
    studies = [] if release is None else _read_studies(Path(release))
    new_folders = [path for path in (target / FOLDER, target) if not path.exists()]
    make_report_folder(target / FOLDER)
    try:
        index = None if oai is None else index_download(oai)
        images = None if nifti is None else index_images(nifti, _read_grids(studies))
        if release is None:
            assert index is not None
            tasks = _tasks_of_index(target, index, dry_run)
        else:
            tasks = [_task_of_study(target, study, index, images, dry_run) for study in studies]
        # A dry run lists what to order, also before anything is downloaded.
        if not dry_run or (index is not None and not index.listed and any(index.root.iterdir())):
            _check_input(tasks, index, images)
    except BaseException:
        for path in new_folders:
            with suppress(OSError):  # something else was written there in the meantime
                path.rmdir()
        raise
    report = _run(tasks, workers, progress, target / FOLDER, _unknown(index, images), executor)
    if not report.rows:
        raise ConvertError(
            f"None of the {len(tasks):,} series in {oai} is a sagittal 3D DESS series (SeriesDescription "
            "SAG_3D_DESS_LEFT or SAG_3D_DESS_RIGHT). Name another download with --oai."
        )
    return report


def _check_input(tasks: Sequence[ConvertTask], index: DownloadIndex | None, images: ImageIndex | None) -> None:
    """Check that there is anything to convert, or an image that an earlier run wrote.

    Raises ConvertError with a description of what the folder should hold, and of what could not be read in it.
    """
    if any(task.places or (task.out / task.key).exists() for task in tasks):
        return
    faults: list[str] = []
    if index is not None and index.places:
        first = "/".join(min(index.places))
        faults.append(
            f"None of the {len(index.places):,} series in {index.root}, such as {first}, is in the split files of the "
            "release. Run with --dry-run: convert_report/to_order.txt then lists the series that are needed."
        )
    elif index is not None:
        faults.append(
            f"{index.root} has no DICOM series. An OAI download has them as folders or archives that are named "
            "patient/date/series, such as 0.C.2/9000798/20040924/10249506.tar.gz. Name the folder above them with "
            "--oai."
        )
    if images is not None:
        faults.append(
            f"{images.root} has no NIfTI volume (.nii or .nii.gz) that fits a row of the release. A volume fits by "
            "patient, date and series in its name, or by the grid of its mask. Name the folder of the volumes with "
            "--nifti."
        )
    faults += list(_unknown(index, images).values())[:_SHOWN]
    raise ConvertError("\n  ".join(faults))


def _run(
    tasks: list[ConvertTask],
    workers: int | None,
    progress: bool,
    folder: Path,
    unknown: dict[str, str],
    executor: Executor | None,
) -> ConversionReport:
    """Convert all rows; the report is also written when the run is interrupted."""
    if workers is None:
        workers = cores() if len(tasks) > _SERIAL else 1
    done: dict[int, RowOutcome | None] = {}
    numbered = {id(task): number for number, task in enumerate(tasks)}
    try:
        label = "converting series"
        with closing(
            each_done(convert_row, tasks, workers=workers, label=label, progress=progress, executor=executor)
        ) as outcomes:  # type: ignore[type-var]
            for task, outcome in outcomes:
                done[numbered[id(task)]] = outcome
    finally:
        for visit in (folder.parent / "images").glob("*/*"):
            # Another run into this folder may be writing, 3 s a file; an executor may have lost workers of this one.
            remove_stale_parts(visit, 60 if executor is None else 0)
        found = [done.get(number, task.outcome()) for number, task in enumerate(tasks)]
        report = ConversionReport(tuple(row for row in found if row is not None), unknown, folder)
        write_reports(report)
    return report


def _read_studies(release: Path) -> list[Study]:
    problems = Problems()
    studies = list(read_splits(find_root(release), problems).values())
    if problems.counts or not studies:
        told = "; ".join(example for examples in problems.examples.values() for example in examples[:2])
        raise ConvertError(f"The split files of {release} cannot be used: {told or 'they have no rows'}.")
    return studies


def _read_grids(studies: Iterable[Study]) -> dict[Claim, TargetGrid | None]:
    grids: dict[Claim, TargetGrid | None] = {}
    for study in studies:
        try:
            grids[_claim(study)] = read_mask_grid(study.mask)
        except Refusal:
            grids[_claim(study)] = None  # the row's own conversion reports the problem of its mask
    return grids


def _claim(study: Study) -> Claim:
    return Claim(study.patient, study.study, study.series, study.side)


def _task_of_study(
    out: Path, study: Study, index: DownloadIndex | None, images: ImageIndex | None, dry_run: bool
) -> ConvertTask:
    claim = _claim(study)
    key = (claim.patient, claim.date, claim.series)
    places: list[SeriesPlace | ImageFile] = []
    listed = None
    if index is not None:
        places += index.places.get(key, [])
        listed = index.listed.get(key)
    if images is not None:
        places += images.places.get(claim, [])
    address = listed.address if listed is not None and listed.address else _address(study.folder)
    return ConvertTask(out, claim, study.visit, study.split, study.mask, tuple(places), listed, address, dry_run)


def _address(folder: str) -> str:
    """Write the path of a series within NDA's collection, from the folder that a split file names."""
    month, _, rest = folder.partition("/")
    return f"{month.removesuffix('DESS')}/{rest}.tar.gz" if rest else ""


def _tasks_of_index(out: Path, index: DownloadIndex, dry_run: bool) -> list[ConvertTask]:
    """List every series of a download that may be a sagittal DESS series."""
    keys = sorted(
        key for key in index.places.keys() | index.listed.keys() if key not in index.listed or index.listed[key].is_dess
    )
    return [
        ConvertTask(
            out,
            Claim(*key),
            "",
            "",
            None,
            tuple(index.places.get(key, ())),
            index.listed.get(key),
            index.listed[key].address if key in index.listed else "",
            dry_run,
        )
        for key in keys
    ]


def _unknown(index: DownloadIndex | None, images: ImageIndex | None) -> dict[str, str]:
    """List what was found but belongs to no row."""
    told: dict[str, str] = {}
    if index is not None:
        told |= {str(place): reason for place, reason in index.unknown.items()}
    if images is not None:
        told |= images.unknown
    return told

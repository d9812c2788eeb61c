"""Write a synthetic release in the official layout."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from os import PathLike
from pathlib import Path
from uuid import uuid4

from filelock import FileLock

from reasonknee_datasets.boxes import BoxConvention
from reasonknee_datasets.errors import nearest, os_remedy
from reasonknee_datasets.phantom.record_writer import RecordWriter
from reasonknee_datasets.phantom.release_files import (
    LABEL_MAP_VARIANTS,
    write_notices,
    write_questions,
    write_splits,
    write_tables,
)
from reasonknee_datasets.phantom.scan_grids import Size
from reasonknee_datasets.phantom.scans import draw_scans, predict_boxes
from reasonknee_datasets.phantom.study_plan import PhantomError, plan_study

DEFAULT_CONVENTION = BoxConvention(inclusive=True)
"""``slice0-x1-y2-pairs-inclusive-voxel``, the likeliest of the official ones."""

_LOCK = ".lock"  # in an unfinished folder, held by the run that writes it
_VOLUMES = 3  # a patient
_BYTES = {"tiny": 700_000, "oai": 26_000_000}  # of one volume and its mask
_RECORDS_BYTES = 230_000  # of one volume, with the balanced files


def write_release(
    out: str | PathLike[str],
    *,
    patients: int,
    size: Size = "tiny",
    seed: int = 0,
    annotations_only: bool = False,
    box_convention: BoxConvention | str | None = None,
    anatomical_boxes: bool = False,
    workers: int | None = None,
    label_map_variant: str = "name_to_id",
) -> None:
    """Write a synthetic release in exactly the official layout, images included.

    In one environment the same arguments give the same bytes, whatever the number of workers. Nothing is under the
    final name before all of it is written.

    Parameters
    ----------
    out : path
        A folder that does not exist yet, or an empty one.
    patients : int
        About three volumes each. From 3 on every split has both sides, several visits and every category, and every
        irregularity of the real release occurs.
    size : {"tiny", "oai"}
        ``oai`` has the voxels and the file sizes of real DESS (23 MB a volume); ``tiny`` is quick.
    seed : int
        Not negative.
    annotations_only : bool
        Write no voxels: boxes are where the regions usually are. For tests at scale.
    box_convention : BoxConvention or str, optional
        How the six numbers are written; `DEFAULT_CONVENTION` if left out.
    anatomical_boxes : bool
        Let slice, x and y of a box be directions of the body, right-left, front-back and up-down, in every array
        layout. By default they are axes of the array.
    workers : int, optional
        Processes that draw. By default one a core, unless the running script lacks the guard
        ``if __name__ == "__main__":`` and would be started again by each.
    label_map_variant : str
        One of `LABEL_MAP_VARIANTS`: the structure of ``labels.json`` and ``question_subregion_mapping.json``.

    Raises
    ------
    PhantomError
        If an argument is out of range, the folder is not empty, or the disk has too little space.
    BoxError
        If the convention's name is none.
    """
    if workers is not None and workers < 1:
        raise PhantomError(f"workers is {workers!r}, but must be at least 1. Omit it for one process per core.")
    if label_map_variant not in LABEL_MAP_VARIANTS:
        raise PhantomError(
            f"Unknown label_map_variant {label_map_variant!r}. {nearest(label_map_variant, LABEL_MAP_VARIANTS)}."
        )
    convention = BoxConvention.parse(box_convention) if isinstance(box_convention, str) else box_convention
    convention = convention or DEFAULT_CONVENTION
    check_space(Path(out), patients, None if annotations_only else size)
    plan = plan_study(patients, size=size, seed=seed)
    facts: dict[str, object] = {
        "seed": seed,
        "patients": patients,
        "volumes": len(plan.volumes),
        "size": size,
        "annotations_only": annotations_only,
        "box_convention": str(convention),
        **({"anatomical_boxes": True} if anatomical_boxes else {}),
        "label_map_variant": label_map_variant,
    }
    with _whole_or_nothing(Path(out)) as root:
        data = root / "data"
        for name in ("split_files", "question_files", "generate_data", "labels"):
            (data / name).mkdir(parents=True)
        write_notices(root, facts)  # first, so that not even a part of it can be mistaken
        write_splits(data / "split_files", plan)
        write_questions(data / "question_files", label_map_variant)
        write_tables(data / "labels", plan)
        boxes = predict_boxes(plan) if annotations_only else draw_scans(plan, data, workers)
        writer = RecordWriter(plan, boxes, convention, anatomical_boxes)
        writer.write_all(data / "generate_data")


def check_space(out: Path, patients: int, size: Size | None, *, extra: int = 0) -> None:
    """Refuse a release that is too large for the disk, by the usual number of volumes.

    `out`: the folder to write. `size`: None for a release without voxels. `extra`: bytes that each volume needs
    besides. Raises PhantomError if there is too little space.
    """
    needed = patients * _VOLUMES * ((_BYTES.get(size, 0) if size else 0) + _RECORDS_BYTES + extra)
    place = next(folder for folder in out.absolute().parents if folder.is_dir())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise PhantomError(
            f"{patients:,} patients need about {needed / 1e9:,.1f} GB of disk space, and {place} has "
            f"{free / 1e9:,.1f} GB free. Draw fewer patients, use size='tiny', or write to another disk."
        )


@contextmanager
def _whole_or_nothing(out: Path) -> Iterator[Path]:
    """Return a folder next to the final one, renamed to it on success and removed otherwise."""
    out = out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PhantomError(f"{out} exists already. Remove it, or write the synthetic release to another folder.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(out)
        part = out.parent / f".{out.name}.unfinished-{uuid4().hex[:8]}"
        part.mkdir()
        lock = FileLock(part / _LOCK)
        lock.acquire()
    except OSError as error:
        raise _unwritable(out, error) from error
    try:
        yield part
        lock.release()
        (part / _LOCK).unlink(missing_ok=True)
        if out.exists():
            out.rmdir()
        part.rename(out)
    except OSError as error:
        raise _unwritable(out, error) from error
    finally:
        lock.release()
        shutil.rmtree(part, ignore_errors=True)


def _clear_leftovers(out: Path) -> None:
    """Remove the unfinished folders of killed runs to the same target, which have a free lock."""
    for left in out.parent.glob(f".{escape(out.name)}.unfinished-*"):
        with suppress(OSError):  # Timeout, where a run has the lock, is one
            with FileLock(left / _LOCK, timeout=0):
                pass
            shutil.rmtree(left)


def _unwritable(out: Path, error: OSError) -> PhantomError:
    cause = f"{error.strerror or error} ({error.filename or out})"
    remedy = os_remedy(error, "Choose another folder")
    return PhantomError(f"Cannot write the synthetic release to {out}: {cause}. {remedy}.")

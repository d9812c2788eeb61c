"""The conversion of one row: found, proven, read, placed on its grid and written."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from reasonknee_datasets.errors import VolumeError
from reasonknee_datasets.oai.archives import SeriesPlace
from reasonknee_datasets.oai.conversion_errors import Refusal
from reasonknee_datasets.oai.conversion_report import RowOutcome
from reasonknee_datasets.oai.download_index import IndexRow, visit_of
from reasonknee_datasets.oai.image_files import ImageFile, read_image
from reasonknee_datasets.oai.image_grids import (
    PROOF_MM,
    TargetGrid,
    place_on_grid,
    read_mask_grid,
    write_volume,
)
from reasonknee_datasets.oai.series import peek_header, read_series
from reasonknee_datasets.oai.series_identity import Claim, Proof, is_dess, prove, read_side
from reasonknee_datasets.oai.slice_stack import Volume
from reasonknee_datasets.orientation import corner_distance
from reasonknee_datasets.release.split_files import is_synthetic
from reasonknee_datasets.schema import VISITS
from reasonknee_datasets.volumes import open_volume


@dataclass(frozen=True, slots=True)
class ConvertTask:
    """One row to convert; all that a worker process needs."""

    out: Path  # the output folder
    claim: Claim  # identity that the series must have
    # Empty without a release.
    visit: str
    split: str
    mask: Path | None  # the row's mask, which need not exist
    places: tuple[SeriesPlace | ImageFile, ...]  # where the series may be, the likeliest first
    listed: IndexRow | None  # the download's own index about it
    address: str  # where the series can be ordered
    dry_run: bool = False  # only find and prove

    @property
    def key(self) -> str:
        """The image's path below the output folder."""
        code = 1 if self.claim.side == "right" else 2
        name = f"{self.claim.date}_{self.claim.series}_{code}.nii.gz"
        return f"images/{self.claim.patient}/{self.visit}/{name}"

    def outcome(self, **changes: Any) -> RowOutcome:
        """Build the row of the report."""
        claim = self.claim
        row = RowOutcome(claim.patient, self.visit, claim.date, claim.series, claim.side or "", self.split, "pending")
        output = self.key if claim.side and self.visit else ""
        return replace(row, **{"output": output, "address": self.address, **changes})


def convert_row(task: ConvertTask) -> RowOutcome | None:
    """Convert one row; every refusal is an outcome, never an error.

    Returns RowOutcome or None: None for a series of another sequence without a split row.
    """
    begin = time.perf_counter()
    try:
        if task.claim.side is None or not task.visit:
            completed = _complete(task)
            if completed is None:
                return None
            task = completed
        outcome = _convert(task)
    except Refusal as error:
        outcome = task.outcome(status="refused", kind=error.kind, message=str(error))
    return replace(outcome, seconds=round(time.perf_counter() - begin, 3))


def _convert(task: ConvertTask) -> RowOutcome:
    target = None if task.mask is None else read_mask_grid(task.mask)
    if (task.out / task.key).exists():
        return _check_present(task, target)
    _check_index(task)
    if not task.places:
        told = "listed in its index, but not on disk" if task.listed else "not in the download"
        return task.outcome(status="missing", message=f"{task.claim} is {told}.")
    refusals: list[Refusal] = []
    for place in task.places:
        try:
            done = _preview(task, place) if task.dry_run else _convert_place(task, place, target)
        except Refusal as error:
            refusals.append(error)
            continue
        passed = [f"another copy was refused ({error.kind}): {error}" for error in refusals]
        return replace(done, notes="; ".join([*filter(None, [done.notes]), *passed]))
    message = " ".join(str(error) for error in refusals)
    return task.outcome(
        status="refused", kind=refusals[0].kind, message=message, source="; ".join(map(str, task.places))
    )


def _complete(task: ConvertTask) -> ConvertTask | None:
    """Find side and visit of a series that no split row names; None for other sequences than DESS."""
    listed, claim = task.listed, task.claim
    description, study = (listed.description, "") if listed else ("", "")
    side, visit = (listed.side, listed.visit) if listed else (None, None)
    place = next((each for each in task.places if isinstance(each, SeriesPlace)), None)
    if place is not None and (listed is None or is_dess(listed.description) or not listed.description):
        header = peek_header(place, claim)
        if header is not None:
            description, study = header.description or description, header.study_description
            side = read_side(header.description) or read_side(study) or side
    if not is_dess(description):
        return None
    visit = visit or visit_of(str(place or task.address), study)
    if side is None:
        raise Refusal("wrong-side", f"{claim} names its knee neither in its header nor in an index.")
    if visit is None:
        raise Refusal("unknown-visit", f"{claim} names its visit neither in StudyDescription, folders nor index.")
    return replace(task, claim=replace(claim, side=side), visit=visit)


def _check_index(task: ConvertTask) -> None:
    """Compare the download's own index with the split row."""
    listed, side = task.listed, task.claim.side
    if listed is None:
        return
    if listed.contradiction:
        raise Refusal("wrong-side", f"{listed.where} names both sides ({listed.contradiction}) for {task.claim}.")
    if listed.side is not None and listed.side != side:
        raise Refusal("wrong-side", f"{listed.where} names the {listed.side} knee, but {task.claim} needs the {side}.")
    if not listed.is_dess:
        raise Refusal(
            "wrong-sequence", f"{listed.where} names {listed.description!r} for {task.claim}, which is not DESS."
        )
    if listed.visit is not None and listed.visit != task.visit and task.visit in VISITS:
        raise Refusal("wrong-visit", f"{listed.where} names visit {listed.visit}, but {task.claim} needs {task.visit}.")


def _description(claim: Claim) -> str:
    """Write the description in the header of a converted file, by which a later run recognises it."""
    origin = "SYNTHETIC" if is_synthetic(claim.patient) else "OAI"
    return f"{origin} {claim} by reasonknee convert"


def _check_present(task: ConvertTask, target: TargetGrid | None) -> RowOutcome:
    """Check a file that is there: written for this row, on the grid of its mask."""
    path = task.out / task.key
    remedy = "Remove it to convert the series again"
    try:
        image = open_volume(path, cache=None)
        stamp = bytes(image.header["descrip"].tobytes()).rstrip(b"\0").decode("ascii", "replace")
        shape, affine = tuple(map(int, image.shape)), np.asarray(image.affine, float)
    except VolumeError as error:
        raise Refusal("not-ours", f"{path} is there but cannot be read ({error}). {remedy}.") from error
    if stamp != _description(task.claim):
        raise Refusal("not-ours", f"{path} is there, but was not written by convert for {task.claim}. {remedy}.")
    apart = None
    if target is not None:
        apart = corner_distance(affine, shape, target.affine, target.shape)
        if shape != tuple(target.shape) or apart > PROOF_MM:
            raise Refusal("grid", f"{path} is there, but not on the grid of {task.mask}. {remedy}.")
    return task.outcome(status="present", grid_mm=apart, **_describe(shape, affine))


def _preview(task: ConvertTask, place: SeriesPlace | ImageFile) -> RowOutcome:
    """Prove a place as far as its first file goes."""
    if isinstance(place, SeriesPlace):
        header = peek_header(place, task.claim)
        if header is None:
            raise Refusal("no-image", f"The first file of {place} is not a DICOM image.")
        prove(header, task.claim, str(place), task.visit)
    return task.outcome(status="found", source=str(place))


def _convert_place(task: ConvertTask, place: SeriesPlace | ImageFile, target: TargetGrid | None) -> RowOutcome:
    notes: list[str] = []
    proven: Proof = "series"
    if isinstance(place, ImageFile):
        volume = read_image(place, task.mask if target is not None else None, notes)
    else:
        volume = read_series(place, task.claim)
        proven = prove(volume.header, task.claim, str(place), task.visit)
        if target is None:
            _check_numbering(volume, str(place))
    notes += volume.notes
    if proven == "patient":
        got = f"AccessionNumber {volume.header.accession!r}" if volume.header.accession else "no AccessionNumber"
        notes.append(f"{got}: only names identify the series of that day")
    elif proven == "nothing":
        if target is None:
            raise Refusal(
                "unproven", f"{place} does not prove that it is {task.claim}, and has no mask to compare with."
            )
        notes.append("the header proves no series; the grid is the mask's")
    placed = place_on_grid(volume.voxels, volume.affine, target, str(place))
    if target is None:
        notes.append("no mask: the grid is that of the source alone")
    write_volume(task.out / task.key, placed, _description(task.claim), slope=volume.slope, intercept=volume.intercept)
    distance = None if placed.distance is None else round(placed.distance, 6)
    described = _describe(placed.voxels.shape, placed.affine)
    return task.outcome(status="converted", source=str(place), grid_mm=distance, notes="; ".join(notes), **described)


def _check_numbering(volume: Volume, place: str) -> None:
    """Without a mask, only InstanceNumber shows that slices are missing at either end of the stack."""
    numbers = sorted(number for number in volume.instances if number is not None)
    if len(numbers) == len(volume.instances) and numbers != list(range(1, len(numbers) + 1)):
        message = f"{place} has {len(numbers)} slices with InstanceNumber {numbers[0]} to {numbers[-1]}"
        raise Refusal("missing-slices", f"{message}, and without a mask it is not known whether some are missing.")


def _describe(shape: tuple[int, ...], affine: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, str]:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return {"shape": "x".join(map(str, shape)), "spacing": "x".join(f"{step:.5g}" for step in spacing)}

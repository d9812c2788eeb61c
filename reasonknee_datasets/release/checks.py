"""The whole check of a release: every record, mask, image and box, and what is left when it is done.

All boxes are decoded at once and brought to their images' arrays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from reasonknee_datasets.boxes import Box, BoxConvention
from reasonknee_datasets.orientation import Reorientation, axis_order
from reasonknee_datasets.release.convention import ENOUGH, BoxCheck, judge, verify
from reasonknee_datasets.release.masks import MaskScan, scan_masks
from reasonknee_datasets.release.paths import is_there
from reasonknee_datasets.release.question_regions import Extents, Regions, complete_labels, gather
from reasonknee_datasets.release.record_files import REAL, WHOLE, RecordFiles, Survey
from reasonknee_datasets.release.region_labels import LabelMap
from reasonknee_datasets.release.release_volumes import (
    Grid,
    ReleaseVolume,
    check_mask,
    describe_volume,
    place_masks,
    read_grid,
)
from reasonknee_datasets.release.report import Problems, ReleaseReport, group_problems
from reasonknee_datasets.release.split_files import Study
from reasonknee_datasets.schema import SPLITS

_APART = 0.5  # IoU of a box and its region, below which it is not the box of this region
_MOSTLY = 0.5  # share of a question's boxes that agree, below which its label is wrong rather than its boxes


@dataclass(frozen=True, slots=True)
class BoxTable:
    """Every row's box, by volume (in the order of the split files) and question (1 first)."""

    # (volumes, 62) int array: which record of its split's file becomes a row; -1 where none does.
    wanted: NDArray[np.int32]
    rows: NDArray[np.int32]  # (volumes, 62, 6) int array: i0 j0 k0 i1 j1 k1 in the image's array
    # (volumes, 62) bool array: where the six official numbers do not follow from the box and must be kept as written.
    verbatim: NDArray[np.bool_]


def place_boxes(
    survey: Survey,
    boxes: BoxCheck,
    masks: Mapping[int, MaskScan | None],
    grids: Mapping[int, Grid],
    problems: Problems,
) -> BoxTable:
    """Decode all boxes, refuse those that are invalid or outside, and map the others to their images' arrays.

    Parameters
    ----------
    survey : Survey
        With the official numbers.
    boxes : BoxCheck
        How to read them, in each layout of the array.
    masks : mapping of int to (MaskScan or None)
        Boxes are defined in the mask's array; in the image's without a mask.
    grids : mapping of int to Grid
        The volumes that stay.
    problems : Problems
        Collects what is wrong.
    """
    shapes = _shapes(len(survey.studies), masks, grids)
    stays = np.zeros(len(survey.studies), bool)
    stays[list(grids)] = True
    there = (survey.index >= 0) & ~np.isnan(survey.numbers).any(axis=2) & stays[:, None]
    volumes, questions = np.nonzero(there)
    numbers = survey.numbers[volumes, questions]
    readings = _readings(boxes, masks, grids)
    decoded, sound = np.zeros((len(volumes), 6)), np.zeros(len(volumes), bool)
    for convention in set(readings.values()):
        at = np.isin(volumes, [volume for volume, each in readings.items() if each == convention])
        decoded[at], sound[at] = convention.decode_rows(numbers[at], shapes[volumes[at]])
    limits = np.where(shapes[volumes] > 0, shapes[volumes], np.inf)  # an unknown shape limits nothing
    inside = (decoded[:, :3] >= 0).all(axis=1) & (decoded[:, 3:] <= limits).all(axis=1)
    good = sound & inside
    for place in np.flatnonzero(~good).tolist():
        where = survey.place(volumes[place], questions[place])
        given, shape = numbers[place].tolist(), tuple(shapes[volumes[place]].tolist())
        if sound[place]:
            box = tuple(decoded[place].astype(int).tolist())
            message = f"the box {box} (i0 j0 k0 i1 j1 k1) is outside its volume of shape {shape}"
            problems.add("box-outside", message, where=where)
        else:
            message = f"bounding_box {given} is not a box as {readings[int(volumes[place])]} for shape {shape}"
            problems.add("bad-box", message, where=where)
    table = BoxTable(np.full_like(survey.index, -1), np.zeros((*there.shape, 6), np.int32), np.zeros_like(there))
    places = volumes[good], questions[good]
    table.wanted[places] = survey.index[places]
    table.rows[places] = decoded[good]
    # A record is rebuilt in the convention of the commonest layout: numbers in another one are kept as written.
    table.verbatim[places] = _unlike(
        boxes.convention, decoded[good], numbers[good], shapes[places[0]], survey.writing[places]
    ) | np.isin(places[0], [volume for volume, each in readings.items() if each != boxes.convention])
    for volume, grid in grids.items():
        if not grid.turn.is_identity:
            table.rows[volume] = turn_rows(table.rows[volume], grid.turn, shapes[volume])
    return table


def check_regions(
    survey: Survey, table: BoxTable, boxes: BoxCheck, regions: Regions, grids: Mapping[int, Grid], problems: Problems
) -> None:
    """Compare every box with the region in its mask.

    A wrong box of one row is found here; a question with many wrong boxes has a separate problem.

    `survey`, `table`, `boxes`, `grids`: as of `place_boxes`. `regions`: regions in the masks' arrays. `problems`:
    collects what is wrong.
    """
    rows = regions.rows.copy()
    for volume, grid in grids.items():
        if not grid.turn.is_identity:
            rows[volume] = turn_rows(rows[volume], grid.turn, regions.shapes[volume])
    agreeing = [question for question, share in boxes.by_question.items() if share >= _MOSTLY]
    compared = np.zeros_like(regions.there)
    compared[:, [question - 1 for question in agreeing]] = True
    volumes, questions = np.nonzero(regions.there & compared & (table.wanted >= 0))
    found, expected = table.rows[volumes, questions], rows[volumes, questions]
    ious = _ious(found, expected)
    near = np.abs(found - expected).max(axis=1) <= 1  # as the convention is verified
    for place in np.flatnonzero((ious < _APART) & ~near).tolist():
        volume, question = volumes[place], questions[place]
        box, region = table.rows[volume, question].tolist(), rows[volume, question].tolist()
        message = f"the box {box} and the mask's region {region} have an IoU of {ious[place]:.2f}"
        problems.add("box-mask", message, where=survey.place(volume, question))


def _ious(first: NDArray[np.integer], second: NDArray[np.integer]) -> NDArray[np.float64]:
    """Compute the intersection over union of boxes, row by row."""
    start, stop = np.maximum(first[:, :3], second[:, :3]), np.minimum(first[:, 3:], second[:, 3:])
    both = np.clip(stop - start, 0, None).prod(axis=1, dtype=np.float64)
    sizes = ((each[:, 3:] - each[:, :3]).prod(axis=1, dtype=np.float64) for each in (first, second))
    return np.asarray(both / (sum(sizes) - both))


def turn_rows(rows: NDArray[np.int32], turn: Reorientation, shape: NDArray[np.int64]) -> NDArray[np.int32]:
    """Do `Reorientation.apply_box` to many boxes of one volume at once."""
    axes, flips = list(turn.axes), np.array(turn.flips)
    start, stop, lengths = rows[:, :3][:, axes], rows[:, 3:][:, axes], shape[axes]
    return np.hstack([np.where(flips, lengths - stop, start), np.where(flips, lengths - start, stop)]).astype(np.int32)


def _readings(
    boxes: BoxCheck, masks: Mapping[int, MaskScan | None], grids: Mapping[int, Grid]
) -> dict[int, BoxConvention]:
    """Choose the convention of each volume by the layout of the array that its boxes are defined in."""
    readings = {}
    for volume, grid in grids.items():
        scan = masks[volume]
        layout = scan.layout if scan is not None else axis_order(grid.affine) if grid.affine is not None else ""
        readings[volume] = boxes.of_layout(layout)
    return readings


def _shapes(count: int, masks: Mapping[int, MaskScan | None], grids: Mapping[int, Grid]) -> NDArray[np.int64]:
    """Return the shape of the array that each volume's boxes are defined in; 0 where it is not known."""
    shapes = np.zeros((count, 3), np.int64)
    for volume, grid in grids.items():
        scan = masks[volume]
        known = scan.shape if scan is not None else grid.shape
        if known is not None:
            shapes[volume] = known
    return shapes


def _unlike(
    convention: BoxConvention,
    decoded: NDArray[np.float64],
    numbers: NDArray[np.float64],
    shapes: NDArray[np.int64],
    writing: NDArray[np.uint8],
) -> NDArray[np.bool_]:
    """Find the official numbers that are not reproduced when their box is written."""
    if not convention.normalised:
        return np.asarray(writing != WHOLE)  # whole voxels convert exactly; 12.0 is kept as written
    unlike = writing != REAL
    for place in np.flatnonzero(~unlike).tolist():
        box = Box.from_row(decoded[place].astype(int).tolist())
        unlike[place] = convention.encode(box, shapes[place].tolist()) != numbers[place].tolist()
    return np.asarray(unlike)


@dataclass(frozen=True, slots=True)
class ReleaseOptions:
    """How to read a release.

    Parameters
    ----------
    images : Path, optional
        Where the images are, ``<patient>/<visit>/...``; ``data/images`` of the release by default.
    box_convention : BoxConvention or str, optional
        The convention of the official boxes; established by comparing boxes with masks where it is not given, and
        checked against them where it is.
    allow : collection of str
        Kinds of problems to accept: see `reasonknee_datasets.release.KINDS`.
    workers : int, optional
        Processes that read masks; one a core by default.
    require_images : bool
        Whether rows need their image. If not, a missing image is not a problem, and the volume has no geometry.
    progress : bool
        Whether to draw progress bars, where there is a terminal.
    executor : concurrent.futures.Executor, optional
        Where masks are read instead of in processes of this machine.
    """

    images: Path | None = None
    box_convention: BoxConvention | str | None = None
    allow: frozenset[str] = frozenset()
    workers: int | None = None
    require_images: bool = True
    progress: bool = False
    executor: Executor | None = None

    @property
    def convention(self) -> BoxConvention | None:
        """The convention that is given, parsed."""
        given = self.box_convention
        return BoxConvention.parse(given) if isinstance(given, str) else given


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a check: the report, and everything from which rows are made.

    ``boxes`` and ``table`` are None where no box convention could be chosen; the report refuses then.
    """

    report: ReleaseReport
    survey: Survey
    labels: LabelMap
    volumes: Mapping[int, ReleaseVolume]
    boxes: BoxCheck | None
    table: BoxTable | None


@dataclass(slots=True)
class Check:
    """One check of one release; `run` does it all."""

    studies: Sequence[Study]  # the split files' rows
    files: RecordFiles
    labels: LabelMap  # as the release states it
    options: ReleaseOptions
    # Problems found when the release was opened; more are added here.
    problems: Problems
    notes: list[str]

    def run(self) -> Outcome:
        """Check everything, in the order in which one thing needs another."""
        survey = self.files.survey(self.problems)
        self.notes += survey.check_complete(self.problems)
        masks = self._scan(survey)
        extents = Extents.collect([masks.get(volume) for volume in range(len(self.studies))])
        given = self.options.convention
        labels = complete_labels(self.labels, survey.numbers, extents, given, self.notes)
        boxes = self._verify(survey, extents, labels)
        grids = self._join(masks, labels)
        table = None if boxes is None else place_boxes(survey, boxes, masks, grids, self.problems)
        volumes = {}
        if table is not None and boxes is not None:
            regions = Regions.of_questions(extents, labels.questions, survey.index.shape[1])
            check_regions(survey, table, boxes, regions, grids, self.problems)
            counts = (table.wanted >= 0).sum(axis=1).tolist()
            volumes = {
                volume: describe_volume(self.studies[volume], grid, masks[volume], counts[volume])
                for volume, grid in grids.items()
                if counts[volume]
            }
        return Outcome(self._report(survey, volumes, boxes), survey, labels, volumes, boxes, table)

    def _scan(self, survey: Survey) -> dict[int, MaskScan | None]:
        """Read the masks of all volumes that have records."""
        wanted = np.flatnonzero((survey.index >= 0).any(axis=1)).tolist()
        masked = [volume for volume in wanted if is_there(self.studies[volume].mask)]
        paths = {volume: self.studies[volume].mask for volume in masked}
        options = self.options
        scans = scan_masks(list(paths.values()), options.workers, progress=options.progress, executor=options.executor)
        found = {volume: scans[path] for volume, path in paths.items()}
        return place_masks(self.studies, wanted, found, self.problems)

    def _verify(self, survey: Survey, extents: Extents, labels: LabelMap) -> BoxCheck | None:
        """Choose the box convention and verify it, as a whole and for each question."""
        given = self.options.convention
        evidence = gather(survey.numbers, extents, labels.questions)
        chosen, fault = judge(given, evidence)
        if fault is not None and (survey.index >= 0).any():  # without records, another problem is reported
            self.problems.add("box-convention", fault)
        if chosen is None:
            return None
        boxes = verify(chosen, "established" if given is None else "given", evidence)
        for question, share in boxes.by_question.items():
            if share < ENOUGH:
                named = ", ".join(
                    f"{label} {labels.names.get(label, '')}".strip() for label in labels.questions[question]
                )
                message = f"{share:.1%} of {boxes.counts[question]} boxes agree within one voxel with labels {named}"
                self.problems.add("box-question", message, where=f"question {question}")
        answered = (np.flatnonzero((survey.index >= 0).any(axis=0)) + 1).tolist()
        unverified = [str(question) for question in answered if question not in boxes.by_question]
        if unverified and boxes.checked:
            self.notes.append(
                f"boxes of these questions were not verified, because they have no region: {', '.join(unverified)}"
            )
        return boxes

    def _join(self, masks: Mapping[int, MaskScan | None], labels: LabelMap) -> dict[int, Grid]:
        """Compare every mask with its image and its split row; return the volumes that are kept."""
        sides = labels.sides()
        grids: dict[int, Grid] = {}
        for volume, scan in tqdm(
            masks.items(), "images", disable=None if self.options.progress else True, unit="image"
        ):
            study = self.studies[volume]
            sound = scan is None or check_mask(study, scan, labels.names, sides, self.problems)
            grid = read_grid(study, scan, self.options.require_images, self.problems)
            if sound and grid is not None:
                grids[volume] = grid
        return grids

    def _report(self, survey: Survey, volumes: Mapping[int, ReleaseVolume], boxes: BoxCheck | None) -> ReleaseReport:
        rows: Counter[str] = Counter()
        kept: Counter[str] = Counter()
        for volume in volumes.values():
            rows[volume.split] += volume.rows
            kept[volume.split] += 1
        answered = int((survey.index >= 0).any(axis=1).sum())
        return ReleaseReport(
            groups=group_problems(self.problems, self.options.allow),
            notes=tuple(self.notes),
            rows={split: rows[split] for split in SPLITS},
            volumes={split: kept[split] for split in SPLITS},
            rows_dropped=survey.seen - sum(rows.values()),
            volumes_dropped=answered - len(volumes),
            nulled=tuple(survey.nulled),
            nulled_count=survey.nulled_count,
            violations=dict(survey.violations),
            boxes=boxes,
        )

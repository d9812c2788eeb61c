"""The whole check of a release: every record, mask, image and box."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from reasonknee_datasets.boxes import BoxConvention
from reasonknee_datasets.release.box_table import BoxTable, check_regions, place_boxes
from reasonknee_datasets.release.convention import ENOUGH, BoxCheck, judge, verify
from reasonknee_datasets.release.masks import MaskScan, scan_masks
from reasonknee_datasets.release.paths import is_there
from reasonknee_datasets.release.question_regions import Extents, Regions, complete_labels, gather
from reasonknee_datasets.release.record_files import RecordFiles
from reasonknee_datasets.release.record_index import Survey
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
    """One check of one release; `run` does it all.

    Parameters
    ----------
    studies : sequence of Study
        The split files' rows.
    files : RecordFiles
        The records.
    labels : LabelMap
        As the release states it.
    options : ReleaseOptions
        The caller's.
    problems, notes
        Problems found when the release was opened; more are added here.
    """

    studies: Sequence[Study]
    files: RecordFiles
    labels: LabelMap
    options: ReleaseOptions
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


def track_with(progress: bool) -> Any:
    """Return a progress bar, or one that only passes on."""

    def track(items: Iterable[Any], name: str) -> Iterable[Any]:
        return tqdm(items, name, unit="record", disable=None) if progress else items

    return track

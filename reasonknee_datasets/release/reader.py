"""An official release: opened, checked as a whole, and read row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from reasonknee_datasets import moaks
from reasonknee_datasets.boxes import BoxConvention
from reasonknee_datasets.errors import ReleaseError
from reasonknee_datasets.release.checks import BoxTable, Check, Outcome, ReleaseOptions
from reasonknee_datasets.release.convention import BoxCheck
from reasonknee_datasets.release.official_record import RecordContent
from reasonknee_datasets.release.paths import Marker, ReleaseRoot, find_revision, find_root, read_marker
from reasonknee_datasets.release.rebuild import describe_turn, write_extras
from reasonknee_datasets.release.record_files import BALANCED, RecordFiles, file_name
from reasonknee_datasets.release.region_labels import (
    MAPPING_FILE,
    NAMES_FILE,
    QUESTION_FILES,
    LabelMap,
    read_label_map,
    read_prompts,
)
from reasonknee_datasets.release.release_volumes import ReleaseVolume
from reasonknee_datasets.release.report import Problems, ReleaseReport, check_allowed
from reasonknee_datasets.release.split_files import OFFICIAL_SPLITS, Study, is_synthetic, read_splits
from reasonknee_datasets.schema import Grade, Quintuple, Split, flat_grades, quintuple_id


class Release:
    """An official release.

    Nothing is read of it but the split files, the question files and the label map until `check`, which reads
    everything once. Rows are then read from the files again, one after another, so that memory stays small.

    Parameters
    ----------
    root : ReleaseRoot
        Where the files are.
    options : ReleaseOptions
        The caller's, checked.
    """

    def __init__(self, root: ReleaseRoot, options: ReleaseOptions) -> None:
        self.root = root
        problems, notes = Problems(), list[str]()
        self.studies: tuple[Study, ...] = tuple(read_splits(root, problems).values())
        questions = root.data / "question_files"
        if self.synthetic:
            options = _as_declared(options, read_marker(root.data))
        prompts = read_prompts(questions, problems, notes)
        labels = read_label_map(questions, notes)
        self._files = RecordFiles(root.data / "generate_data", self.studies, prompts, options.progress)
        self._check = Check(self.studies, self._files, labels, options, problems, notes)
        self._outcome: Outcome | None = None

    def __repr__(self) -> str:
        return f"Release({str(self.root.data)!r}, {len(self.studies)} volumes)"

    def inspect(self) -> ReleaseReport:
        """Read everything once, and return the report without raising."""
        if self._outcome is None:
            self._outcome = self._check.run()
        return self._outcome.report

    def check(self) -> ReleaseReport:
        """Read everything once, and refuse the release if anything is wrong that was not allowed.

        Raises
        ------
        ReleaseError
            With every problem that was found, by kind, with counts and examples.
        """
        report = self.inspect()
        report.raise_if_refused()
        return report

    @property
    def volumes(self) -> list[ReleaseVolume]:
        """Every volume that has rows, in the order of the split files."""
        return list(self._checked().volumes.values())

    @property
    def convention(self) -> BoxConvention:
        """How the official boxes are written."""
        return self.agreement.convention

    @property
    def agreement(self) -> BoxCheck:
        """How well that agrees with the masks, as a whole and by question."""
        boxes = self._checked().boxes
        if boxes is None:
            raise ReleaseError("The box convention is not known. Name it with --box-convention.")
        return boxes

    @property
    def labels(self) -> LabelMap:
        """Which labels make the region of which question."""
        return self._checked().labels

    @property
    def synthetic(self) -> bool:
        """Whether the phantom made it: its patients are numbered as OAI's never are."""
        return bool(self.studies) and all(is_synthetic(study.patient) for study in self.studies)

    @property
    def revision(self) -> str | None:
        """The Hub revision that it was downloaded from, where the download records it."""
        return find_revision(self.root.data)

    @property
    def files(self) -> dict[str, Path]:
        """The official files that were read, masks and images apart, by their name below ``data``."""
        names = [f"split_files/{official}_split.csv" for official in OFFICIAL_SPLITS.values()]
        names += [f"question_files/{name}" for name in (*QUESTION_FILES, NAMES_FILE, MAPPING_FILE)]
        names += [f"generate_data/{name}" for name in (*map(file_name, OFFICIAL_SPLITS), *BALANCED.values())]
        return {name: self.root.data / name for name in names if (self.root.data / name).is_file()}

    def quintuples(self) -> Iterator[tuple[Split, Quintuple]]:
        """Return every row with its split, in the order of the official files."""
        outcome = self._checked()
        if outcome.table is None:
            return
        table, synthetic = outcome.table, self.synthetic
        turns = {place: known.turn for place, known in outcome.volumes.items() if not known.turn.is_identity}
        written = {place: describe_turn(turn) for place, turn in turns.items()}
        for split, volume, content, numbers in self._files.rows(table.wanted):
            place = (volume, content.number - 1)
            row = _make_row(self.studies[volume], synthetic, content, table, place, numbers, written.get(volume))
            yield split, row

    def balanced(self) -> dict[Split, Counter[str]]:
        """Count each id in the balanced files, for rows that were not dropped."""
        outcome = self._checked()
        if outcome.table is None:
            return {}
        kept = outcome.table.wanted >= 0
        counted: dict[Split, Counter[str]] = {}
        for split, repeats in outcome.survey.repeats.items():
            places = np.argwhere((repeats > 0) & kept).tolist()
            counted[split] = Counter(
                {outcome.survey.row_id(volume, question): int(repeats[volume, question]) for volume, question in places}
            )
        return counted

    def _checked(self) -> Outcome:
        self.check()
        assert self._outcome is not None
        return self._outcome


def _as_declared(options: ReleaseOptions, marker: Marker | None) -> ReleaseOptions:
    """Take the box convention and the lack of masks from a synthetic release that declares to have no voxels."""
    if marker is None or not marker.annotations_only:
        return options
    convention = options.convention or marker.convention
    return replace(options, box_convention=convention, allow=options.allow | {"missing-mask"})


def open_release(root: str | Path, options: ReleaseOptions | None = None) -> Release:
    """Open an official release.

    Parameters
    ----------
    root : str or Path
        The folder that contains ``data``, or ``data`` itself.
    options : ReleaseOptions, optional
        Where images are, the box convention, and what to allow.

    Returns
    -------
    Release
        Call its `Release.check` next: it reads everything and reports all that is wrong at once.

    Raises
    ------
    ReleaseError
        If no release is there, or an option makes no sense.
    """
    options = options or ReleaseOptions()
    place = find_root(Path(root), options.images)
    return Release(place, replace(options, box_convention=options.convention, allow=check_allowed(options.allow)))


def _make_row(
    study: Study,
    synthetic: bool,
    content: RecordContent,
    table: BoxTable,
    place: tuple[int, int],
    numbers: list[float],
    turn: list[int] | None,
) -> Quintuple:
    """Put a row together."""
    question = moaks.QUESTIONS[content.number]
    written = content.written
    if turn is not None or table.verbatim[place]:
        extras = dict(content.extras)
        if table.verbatim[place]:
            extras["box"] = numbers
        if turn is not None:
            extras["turn"] = turn
        written = write_extras(extras)
    grades: list[Grade] = [
        {"attribute": slot.attribute, "grade": content.grades[slot.attribute], "scale": slot.scale}
        for slot in question.slots
    ]
    return {
        "id": quintuple_id(study.volume_id, content.number),
        "volume_path": study.volume_path,
        "patient": study.patient,
        "visit": study.visit,
        "side": study.side,
        "study": study.study,
        "series": study.series,
        "question_id": content.number,
        "category": question.category,
        "finding": question.finding,
        "subregion": question.subregion,
        "question": content.prompt,
        "box": table.rows[place].tolist(),
        "reasoning": list(content.steps),
        "grades": grades,
        **flat_grades(grades),
        "answer": content.answer,
        "synthetic": synthetic,
        "record": written,
    }
